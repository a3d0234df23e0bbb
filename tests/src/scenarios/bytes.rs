//! Item 1: every byte arrives.

use std::collections::BTreeMap;

use ottla::{Consumer, Offset, Record};
use ottla_wire::records::BatchWriter;

use super::backend::compression;
use super::{Backend, Result, guarded};
use crate::kafka::{Expected, RecordSpec, unique};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const EACH: u64 = 20_000;
const BIG: u32 = 5 << 20;

/// A record as the formula of the suite describes it.
pub(super) fn as_expected(record: &Record) -> Expected {
    Expected {
        partition: record.partition() as u32,
        timestamp: record.timestamp(),
        key: record.key().map(<[u8]>::to_vec),
        value: record.value().map(<[u8]>::to_vec),
        headers: record.headers().map(|(k, v)| (k.as_bytes().to_vec(), v.map(<[u8]>::to_vec))).collect(),
    }
}

/// A record that Java cannot write: a header's key is a string there, and here it is not UTF-8. Keys that are empty
/// or come twice are among them, and both kinds of empty values.
fn raw(partition: u32) -> Expected {
    let header = |key: &[u8], value: Option<&[u8]>| (key.to_vec(), value.map(<[u8]>::to_vec));
    Expected {
        partition,
        timestamp: 1_700_000_000_000 + i64::from(partition),
        key: Some(vec![0xFF, partition as u8]),
        value: None,
        headers: vec![
            header(&[0xFF, 0xFE, 0x00, partition as u8], Some(&[0x80])),
            header(&[0xC3, 0x28], None),
            header(b"", Some(b"")),
            header(&[0xC3, 0x28], Some(b"again")),
            header(&[0xED, 0xA0, 0x80], Some(b"half a surrogate")),
        ],
    }
}

fn produce_raw(backend: &Backend, topic: &str, codec: &str, record: &Expected) -> Result<i64> {
    let mut writer = BatchWriter::new().compression(compression(codec)?);
    let headers: Vec<(&[u8], Option<&[u8]>)> =
        record.headers.iter().map(|(k, v)| (&**k, v.as_deref())).collect();
    writer.append(record.timestamp, record.key.as_deref(), record.value.as_deref(), &headers)?;
    backend.produce_batch(topic, record.partition, &writer.finish())
}

/// 100,000 records over 6 partitions and every codec, with null and empty keys and values, headers with
/// duplicates and nulls, and a record of 5 MiB beyond the partition fetch limit; and behind them one in each
/// partition whose headers have keys that are not UTF-8.
///
/// # Errors
/// When a byte differs, or reading hangs.
pub async fn every_byte_arrives(backend: &Backend) -> Result<()> {
    let mut count = 0;
    for codec in CODECS {
        let topic = unique(codec);
        let spec = RecordSpec::new(EACH)
            .partitions(6)
            .codec(codec)
            .nulls()
            .headers()
            .value_size(0, 300)
            .big(5_000, BIG)
            .batching(40_000, 20);
        backend.create_topic(&topic, 6)?;
        backend.produce(&topic, codec, &spec)?;
        for partition in 0..6 {
            let offset = produce_raw(backend, &topic, codec, &raw(partition))?;
            assert_eq!(offset, spec.of_partition(partition).count() as i64);
        }
        let mut consumer = Consumer::builder(backend.bootstrap()).connect().await?;
        let partitions = consumer.partitions_of(&topic).await?;
        assert_eq!(partitions.len(), 6);
        consumer.assign(partitions.into_iter().map(|tp| (tp, Offset::Earliest))).await?;
        let all = |p| (0i64..).zip(spec.of_partition(p).chain([raw(p)]));
        let mut wanted: BTreeMap<i32, _> = (0..6).map(|p| (p as i32, all(p).peekable())).collect();
        let mut largest = 0;
        guarded("reading", async {
            while wanted.values_mut().any(|rest| rest.peek().is_some()) {
                let batch = consumer.next_batch().await?.ok_or("the end")?;
                for record in batch.records() {
                    let next = wanted.get_mut(&record.partition()).and_then(Iterator::next);
                    let (offset, expected) = next.ok_or("a record too many")?;
                    assert_eq!(record.offset(), offset, "{topic}-{}", record.partition());
                    assert!(as_expected(&record) == expected, "{topic}-{} at {offset}", record.partition());
                    largest = largest.max(record.value().map_or(0, <[u8]>::len));
                    count += 1;
                }
            }
            Ok(())
        })
        .await?;
        assert_eq!(largest, BIG as usize);
        consumer.close().await?;
    }
    assert_eq!(count, CODECS.len() as u64 * (EACH + 6));
    Ok(())
}
