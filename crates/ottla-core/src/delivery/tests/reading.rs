//! What a read returns: reliability.md S2 to S5, S14, and the shape of batches (design §6).

use std::time::Duration;

use ottla_wire::records::{BatchWriter, Compression, ControlRecord};

use super::support::*;
use crate::delivery::*;

#[test]
fn batches_are_joined_up_to_max_batch_records_and_split_above() {
    let mut rig = Rig::new(DeliveryConfig { max_batch_records: 10, ..auto() });
    rig.own(0, 0);
    rig.push(0, joined([data(0, 3), data(3, 3), data(6, 3), data(9, 3)]));
    rig.push(0, data(12, 25));
    let batch = rig.batch();
    assert_eq!(offsets(&batch), (0..9).collect::<Vec<_>>(), "what fits whole is joined");
    assert_eq!((batch.first_offset(), batch.last_offset(), batch.next_offset()), (0, 8, 9));
    assert_eq!(offsets(&rig.batch()), [9, 10, 11]);
    assert_eq!(offsets(&rig.batch()), (12..22).collect::<Vec<_>>(), "split");
    assert_eq!(offsets(&rig.batch()), (22..32).collect::<Vec<_>>());
    assert_eq!(offsets(&rig.batch()), (32..37).collect::<Vec<_>>());
    rig.pending();
}

#[test]
fn batches_of_several_responses_are_joined() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, data(0, 3));
    rig.push(0, data(3, 3));
    assert_eq!(offsets(&rig.batch()), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn joining_stops_at_three_quarters_of_a_megabyte() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, joined((0..40).map(|i| compressed(i * 10, 10, 10_000))));
    let batch = rig.batch();
    assert_eq!(batch.len(), 80, "records of 10 KB");
}

#[test]
fn a_record_is_what_was_written() {
    let mut rig = Rig::new(auto());
    rig.own(0, 40);
    let mut writer =
        BatchWriter::new().base_offset(40).partition_leader_epoch(3).compression(Compression::Zstd);
    let headers: [(&[u8], Option<&[u8]>); 3] = [(b"a", Some(b"1")), (b"a", None), (b"\xff", Some(b""))];
    writer.append(77, Some(b""), None, &headers).unwrap();
    writer.append(78, None, Some(b"v"), &[]).unwrap();
    rig.push(0, writer.finish());
    let batch = rig.batch();
    let record = batch.iter().next().unwrap().to_owned();
    drop(batch);
    assert_eq!((record.topic(), record.partition(), record.offset()), ("orders", 0, 40));
    assert_eq!((record.key(), record.value(), record.timestamp()), (Some(&b""[..]), None, 77));
    assert_eq!(record.timestamp_type(), ottla_wire::records::TimestampType::CreateTime);
    assert_eq!(record.leader_epoch(), crate::LeaderEpoch::from_wire(3));
    let read: Vec<_> =
        record.headers().map(|(k, v)| (k.as_bytes().to_vec(), v.map(<[u8]>::to_vec))).collect();
    let written: Vec<_> = headers.iter().map(|(k, v)| (k.to_vec(), v.map(<[u8]>::to_vec))).collect();
    assert_eq!(read, written, "in order, duplicates kept");
    assert!(size_of::<Record>() <= 64, "{}", size_of::<Record>());
    fn shared<T: Send + Sync + Clone + 'static>() {}
    shared::<Record>();
    shared::<Batch>();
    shared::<CommitToken>();
}

#[test]
fn a_fetch_that_begins_inside_a_batch_skips_the_records_before_the_offset() {
    for records in [data(0, 10), compressed(0, 10, 5)] {
        let mut rig = Rig::new(auto());
        rig.own(0, 7);
        rig.push(0, records);
        assert_eq!(offsets(&rig.batch()), [7, 8, 9]);
    }
}

#[test]
fn a_batch_that_holds_nothing_from_the_offset_on_moves_the_position_past_it() {
    // Compaction took the end of the batch, which it still stands for (KAFKA-5443).
    let mut rig = Rig::new(auto());
    rig.own(0, 7);
    assert_eq!(rig.push(0, compacted(0, &[0, 3], 10)), Pushed::Accepted { next_fetch_offset: 10 });
    rig.pending();
    assert_eq!(rig.position(0), Some(10));
}

#[test]
fn the_position_moves_past_emptied_batches() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, joined([compacted(0, &[], 50), data(50, 2), compacted(52, &[], 60)]));
    let batch = rig.batch();
    assert_eq!((offsets(&batch), batch.next_offset()), (vec![50, 51], 60));
    rig.push(0, compacted(60, &[], 70));
    rig.pending();
    assert_eq!(rig.position(0), Some(70));
}

#[test]
fn control_records_are_never_returned() {
    for config in [auto(), read_committed()] {
        let mut rig = Rig::new(config);
        rig.own(0, 0);
        let marker_in_between = marker(2, 9, ControlRecord::Commit);
        rig.push(0, joined([transactional(0, 2, 9), marker_in_between, transactional(3, 2, 9)]));
        assert_eq!(offsets(&rig.batch()), [0, 1, 3, 4]);
    }
}

#[test]
fn read_committed_leaves_out_aborted_transactions_and_nothing_else() {
    // KIP-98: the list names producer and first offset, the abort marker ends it; not sorted, as some brokers
    // send it.
    let mut rig = Rig::new(read_committed());
    rig.own(0, 0);
    let records = joined([
        transactional(0, 2, 1),
        transactional(2, 2, 2),
        marker(4, 1, ControlRecord::Abort),
        transactional(5, 1, 1),
        data(6, 1),
        marker(7, 2, ControlRecord::Abort),
        marker(8, 1, ControlRecord::Commit),
    ]);
    let fetched = Fetched { aborted: vec![(2, 2), (1, 0)], ..rig.fetched(0, records.clone()) };
    rig.lock().push(rig.now, fetched);
    let batch = rig.batch();
    assert_eq!((offsets(&batch), batch.next_offset()), (vec![5, 6], 9));

    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, records);
    assert_eq!(offsets(&rig.batch()), [0, 1, 2, 3, 5, 6], "read_uncommitted returns them");
}

#[test]
fn the_abort_filter_goes_on_where_a_read_stopped_and_starts_anew_with_each_response() {
    let mut rig = Rig::new(read_committed());
    rig.own(0, 0);
    let records = joined([data(0, 2), transactional(2, 2, 1), transactional(4, 2, 1), data(6, 2)]);
    let fetched = Fetched { aborted: vec![(1, 2)], ..rig.fetched(0, records) };
    rig.lock().push(rig.now, fetched);
    rig.push(0, transactional(8, 2, 1));
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.extend(offsets(&rig.batch_of(1)));
    }
    assert_eq!(seen, [0, 1, 6, 7, 8, 9]);
}

#[test]
fn an_empty_aborted_transaction_hides_nothing() {
    // librdkafka before 1.7 lost the committed messages that followed.
    let mut rig = Rig::new(read_committed());
    rig.own(0, 0);
    let records = joined([marker(0, 1, ControlRecord::Abort), transactional(1, 2, 1)]);
    let fetched = Fetched { aborted: vec![(1, 0)], ..rig.fetched(0, records) };
    rig.lock().push(rig.now, fetched);
    assert_eq!(offsets(&rig.batch()), [1, 2]);
}

#[test]
fn read_committed_returns_nothing_above_the_last_stable_offset() {
    let mut rig = Rig::new(read_committed());
    rig.own(0, 0);
    let records = joined([data(0, 2), transactional(2, 2, 1)]);
    let fetched = Fetched { last_stable_offset: 2, ..rig.fetched(0, records) };
    let pushed = rig.lock().push(rig.now, fetched);
    assert_eq!(pushed, Pushed::Accepted { next_fetch_offset: 2 });
    assert_eq!(offsets(&rig.batch()), [0, 1]);
    rig.pending();
}

#[test]
fn partitions_take_turns_and_each_is_in_order() {
    let mut rig = Rig::new(auto());
    for partition in 0..3 {
        rig.own(partition, 0);
        rig.push(partition, data(0, 4));
    }
    let turns: Vec<i32> = (0..12).map(|_| rig.batch_of(1).partition()).collect();
    assert_eq!(turns, [0, 1, 2].repeat(4));
    rig.pending();
}

#[test]
fn position_and_lag_follow_what_was_returned() {
    let mut rig = Rig::new(auto());
    assert_eq!(rig.position(0), None);
    rig.own(0, 3);
    assert_eq!((rig.position(0), rig.lag(0)), (Some(3), None));
    rig.push_up_to(0, data(3, 5), 20);
    assert_eq!(rig.position(0), Some(3), "nothing was returned yet");
    rig.batch();
    assert_eq!((rig.position(0), rig.lag(0)), (Some(8), Some(12)));
    rig.push_up_to(0, bytes::Bytes::new(), 30);
    assert_eq!((rig.position(0), rig.lag(0)), (Some(8), Some(22)));
    assert_eq!(rig.lock().watermarks(&tp(0)).unwrap().log_start_offset, Some(0));
}

#[test]
fn the_lag_of_read_committed_counts_to_the_last_stable_offset() {
    let mut rig = Rig::new(read_committed());
    rig.own(0, 0);
    let fetched = Fetched { last_stable_offset: 7, high_watermark: 10, ..rig.fetched(0, data(0, 2)) };
    rig.lock().push(rig.now, fetched);
    rig.batch();
    assert_eq!(rig.lag(0), Some(5));
}

#[test]
fn pause_keeps_the_buffer_and_resume_goes_on_where_it_stopped() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, data(0, 6));
    rig.batch_of(2);
    let before = rig.buffered();
    rig.lock().pause(&[tp(0)]);
    rig.pending();
    assert!(rig.lock().is_paused(&tp(0)));
    assert_eq!(rig.lock().fetchable(), []);
    assert_eq!(rig.buffered(), before);
    rig.push(0, data(6, 2));
    rig.pending();
    rig.lock().resume(rig.now, &[tp(0)]);
    assert_eq!(offsets(&rig.batch()), [2, 3, 4, 5, 6, 7]);
}

#[test]
fn resume_of_a_partition_that_is_not_paused_does_nothing() {
    // librdkafka #4686: it jumped back.
    let mut rig = Rig::new(auto());
    let epoch = rig.own(0, 0);
    rig.push(0, data(0, 6));
    rig.batch_of(2);
    rig.lock().resume(rig.now, &[tp(0), tp(9)]);
    assert_eq!(rig.lock().ownership(&tp(0)), Some(epoch));
    assert_eq!(offsets(&rig.batch()), [2, 3, 4, 5]);
}

#[test]
fn a_seek_while_paused_discards_the_buffer_and_is_not_lost() {
    // librdkafka #3471: seek, pause and resume lost the seek.
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, data(0, 6));
    rig.lock().pause(&[tp(0)]);
    rig.seek(0, 100);
    assert!(rig.lock().is_paused(&tp(0)), "a seek does not resume");
    rig.lock().resume(rig.now, &[tp(0)]);
    rig.pending();
    assert_eq!(rig.lock().fetchable()[0].offset, 100);
    rig.push(0, data(100, 2));
    assert_eq!(offsets(&rig.batch()), [100, 101]);
}

#[test]
fn after_a_seek_nothing_of_the_old_position_is_returned() {
    let mut rig = Rig::new(auto());
    let old = rig.own(0, 0);
    rig.push(0, data(0, 6));
    let late = rig.fetched(0, data(6, 3));
    rig.seek(0, 0);
    rig.pending();
    assert_eq!(rig.lock().push(rig.now, late), Pushed::Stale, "the answer to a fetch of before");
    rig.pending();
    let start = Start { offset: 77, leader_epoch: None, cause: StartCause::Committed { metadata: None } };
    assert!(
        !rig.lock().start(rig.now, &tp(0), old, start.clone()),
        "a late offset load does not override the seek"
    );
    let new = rig.lock().begin_seek(rig.now, &tp(0)).unwrap();
    assert!(!rig.lock().start(rig.now, &tp(0), old, start), "nor while the seek looks for its offset");
    rig.start(0, new, 0, StartCause::Explicit);
    assert_eq!(rig.position(0), Some(0));
}

#[test]
fn a_reset_or_an_end_of_before_a_seek_is_not_told_after_it() {
    let mut rig = Rig::new(DeliveryConfig { partition_eof: true, ..auto() });
    let epoch = rig.lock().assign(rig.now, &[tp(0)])[0].1;
    rig.own(1, 0);
    rig.lock().resetting(&tp(0), epoch, ResetCause::NoCommittedOffset);
    rig.start(0, epoch, 4, StartCause::Reset);
    rig.push_up_to(0, bytes::Bytes::new(), 4);
    rig.push_up_to(1, bytes::Bytes::new(), 0);
    rig.seek(0, 2);
    assert!(matches!(rig.event(), Event::Assigned(_)));
    assert!(matches!(rig.event(), Event::Assigned(_)));
    let told = rig.event();
    assert!(matches!(&told, Event::PartitionEof { topic_partition, .. } if *topic_partition == tp(1)));
    assert!(matches!(rig.take_with(Filter::EVENTS, None), Taken::Pending));
}

#[test]
fn the_end_of_a_partition_is_told_once_until_there_is_more() {
    let mut rig = Rig::new(DeliveryConfig { partition_eof: true, ..auto() });
    rig.own(0, 0);
    rig.event(); // Assigned
    rig.push_up_to(0, data(0, 4), 4);
    let first = rig.take_with(Filter { max_records: 2, ..Filter::EVENTS }, None);
    assert!(matches!(first, Taken::Batch(_)));
    assert!(matches!(rig.take_with(Filter::EVENTS, None), Taken::Batch(_)), "not before the last record");
    assert!(
        matches!(rig.event(), Event::PartitionEof { topic_partition, offset: 4 } if topic_partition == tp(0))
    );
    rig.push_up_to(0, bytes::Bytes::new(), 4);
    assert!(matches!(rig.take_with(Filter::EVENTS, None), Taken::Pending));
    rig.push_up_to(0, data(4, 1), 5);
    assert!(matches!(rig.take_with(Filter::EVENTS, None), Taken::Batch(_)));
    assert!(matches!(rig.event(), Event::PartitionEof { offset: 5, .. }));
    assert_eq!(rig.position(0), Some(5), "an event moves nothing");
}

#[test]
fn an_empty_partition_has_an_end_too() {
    let mut rig = Rig::new(DeliveryConfig { partition_eof: true, ..auto() });
    rig.own(0, 0);
    rig.event();
    rig.push_up_to(0, bytes::Bytes::new(), 0);
    assert!(matches!(rig.event(), Event::PartitionEof { offset: 0, .. }));
    assert_eq!(rig.committable(), []);
}

#[test]
fn a_reset_is_told_with_its_cause() {
    let mut rig = Rig::new(auto());
    let epoch = rig.lock().assign(rig.now, &[tp(0)])[0].1;
    rig.lock().resetting(&tp(0), epoch, ResetCause::NoCommittedOffset);
    assert!(rig.lock().is_resetting(&tp(0), epoch));
    rig.start(0, epoch, 9, StartCause::Reset);
    assert!(!rig.lock().is_resetting(&tp(0), epoch));
    rig.event();
    let reset = rig.event();
    assert!(matches!(reset, Event::OffsetReset { offset: 9, cause: ResetCause::NoCommittedOffset, .. }));
}

#[test]
fn events_come_before_data_and_the_defaults_read_over_them() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, data(0, 2));
    rig.lock().lose(rig.now, &[tp(5)]);
    assert!(matches!(rig.event(), Event::Assigned(tps) if tps == [tp(0)]));
    rig.own(1, 0);
    assert_eq!(offsets(&rig.batch()), [0, 1], "next_batch handles them itself");
    assert!(matches!(rig.take_with(Filter::EVENTS, None), Taken::Pending));
}

#[test]
fn a_manual_assignment_is_no_event() {
    let mut rig = Rig::new(auto());
    assert_eq!(rig.lock().assign_manual(rig.now, &[tp(0)]).len(), 1);
    assert!(matches!(rig.take_with(Filter::EVENTS, None), Taken::Pending));
    rig.lock().unassign_all(rig.now);
    assert!(matches!(rig.take_with(Filter::EVENTS, None), Taken::Pending));
    assert_eq!(rig.owned(), []);
}

#[test]
fn iterating_a_joined_batch_knows_how_many_are_left() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, joined([data(0, 3), data(3, 2)]));
    let batch = rig.batch();
    let mut iter = batch.iter();
    iter.nth(2);
    assert_eq!(iter.len(), 2);
    let mut records = batch.records();
    records.nth(3);
    assert_eq!(records.len(), 1);
    rig.pass(Duration::from_secs(1));
}
