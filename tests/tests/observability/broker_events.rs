//! Throttling, and all brokers down: told once per change, to who asked for it.

use std::sync::Arc;
use std::time::Duration;

use ottla::{BrokerId, Consumer, ErrorKind, Event};
use ottla_broker::{Api, Broker, Fault};

use crate::{broker, member, produce, read};

const SECOND: Duration = Duration::from_secs(1);

/// The events about brokers of the next `time`.
async fn heard(consumer: &mut Consumer, time: Duration) -> Vec<Event> {
    let mut heard = Vec::new();
    let listen = async {
        loop {
            let event = consumer.next_event().await.unwrap().expect("nobody shuts it down");
            if !matches!(event, Event::Batch(_) | Event::Assigned(_) | Event::OffsetReset { .. }) {
                heard.push(event);
            }
        }
    };
    assert!(tokio::time::timeout(time, listen).await.is_err(), "it listens for ever");
    heard
}

async fn listening(broker: &Arc<Broker>) -> Consumer {
    produce(broker, 0, 3);
    let mut consumer = member(broker).broker_events(true).connect().await.unwrap();
    assert!(heard(&mut consumer, SECOND).await.is_empty());
    consumer
}

#[tokio::test(start_paused = true)]
async fn throttling_is_told_when_it_begins_and_when_it_is_over() {
    let broker = broker(1, 1).await;
    let mut consumer = listening(&broker).await;
    broker.fault(Fault::on(Api::Fetch).times(3).throttle(2 * SECOND));
    let events = heard(&mut consumer, 30 * SECOND).await;
    let [
        Event::Throttled { broker: Some(BrokerId(one)), throttle_time },
        Event::ThrottleEnded { broker: Some(BrokerId(same)), throttled },
    ] = events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((one, throttle_time), (broker.nodes()[0], 2 * SECOND), "as it began");
    assert_eq!((same, throttled), (one, 6 * SECOND), "three times two seconds");
    let snapshot = consumer.snapshot().await.unwrap();
    assert_eq!(snapshot.traffic.throttled, 6 * SECOND);
    assert!(snapshot.brokers.iter().all(|broker| !broker.throttled));

    // Again: it is another time.
    broker.fault(Fault::on(Api::Fetch).times(1).throttle(SECOND));
    let events = heard(&mut consumer, 30 * SECOND).await;
    assert!(matches!(&events[..], [Event::Throttled { .. }, Event::ThrottleEnded { .. }]), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_ends_its_throttling() {
    let broker = broker(1, 1).await;
    let mut consumer = listening(&broker).await;
    broker.fault(Fault::on(Api::Fetch).throttle(3_600 * SECOND));
    let events = heard(&mut consumer, 10 * SECOND).await;
    assert!(matches!(&events[..], [Event::Throttled { .. }]), "{events:?}");
    let snapshot = consumer.snapshot().await.unwrap();
    assert_eq!(snapshot.brokers.iter().filter(|broker| broker.throttled).count(), 1);
    broker.kill_connections();
    let events = heard(&mut consumer, 10 * SECOND).await;
    assert!(
        matches!(&events[..], [Event::ThrottleEnded { throttled, .. }] if *throttled == 3_600 * SECOND),
        "a broker that comes back at once is not down: {events:?}"
    );
    produce(&broker, 0, 3);
    read(&mut consumer, 3).await;
}

#[tokio::test(start_paused = true)]
async fn all_brokers_down_is_told_once_and_so_is_that_one_is_back() {
    let broker = broker(2, 1).await;
    let mut consumer = listening(&broker).await;
    let nodes = broker.nodes();
    broker.stop_node(nodes[0]).unwrap();
    let events = heard(&mut consumer, 20 * SECOND).await;
    assert!(events.is_empty(), "there is another one: {events:?}");
    broker.stop_node(nodes[1]).unwrap();
    let events = heard(&mut consumer, 20 * SECOND).await;
    let [Event::AllBrokersDown { error }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(error.kind(), ErrorKind::Transport, "{error}");
    assert!(consumer.snapshot().await.unwrap().brokers_down);

    broker.start_node(nodes[1]).unwrap();
    let events = heard(&mut consumer, 20 * SECOND).await;
    let back: Vec<&Event> = events
        .iter()
        .filter(|e| matches!(e, Event::BrokerAvailable { .. } | Event::AllBrokersDown { .. }))
        .collect();
    assert!(matches!(&back[..], [Event::BrokerAvailable { .. }]), "{events:?}");
    assert!(!consumer.snapshot().await.unwrap().brokers_down);
    produce(&broker, 0, 5);
    read(&mut consumer, 5).await;
    broker.stop_node(nodes[1]).unwrap();
    let events = heard(&mut consumer, 20 * SECOND).await;
    let down = events.iter().filter(|e| matches!(e, Event::AllBrokersDown { .. })).count();
    assert_eq!(down, 1, "another time: {events:?}");
}

#[tokio::test(start_paused = true)]
async fn what_came_and_went_while_the_reader_stayed_away_is_not_told_of() {
    let broker = broker(1, 1).await;
    let mut consumer = listening(&broker).await;
    let node = broker.nodes()[0];
    for _ in 0..50 {
        broker.stop_node(node).unwrap();
        tokio::time::sleep(5 * SECOND).await;
        assert!(consumer.snapshot().await.unwrap().brokers_down);
        broker.start_node(node).unwrap();
        tokio::time::sleep(5 * SECOND).await;
        assert!(!consumer.snapshot().await.unwrap().brokers_down);
    }
    let events = heard(&mut consumer, 10 * SECOND).await;
    let about_brokers =
        |e: &&Event| matches!(e, Event::BrokerAvailable { .. } | Event::AllBrokersDown { .. });
    assert_eq!(events.iter().filter(about_brokers).count(), 0, "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn who_did_not_ask_hears_nothing() {
    let broker = broker(1, 1).await;
    produce(&broker, 0, 3);
    let mut consumer = member(&broker).connect().await.unwrap();
    assert!(heard(&mut consumer, SECOND).await.is_empty());
    broker.fault(Fault::on(Api::Fetch).throttle(SECOND));
    assert!(heard(&mut consumer, 10 * SECOND).await.is_empty());
    broker.stop_node(broker.nodes()[0]).unwrap();
    let events = heard(&mut consumer, 20 * SECOND).await;
    assert!(events.is_empty(), "{events:?}");
    assert!(consumer.snapshot().await.unwrap().brokers_down);
}
