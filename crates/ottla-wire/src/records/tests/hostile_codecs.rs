//! Compressed streams that lie: typed errors, and never more memory than the limit.

use super::*;

const MIB: usize = 1 << 20;
const CODECS: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn limited(bytes: Bytes, limit: usize) -> Result<Batch, BatchError> {
    let options = DecodeOptions { check_crcs: true, max_decompressed_batch_bytes: limit };
    one(bytes).decode(&mut BatchDecoder::new(), options)
}

/// One record with `size` zero bytes: the records area, uncompressed.
fn zeros(size: usize) -> Vec<u8> {
    let mut writer = BatchWriter::new();
    writer.append(0, None, Some(&vec![0; size]), NO_HEADERS).unwrap();
    writer.finish()[header::HEADER_SIZE..].to_vec()
}

fn stream(compression: Compression, payload: &[u8]) -> Vec<u8> {
    codec::compress(compression, payload).unwrap()
}

/// `stream` labelled as `compression`, one record.
fn labelled(compression: Compression, stream: &[u8]) -> Bytes {
    assemble(compression.id(), 0, 1, stream)
}

/// Codec numbers 5 to 7 are not defined.
#[test]
fn undefined_codecs_are_unsupported() {
    for id in 5..8 {
        let error = error_of(assemble(id, 0, 1, b"x"));
        assert_eq!(error.kind(), BatchErrorKind::UnsupportedCodec(id));
        assert_eq!(error.base_offset(), Some(100));
    }
}

/// A bomb of each codec is a `Limit` error that names the setting; a batch of exactly the limit is read.
#[test]
fn bombs_stop_at_the_limit() {
    let payload = zeros(8 * MIB);
    for compression in CODECS {
        let bytes = labelled(compression, &stream(compression, &payload));
        assert!(bytes.len() < 8 * MIB / 10, "{compression}");
        for limit in [0, 1, 1_000, 65_536, MIB, payload.len() - 1] {
            match limited(bytes.clone(), limit).unwrap_err().kind() {
                BatchErrorKind::Limit { setting, limit: said, at_least } => {
                    assert_eq!((setting, said), ("max_decompressed_batch_bytes", limit), "{compression}");
                    assert!(at_least > limit && at_least <= payload.len(), "{compression}: {at_least}");
                }
                kind => panic!("{compression} at {limit}: {kind:?}"),
            }
            assert!(one(bytes.clone()).decompressed_estimate(limit) <= limit);
        }
        assert_eq!(
            limited(bytes.clone(), payload.len()).unwrap().data().len(),
            payload.len(),
            "{compression}"
        );
        assert_eq!(limited(bytes, usize::MAX).unwrap().data().len(), payload.len(), "{compression}");
    }
}

/// A record of 64 MiB fits the default limit.
#[test]
fn sixty_four_mebibytes_fit_the_default_limit() {
    let bytes = labelled(Compression::Zstd, &stream(Compression::Zstd, &zeros(64 * MIB)));
    assert!(decode(bytes).unwrap().data().len() > 64 * MIB);
}

/// After any failure the same decoder reads the next batch as if nothing had happened.
#[test]
fn a_decoder_survives_failures() {
    let mut decoder = BatchDecoder::new();
    let payload = zeros(100_000);
    for round in 0..3 {
        for compression in CODECS {
            let good = stream(compression, &payload);
            for length in [0, 1, 5, 10, 20, good.len() / 2, good.len() - 1] {
                let bytes = labelled(compression, &good[..length]);
                let cut = one(bytes).decode(&mut decoder, DecodeOptions::default());
                assert_eq!(
                    cut.unwrap_err().kind(),
                    BatchErrorKind::Corrupt,
                    "{compression} {length} {round}"
                );
            }
            let small_limit = DecodeOptions { check_crcs: true, max_decompressed_batch_bytes: 50_000 };
            one(labelled(compression, &good)).decode(&mut decoder, small_limit).unwrap_err();
            let whole = one(labelled(compression, &good)).decode(&mut decoder, DecodeOptions::default());
            assert_eq!(whole.unwrap().data(), &payload, "{compression} {round}");
        }
    }
}

/// A codec bit and nothing behind it. Zstandard alone calls that an empty stream.
#[test]
fn no_bytes_at_all() {
    for compression in CODECS {
        let error = error_of(labelled(compression, b""));
        assert_eq!(error.kind(), BatchErrorKind::Corrupt, "{compression}");
        assert_eq!(decode(assemble(compression.id(), 3, 0, b"")).is_ok(), compression == Compression::Zstd);
        // An emptied batch whose stream is empty is read.
        let empty = decode(assemble(compression.id(), 3, 0, &stream(compression, b""))).unwrap();
        assert_eq!((empty.record_count(), empty.header().next_offset()), (0, 104));
    }
}

/// Bytes behind the declared records are an error, also when they are many.
#[test]
fn bytes_beyond_the_count() {
    let mut payload = zeros(10);
    payload.extend_from_slice(&vec![0; MIB]);
    for compression in CODECS {
        assert_corrupt(labelled(compression, &stream(compression, &payload)), "bytes are left behind");
    }
}

/// A bare block may claim 4 GiB in six bytes.
#[test]
fn snappy_claims_are_not_believed() {
    for claim in [&[0xff, 0xff, 0xff, 0xff, 0x0f, 0][..], &[0xff, 0xff, 0xff, 0xff, 0x0f]] {
        assert_corrupt(labelled(Compression::Snappy, claim), "claims more bytes than it can hold");
        assert_eq!(one(labelled(Compression::Snappy, claim)).decompressed_estimate(usize::MAX), 0);
    }
    let overlong = [0xff; 11];
    assert_corrupt(labelled(Compression::Snappy, &overlong), "the length of a block is no varint");
}

/// The framing of the Java library: chunk lengths, and headers that appear again.
#[test]
fn xerial_chunks() {
    let head = [&[0x82][..], b"SNAPPY", &[0], &[0, 0, 0, 1, 0, 0, 0, 1]].concat();
    let framed = |chunks: &[u8]| labelled(Compression::Snappy, &[&head[..], chunks].concat());
    assert_corrupt(framed(&(-1i32).to_be_bytes()), "the length of a chunk is negative");
    assert_corrupt(framed(&i32::MIN.to_be_bytes()), "the length of a chunk is negative");
    assert_corrupt(framed(&[&i32::MAX.to_be_bytes()[..], b"abc"].concat()), "longer than the bytes left");
    assert_corrupt(framed(&[0, 0, 0, 0]), "an empty block");
    assert_corrupt(framed(&[0, 0]), "the stream ends inside the length of a chunk");
    assert_corrupt(labelled(Compression::Snappy, &head[..12]), "the stream ends inside its header");

    let payload = zeros(100_000);
    let (left, right) = payload.split_at(40_000);
    let twice = [stream(Compression::Snappy, left), stream(Compression::Snappy, right)].concat();
    assert_eq!(decode(labelled(Compression::Snappy, &twice)).unwrap().data(), &payload);
}

/// Bare blocks, as librdkafka writes them.
#[test]
fn snappy_bare_blocks() {
    for size in [0, 1, 14, 15, 16, 17, 1_000, 100_000] {
        let payload = zeros(size);
        let block = snap::raw::Encoder::new().compress_vec(&payload).unwrap();
        assert_eq!(decode(labelled(Compression::Snappy, &block)).unwrap().data(), &payload, "{size}");
    }
}

/// What our frame walk takes and the frame encoder of another hand writes: all options, linked blocks among
/// them, several frames, skippable frames.
#[test]
fn lz4_frames_of_every_kind() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    use std::io::Write;
    let mut writer = BatchWriter::new();
    let mut rng = Rng(5);
    for _ in 0..4_000 {
        let value: Vec<u8> = (0..60).map(|i| if i % 3 == 0 { rng.next() as u8 } else { b'x' }).collect();
        writer.append(0, None, Some(&value), NO_HEADERS).unwrap();
    }
    let payload = writer.finish()[header::HEADER_SIZE..].to_vec();
    for mode in [BlockMode::Independent, BlockMode::Linked] {
        for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB] {
            for (sums, content) in [(false, false), (true, true)] {
                let info = FrameInfo::new()
                    .block_mode(mode)
                    .block_size(size)
                    .block_checksums(sums)
                    .content_checksum(sums)
                    .content_size(content.then_some(payload.len() as u64));
                let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
                encoder.write_all(&payload).unwrap();
                let frame = encoder.finish().unwrap();
                let bytes = assemble(3, 3_999, 4_000, &frame);
                assert_eq!(decode(bytes.clone()).unwrap().data(), &payload, "{mode:?} {size:?} {sums}");
                let limit = limited(bytes, payload.len() - 1).unwrap_err().kind();
                assert!(matches!(limit, BatchErrorKind::Limit { .. }), "{mode:?} {size:?}: {limit:?}");
            }
        }
    }
    // The last byte of the only block, behind which its checksum stands.
    let info = FrameInfo::new().block_checksums(true);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(&zeros(20)).unwrap();
    let mut frame = encoder.finish().unwrap();
    let at = frame.len() - 9;
    frame[at] ^= 1;
    assert_corrupt(labelled(Compression::Lz4, &frame), "the checksum of a block is wrong");

    let (left, right) = payload.split_at(70_000);
    let skippable = [&[0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let frames =
        [skippable.clone(), stream(Compression::Lz4, left), skippable, stream(Compression::Lz4, right)];
    assert_eq!(decode(assemble(3, 3_999, 4_000, &frames.concat())).unwrap().data(), &payload);
}

/// Frame headers of LZ4 that are refused.
#[test]
fn lz4_frames_that_lie() {
    let good = stream(Compression::Lz4, &zeros(100));
    let with = |at: usize, byte: u8, fix: bool| {
        let mut frame = good.clone();
        frame[at] = byte;
        if fix {
            // The published checksum of the two descriptor bytes, by the decoder's own refusal of any other.
            let found = (0..=255u8).find(|&sum| {
                frame[6] = sum;
                let error = Batches::new(labelled(Compression::Lz4, &frame)).next().unwrap().unwrap();
                match error.decode(&mut BatchDecoder::new(), DecodeOptions::default()) {
                    Ok(_) => true,
                    Err(error) => !error.to_string().contains("checksum of a frame header"),
                }
            });
            assert!(found.is_some());
        }
        labelled(Compression::Lz4, &frame)
    };
    assert_corrupt(with(0, 5, false), "not an lz4 frame");
    assert_corrupt(with(6, !good[6], false), "the checksum of a frame header is wrong");
    assert_corrupt(with(4, 0x20, true), "not of version 1");
    assert_corrupt(with(4, 0x61, true), "needs a dictionary");
    assert_corrupt(with(4, 0x62, true), "reserved bits");
    assert_corrupt(with(5, 0xc0, true), "reserved bits");
    assert_corrupt(with(5, 0x41, true), "reserved bits");
    assert_corrupt(with(5, 0x30, true), "the block size of a frame is not defined");
    assert_corrupt(with(9, 0x7f, false), "larger than its frame allows");
    assert_corrupt(labelled(Compression::Lz4, &good[..good.len() - 4]), "without an end mark");
    let huge_skippable = [0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff];
    assert_corrupt(labelled(Compression::Lz4, &huge_skippable), "inside a skippable frame");
    assert_corrupt(labelled(Compression::Zstd, &huge_skippable), "inside a skippable frame");
}

/// Frames may follow one another, with skippable frames between them.
#[test]
fn zstd_multi_frame_and_skippable() {
    let payload = zeros(300_000);
    let (left, right) = payload.split_at(140_000);
    let skippable = [&[0x5f, 0x2a, 0x4d, 0x18, 2, 0, 0, 0][..], b"ab"].concat();
    let frames = [
        skippable.clone(),
        stream(Compression::Zstd, left),
        skippable.clone(),
        stream(Compression::Zstd, right),
        skippable,
    ]
    .concat();
    let bytes = labelled(Compression::Zstd, &frames);
    assert!(one(bytes.clone()).decompressed_estimate(usize::MAX) >= payload.len());
    assert_eq!(decode(bytes.clone()).unwrap().data(), &payload);
    // The limit is that of all frames together.
    assert!(matches!(limited(bytes, 200_000).unwrap_err().kind(), BatchErrorKind::Limit { .. }));
    let garbage = [stream(Compression::Zstd, &payload), b"garbage".to_vec()].concat();
    assert_corrupt(labelled(Compression::Zstd, &garbage), "not a zstd frame");
}

/// Windows beyond 128 MiB, dictionaries, sizes that cannot be, blocks that are none.
/// A frame need not declare its size. One whose last block alone goes over the limit is too large, not damaged.
#[test]
fn zstd_frames_without_a_size_stop_at_the_limit() {
    let text: String = (0..40_000).map(|i| format!("{} order {} ", i * 7919 % 1000, i % 13)).collect();
    for size in [300, 5_000, 131_000, 400_000] {
        let mut writer = BatchWriter::new();
        writer.append(0, None, Some(&text.as_bytes()[..size]), NO_HEADERS).unwrap();
        let payload = &writer.finish()[header::HEADER_SIZE..];
        let sized = stream(Compression::Zstd, payload);
        let single_segment = sized[4] & 0x20 != 0;
        let width = match sized[4] >> 6 {
            0 => usize::from(single_segment),
            flag => 1 << flag,
        };
        // Magic, no flag but that of the checksum, a window of 8 MiB, and the blocks as they are.
        let blocks = 5 + usize::from(!single_segment) + width;
        let unsized_ = [&sized[..4], &[sized[4] & 4, 13 << 3], &sized[blocks..]].concat();
        let bytes = labelled(Compression::Zstd, &unsized_);
        assert_eq!(&limited(bytes.clone(), payload.len()).unwrap().data()[..], payload);
        for limit in [payload.len() - 1, payload.len() / 2, 1] {
            let error = limited(bytes.clone(), limit).unwrap_err();
            assert!(matches!(error.kind(), BatchErrorKind::Limit { .. }), "{limit} of {size}: {error}");
        }
    }
}

#[test]
fn zstd_frames_that_lie() {
    let frame = |rest: &[u8]| labelled(Compression::Zstd, &[&[0x28, 0xb5, 0x2f, 0xfd], rest].concat());
    let last_raw_block = [0x09, 0, 0, 0];
    for window_log in [28u8, 30, 31, 41] {
        let window = (window_log - 10) << 3;
        assert_corrupt(frame(&[&[0, window][..], &last_raw_block].concat()), "larger than 128 MiB");
    }
    assert_corrupt(frame(&[&[1, 0, 9][..], &last_raw_block].concat()), "needs a dictionary");
    assert_corrupt(frame(&[8, 0]), "reserved bit");
    // A content size of 2^62 bytes in one raw block of one byte.
    let huge = [&[0xc0, 0][..], &(1u64 << 62).to_le_bytes(), &last_raw_block].concat();
    assert_corrupt(frame(&huge), "claims more bytes than it can hold");
    assert_corrupt(frame(&[0, 0, 0x07, 0, 0]), "a block type is not defined");
    assert_corrupt(frame(&[0, 0, 0xf9, 0xff, 0xff]), "larger than 128 KiB");
    assert_corrupt(frame(&[0, 0, 0x51, 0, 0, 0]), "a block is longer than the bytes left");
    assert_corrupt(frame(&[0, 0]), "the stream ends inside a block header");
    assert_corrupt(frame(&[]), "the stream ends inside a frame header");
    assert_corrupt(labelled(Compression::Zstd, b"\x28\xb5"), "not a zstd frame");
}

/// RFC 1952: members follow one another; every optional part of a header is skipped.
#[test]
fn gzip_members_and_header_parts() {
    let payload = zeros(100_000);
    let (left, right) = payload.split_at(33_333);
    let members =
        [stream(Compression::Gzip, left), stream(Compression::Gzip, b""), stream(Compression::Gzip, right)];
    let bytes = labelled(Compression::Gzip, &members.concat());
    assert_eq!(decode(bytes.clone()).unwrap().data(), &payload);
    assert!(matches!(limited(bytes, 60_000).unwrap_err().kind(), BatchErrorKind::Limit { .. }));

    let good = stream(Compression::Gzip, &payload);
    let mut head = good[..10].to_vec();
    head[3] = 2 | 4 | 8 | 16;
    head.extend_from_slice(&[3, 0, 1, 2, 3]);
    head.extend_from_slice(b"name\0comment\0");
    let sum = crc32::crc32(&head) as u16;
    let parts = |sum: u16| [&head[..], &sum.to_le_bytes(), &good[10..]].concat();
    assert_eq!(decode(labelled(Compression::Gzip, &parts(sum))).unwrap().data(), &payload);
    assert_corrupt(labelled(Compression::Gzip, &parts(!sum)), "the checksum of the header is wrong");
    assert_corrupt(labelled(Compression::Gzip, &head[..head.len() - 3]), "ends inside its header");
}

/// Trailers that lie: the size is the attacker's, so it is neither believed nor let pass.
#[test]
fn gzip_streams_that_lie() {
    let good = stream(Compression::Gzip, &zeros(5_000));
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        labelled(Compression::Gzip, &bytes)
    };
    let end = good.len();
    for at in [end - 8, end - 4, end - 1] {
        assert_corrupt(with(at, !good[at]), "checksum or size in the trailer");
    }
    assert_corrupt(with(0, 0), "not a gzip stream");
    assert_corrupt(with(2, 7), "the method is not deflate");
    assert_corrupt(with(3, 0x20), "reserved flags");
    assert_corrupt(with(10, 0xff), "the deflate stream is damaged");
    let mut claim = good.clone();
    claim[end - 4..].copy_from_slice(&u32::MAX.to_le_bytes());
    let estimate = one(labelled(Compression::Gzip, &claim)).decompressed_estimate(usize::MAX);
    assert!(estimate <= claim.len() * 1_032, "{estimate}");
}

/// A codec that was compiled out is an error that names the feature.
#[test]
fn a_disabled_codec_names_its_feature() {
    let error = error::Fault::Disabled(Compression::Zstd).bare();
    assert_eq!(error.kind(), BatchErrorKind::CodecDisabled(Compression::Zstd));
    assert!(error.to_string().contains("enable the cargo feature \"zstd\""), "{error}");
    assert!(Compression::ALL.iter().all(|codec| codec.is_available()));
}
