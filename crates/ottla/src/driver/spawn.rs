//! Where the driver runs.

use std::thread;

use ottla_core::{Error, ErrorKind};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::Parts;

/// Where the driver runs, decided before its clock is read.
pub(crate) enum Place {
    /// On a thread of its own: a handler that blocks does not stop heartbeats.
    Own,
    /// As a task of this runtime.
    Runtime(Handle),
}

impl Place {
    /// The caller's runtime.
    ///
    /// # Errors
    ///
    /// `ApiMisuse` outside of a runtime.
    pub(crate) fn current() -> Result<Self, Error> {
        Handle::try_current().map(Self::Runtime).map_err(|error| {
            Error::new(
                ErrorKind::ApiMisuse,
                "on_current_runtime() needs a tokio runtime around it; connect inside of one, or leave it out",
            )
            .with_source(error)
        })
    }
}

/// Starts the driver. What is returned resolves when it has ended, its sockets closed and its timer gone: with `Ok`
/// if it came to its end, with `Err` if its runtime ended first.
pub(crate) fn spawn(place: Place, parts: Parts) -> Result<oneshot::Receiver<()>, Error> {
    let (ended, when_ended) = oneshot::channel();
    match place {
        Place::Own => {
            // One thread is enough for names to be resolved, and it goes away with the runtime.
            let runtime = Builder::new_current_thread()
                .enable_all()
                .thread_name("ottla-resolve")
                .max_blocking_threads(4)
                .build()
                .map_err(no_thread)?;
            let thread = thread::Builder::new().name("ottla-driver".to_owned());
            let driver = super::run(parts);
            let body = move || {
                runtime.block_on(driver);
                // A name that is still being resolved is not waited for.
                runtime.shutdown_background();
                // Nobody may be there to be told.
                let _ = ended.send(());
            };
            // Detached: it ends when the core is closed, and nobody must block to see that.
            thread.spawn(body).map_err(no_thread)?;
        }
        Place::Runtime(handle) => {
            // Made here and not inside of the task, which may be dropped before its first poll.
            let driver = super::run(parts);
            handle.spawn(async move {
                driver.await;
                // A task that is dropped before says so by dropping this.
                let _ = ended.send(());
            });
        }
    }
    Ok(when_ended)
}

fn no_thread(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Limit, format!("cannot start the driver's thread: {error}")).with_source(error)
}
