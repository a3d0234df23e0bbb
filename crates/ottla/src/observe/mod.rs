//! What others can see of a consumer besides its [`snapshot`](crate::Consumer::snapshot): spans of `tracing`, and with
//! the feature `metrics` the figures as metrics. `docs/observability.md` lists both.

#[cfg(feature = "metrics")]
pub(crate) mod metrics;
mod reads;

pub(crate) use reads::{Gives, Names, Reading, Watch};
