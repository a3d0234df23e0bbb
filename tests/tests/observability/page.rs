//! The tables of log lines and of events about brokers, and a run with all that they name.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ottla::{Consumer, Event};
use ottla_broker::{Api, Fault};
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::set_default;

use crate::capture::Capture;
use crate::{broker, document, member, produce};

/// Reads for so long, and gives the events about brokers as `Debug` shows them.
async fn listen(consumer: &mut Consumer, time: Duration) -> Vec<String> {
    let mut heard = Vec::new();
    let listening = async {
        while let Some(event) = consumer.next_event().await.unwrap() {
            let named = matches!(
                event,
                Event::Throttled { .. }
                    | Event::ThrottleEnded { .. }
                    | Event::AllBrokersDown { .. }
                    | Event::BrokerAvailable { .. }
            );
            if named {
                heard.push(format!("{event:?}"));
            }
        }
    };
    assert!(tokio::time::timeout(time, listening).await.is_err(), "nobody shuts it down");
    heard
}

/// What was logged by its level, and the events about brokers.
async fn eventful() -> (BTreeMap<Level, BTreeSet<String>>, Vec<String>) {
    let capture = Capture::new(LevelFilter::INFO);
    let _guard = set_default(capture.clone());
    let broker = broker(1, 2).await;
    produce(&broker, 0, 3);
    let mut consumer = member(&broker).broker_events(true).connect().await.unwrap();
    let mut heard = listen(&mut consumer, Duration::from_secs(5)).await;
    // Another member takes its share, and gives it back.
    let mut other = member(&broker).__seed(2).connect().await.unwrap();
    heard.extend(listen(&mut consumer, Duration::from_secs(5)).await);
    listen(&mut other, Duration::from_secs(5)).await;
    heard.extend(listen(&mut consumer, Duration::from_secs(5)).await);
    other.close().await.unwrap();
    broker.fault(Fault::on(Api::Fetch).throttle(Duration::from_secs(2)));
    heard.extend(listen(&mut consumer, Duration::from_secs(30)).await);
    // Nobody is there for longer than the session.
    broker.stop_node(broker.nodes()[0]).unwrap();
    heard.extend(listen(&mut consumer, Duration::from_secs(120)).await);
    broker.start_node(broker.nodes()[0]).unwrap();
    heard.extend(listen(&mut consumer, Duration::from_secs(30)).await);
    let mut lines: BTreeMap<Level, BTreeSet<String>> = BTreeMap::new();
    for event in capture.events().into_iter().filter(|event| !event.target.starts_with("ottla_broker")) {
        lines.entry(event.level).or_default().insert(event.name);
    }
    (lines, heard)
}

#[tokio::test(start_paused = true)]
async fn the_log_lines_and_events_of_the_document_are_those_that_come() {
    let (lines, heard) = eventful().await;
    let mut named = 0;
    for row in document::raw_table("## Log lines") {
        let [level, text] = &row[..] else { panic!("{row:?}") };
        let seen = &lines[&level.parse::<Level>().unwrap()];
        for line in text.split('`').skip(1).step_by(2) {
            assert!(seen.contains(line), "{level} {line:?}: {lines:#?}");
            named += 1;
        }
    }
    assert!(named >= 8, "only {named} lines are named");

    // `Name { field, … }` as `Debug` has it, with values.
    let mut shapes = BTreeSet::new();
    for event in &heard {
        let (name, fields) = event.split_once(" { ").unwrap();
        shapes.insert((name.to_owned(), fields.to_owned()));
    }
    let mut rows = BTreeSet::new();
    for row in document::table("## Events about brokers") {
        let (name, fields) = row[0].split_once(" { ").unwrap();
        let fields: Vec<String> =
            fields.trim_end_matches(" }").split(", ").map(|field| format!("{field}: ")).collect();
        rows.insert(name.to_owned());
        let told = shapes.iter().find(|(seen, _)| seen == name);
        let Some((_, values)) = told else { panic!("{name} did not come: {heard:?}") };
        assert!(fields.iter().all(|field| values.contains(field.as_str())), "{name}: {fields:?} in {values}");
    }
    assert_eq!(rows, shapes.into_iter().map(|(name, _)| name).collect());
}
