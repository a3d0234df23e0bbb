//! Item 1: every byte arrives.

use std::collections::BTreeMap;

use ottla::{Consumer, Offset, Record};

use super::{Backend, Result, guarded};
use crate::kafka::{Expected, RecordSpec, unique};

fn as_expected(record: &Record) -> Expected {
    Expected {
        partition: record.partition() as u32,
        timestamp: record.timestamp(),
        key: record.key().map(<[u8]>::to_vec),
        value: record.value().map(<[u8]>::to_vec),
        headers: record.headers().map(|(k, v)| (k.as_bytes().to_vec(), v.map(<[u8]>::to_vec))).collect(),
    }
}

/// 100,000 records over 6 partitions and every codec, with null and empty keys and values, headers with
/// duplicates and nulls, and a record of 5 MiB beyond the partition fetch limit.
///
/// # Errors
/// When a byte differs, or reading hangs.
pub async fn every_byte_arrives(backend: &Backend) -> Result<()> {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = unique(codec);
        let spec = RecordSpec::new(20_000)
            .partitions(6)
            .codec(codec)
            .nulls()
            .headers()
            .value_size(0, 300)
            .big(5_000, 5 << 20)
            .batching(40_000, 20);
        backend.create_topic(&topic, 6)?;
        backend.produce(&topic, codec, &spec)?;
        let mut consumer = Consumer::builder(backend.bootstrap()).connect().await?;
        let partitions = consumer.partitions_of(&topic).await?;
        assert_eq!(partitions.len(), 6);
        consumer.assign(partitions.into_iter().map(|tp| (tp, Offset::Earliest))).await?;
        let mut wanted: BTreeMap<i32, _> =
            (0..6).map(|p| (p, (0i64..).zip(spec.of_partition(p as u32)).peekable())).collect();
        guarded("reading", async {
            while wanted.values_mut().any(|rest| rest.peek().is_some()) {
                let batch = consumer.next_batch().await?.ok_or("the end")?;
                for record in batch.records() {
                    let next = wanted.get_mut(&record.partition()).and_then(Iterator::next);
                    let (offset, expected) = next.ok_or("a record too many")?;
                    assert_eq!(record.offset(), offset, "{topic}-{}", record.partition());
                    assert!(as_expected(&record) == expected, "{topic}-{} at {offset}", record.partition());
                }
            }
            Ok(())
        })
        .await?;
        consumer.close().await?;
    }
    Ok(())
}
