//! Prints records, like kcat.
//!
//! ```text
//! cargo run --release --example consume -- --bootstrap localhost:9092 --topic orders --exit-at-end
//! ```

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::pin::pin;
use std::process::ExitCode;
use std::task::Poll;
use std::time::Duration;

use ottla::{Batch, Commit, CommitError, CommitToken, Consumer, Event, Offset, OffsetReset, TopicPartition};

const USAGE: &str = "\
Prints the records of a topic.

Usage: consume --topic NAME [options]

  --bootstrap HOST:PORT      a broker to begin with; several with commas (default: localhost:9092)
  --topic NAME               the topic to read
  --group ID                 read as a member of this group, from its committed offsets
  --from beginning|end|-N    where to begin (default: beginning); -N: N records before each partition's end;
                             with --group only for partitions without a committed offset
  --count N                  end after N records
  --exit-at-end              end when every partition was read to its end
  --format FORMAT            %t topic  %p partition  %o offset  %T timestamp  %k key  %s value
                             %K length of the key  %S length of the value (-1: null)  %h headers  %% percent
                             \\n \\t \\r \\0 \\\\ as usual (default: '%t %p %o %k %s\\n')
  --commit auto|none         with --group: commit what was printed, or none of it (default: auto); where nothing
                             was committed before, the place where reading began is committed with both
  --help                     this text";

/// How long a broker that does not answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(text) => {
            eprintln!("consume: {text}; see consume --help");
            return ExitCode::from(2);
        }
    };
    match run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("consume: {text}");
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes in one sentence.
fn sentence(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

async fn run(options: &Options) -> Result<(), String> {
    let mut consumer = connect(options).await?;
    let result = print_records(options, &mut consumer).await;
    // With an error in hand, what was printed last is not committed.
    let closed = consumer.close().await.map_err(sentence);
    result.and(closed)
}

async fn connect(options: &Options) -> Result<Consumer, String> {
    let mut builder = Consumer::builder(&options.bootstrap)
        .client_id("ottla-consume")
        .connection_setup_timeout(PATIENCE / 2)
        .default_api_timeout(PATIENCE)
        .close_timeout(PATIENCE)
        .partition_eof(options.exit_at_end);
    if let Some(group) = &options.group {
        builder = builder.group(group);
        if options.from == Offset::Latest {
            builder = builder.auto_offset_reset(OffsetReset::Latest);
        }
    }
    if !options.commit {
        builder = builder.commit(Commit::Manual);
    }
    let consumer = builder.connect().await.map_err(sentence)?;

    let partitions = consumer.partitions_of(&options.topic).await.map_err(sentence)?;
    if partitions.is_empty() {
        return Err(format!("the topic {:?} does not exist on {}", options.topic, options.bootstrap));
    }
    let started = if options.group.is_some() {
        consumer.subscribe([&options.topic]).await
    } else {
        consumer.assign(partitions.into_iter().map(|partition| (partition, options.from))).await
    };
    started.map_err(sentence)?;
    Ok(consumer)
}

async fn print_records(options: &Options, consumer: &mut Consumer) -> Result<(), String> {
    let handle = consumer.handle();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            handle.shutdown();
        }
    });
    let mut out = BufWriter::with_capacity(1 << 17, io::stdout().lock());
    let mut left = options.count;
    // What was printed last: the batch may hold more than was to be printed.
    let mut last = None;
    // Whether each partition that is read was read to its end.
    let mut ends: BTreeMap<TopicPartition, bool> = BTreeMap::new();
    if options.group.is_none() {
        let assigned = consumer.assignment().map_err(sentence)?;
        ends.extend(assigned.into_iter().map(|partition| (partition, false)));
    }
    while left > 0 {
        let next = {
            let mut next = pin!(consumer.next_event());
            // What is printed appears before anything is waited for.
            poll_fn(|cx| match next.as_mut().poll(cx) {
                Poll::Pending => match out.flush() {
                    Ok(()) => Poll::Pending,
                    Err(error) => Poll::Ready(Err(Stop::from(error))),
                },
                Poll::Ready(next) => Poll::Ready(next.map_err(|error| Stop::Error(sentence(error)))),
            })
            .await
        };
        let printed = match next {
            Ok(None) => break,
            Ok(Some(Event::Batch(batch))) => {
                print_batch(&options.format, &batch, &mut left, &mut out).map(|token| last = token)
            }
            Ok(Some(Event::Assigned(partitions))) => {
                ends.extend(partitions.into_iter().map(|partition| (partition, false)));
                Ok(())
            }
            Ok(Some(Event::Revoking(revocation))) => {
                ends.retain(|partition, _| !revocation.partitions().contains(partition));
                Ok(())
            }
            Ok(Some(Event::Lost(partitions))) => {
                ends.retain(|partition, _| !partitions.contains(partition));
                Ok(())
            }
            Ok(Some(Event::PartitionEof { topic_partition, .. })) => {
                ends.insert(topic_partition, true);
                Ok(())
            }
            Ok(Some(_)) => Ok(()),
            Err(stop) => Err(stop),
        };
        match printed {
            Ok(()) => {}
            Err(Stop::NobodyReads) => return Ok(()),
            Err(Stop::Error(text)) => {
                // What came before the error is printed all the same.
                let _ = out.flush();
                return Err(text);
            }
        }
        if options.exit_at_end && !ends.is_empty() && ends.values().all(|ended| *ended) {
            break;
        }
    }
    match out.flush().map_err(Stop::from) {
        Ok(()) | Err(Stop::NobodyReads) => {}
        Err(Stop::Error(text)) => return Err(text),
    }
    // The batches before were come back from, and are done; of the last one only what was printed is.
    if let Some(token) = last.filter(|_| options.group.is_some() && options.commit) {
        match consumer.commit(token).await {
            // Taken by another member meanwhile, which prints it again.
            Ok(()) | Err(CommitError::NotOwned) => {}
            Err(error) => return Err(sentence(error)),
        }
    }
    Ok(())
}

/// Why printing ends.
enum Stop {
    /// `consume | head` has enough.
    NobodyReads,
    Error(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::NobodyReads,
            _ => Self::Error(format!("cannot write to the standard output: {error}")),
        }
    }
}

/// Prints up to `left` records of the batch, and gives what commits them.
fn print_batch(
    format: &[Piece],
    batch: &Batch,
    left: &mut u64,
    out: &mut impl Write,
) -> Result<Option<CommitToken>, Stop> {
    let mut last = None;
    for record in batch {
        if *left == 0 {
            break;
        }
        *left -= 1;
        for piece in format {
            match piece {
                Piece::Text(text) => out.write_all(text)?,
                Piece::Topic => out.write_all(batch.topic().as_bytes())?,
                Piece::Partition => number(batch.partition().into(), out)?,
                Piece::Offset => number(record.offset(), out)?,
                Piece::Timestamp => number(record.timestamp(), out)?,
                Piece::Key => out.write_all(record.key().unwrap_or_default())?,
                Piece::Value => out.write_all(record.value().unwrap_or_default())?,
                Piece::KeyLength => number(length(record.key()), out)?,
                Piece::ValueLength => number(length(record.value()), out)?,
                Piece::Headers => {
                    for (at, (key, value)) in record.headers().enumerate() {
                        if at > 0 {
                            out.write_all(b",")?;
                        }
                        out.write_all(key.as_bytes())?;
                        out.write_all(b"=")?;
                        out.write_all(value.unwrap_or_default())?;
                    }
                }
            }
        }
        last = Some(record);
    }
    Ok(last.map(|record| record.token()))
}

fn length(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| bytes.len() as i64)
}

/// The number in decimal; without the machinery of formatting, which costs more than the rest of a line.
fn number(value: i64, out: &mut impl Write) -> io::Result<()> {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    out.write_all(&digits[at..])
}

struct Options {
    bootstrap: String,
    topic: String,
    group: Option<String>,
    from: Offset,
    count: u64,
    exit_at_end: bool,
    format: Vec<Piece>,
    commit: bool,
}

impl Options {
    /// `None`: help is asked for.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut topic = None;
        let mut commit = None;
        let mut options = Self {
            bootstrap: "localhost:9092".to_owned(),
            topic: String::new(),
            group: None,
            from: Offset::Earliest,
            count: u64::MAX,
            exit_at_end: false,
            format: parse_format("%t %p %o %k %s\\n")?,
            commit: true,
        };
        while let Some(argument) = arguments.next() {
            // --name value and --name=value
            let (name, attached) = match argument.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
                _ => (argument, None),
            };
            match name.as_str() {
                "--help" | "-h" => return Ok(None),
                "--exit-at-end" if attached.is_none() => {
                    options.exit_at_end = true;
                    continue;
                }
                "--bootstrap" | "--topic" | "--group" | "--from" | "--count" | "--format" | "--commit" => {}
                _ => return Err(format!("the argument {name:?} is not known")),
            }
            let value =
                attached.or_else(|| arguments.next()).ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--bootstrap" => options.bootstrap = value,
                "--topic" => topic = Some(value),
                "--group" => options.group = Some(value),
                "--from" => options.from = parse_from(&value)?,
                "--count" => {
                    options.count = value.parse().map_err(|_| format!("--count {value} is no number"))?;
                }
                "--format" => options.format = parse_format(&value)?,
                _ => commit = Some(value),
            }
        }
        options.topic = topic.ok_or("--topic is missing")?;
        match commit.as_deref() {
            None => {}
            Some(_) if options.group.is_none() => return Err("--commit needs --group".to_owned()),
            Some("auto") => options.commit = true,
            Some("none") => options.commit = false,
            Some(other) => return Err(format!("--commit {other} is neither auto nor none")),
        }
        if options.group.is_some() && matches!(options.from, Offset::FromEnd(_)) {
            return Err("--from -N is for reading without --group".to_owned());
        }
        Ok(Some(options))
    }
}

fn parse_from(text: &str) -> Result<Offset, String> {
    match text {
        "beginning" => Ok(Offset::Earliest),
        "end" => Ok(Offset::Latest),
        _ => text
            .strip_prefix('-')
            .and_then(|n| n.parse().ok())
            .map(Offset::FromEnd)
            .ok_or_else(|| format!("--from {text} is none of beginning, end and -N")),
    }
}

enum Piece {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Value,
    KeyLength,
    ValueLength,
    Headers,
}

fn parse_format(format: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut text = Vec::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        let piece = match c {
            '%' => match chars.next() {
                Some('t') => Piece::Topic,
                Some('p') => Piece::Partition,
                Some('o') => Piece::Offset,
                Some('T') => Piece::Timestamp,
                Some('k') => Piece::Key,
                Some('s') => Piece::Value,
                Some('K') => Piece::KeyLength,
                Some('S') => Piece::ValueLength,
                Some('h') => Piece::Headers,
                Some('%') => {
                    text.push(b'%');
                    continue;
                }
                Some(other) => return Err(format!("--format does not know %{other}")),
                None => return Err("--format ends with a single %".to_owned()),
            },
            '\\' => {
                text.push(match chars.next() {
                    Some('n') => b'\n',
                    Some('t') => b'\t',
                    Some('r') => b'\r',
                    Some('0') => 0,
                    Some('\\') => b'\\',
                    Some(other) => return Err(format!("--format does not know \\{other}")),
                    None => return Err("--format ends with a single \\".to_owned()),
                });
                continue;
            }
            other => {
                text.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
        };
        if !text.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut text)));
        }
        pieces.push(piece);
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}
