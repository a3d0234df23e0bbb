//! The examples as programs on the embedded broker: what they print, where they say it, and how they end.

use std::process::{Output, Stdio};
use std::time::Duration;

use ottla::Consumer;
use ottla_broker::{Broker, TestRecord};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

const CONSUME: &str = env!("CARGO_BIN_EXE_example-consume");
const QUICKSTART: &str = env!("CARGO_BIN_EXE_example-quickstart");

/// Far beyond what any of them takes: only a program that hangs gets there.
const HANGS: Duration = Duration::from_secs(100);

fn program(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn run(path: &str, arguments: &[&str]) -> Ended {
    let output = tokio::time::timeout(HANGS, program(path, arguments).output()).await;
    Ended::new(output.unwrap_or_else(|_| panic!("{arguments:?} hangs")).expect("the program starts"))
}

#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ended {
    fn new(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// What was printed, after an end without trouble.
    #[track_caller]
    fn printed(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{}", self.out);
        self.out
    }

    /// The lines of what was printed, in order of their text: partitions are read in any order.
    #[track_caller]
    fn sorted(self) -> Vec<String> {
        let mut lines: Vec<String> = self.printed().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

/// A broker with the topic `orders`, 3 partitions, `count` records round robin.
async fn broker_with_orders(count: usize) -> Broker {
    let broker = Broker::builder().topic("orders", 3).start().await.unwrap();
    for i in 0..count {
        broker.produce("orders", (i % 3) as i32, [(format!("key {i}"), format!("order {i}"))]).unwrap();
    }
    broker
}

/// An address at which nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn quickstart_reads_every_order_and_commits() {
    let out = run(QUICKSTART, &[]).await.printed();
    for line in [
        "wrote 300 orders\n",
        "joined the group: [orders-0, orders-1, orders-2] are ours\n",
        "read 300 orders: {orders-0: 100, orders-1: 100, orders-2: 100}\n",
        "committed 100 for orders-0\ncommitted 100 for orders-1\ncommitted 100 for orders-2\n",
        "left the group and closed\n",
    ] {
        assert!(out.contains(line), "{line:?} is not in {out}");
    }
}

#[tokio::test]
async fn quickstart_reads_a_broker_that_is_there_once() {
    let broker = broker_with_orders(30).await;
    let address = broker.bootstrap();
    let first = run(QUICKSTART, &["--bootstrap", &address]).await.printed();
    assert!(first.contains("read 30 orders: {orders-0: 10, orders-1: 10, orders-2: 10}\n"), "{first}");
    assert_eq!(broker.committed("quickstart", "orders", 2), Some(10));
    assert!(broker.group_members("quickstart").is_empty());
    let second = run(QUICKSTART, &[&format!("--bootstrap={address}")]).await.printed();
    assert!(second.contains("read 0 orders: {}\n"), "{second}");
}

#[tokio::test]
async fn quickstart_ends_beside_another_member() {
    let broker = broker_with_orders(30).await;
    let address = broker.bootstrap();
    let mut other =
        Consumer::builder(&address).group("quickstart").subscribe(["orders"]).connect().await.unwrap();
    other.next_batch().await.unwrap();
    let handle = other.handle();
    let reader = tokio::spawn(async move {
        while other.next_batch().await.unwrap().is_some() {}
        other.close().await.unwrap();
    });
    let out = run(QUICKSTART, &["--bootstrap", &address]).await.printed();
    assert!(out.contains("joined the group: [orders-") && out.contains("left the group and closed"), "{out}");
    assert!(!out.contains("[orders-0, orders-1, orders-2] are ours"), "{out}");
    handle.shutdown();
    reader.await.unwrap();
}

#[tokio::test]
async fn help_is_printed_where_it_is_asked_for() {
    for (path, name) in [(QUICKSTART, "quickstart"), (CONSUME, "consume")] {
        for argument in ["--help", "-h"] {
            let out = run(path, &[argument]).await.printed();
            assert!(out.contains(&format!("\nUsage: {name} ")), "{out}");
        }
    }
}

#[tokio::test]
async fn wrong_arguments_are_said_in_a_sentence() {
    for (path, arguments, text) in [
        (QUICKSTART, &["--bootstrap"][..], "--bootstrap needs a value"),
        (QUICKSTART, &["--topic", "x"], "the argument \"--topic\" is not known"),
        (QUICKSTART, &["x"], "the argument \"x\" is not known"),
        (CONSUME, &[], "--topic is missing"),
        (CONSUME, &["--topic"], "--topic needs a value"),
        (CONSUME, &["--topics=x"], "the argument \"--topics\" is not known"),
        (CONSUME, &["--exit-at-end=yes"], "the argument \"--exit-at-end\" is not known"),
        (CONSUME, &["--topic=x", "--count", "-1"], "--count -1 is no number"),
        (CONSUME, &["--topic=x", "--from", "start"], "--from start is none of beginning, end and -N"),
        (CONSUME, &["--topic=x", "--format", "%z"], "--format does not know %z"),
        (CONSUME, &["--topic=x", "--format", "%"], "--format ends with a single %"),
        (CONSUME, &["--topic=x", "--format", "\\q"], "--format does not know \\q"),
        (CONSUME, &["--topic=x", "--format", "\\"], "--format ends with a single \\"),
        (CONSUME, &["--topic=x", "--commit=none"], "--commit needs --group"),
        (CONSUME, &["--topic=x", "--group=g", "--commit=x"], "--commit x is neither auto nor none"),
        (CONSUME, &["--topic=x", "--group=g", "--from=-3"], "--from -N is for reading without --group"),
    ] {
        let name = if path == QUICKSTART { "quickstart" } else { "consume" };
        let ended = run(path, arguments).await;
        assert_eq!(ended.err, format!("{name}: {text}; see {name} --help\n"));
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{arguments:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_reached_is_said_in_a_sentence() {
    let broker = Broker::builder().start().await.unwrap();
    let (empty, nobody) = (broker.bootstrap(), nobody());
    let no_topic = format!("the topic \"orders\" does not exist on {empty}");
    let refused = format!("no broker can be reached at {nobody}");
    for (address, says) in [
        ("nonsense", "configuration: bootstrap: \"nonsense\" has no port"),
        (&empty, &no_topic),
        (&nobody, &refused),
    ] {
        for (name, ended) in [
            ("quickstart", run(QUICKSTART, &["--bootstrap", address]).await),
            ("consume", run(CONSUME, &["--bootstrap", address, "--topic", "orders"]).await),
        ] {
            assert_eq!(ended.code, Some(1), "{ended:?}");
            assert!(ended.err.starts_with(&format!("{name}: ")), "{}", ended.err);
            assert_eq!(ended.err.matches(says).count(), 1, "once, and only once, {says:?}: {}", ended.err);
            assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
        }
    }
}

#[tokio::test]
async fn consume_begins_where_it_is_told_and_ends_at_the_end() {
    let broker = broker_with_orders(6).await;
    let address = broker.bootstrap();
    let read = async |more: &[&str]| {
        let fixed = ["--bootstrap", &address, "--topic", "orders", "--exit-at-end"];
        run(CONSUME, &[&fixed, more].concat()).await.sorted()
    };
    let all = [
        "orders 0 0 key 0 order 0",
        "orders 0 1 key 3 order 3",
        "orders 1 0 key 1 order 1",
        "orders 1 1 key 4 order 4",
        "orders 2 0 key 2 order 2",
        "orders 2 1 key 5 order 5",
    ];
    assert_eq!(read(&[]).await, all);
    assert_eq!(read(&["--from", "beginning"]).await, all);
    assert_eq!(read(&["--from=-1"]).await, [all[1], all[3], all[5]]);
    assert_eq!(read(&["--from=end"]).await, [""; 0]);
    assert_eq!(read(&["--count=4"]).await.len(), 4);
    assert_eq!(read(&["--count=0"]).await.len(), 0);
}

#[tokio::test]
async fn consume_prints_what_the_format_says() {
    let broker = Broker::builder().topic("t", 1).start().await.unwrap();
    let full = TestRecord::new("value").key("k").timestamp(77).header("a", "b").null_header("c");
    broker.produce("t", 0, [full, TestRecord::tombstone("gone").timestamp(78)]).unwrap();
    let address = broker.bootstrap();
    let format = r"%t|%p|%o|%T|%k|%s|%K|%S|%h|%%\t\r\0\\\n";
    let arguments = ["--bootstrap", &address, "--topic=t", "--exit-at-end", "--format", format];
    let out = run(CONSUME, &arguments).await.printed();
    assert_eq!(out, "t|0|0|77|k|value|1|5|a=b,c=|%\t\r\0\\\nt|0|1|78|gone||4|-1||%\t\r\0\\\n");
}

#[tokio::test]
async fn consume_commits_what_it_printed() {
    let broker = Broker::builder().topic("t", 1).start().await.unwrap();
    broker.produce("t", 0, (0..10).map(|i| i.to_string())).unwrap();
    let address = broker.bootstrap();
    let fixed = ["--bootstrap", &address, "--topic=t", "--format=%s "];
    let read = async |more: &[&str]| run(CONSUME, &[&fixed, more].concat()).await.printed();

    // Where reading began is committed, or an idle group would lose what comes before its first commit.
    assert_eq!(read(&["--group=none", "--commit=none", "--count=3"]).await, "0 1 2 ");
    assert_eq!(broker.committed("none", "t", 0), Some(0));
    assert_eq!(read(&["--group=none", "--commit", "none", "--exit-at-end"]).await, "0 1 2 3 4 5 6 7 8 9 ");
    assert_eq!(broker.committed("none", "t", 0), Some(0));

    assert_eq!(read(&["--group=auto", "--count", "3"]).await, "0 1 2 ");
    assert_eq!(broker.committed("auto", "t", 0), Some(3));
    assert_eq!(
        read(&["--group=auto", "--commit=auto", "--from=end", "--exit-at-end"]).await,
        "3 4 5 6 7 8 9 "
    );
    assert_eq!(broker.committed("auto", "t", 0), Some(10));

    assert_eq!(read(&["--group=late", "--from", "end", "--exit-at-end"]).await, "");
    assert_eq!(broker.committed("late", "t", 0), Some(10));
}

/// Without an end it reads on, and what it printed before an interrupt is committed.
#[cfg(unix)]
#[tokio::test]
async fn consume_ends_when_it_is_interrupted() {
    let broker = Broker::builder().topic("t", 1).start().await.unwrap();
    broker.produce("t", 0, ["a", "b"]).unwrap();
    let address = broker.bootstrap();
    let mut command =
        program(CONSUME, &["--bootstrap", &address, "--topic=t", "--group=g", "--format=%s\\n"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ended = async {
        for expected in ["a", "b"] {
            assert_eq!(lines.next_line().await.unwrap().as_deref(), Some(expected));
        }
        broker.produce("t", 0, ["c"]).unwrap();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("c"));
        let id = child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-s", "INT", &id]).status().await.unwrap().success());
        child.wait_with_output().await.unwrap()
    };
    let ended = tokio::time::timeout(HANGS, ended).await.expect("it ends");
    assert_eq!(Ended::new(ended).printed(), "");
    assert_eq!(broker.committed("g", "t", 0), Some(3));
    assert!(broker.group_members("g").is_empty());
}
