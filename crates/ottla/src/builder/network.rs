//! The settings of connections, requests and retries.

use std::time::Duration;

use super::Builder;

impl Builder {
    /// A request without an answer for this long fails, and its connection is closed.
    ///
    /// Default: 30 seconds. Shorter finds a dead connection sooner and mistakes a busy broker for one. JoinGroup
    /// and Fetch are given what they wait for on top.
    #[doc(alias = "request.timeout.ms")]
    #[doc(alias = "socket.timeout.ms")]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.config.request_timeout = timeout;
        self
    }

    /// Connecting to a broker may take this long, all addresses of its name and the negotiation included; and so
    /// may [`connect`](Self::connect) as a whole, which tries again until then. It tries one bootstrap address after
    /// the other: where nobody answers, the next one is tried as well after a second at the most, and all have had
    /// their turn after half of this time.
    ///
    /// Default: 10 seconds. Shorter moves on from a dead host sooner; a busy broker, or a name with several
    /// addresses, needs its time.
    #[doc(alias = "socket.connection.setup.timeout.ms")]
    pub fn connection_setup_timeout(mut self, timeout: Duration) -> Self {
        self.config.connection_setup_timeout = timeout;
        self
    }

    /// First and longest wait before a broker is connected to again after a failure; in between it doubles.
    ///
    /// Default: 50 milliseconds to 1 second. It keeps a restarted broker from being run over by its clients.
    #[doc(alias = "reconnect.backoff.ms")]
    #[doc(alias = "reconnect.backoff.max.ms")]
    pub fn reconnect_backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.config.reconnect_backoff = (first, longest);
        self
    }

    /// First and longest wait before a failed request is sent again; in between it doubles.
    ///
    /// Default: 100 milliseconds to 1 second.
    #[doc(alias = "retry.backoff.ms")]
    #[doc(alias = "retry.backoff.max.ms")]
    pub fn retry_backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.config.retry_backoff = (first, longest);
        self
    }

    /// What is known of topics and brokers is asked for anew after this long.
    ///
    /// Default: 5 minutes. Moved leaders are noticed at once, without it; it is how new partitions and topics
    /// are found.
    #[doc(alias = "metadata.max.age.ms")]
    #[doc(alias = "topic.metadata.refresh.interval.ms")]
    pub fn metadata_max_age(mut self, age: Duration) -> Self {
        self.config.metadata_max_age = age;
        self
    }

    /// When brokers were asked what is in the cluster for this long, and none has told, all of them are forgotten and it
    /// begins anew at the bootstrap addresses. Positions and the membership stay.
    ///
    /// Default: 5 minutes, as in Java. The bootstrap addresses are asked as well as soon as no known broker can be
    /// connected to; this is for brokers that are there and know nothing, or belong to another cluster by now. A
    /// broker that asks for it (REBOOTSTRAP_REQUIRED, Kafka 4.0 and later) is obeyed at once (KIP-899, KIP-1102).
    #[doc(alias = "metadata.recovery.rebootstrap.trigger.ms")]
    #[doc(alias = "metadata.recovery.strategy")]
    pub fn metadata_recovery_rebootstrap_trigger(mut self, time: Duration) -> Self {
        self.config.metadata_recovery_rebootstrap_trigger = time;
        self
    }

    /// Time for a call that asks brokers (a commit or a query), retries included.
    ///
    /// Default: 60 seconds. When it is over the call gives the error that stood in the way.
    #[doc(alias = "default.api.timeout.ms")]
    pub fn default_api_timeout(mut self, timeout: Duration) -> Self {
        self.config.default_api_timeout = timeout;
        self
    }
}
