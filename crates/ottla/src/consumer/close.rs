//! The end of a consumer.

use std::time::Duration;

use ottla_core::client::{Command, Outcome};
use ottla_core::{Error, ErrorKind};

use super::Consumer;
use crate::link::unexpected;

impl Consumer {
    /// Commits what is done, leaves the group and ends the driver, within the configured
    /// [`close_timeout`](crate::Builder::close_timeout).
    ///
    /// It is not *coming back for more*: after a `break` on an error the batch in hand is not committed. When it
    /// resolves, connections are closed and the driver has ended, whatever the result is.
    ///
    /// # Errors
    ///
    /// What could not be done: a commit that failed, a coordinator that did not answer in time. Without the
    /// commit, the work since the last one is handed out again to whoever reads next.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future equals dropping the consumer: the driver goes on with leaving in the background.
    pub async fn close(self) -> Result<(), Error> {
        let timeout = self.close_timeout;
        self.close_timeout(timeout).await
    }

    /// [`close`](Self::close) within `timeout`.
    ///
    /// # Errors
    ///
    /// As `close`.
    ///
    /// # Cancel safety
    ///
    /// As `close`.
    pub async fn close_timeout(mut self, timeout: Duration) -> Result<(), Error> {
        let outcome = match self.link.send(Command::Close { timeout }) {
            Ok(answer) => answer.outcome().await,
            Err(error) => Err(error),
        };
        let ended = (&mut self.ended).await;
        match (outcome, ended) {
            (Ok(Outcome::Closed(failed)), _) => join(failed),
            (Ok(Outcome::Failed(error)), _) => Err(error),
            (Ok(other), _) => Err(unexpected(&other)),
            // The driver had ended by itself, after a fatal error that the reads told: nothing is left to do.
            (Err(_), Ok(())) => Ok(()),
            (Err(_), Err(_)) => Err(Error::new(
                ErrorKind::Closed,
                "the runtime that drove the consumer ended first; nothing was committed on close",
            )),
        }
    }
}

/// One error of several: the first one's kind, everybody's text.
fn join(failed: Vec<Error>) -> Result<(), Error> {
    let mut failed = failed.into_iter();
    let Some(first) = failed.next() else { return Ok(()) };
    let rest: Vec<String> = failed.map(|error| error.to_string()).collect();
    if rest.is_empty() {
        return Err(first);
    }
    let text = format!("{first}; and {}", rest.join("; and "));
    Err(Error::new(first.kind(), text).with_source(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_told_together() {
        assert!(join(Vec::new()).is_ok());
        let error = |text| Error::new(ErrorKind::Transport, text);
        assert_eq!(join(vec![error("a")]).unwrap_err().to_string(), "transport: a");
        let both = join(vec![error("a"), error("b")]).unwrap_err().to_string();
        assert!(both.contains('a') && both.contains('b'), "{both}");
    }
}
