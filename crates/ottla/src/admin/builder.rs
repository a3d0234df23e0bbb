//! The configuration of an [`Admin`], and its start.

use std::sync::Arc;
use std::time::Duration;

use ottla_core::Error;
use ottla_core::client::{Command, Outcome};

use super::{Admin, Inner};
use crate::builder::Builder;
use crate::link::unexpected;

/// Configures an [`Admin`] and starts it.
///
/// It has the settings of [`Builder`] that matter for asking: addresses and times. Others, and property files, come
/// from a consumer's builder: `AdminBuilder::from(builder)` takes all of it but its group and its subscription.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use ottla::Admin;
///
/// let builder = Admin::builder("localhost:9092").default_api_timeout(Duration::from_secs(10));
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is connected"]
pub struct AdminBuilder(Builder);

impl From<Builder> for AdminBuilder {
    fn from(builder: Builder) -> Self {
        Self(builder.without_group())
    }
}

impl AdminBuilder {
    pub(super) fn new(bootstrap: impl Into<String>) -> Self {
        Self(Builder::new(bootstrap))
    }

    /// As [`Builder::bootstrap`].
    #[doc(alias = "bootstrap.servers")]
    pub fn bootstrap(self, address: impl Into<String>) -> Self {
        Self(self.0.bootstrap(address))
    }

    /// As [`Builder::client_id`].
    #[doc(alias = "client.id")]
    pub fn client_id(self, client_id: impl Into<String>) -> Self {
        Self(self.0.client_id(client_id))
    }

    /// Every call ends within this time, retries included. What stood in the way is then its error.
    ///
    /// Default: 60 seconds, as [`Builder::default_api_timeout`].
    #[doc(alias = "default.api.timeout.ms")]
    pub fn default_api_timeout(self, timeout: Duration) -> Self {
        Self(self.0.default_api_timeout(timeout))
    }

    /// As [`Builder::request_timeout`]. Brokers may take as long to create or delete topics.
    #[doc(alias = "request.timeout.ms")]
    pub fn request_timeout(self, timeout: Duration) -> Self {
        Self(self.0.request_timeout(timeout))
    }

    /// As [`Builder::connection_setup_timeout`]; also bounds [`connect`](Self::connect).
    #[doc(alias = "socket.connection.setup.timeout.ms")]
    pub fn connection_setup_timeout(self, timeout: Duration) -> Self {
        Self(self.0.connection_setup_timeout(timeout))
    }

    /// As [`Builder::on_current_runtime`]. Nothing has to be kept alive by heartbeats here: blocking costs time only.
    pub fn on_current_runtime(self) -> Self {
        Self(self.0.on_current_runtime())
    }

    /// Starts and waits until a broker was reached that told who is in the cluster.
    ///
    /// # Errors
    ///
    /// As [`Builder::connect`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops everything it started.
    pub async fn connect(self) -> Result<Admin, Error> {
        let (link, _ended) = self.0.decode_threads(0).launch()?;
        // Made at once: what ends the driver is the end of this.
        let admin = Admin(Arc::new(Inner { link }));
        match admin.0.link.ask(Command::Bootstrap).await? {
            Outcome::Done => Ok(admin),
            Outcome::Failed(error) => Err(error),
            other => Err(unexpected(&other)),
        }
    }
}
