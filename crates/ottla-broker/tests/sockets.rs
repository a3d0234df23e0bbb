//! The tokio layer: real sockets, the in-memory transport, nodes going down and up.

mod support;

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{ApiVersionsRequest, MetadataRequest};
use ottla_broker::{Api, Broker, Fault};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn client(broker: &Broker, node: i32) -> Client<TcpStream> {
    Client::new(TcpStream::connect(broker.address(node).unwrap()).await.unwrap())
}

#[tokio::test]
async fn a_cluster_on_sockets_says_where_its_brokers_are() {
    let broker = Broker::builder().brokers(3).topic("orders", 6).start().await.unwrap();
    let mut client = client(&broker, 1).await;
    let metadata = client.call(12, &MetadataRequest::default().with_topics(None)).await.unwrap();
    let addresses: Vec<String> = metadata.brokers.iter().map(|b| format!("{}:{}", b.host, b.port)).collect();
    assert_eq!(addresses.join(","), broker.bootstrap());
    let leaders: Vec<i32> = metadata.topics[0].partitions.iter().map(|p| p.leader_id.0).collect();
    assert_eq!(leaders, [1, 2, 3, 1, 2, 3]);
}

#[tokio::test]
async fn records_come_through_a_socket() {
    let broker = Broker::builder().topic("t", 1).start().await.unwrap();
    let big = "x".repeat(3 << 20);
    broker.produce("t", 0, [big.as_str()]).unwrap();
    let mut client = client(&broker, 1).await;
    let response = client.call(12, &fetch("t", &[(0, 0)])).await.unwrap();
    let records: &Bytes = response.responses[0].partitions[0].records.as_ref().unwrap();
    assert!(records.len() > 3 << 20);
}

#[tokio::test]
async fn a_long_poll_is_woken_by_a_produce() {
    let broker = Broker::builder().topic("t", 1).start().await.unwrap();
    let mut client = client(&broker, 1).await;
    client.send(12, &fetch("t", &[(0, 0)]).with_max_wait_ms(600_000)).await.unwrap();
    broker.wait_for(|request| request.api == Api::Fetch).await;
    broker.produce("t", 0, ["a"]).unwrap();
    client.read_frame().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn in_memory_connections_run_on_a_paused_clock() {
    let broker = Broker::builder().topic("t", 1).in_memory().start().await.unwrap();
    let address = broker.bootstrap();
    let (host, port) = address.split_once(':').unwrap();
    let mut client = Client::new(broker.connect_in_memory(host, port.parse().unwrap()).unwrap());
    let started = tokio::time::Instant::now();
    let response = client.call(12, &fetch("t", &[(0, 0)]).with_max_wait_ms(3_600_000)).await.unwrap();
    assert_eq!(partitions(&response), [(0, 0, 0, 0)]);
    assert_eq!(started.elapsed().as_secs(), 3600);
    assert!(broker.connect_in_memory(host, 1).is_err());
}

#[tokio::test]
async fn a_stopped_node_closes_refuses_and_comes_back_on_its_port() {
    let broker = Broker::builder().brokers(2).topic("t", 1).start().await.unwrap();
    let mut one = client(&broker, 1).await;
    one.call(0, &ApiVersionsRequest::default()).await.unwrap();
    broker.stop_node(1).unwrap();
    assert!(one.read_frame().await.is_err(), "the connection is closed");
    let address = broker.address(1).unwrap();
    assert!(TcpStream::connect(&address).await.is_err(), "the port refuses");
    assert_eq!(broker.leader("t", 0).unwrap(), (Some(2), 1));
    broker.start_node(1).unwrap();
    assert_eq!(broker.address(1).unwrap(), address);
    let mut again = client(&broker, 1).await;
    again.call(0, &ApiVersionsRequest::default()).await.unwrap();
}

#[tokio::test]
async fn killed_connections_end_and_new_ones_work() {
    let broker = Broker::builder().start().await.unwrap();
    let mut one = client(&broker, 1).await;
    one.call(0, &ApiVersionsRequest::default()).await.unwrap();
    assert_eq!(broker.connection_count(), 1);
    broker.kill_connections();
    assert!(one.read_frame().await.is_err());
    client(&broker, 1).await.call(0, &ApiVersionsRequest::default()).await.unwrap();
}

#[tokio::test]
async fn dropping_the_broker_closes_everything() {
    let broker = Broker::builder().start().await.unwrap();
    let address = broker.address(1).unwrap();
    let mut one = client(&broker, 1).await;
    one.call(0, &ApiVersionsRequest::default()).await.unwrap();
    drop(broker);
    assert!(one.read_frame().await.is_err());
    assert!(TcpStream::connect(&address).await.is_err());
}

#[test]
fn a_broker_may_be_dropped_outside_its_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let broker = runtime.block_on(Broker::builder().topic("t", 1).start()).unwrap();
    broker.produce("t", 0, ["a"]).unwrap();
    drop(runtime);
    drop(broker);
}

#[test]
fn on_its_own_thread_a_broker_does_not_need_the_callers_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let broker = runtime.block_on(Broker::builder().on_own_thread().start()).unwrap();
    let address = broker.address(1).unwrap();
    // Nobody polls `runtime` now; std sockets get an answer all the same.
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let frame = encode(7, 0, &ApiVersionsRequest::default(), "c");
    stream.write_all(&(frame.len() as u32).to_be_bytes()).unwrap();
    stream.write_all(&frame).unwrap();
    let mut head = [0; 8];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[4..], 7_i32.to_be_bytes());
}

#[tokio::test]
async fn hostile_frames_close_the_connection_and_nothing_else() {
    let broker = Broker::builder().start().await.unwrap();
    // A length of 2 GiB, a negative one, a Metadata v1 that announces two billion topics, an unknown api key, a
    // frame shorter than its header.
    let count = [&[0, 0, 0, 14][..], &[0, 3, 0, 1, 0, 0, 0, 1, 255, 255, 127, 255, 255, 255]].concat();
    let attacks: [&[u8]; 5] = [
        &[127, 255, 255, 255, 1],
        &[255, 255, 255, 255],
        &count,
        &[0, 0, 0, 10, 3, 231, 0, 0, 0, 0, 0, 1, 255, 255],
        &[0, 0, 0, 3, 0, 3, 0],
    ];
    for attack in attacks {
        let mut stream = TcpStream::connect(broker.address(1).unwrap()).await.unwrap();
        stream.write_all(attack).await.unwrap();
        let mut rest = Vec::new();
        // Closed, by FIN or by reset.
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    }
    client(&broker, 1).await.call(0, &ApiVersionsRequest::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_pipelines_without_end_is_held_back() {
    let broker = Broker::builder().topic("t", 1).in_memory().start().await.unwrap();
    let mut client = Client::new(broker.connect_in_memory("", 19_001).unwrap());
    // A long poll, and behind it more bytes than the pipe holds unless the broker reads on and on.
    client.send(12, &fetch("t", &[(0, 0)]).with_max_wait_ms(60_000)).await.unwrap();
    let flood = async {
        for _ in 0..50_000 {
            client.send(0, &ApiVersionsRequest::default()).await.unwrap();
        }
    };
    let stuck = tokio::time::timeout(Duration::from_secs(30), flood).await;
    assert!(stuck.is_err(), "the broker took everything");
    assert_eq!(broker.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn answers_written_in_single_bytes_are_whole() {
    let broker = Broker::builder().topic("t", 1).in_memory().write_chunk(1).start().await.unwrap();
    broker.produce("t", 0, ["a"]).unwrap();
    let mut client = Client::new(broker.connect_in_memory("", 19_001).unwrap());
    let response = client.call(12, &fetch("t", &[(0, 0)])).await.unwrap();
    assert!(partitions(&response)[0].2 > 0);
}

#[tokio::test(start_paused = true)]
async fn a_fault_handle_waits_until_its_fault_has_hit() {
    let broker = Broker::builder().in_memory().start().await.unwrap();
    let handle = broker.fault(Fault::on(Api::ApiVersions).times(2).delay(Duration::from_secs(5)));
    let mut client = Client::new(broker.connect_in_memory("", 19_001).unwrap());
    let started = tokio::time::Instant::now();
    let asked = async {
        client.call(0, &ApiVersionsRequest::default()).await.unwrap();
        client.call(0, &ApiVersionsRequest::default()).await.unwrap();
    };
    tokio::join!(asked, handle.wait_fired(2));
    assert_eq!((handle.fired(), started.elapsed().as_secs()), (2, 10));
    assert!(broker.unfired_faults().is_empty());
}
