//! The codecs: bounded whatever comes, and the same bytes as another implementation gives.
//!
//! That other implementation may be C, which only `fuzz/` may compile: it hands it in. Of Snappy and LZ4 there is a
//! naive reader as well, which tests compare with, too.
//!
//! *Time* is bounded by what can be counted: what is asked of the heap, and how often.

use ottla_wire::records::{
    Batch, BatchDecoder, BatchErrorKind, BatchWriter, Batches, Compression, DecodeOptions,
};

use super::input::Input;
use super::naive_lz4;
use crate::heap::measure;

/// Another implementation of a codec.
#[derive(Clone, Copy)]
pub struct Reference {
    /// Decompresses a whole payload; `None` when it is damaged or gives more than so many bytes.
    pub decompress: fn(&[u8], usize) -> Option<Vec<u8>>,
    /// Compresses; the number chooses level and shape.
    pub compress: fn(&[u8], u8) -> Vec<u8>,
    /// Whether it is known to refuse such a payload although we may read it.
    pub may_refuse: fn(&[u8]) -> bool,
    /// Whether it is known to read such a payload although we refuse it.
    pub may_read: fn(&[u8]) -> bool,
}

/// No difference is known.
pub fn never(_: &[u8]) -> bool {
    false
}

impl std::fmt::Debug for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reference")
    }
}

/// Snappy as its format description has it.
pub const SNAPPY: Reference = Reference {
    decompress: naive::decompress,
    compress: naive::compress,
    may_refuse: never,
    may_read: never,
};

/// It differs in ways that are not told apart: only what both read says something.
pub fn always(_: &[u8]) -> bool {
    true
}

/// LZ4 as its format description has it, without a look at checksum and size of the content.
pub const LZ4: Reference = Reference {
    decompress: |payload, limit| naive_lz4::read(payload, limit).ok(),
    compress: naive_lz4::compress,
    may_refuse: never,
    may_read: never,
};

/// The most that may come out; small, so that it is reached.
const LIMIT: usize = 256 << 10;

/// What may be held while a payload of `length` bytes is decompressed: the buffer, which may double while it grows,
/// the result, and the tables of the codecs.
fn held(length: usize) -> usize {
    4 * LIMIT + 32 * length + (512 << 10)
}

/// gzip, against a reference if there is one.
pub fn gzip(data: &[u8], reference: Option<&Reference>) {
    check(Compression::Gzip, data, reference);
}

/// Snappy against the naive reader.
pub fn snappy(data: &[u8]) {
    check(Compression::Snappy, data, Some(&SNAPPY));
}

/// LZ4 against the naive reader, and against a reference if there is one.
pub fn lz4(data: &[u8], reference: Option<&Reference>) {
    check(Compression::Lz4, data, Some(&LZ4));
    if reference.is_some() {
        check(Compression::Lz4, data, reference);
    }
}

/// Zstandard, against a reference if there is one.
pub fn zstd(data: &[u8], reference: Option<&Reference>) {
    check(Compression::Zstd, data, reference);
}

/// The first byte says whether the rest is a hostile payload (0), or content that the reference (1) or ottla (2)
/// compresses; the second is the reference's level.
fn check(codec: Compression, data: &[u8], reference: Option<&Reference>) {
    let mut input = Input(data);
    match input.below(3) {
        0 => hostile(codec, input.rest(), reference),
        1 => {
            let level = input.byte();
            let content = content(&mut input);
            let Some(reference) = reference else { return };
            let payload = (reference.compress)(&content, level);
            let out = BatchDecoder::new().decompress(codec, &payload, LIMIT);
            assert_eq!(out.as_deref(), Ok(&content[..]), "{codec} of the reference, level {level}");
        }
        _ => {
            let content = content(&mut input);
            let batch = written(codec, &content);
            let record = batch.iter().next().expect("the record");
            assert_eq!(record.value(), Some(&content[..]), "{codec} of ours");
            if let Some(reference) = reference {
                let mut writer = BatchWriter::new().compression(codec);
                writer.append(0, None, Some(&content), &[]).expect("a record");
                let payload = writer.finish().slice(61..);
                let out = (reference.decompress)(&payload, 2 * LIMIT);
                assert_eq!(out.as_deref(), Some(&batch.data()[..]), "{codec}: the reference reads ours");
            }
        }
    }
}

/// Runs and copies, so that short inputs become content that compresses.
fn content(input: &mut Input<'_>) -> Vec<u8> {
    let mut content = Vec::new();
    while !input.is_empty() && content.len() < LIMIT / 2 {
        match input.byte() {
            choice @ 0..=63 => {
                let byte = input.byte();
                content.resize(content.len() + usize::from(choice) * 61, byte);
            }
            choice @ 64..=127 if !content.is_empty() => {
                let from = usize::from(input.u16()) % content.len();
                let to = (from + usize::from(choice) * 17).min(content.len());
                content.extend_from_within(from..to);
            }
            choice => content.extend_from_slice(input.take(1 + usize::from(choice % 64))),
        }
    }
    content
}

/// A batch of one record, written and read by us.
fn written(codec: Compression, content: &[u8]) -> Batch {
    let mut writer = BatchWriter::new().compression(codec);
    writer.append(0, None, Some(content), &[]).expect("a record");
    let raw = Batches::new(writer.finish()).next().expect("a batch").expect("a good one");
    raw.decode(&mut BatchDecoder::new(), DecodeOptions::default()).expect("what we wrote")
}

fn hostile(codec: Compression, payload: &[u8], reference: Option<&Reference>) {
    let mut decoder = BatchDecoder::new();
    let (out, heap) = measure(|| decoder.decompress(codec, payload, LIMIT));
    assert!(heap.peak <= held(payload.len()), "{codec}: holds {} for {}", heap.peak, payload.len());
    // In sum at most so much for a byte: nothing that grows with the square of the length.
    let (calls, asked) = (64 + 8 * payload.len(), 2 * held(payload.len()) + (8 << 10) * payload.len());
    assert!(heap.calls <= calls, "{codec}: {} allocations for {}", heap.calls, payload.len());
    assert!(heap.asked <= asked, "{codec}: asks for {} for {}", heap.asked, payload.len());
    // What a decoder has met before, failed or not, does not change what comes out.
    assert_eq!(decoder.decompress(codec, payload, LIMIT), out, "{codec}: not the same twice");
    if let Ok(out) = &out {
        assert!(out.len() <= LIMIT, "{codec}: {} bytes came out", out.len());
        // One byte less is too little, unless there was none.
        if let Some(less) = out.len().checked_sub(1) {
            let error = decoder.decompress(codec, payload, less).expect_err("over the limit");
            assert!(
                matches!(error.kind(), BatchErrorKind::Limit { limit, .. } if limit == less),
                "{codec}: {error} instead of the limit {less}"
            );
        }
    }
    let Some(reference) = reference else { return };
    let theirs = (reference.decompress)(payload, LIMIT);
    match (&out, &theirs) {
        (Ok(ours), Some(theirs)) => assert_eq!(&ours[..], &theirs[..], "{codec}: other bytes"),
        (Ok(_), None) if !(reference.may_refuse)(payload) => {
            panic!("{codec}: the reference refuses what we read")
        }
        (Err(error), Some(_)) if !(reference.may_read)(payload) => {
            panic!("{codec}: we refuse what the reference reads: {error}")
        }
        _ => {}
    }
}

/// Snappy as its format description has it, byte by byte.
mod naive {
    use super::Input;

    const XERIAL: &[u8] = &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];

    fn exactly<'a>(input: &mut Input<'a>, count: usize) -> Option<&'a [u8]> {
        (count <= input.0.len()).then(|| input.take(count))
    }

    fn little_endian(bytes: &[u8]) -> usize {
        bytes.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    }

    fn block(block: &[u8], limit: usize) -> Option<Vec<u8>> {
        let mut input = Input(block);
        let mut length = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = *exactly(&mut input, 1)?.first()?;
            length |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
            if shift == 28 {
                return None;
            }
        }
        let length = usize::try_from(length).ok().filter(|_| length <= u64::from(u32::MAX))?;
        let mut out = Vec::new();
        while !input.is_empty() {
            let tag = input.byte();
            let (count, back) = match tag & 3 {
                0 => {
                    let count = usize::from(tag >> 2);
                    let count =
                        if count < 60 { count } else { little_endian(exactly(&mut input, count - 59)?) };
                    out.extend_from_slice(exactly(&mut input, count.checked_add(1)?)?);
                    continue;
                }
                1 => (
                    4 + usize::from(tag >> 2 & 7),
                    usize::from(tag >> 5) << 8 | little_endian(exactly(&mut input, 1)?),
                ),
                2 => (1 + usize::from(tag >> 2), little_endian(exactly(&mut input, 2)?)),
                _ => (1 + usize::from(tag >> 2), little_endian(exactly(&mut input, 4)?)),
            };
            let from = out.len().checked_sub(back).filter(|_| back > 0)?;
            for at in from..from + count {
                out.push(*out.get(at)?);
            }
            if out.len() > length {
                return None;
            }
        }
        (out.len() == length && length <= limit).then_some(out)
    }

    pub(super) fn decompress(payload: &[u8], limit: usize) -> Option<Vec<u8>> {
        if !payload.starts_with(XERIAL) {
            return block(payload, limit);
        }
        let mut input = Input(payload);
        let mut out = Vec::new();
        loop {
            while input.0.starts_with(XERIAL) {
                exactly(&mut input, 16)?;
            }
            if input.is_empty() {
                return Some(out);
            }
            let length = u32::from_be_bytes(*exactly(&mut input, 4)?.first_chunk()?);
            let chunk = exactly(&mut input, usize::try_from(length).ok()?)?;
            out.extend_from_slice(&block(chunk, limit - out.len())?);
        }
    }

    /// Literals of up to 60 bytes alone, or copies of the byte before for runs; bare or framed.
    pub(super) fn compress(content: &[u8], level: u8) -> Vec<u8> {
        if level.is_multiple_of(2) {
            return bare(content, level);
        }
        let mut out = [XERIAL, &[0, 0, 0, 1, 0, 0, 0, 1]].concat();
        for chunk in content.chunks(1 + usize::from(level) * 100) {
            let block = bare(chunk, level);
            out.extend_from_slice(&(block.len() as u32).to_be_bytes());
            out.extend_from_slice(&block);
        }
        out
    }

    fn bare(content: &[u8], level: u8) -> Vec<u8> {
        let mut out = Vec::new();
        let mut length = content.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        let mut at = 0;
        while at < content.len() {
            let run =
                content[at..].iter().take(64).take_while(|byte| at > 0 && **byte == content[at - 1]).count();
            if run >= 4 && !level.is_multiple_of(3) {
                // Two bytes of distance, or four.
                if level % 3 == 1 {
                    out.extend_from_slice(&[(run as u8 - 1) << 2 | 2, 1, 0]);
                } else {
                    out.extend_from_slice(&[(run as u8 - 1) << 2 | 3, 1, 0, 0, 0]);
                }
                at += run;
            } else {
                let count = (content.len() - at).min(1 + usize::from(level % 60));
                out.push((count as u8 - 1) << 2);
                out.extend_from_slice(&content[at..at + count]);
                at += count;
            }
        }
        out
    }
}
