//! Record batches between real Kafka and `ottla-wire`, without a client in between.

use bytes::Bytes;
use ottla_tests::kafka::{Expected, KafkaCluster, RecordSpec, Result, shared, unique, versions, wire};
use ottla_wire::records::{BatchDecoder, BatchWriter, Batches, Compression, DecodeOptions};

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// Everything a partition holds: offset and record.
fn read_all(kafka: &KafkaCluster, topic: &str, partition: u32) -> Result<Vec<(i64, Expected)>> {
    let mut decoder = BatchDecoder::default();
    let mut records = Vec::new();
    let mut position = 0;
    loop {
        let bytes = wire::fetch(kafka.address()?, topic, partition as i32, position, 1 << 20)?;
        let before = position;
        for batch in Batches::new(Bytes::from(bytes)) {
            let batch =
                batch.expect("a batch").decode(&mut decoder, DecodeOptions::default()).expect("records");
            position = batch.header().next_offset();
            records.extend(batch.iter().map(|r| {
                let record = Expected {
                    partition,
                    timestamp: r.timestamp(),
                    key: r.key().map(<[u8]>::to_vec),
                    value: r.value().map(<[u8]>::to_vec),
                    headers: r
                        .headers()
                        .map(|(key, value)| (key.as_bytes().to_vec(), value.map(<[u8]>::to_vec)))
                        .collect(),
                };
                (r.offset(), record)
            }));
        }
        if position == before {
            return Ok(records);
        }
    }
}

#[test]
fn what_java_produces_with_every_codec_is_read_byte_for_byte() -> Result<()> {
    for version in versions() {
        let kafka = shared(&version)?;
        for codec in CODECS {
            let topic = unique(codec.name());
            let spec = RecordSpec::new(6_000)
                .partitions(2)
                .codec(codec.name())
                .nulls()
                .headers()
                .value_size(0, 400)
                .big(1_200, 5 << 20)
                .batching(40_000, 20);
            {
                let mut tool = kafka.tool()?;
                tool.create_topic(&topic, 2)?;
                tool.produce(&topic, &spec)?;
            }
            for partition in 0..2 {
                let records = read_all(&kafka, &topic, partition)?;
                assert_eq!(records.len(), 3_000, "{topic}-{partition}");
                for ((offset, record), (index, expected)) in
                    records.iter().zip((0..).zip(spec.of_partition(partition)))
                {
                    assert!(*offset == index && *record == expected, "{topic}-{partition} offset {offset}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn kafka_stores_what_our_writer_writes() -> Result<()> {
    for version in versions() {
        let kafka = shared(&version)?;
        let topic = unique("written");
        kafka.tool()?.create_topic(&topic, 1)?;
        let mut expected = Vec::new();
        for codec in CODECS {
            let mut writer = BatchWriter::new().compression(codec);
            for i in 0..50 {
                let value = vec![i as u8; i];
                // Java has no way to write the first key; brokers store it all the same.
                let headers: [(&[u8], Option<&[u8]>); 4] =
                    [(b"\xff\xfe", Some(b"\x80")), (b"dup", None), (b"dup", Some(b"")), (b"", Some(b"x"))];
                writer
                    .append(1_000 + i as i64, Some(codec.name().as_bytes()), Some(&value), &headers)
                    .expect("room");
                expected.push(Expected {
                    partition: 0,
                    timestamp: 1_000 + i as i64,
                    key: Some(codec.name().as_bytes().to_vec()),
                    value: Some(value),
                    headers: headers.iter().map(|(k, v)| (k.to_vec(), v.map(<[u8]>::to_vec))).collect(),
                });
            }
            let base = wire::produce(kafka.address()?, &topic, 0, &writer.finish())?;
            assert_eq!(base, expected.len() as i64 - 50);
        }
        let records: Vec<Expected> =
            read_all(&kafka, &topic, 0)?.into_iter().map(|(_, record)| record).collect();
        assert!(records == expected);
    }
    Ok(())
}
