//! What is published: a test compares this list, `docs/observability.md`, and what a recorder really gets.

use ::metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, SharedString, Unit, with_recorder,
};

use crate::observe::Names;

static METADATA: Metadata<'static> = Metadata::new("ottla", Level::INFO, Some(module_path!()));

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One metric.
pub(super) struct Metric {
    name: &'static str,
    kind: Kind,
    unit: Unit,
    what: &'static str,
}

macro_rules! metrics {
    ($($id:ident = $kind:ident $name:literal $unit:ident $what:literal;)*) => {
        $(pub(super) const $id: Metric =
            Metric { name: $name, kind: Kind::$kind, unit: Unit::$unit, what: $what };)*
        const ALL: &[Metric] = &[$($id),*];
    };
}

metrics! {
    CONSUMED_MESSAGES = Counter "messaging.client.consumed.messages" Count "Records that were handed out.";
    OPERATION_DURATION = Histogram "messaging.client.operation.duration" Seconds
        "From a Fetch or an OffsetCommit to its answer.";
    PROCESS_DURATION = Histogram "messaging.process.duration" Seconds
        "From the moment that a batch was handed out until its reader came back.";

    BYTES_CONSUMED = Counter "kafka.consumer.bytes_consumed_total" Bytes
        "Batches that were fetched, as they came.";
    FETCHES = Counter "kafka.consumer.fetch_total" Count "Fetches that were answered.";
    COMMITS = Counter "kafka.consumer.commit_total" Count "OffsetCommits that were answered.";
    COMMIT_FAILURES = Counter "kafka.consumer.commit_failures_total" Count
        "OffsetCommits that were refused as a whole or not answered.";
    HEARTBEATS = Counter "kafka.consumer.heartbeat_total" Count "Heartbeats that were answered.";
    REBALANCES = Counter "kafka.consumer.rebalance_total" Count
        "Generations or member epochs that the member has been in.";
    ERRORS = Counter "kafka.consumer.errors_total" Count "Errors that the reader was told of.";
    CONNECTIONS_CREATED = Counter "kafka.consumer.connection_creation_total" Count "Connections that were begun.";
    CONNECTIONS_CLOSED = Counter "kafka.consumer.connection_close_total" Count
        "Connections that ended, those that were not established among them.";
    REQUESTS = Counter "kafka.consumer.request_total" Count "Requests that were written.";
    REQUESTS_UNANSWERED = Counter "kafka.consumer.request_unanswered_total" Count
        "Requests that got no answer.";
    BYTES_SENT = Counter "kafka.consumer.outgoing_byte_total" Bytes "Bytes that were written.";
    BYTES_RECEIVED = Counter "kafka.consumer.incoming_byte_total" Bytes "Bytes of whole answers.";

    REQUEST_LATENCY = Histogram "kafka.consumer.request_latency" Seconds "From any request to its answer.";
    HEARTBEAT_RESPONSE_TIME = Histogram "kafka.consumer.heartbeat_response_time" Seconds
        "From a heartbeat to its answer.";
    REBALANCE_LATENCY = Histogram "kafka.consumer.rebalance_latency" Seconds
        "From the moment that the member is on its way to an assignment until it has it.";
    THROTTLE_TIME = Histogram "kafka.consumer.throttle_time" Seconds
        "For how long a broker asked to be left alone.";

    RECORDS_LAG = Gauge "kafka.consumer.records_lag" Count "Offsets between the position and the end.";
    RECORDS_LAG_MAX = Gauge "kafka.consumer.records_lag_max" Count "The largest lag of an owned partition.";
    RECORDS_LAG_SUM = Gauge "kafka.consumer.records_lag_sum" Count "The lag of all owned partitions.";
    ASSIGNED_PARTITIONS = Gauge "kafka.consumer.assigned_partitions" Count "Partitions that are owned.";
    PAUSED_PARTITIONS = Gauge "kafka.consumer.paused_partitions" Count "Owned partitions that are paused.";
    BUFFERED_RECORDS = Gauge "kafka.consumer.buffered_records" Count "Records that wait to be handed out.";
    BUFFERED_BYTES = Gauge "kafka.consumer.buffered_bytes" Bytes
        "Bytes that are fetched or decompressed and not handed out.";
    HELD_BYTES = Gauge "kafka.consumer.held_bytes" Bytes
        "Bytes of batches and records that were handed out and are still held.";
    READER_AWAY = Gauge "kafka.consumer.reader_away_time" Seconds
        "For how long something waits for the reader, who does not come.";
    BROKERS_DOWN = Gauge "kafka.consumer.brokers_down" Count "1 while no broker can be reached.";
    THROTTLED_BROKERS = Gauge "kafka.consumer.throttled_brokers" Count "Brokers that throttle this client.";
    CONNECTIONS = Gauge "kafka.consumer.connection_count" Count "Connections that can be used.";
    REQUESTS_IN_FLIGHT = Gauge "kafka.consumer.requests_in_flight" Count "Requests that wait for their answer.";
}

/// Tells the recorder units and meanings.
pub(super) fn describe() {
    with_recorder(|recorder| {
        for metric in ALL {
            let (name, unit) = (KeyName::from_const_str(metric.name), Some(metric.unit));
            let what = SharedString::const_str(metric.what);
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, unit, what),
                Kind::Gauge => recorder.describe_gauge(name, unit, what),
                Kind::Histogram => recorder.describe_histogram(name, unit, what),
            }
        }
    });
}

/// The labels of every metric of a consumer.
pub(super) fn labels(names: &Names) -> Vec<Label> {
    let client_id = Label::new("messaging.client.id", names.client_id.clone());
    let mut labels = vec![Label::from_static_parts("messaging.system", "kafka"), client_id];
    labels.extend(names.group.clone().map(|group| Label::new("messaging.consumer.group.name", group)));
    labels
}

/// The labels of a broker.
pub(super) fn server(host: &str, port: u16) -> [Label; 2] {
    [Label::new("server.address", host.to_owned()), Label::new("server.port", port.to_string())]
}

/// What an operation is, by the conventions.
pub(super) fn operation(name: &'static str, kind: &'static str) -> [Label; 2] {
    [
        Label::from_static_parts("messaging.operation.name", name),
        Label::from_static_parts("messaging.operation.type", kind),
    ]
}

impl Metric {
    fn key(&self, base: &[Label], labels: impl IntoIterator<Item = Label>) -> Key {
        let labels: Vec<Label> = base.iter().cloned().chain(labels).collect();
        Key::from_parts(self.name, labels)
    }

    pub(super) fn counter(&self, base: &[Label], labels: impl IntoIterator<Item = Label>) -> Counter {
        let key = self.key(base, labels);
        with_recorder(|recorder| recorder.register_counter(&key, &METADATA))
    }

    pub(super) fn gauge(&self, base: &[Label], labels: impl IntoIterator<Item = Label>) -> Gauge {
        let key = self.key(base, labels);
        with_recorder(|recorder| recorder.register_gauge(&key, &METADATA))
    }

    pub(super) fn histogram(&self, base: &[Label], labels: impl IntoIterator<Item = Label>) -> Histogram {
        let key = self.key(base, labels);
        with_recorder(|recorder| recorder.register_histogram(&key, &METADATA))
    }
}
