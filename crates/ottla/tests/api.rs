//! The shape of the public API: what is `Send`, how large futures are, what a wrong configuration says.

use std::time::Duration;

use ottla::{
    Batch, Builder, CommitToken, Consumer, ConsumerHandle, Error, ErrorKind, Event, Offset, Record,
    TopicPartition,
};

fn send<T: Send>(_: &T) {}

fn consumer() -> Consumer {
    // Nobody answers there; these tests ask for nothing.
    Consumer::builder("127.0.0.1:1").connect_lazy().unwrap()
}

#[test]
fn types_that_travel_are_send_and_sync() {
    fn both<T: Send + Sync + 'static>() {}
    both::<Builder>();
    both::<Consumer>();
    both::<ConsumerHandle>();
    both::<Batch>();
    both::<Record>();
    both::<CommitToken>();
    both::<Event>();
    both::<Error>();
}

#[test]
fn all_futures_are_send() {
    let mut consumer = consumer();
    let partition = TopicPartition::new("t", 0);
    send(&Consumer::builder("a:1").connect());
    send(&consumer.next_batch());
    send(&consumer.next_record());
    send(&consumer.next_event());
    send(&consumer.records());
    send(&consumer.next_batches(10, Duration::ZERO));
    send(&consumer.run_partitioned(|_| async { Ok::<_, Error>(()) }));
    send(&consumer.subscribe(["t"]));
    send(&consumer.unsubscribe());
    send(&consumer.assign([(partition.clone(), Offset::Earliest)]));
    send(&consumer.commit((partition.clone(), 1)));
    send(&consumer.commit_delivered());
    send(&consumer.pause([&partition]));
    send(&consumer.resume([&partition]));
    send(&consumer.seek(&partition, Offset::At(1)));
    send(&consumer.committed([&partition]));
    send(&consumer.beginning_offsets([&partition]));
    send(&consumer.end_offsets([&partition]));
    send(&consumer.offsets_for_times([(partition.clone(), 0)]));
    send(&consumer.partitions_of("t"));
    send(&consumer.group_metadata());
    send(&consumer.close());
}

#[test]
fn futures_are_small() {
    let mut consumer = consumer();
    let partition = TopicPartition::new("t", 0);
    let mut sizes = Vec::new();
    sizes.push(("next_batch", size_of_val(&consumer.next_batch()), 64));
    sizes.push(("next_record", size_of_val(&consumer.next_record()), 64));
    sizes.push(("next_event", size_of_val(&consumer.next_event()), 64));
    sizes.push(("commit", size_of_val(&consumer.commit((partition.clone(), 1))), 512));
    sizes.push(("seek", size_of_val(&consumer.seek(&partition, Offset::At(1))), 512));
    sizes.push(("connect", size_of_val(&Consumer::builder("a:1").connect()), 4096));
    sizes.push(("close", size_of_val(&consumer.close()), 4096));
    for (name, size, most) in sizes {
        assert!(size <= most, "{name} has {size} bytes, more than {most}");
    }
}

#[test]
fn a_wrong_configuration_starts_nothing_and_tells_all_that_is_wrong() {
    let error = Consumer::builder("localhost")
        .max_batch_records(0)
        .request_timeout(Duration::ZERO)
        .connect_lazy()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let source = std::error::Error::source(&error).expect("a source");
    let config = source.downcast_ref::<ottla::ConfigError>().expect("a ConfigError");
    assert_eq!(config.problems().len(), 3, "{config}");
}

#[test]
fn the_callers_runtime_needs_to_exist() {
    let error = Consumer::builder("127.0.0.1:1").on_current_runtime().connect_lazy().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ApiMisuse);
    assert!(error.to_string().contains("on_current_runtime"), "{error}");
}
