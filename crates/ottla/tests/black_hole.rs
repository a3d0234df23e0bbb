//! Every call of a consumer while its brokers take everything and answer nothing, on virtual time: what has to ask
//! ends at `default_api_timeout`, what has not answers at once. (The administrator's calls are in `admin.rs`.)

mod common;
#[path = "common/net.rs"]
mod net;

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use common::{GROUP, TOPIC, broker, consumer, member, produce, tp};
use net::{Net, Weather};
use ottla::{Builder, Commit, CommitOffset, GroupProtocol, Offset};
use ottla_broker::Broker;
use tokio::time::Instant;

/// Shorter than a request may take.
const BOUND: Duration = Duration::from_secs(20);

const WEATHERS: [Weather; 3] = [Weather::Silent, Weather::Clogged, Weather::Gone];

async fn network() -> (Arc<Broker>, Net) {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let net = Net::new(broker.clone(), 1);
    (broker, net)
}

fn over(builder: Builder, net: &Net) -> Builder {
    let net = net.clone();
    builder
        .__connect_with(move |host, port| net.clone().connect(host, port))
        .commit(Commit::Manual)
        .default_api_timeout(BOUND)
}

/// How a call ended, and after how long.
struct Ended {
    call: &'static str,
    failed: Option<String>,
    after: Duration,
}

async fn timed<T, E: Debug + ToString>(
    call: &'static str,
    future: impl Future<Output = Result<T, E>>,
) -> Ended {
    let begun = Instant::now();
    let failed = future.await.err().map(|error| error.to_string());
    Ended { call, failed, after: begun.elapsed() }
}

fn assert_at_the_deadline(weather: Weather, ended: &[Ended]) {
    for Ended { call, failed, after } in ended {
        assert!(
            (BOUND..BOUND + Duration::from_secs(1)).contains(after),
            "{weather:?}: {call} took {after:?}: {failed:?}"
        );
        let text = failed.as_deref().unwrap_or("it did not fail");
        assert!(text.contains("default_api_timeout"), "{weather:?}: {call}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_query_ends_at_its_deadline_in_a_black_hole() {
    for weather in WEATHERS {
        let (broker, net) = network().await;
        let mut consumer = over(consumer(&broker).group(GROUP), &net).connect().await.unwrap();
        consumer.assign([(tp(0), Offset::Earliest)]).await.unwrap();
        let batch = consumer.next_batch().await.unwrap().unwrap();
        net.set(weather);
        let handle = consumer.handle();
        // Alone, so that no call lives on what another one asks.
        let times = || [(tp(0), 1)];
        let ended = [
            // On a connection that stands, and again when it has been given up.
            timed("commit of a batch", handle.commit(&batch)).await,
            timed("committed", handle.committed([tp(0)])).await,
            timed("beginning_offsets", handle.beginning_offsets([tp(0)])).await,
            timed("end_offsets", handle.end_offsets([tp(0)])).await,
            timed("offsets_for_times", handle.offsets_for_times(times())).await,
            timed("partitions_of", handle.partitions_of("another")).await,
            timed("commit of a batch", handle.commit(&batch)).await,
            timed("commit_delivered", handle.commit_delivered()).await,
            timed("commit of an offset", handle.commit(CommitOffset::new(tp(0), 3).rewind())).await,
        ];
        assert_at_the_deadline(weather, &ended);
        // All together end no later.
        let (a, b, c, d, e, f, g) = tokio::join!(
            timed("committed", handle.committed([tp(0)])),
            timed("beginning_offsets", handle.beginning_offsets([tp(0)])),
            timed("end_offsets", handle.end_offsets([tp(0)])),
            timed("offsets_for_times", handle.offsets_for_times(times())),
            timed("partitions_of", handle.partitions_of("another")),
            timed("commit of a batch", handle.commit(&batch)),
            timed("commit of an offset", handle.commit(CommitOffset::new(tp(0), 3).rewind())),
        );
        assert_at_the_deadline(weather, &[a, b, c, d, e, f, g]);
        // Nothing of it is left: what is asked in fair weather is answered.
        net.set(Weather::Fair);
        assert_eq!(handle.end_offsets([tp(0)]).await.unwrap()[&tp(0)], 10);
        assert_eq!(handle.committed([tp(0)]).await.unwrap()[&tp(0)], None);
        handle.commit(&batch).await.unwrap();
        consumer.close().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_needs_no_broker_answers_at_once_in_a_black_hole() {
    for weather in WEATHERS {
        let (broker, net) = network().await;
        let mut consumer = over(consumer(&broker).group(GROUP), &net).connect().await.unwrap();
        consumer.assign([(tp(0), Offset::Earliest)]).await.unwrap();
        let batch = consumer.next_batch().await.unwrap().unwrap();
        net.set(weather);
        let begun = Instant::now();
        assert_eq!(consumer.position(&tp(0)).unwrap(), Some(10));
        assert_eq!(consumer.lag(&tp(0)).unwrap(), Some(0));
        assert_eq!(consumer.assignment().unwrap(), [tp(0)]);
        assert_eq!(consumer.held_back().unwrap().len(), 0);
        consumer.group_metadata().await.unwrap();
        consumer.snapshot().await.unwrap();
        consumer.commit_in_background(&batch).unwrap();
        consumer.pause([tp(0)]).await.unwrap();
        consumer.resume([tp(0)]).await.unwrap();
        let time = Offset::Timestamp(1);
        for offset in [Offset::At(3), Offset::Earliest, Offset::Latest, time, Offset::At(3)] {
            consumer.seek(&tp(0), offset).await.unwrap();
        }
        assert_eq!(consumer.position(&tp(0)).unwrap(), Some(3));
        consumer.incremental_unassign([tp(0)]).await.unwrap();
        consumer.incremental_assign([(tp(0), Offset::At(5))]).await.unwrap();
        consumer.assign([(tp(0), Offset::At(4))]).await.unwrap();
        consumer.unsubscribe().await.unwrap();
        assert!(begun.elapsed() < Duration::from_millis(100), "{weather:?}: {:?}", begun.elapsed());
        let begun = Instant::now();
        // What it has not committed, it may say.
        let _ = consumer.close_timeout(Duration::from_secs(3)).await;
        assert!(begun.elapsed() <= Duration::from_millis(3_010), "{weather:?}: {:?}", begun.elapsed());
    }
}

/// Leaving a group takes an answer; a new subscription does not wait for one.
#[tokio::test(start_paused = true)]
async fn a_member_gives_up_its_subscription_in_time_in_a_black_hole() {
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        for weather in WEATHERS {
            let (broker, net) = network().await;
            let mut consumer =
                over(member(&broker, 1).group_protocol(protocol), &net).connect().await.unwrap();
            consumer.next_batch().await.unwrap().unwrap();
            net.set(weather);
            let begun = Instant::now();
            consumer.subscribe(["another", TOPIC]).await.unwrap();
            assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
            let ended = timed("unsubscribe", consumer.unsubscribe()).await;
            assert!(
                ended.after <= BOUND + Duration::from_secs(1),
                "{protocol:?}, {weather:?}: {:?}",
                ended.after
            );
            let begun = Instant::now();
            let _ = consumer.close_timeout(Duration::from_secs(3)).await;
            assert!(begun.elapsed() <= Duration::from_millis(3_010), "{:?}", begun.elapsed());
        }
    }
}
