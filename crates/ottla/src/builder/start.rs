//! From a configuration to a running consumer.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use ottla_core::client::{Client, Command, Outcome};
use ottla_core::config::CommitMode;
use ottla_core::delivery::{DeliveryConfig, Shared};
use ottla_core::{Error, ErrorKind};
use tokio::sync::{mpsc, oneshot};

use super::Builder;
use crate::Consumer;
use crate::consumer::Starts;
use crate::driver::{self, Background, Clock, Decoders, Parts, Place, unix_millis};
use crate::link::Link;
use crate::observe::{Names, Watch};

impl Builder {
    /// Starts the consumer and waits until a broker was reached that told who is in the cluster.
    ///
    /// A subscription is sent at once after that; its first assignment is not waited for.
    ///
    /// A broker that cannot be reached is tried again and again, because it may be starting, until
    /// [`connection_setup_timeout`](Self::connection_setup_timeout) is over: set it as long as a start may take.
    ///
    /// # Errors
    ///
    /// Kind [`Config`](ErrorKind::Config) with a [`ConfigError`](crate::ConfigError) as its
    /// [source](std::error::Error::source) if the configuration is wrong. When the time is over, or after a few
    /// tries where more would not help (what answers is no Kafka broker, or is too old), the error that stood in the
    /// way, naming the address.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops everything it started.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::{Consumer, Error};
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 6).start().await?;
    /// let consumer = Consumer::builder(broker.bootstrap()).connect().await?;
    /// assert_eq!(consumer.partitions_of("orders").await?.len(), 6);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(self) -> Result<Consumer, Error> {
        let first = self.first_subscription();
        let consumer = self.start()?;
        match consumer.link().ask(Command::Bootstrap).await? {
            Outcome::Done => {}
            Outcome::Failed(error) => return Err(error),
            other => return Err(crate::link::unexpected(&other)),
        }
        if let Some(command) = first? {
            consumer.tell(command).await?;
        }
        Ok(consumer)
    }

    /// Starts the consumer and waits for nothing: brokers are connected to in the background.
    ///
    /// What goes wrong there for good is returned by the reads.
    ///
    /// # Errors
    ///
    /// Kind [`Config`](ErrorKind::Config) with a [`ConfigError`](crate::ConfigError) as its
    /// [source](std::error::Error::source) if the configuration is wrong.
    pub fn connect_lazy(self) -> Result<Consumer, Error> {
        let first = self.first_subscription();
        let consumer = self.start()?;
        if let Some(command) = first? {
            // Its outcome is not waited for: what can fail was checked, the rest is told by the reads.
            drop(consumer.link().send(command)?);
        }
        Ok(consumer)
    }

    fn start(self) -> Result<Consumer, Error> {
        let (max_batch_records, close_timeout) = (self.config.max_batch_records, self.close_timeout);
        let starts = match (self.config.commit, &self.start_offsets) {
            (CommitMode::External, Some(function)) => Starts::Function(function.clone()),
            (CommitMode::External, None) => Starts::Events,
            _ => Starts::Committed,
        };
        let protocol = self.group.protocol;
        let watch = Watch::new(Arc::new(self.names()));
        let (link, ended) = self.launch()?;
        Ok(Consumer::new(link, ended, max_batch_records, close_timeout, starts, protocol, watch))
    }

    fn names(&self) -> Names {
        Names {
            client_id: self.config.client_id.clone(),
            group: self.group_id.clone(),
            #[cfg(feature = "metrics")]
            published: !self.metrics.interval.is_zero(),
        }
    }

    /// Starts the driver. What is returned besides resolves when it has ended.
    pub(crate) fn launch(self) -> Result<(Link, oneshot::Receiver<()>), Error> {
        let decode_threads = self.effective_decode_threads();
        #[cfg(feature = "metrics")]
        let metrics = (Arc::new(self.names()), self.metrics.clone());
        let mut config = self
            .checked()
            .map_err(|error| Error::new(ErrorKind::Config, error.to_string()).with_source(error))?;
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
        if let (Some(setting), Some(group)) = (self.decides_for_classic(), &config.group) {
            let why = format!("{setting} is given, which only it has");
            tracing::info!(group = %group.group_id, why, "the classic group protocol is used");
        }
        let (place, clock) = if self.on_current_runtime {
            (Place::current()?, Clock::runtime())
        } else {
            (Place::Own, Clock::own())
        };
        let connect_limit = config.connection_setup_timeout;
        config.decode_threads = decode_threads;
        let delivery = Shared::new(DeliveryConfig::from(&config));
        let decoders =
            if delivery.decodes_ahead() { Some(Decoders::spawn(decode_threads, &delivery)?) } else { None };
        let seed = self.seed.unwrap_or_else(seed);
        let client = Client::new(config, delivery.clone(), seed, clock.now(), unix_millis());
        let (sender, commands) = mpsc::unbounded_channel();
        let background = Arc::new(Background::default());
        let parts = Parts {
            client,
            delivery: delivery.clone(),
            background: background.clone(),
            commands,
            transport: self.transport,
            clock,
            connect_limit,
            decoders,
            #[cfg(feature = "metrics")]
            metrics,
        };
        let ended = driver::spawn(place, parts)?;
        let link = Link::new(sender, delivery, background, clock);
        Ok((link, ended))
    }
}

/// A seed from the operating system: the keys that the standard library draws from it for hash maps, one set
/// per thread and counted up, mixed with the time so that two draws differ whatever happens.
///
/// It decides jitter and, through the member ids made of it, must differ between processes; it is no secret.
fn seed() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u128(
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO)
            .as_nanos(),
    );
    hasher.write_u32(std::process::id());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    #[test]
    fn seeds_differ() {
        let seeds: std::collections::BTreeSet<u64> = (0..100).map(|_| super::seed()).collect();
        assert_eq!(seeds.len(), 100);
    }
}
