//! Calls that change what is read, polled n times and dropped: those that need a world of their own.

use ottla::{Commit, Event, Offset};

use crate::cancel::{a_moment, read_for_a_moment};
use crate::harness::{GROUP, PARTITIONS, Seen, TOPIC, World, all, for_every_cut, polled, tp};
use crate::net::Weather;

#[test]
fn partitions_that_are_added_by_a_dropped_call_are_read_once_it_was_polled() {
    for weather in [Weather::Fair, Weather::Choppy] {
        for_every_cut(&format!("{weather:?} incremental_assign"), async |cut| {
            let world = World::new(1).await;
            world.net.set(weather);
            world.produce(12);
            let mut seen = Seen::default();
            let mut consumer = world.consumer().connect_lazy().unwrap();
            consumer.assign([(tp(0), Offset::Earliest)]).await.unwrap();
            seen.batch(&consumer.next_batch().await.unwrap().unwrap());
            let added = consumer.incremental_assign([(tp(1), Offset::At(5))]);
            let completed = polled(added, cut, &world.net).await.map(Result::unwrap).is_some();
            read_for_a_moment(&mut consumer, &mut seen).await;
            // The other one is read on as if nothing had happened.
            assert_eq!((seen.jumps(0), seen.last(0)), (vec![], Some(11)));
            let added = if cut.polls == 0 { (vec![], None) } else { (vec![(0, 5)], Some(11)) };
            assert_eq!((seen.jumps(1), seen.last(1)), added);
            consumer.close().await.unwrap();
            world.assert_nothing_left().await;
            completed
        });
    }
}

#[test]
fn partitions_that_a_dropped_call_takes_away_are_not_read_once_it_was_polled() {
    for weather in [Weather::Fair, Weather::Choppy] {
        for_every_cut(&format!("{weather:?} incremental_unassign"), async |cut| {
            let world = World::new(1).await;
            world.net.set(weather);
            world.produce(24);
            let mut seen = Seen::default();
            let mut consumer = world.consumer().connect_lazy().unwrap();
            consumer.assign(all().into_iter().map(|p| (p, Offset::Earliest))).await.unwrap();
            seen.batch(&consumer.next_batch().await.unwrap().unwrap());
            let taken = consumer.incremental_unassign([tp(1)]);
            let completed = polled(taken, cut, &world.net).await.map(Result::unwrap).is_some();
            a_moment().await;
            let before = seen.last(1);
            read_for_a_moment(&mut consumer, &mut seen).await;
            assert_eq!((seen.jumps(0), seen.last(0)), (vec![], Some(23)));
            assert_eq!(seen.jumps(1), []);
            assert_eq!(seen.last(1), if cut.polls == 0 { Some(23) } else { before });
            consumer.close().await.unwrap();
            world.assert_nothing_left().await;
            completed
        });
    }
}

#[test]
fn an_answer_where_to_begin_that_is_dropped_holds_once_it_was_polled() {
    for weather in [Weather::Fair, Weather::Choppy] {
        for_every_cut(&format!("{weather:?} start_at"), async |cut| {
            let world = World::new(1).await;
            world.net.set(weather);
            world.produce(12);
            let builder = world.consumer().group(GROUP).subscribe([TOPIC]).commit(Commit::External);
            let mut consumer = builder.connect_lazy().unwrap();
            let places = || all().into_iter().map(|p| (p, Offset::At(7)));
            let mut assigned = 0;
            while assigned < PARTITIONS {
                if let Event::Assigned(partitions) = consumer.next_event().await.unwrap().unwrap() {
                    assigned += i32::try_from(partitions.len()).unwrap();
                }
            }
            let completed = polled(consumer.start_at(places()), cut, &world.net).await.map(Result::unwrap);
            if cut.polls == 0 {
                let read = tokio::time::timeout(std::time::Duration::from_secs(2), consumer.next_event());
                assert!(read.await.is_err(), "it is read before anybody has said from where");
                consumer.start_at(places()).await.unwrap();
            }
            let mut seen = Seen::default();
            while (0..PARTITIONS).any(|p| seen.last(p) != Some(11)) {
                if let Event::Batch(batch) = consumer.next_event().await.unwrap().unwrap() {
                    seen.batch(&batch);
                }
            }
            for partition in 0..PARTITIONS {
                assert_eq!(seen.jumps(partition), [(0, 7)]);
            }
            consumer.close().await.unwrap();
            assert!(world.broker.commits().is_empty(), "nothing is written to Kafka");
            world.assert_nothing_left().await;
            completed.is_some()
        });
    }
}
