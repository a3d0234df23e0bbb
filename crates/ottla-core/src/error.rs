//! What can go wrong, sorted by whose fault it is.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use ottla_wire::ErrorCode;

use crate::{BrokerId, TopicPartition};

/// Whose fault an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The network: no connection, a connection that broke, or no answer in time.
    Transport,
    /// The broker refused who we say we are.
    Authentication,
    /// The broker knows us and does not let us.
    Authorization,
    /// The broker, or this build, cannot do what is asked.
    Unsupported,
    /// A broker's answer breaks the protocol.
    BrokerMisbehaved,
    /// Records that fail their checksum or their structure.
    Corrupt,
    /// A limit of the configuration stands in the way; the text names the setting.
    Limit,
    /// There is no offset to start from and the configuration says not to choose one.
    NoOffset,
    /// Records that existed are gone: truncated, or the topic was recreated.
    DataLoss,
    /// Another member took this one's place, or the group does not know it any more.
    Fenced,
    /// The consumer is closed.
    Closed,
    /// The call does not fit the configuration or the state; the text says what to change.
    ApiMisuse,
    /// The configuration itself is wrong.
    Config,
}

impl ErrorKind {
    /// Its name in metrics and traces, as their `error.type`: `transport`, `data_loss`, …
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(ottla_core::ErrorKind::BrokerMisbehaved.name(), "broker_misbehaved");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Self::BrokerMisbehaved => "broker_misbehaved",
            Self::NoOffset => "no_offset",
            Self::DataLoss => "data_loss",
            other => other.label(),
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Transport => "transport",
            Self::Authentication => "authentication",
            Self::Authorization => "authorization",
            Self::Unsupported => "unsupported",
            Self::BrokerMisbehaved => "broker misbehaved",
            Self::Corrupt => "corrupt",
            Self::Limit => "limit",
            Self::NoOffset => "no offset",
            Self::DataLoss => "data loss",
            Self::Fenced => "fenced",
            Self::Closed => "closed",
            Self::ApiMisuse => "misuse",
            Self::Config => "configuration",
        }
    }
}

/// An error of the consumer. Cheap to clone.
///
/// An error that reaches the caller means that retrying is wrong or that the time for it is over: retries
/// happen inside. The text says which broker, request and partition, and what to change; the cause is in
/// [`source`](StdError::source).
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    text: String,
    retriable: bool,
    fatal: bool,
    broker: Option<BrokerId>,
    topic_partition: Option<TopicPartition>,
    code: Option<ErrorCode>,
    resume_at: Option<i64>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` with a text in lower case and without a full stop.
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        let retriable = matches!(kind, ErrorKind::Transport);
        let fatal = matches!(
            kind,
            ErrorKind::Authentication | ErrorKind::Fenced | ErrorKind::Closed | ErrorKind::Config
        );
        Self(Arc::new(Inner {
            kind,
            text: text.into(),
            retriable,
            fatal,
            broker: None,
            topic_partition: None,
            code: None,
            resume_at: None,
            source: None,
        }))
    }

    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may work later without a change.
    pub fn is_retriable(&self) -> bool {
        self.0.retriable
    }

    /// Whether the consumer is over: every further call gives this error again.
    pub fn is_fatal(&self) -> bool {
        self.0.fatal
    }

    /// The broker that was talked to, if one was.
    pub fn broker(&self) -> Option<BrokerId> {
        self.0.broker
    }

    /// The partition that is concerned, if one is. The others go on.
    pub fn topic_partition(&self) -> Option<&TopicPartition> {
        self.0.topic_partition.as_ref()
    }

    /// The broker's error code, if it sent one.
    pub fn code(&self) -> Option<ErrorCode> {
        self.0.code
    }

    /// For an error that stopped a partition: the offset behind what could not be read. Seeking there skips it.
    pub fn resume_at(&self) -> Option<i64> {
        self.0.resume_at
    }

    fn edit(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// With the broker that was talked to.
    #[must_use]
    pub fn with_broker(self, broker: BrokerId) -> Self {
        self.edit(|e| e.broker = Some(broker))
    }

    /// With the partition concerned.
    #[must_use]
    pub fn with_partition(self, topic_partition: TopicPartition) -> Self {
        self.edit(|e| e.topic_partition = Some(topic_partition))
    }

    /// With the broker's error code.
    #[must_use]
    pub fn with_code(self, code: ErrorCode) -> Self {
        self.edit(|e| {
            e.code = Some(code);
            e.retriable = code.is_retriable();
        })
    }

    /// With the offset behind what could not be read.
    #[must_use]
    pub fn with_resume_at(self, offset: i64) -> Self {
        self.edit(|e| e.resume_at = Some(offset))
    }

    /// With the cause.
    #[must_use]
    pub fn with_source(self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.edit(|e| e.source = Some(Arc::new(source)))
    }

    /// With a cause whose type is not known here.
    #[must_use]
    pub fn with_boxed_source(self, source: Box<dyn StdError + Send + Sync>) -> Self {
        self.edit(|e| e.source = Some(Arc::from(source)))
    }

    /// Marked as the end of the consumer, or not.
    #[must_use]
    pub fn with_fatal(self, fatal: bool) -> Self {
        self.edit(|e| e.fatal = fatal)
    }

    /// Marked as worth another try, or not.
    #[must_use]
    pub fn with_retriable(self, retriable: bool) -> Self {
        self.edit(|e| e.retriable = retriable)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = &*self.0;
        write!(f, "{}: {}", e.kind.label(), e.text)?;
        let mut separator = " (";
        if let Some(tp) = &e.topic_partition {
            write!(f, "{separator}partition {tp}")?;
            separator = ", ";
        }
        if let Some(broker) = e.broker {
            write!(f, "{separator}broker {broker}")?;
            separator = ", ";
        }
        if let Some(code) = e.code {
            write!(f, "{separator}{code}")?;
            separator = ", ";
        }
        if let Some(offset) = e.resume_at {
            write!(f, "{separator}resume at {offset}")?;
            separator = ", ";
        }
        if separator == ", " { f.write_str(")") } else { Ok(()) }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({self}")?;
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        f.write_str(")")
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|s| s as &(dyn StdError + 'static))
    }
}

/// Why an offset was not committed. Callers branch on it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CommitError {
    /// The partition is not owned any more, or was taken anew or sought since the record was handed out.
    /// Nothing was sent; whoever owns it now repeats the work.
    NotOwned,
    /// The offset is below what this ownership has committed already. `rewind` says that this is meant.
    WouldRewind {
        /// What is committed.
        committed: i64,
    },
    /// Of several partitions these failed; the others are committed.
    Partial(Vec<(TopicPartition, Self)>),
    /// The group does not know this member any more: the partitions are lost.
    Fenced(Error),
    /// The time or the tries for it are over; the same commit may work later.
    Retriable(Error),
    /// Trying again will not help.
    Fatal(Error),
}

impl CommitError {
    /// As an error about `topic_partition`.
    pub(crate) fn into_error(self, topic_partition: &TopicPartition) -> Error {
        let tp = topic_partition.clone();
        match self {
            Self::NotOwned | Self::WouldRewind { .. } | Self::Partial(_) => {
                Error::new(ErrorKind::Fenced, self.to_string()).with_fatal(false).with_partition(tp)
            }
            Self::Fenced(e) | Self::Retriable(e) | Self::Fatal(e) => e.with_partition(tp),
        }
    }
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOwned => f.write_str("not committed: the partition is not owned any more"),
            Self::WouldRewind { committed } => {
                write!(f, "not committed: {committed} is committed already; use rewind() to go back")
            }
            Self::Partial(failed) => {
                f.write_str("not committed of several partitions:")?;
                for (at, (topic_partition, error)) in failed.iter().enumerate() {
                    write!(f, "{} {topic_partition}: {error}", if at > 0 { ";" } else { "" })?;
                }
                Ok(())
            }
            Self::Fenced(e) | Self::Retriable(e) | Self::Fatal(e) => write!(f, "not committed: {e}"),
        }
    }
}

impl StdError for CommitError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::NotOwned | Self::WouldRewind { .. } | Self::Partial(_) => None,
            Self::Fenced(e) | Self::Retriable(e) | Self::Fatal(e) => Some(e),
        }
    }
}
