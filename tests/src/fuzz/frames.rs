//! Framing: however a stream is cut, the frames in it are the same.

use bytes::{Bytes, BytesMut};
use ottla_wire::frame::{FrameError, FrameReader, frame_length};

use super::input::Input;

/// What a stream comes to: its frames, and the error or the number of bytes that are left.
type Outcome = (Vec<Bytes>, Result<usize, FrameError>);

/// The frames of the whole stream, as one would read them who has it in hand.
fn at_once(mut stream: &[u8], max: usize) -> Outcome {
    let mut frames = Vec::new();
    while let Some((header, rest)) = stream.split_first_chunk::<4>() {
        let length = match frame_length(*header, max) {
            Ok(length) => length,
            Err(error) => return (frames, Err(error)),
        };
        let Some((frame, rest)) = rest.split_at_checked(length) else { break };
        frames.push(Bytes::copy_from_slice(frame));
        stream = rest;
    }
    (frames, Ok(stream.len()))
}

/// The frames of the stream as it arrives in pieces whose sizes `cuts` chooses.
fn in_pieces(mut stream: Input<'_>, mut cuts: Input<'_>, max: usize) -> Outcome {
    let mut reader = FrameReader::new(max);
    let mut buf = BytesMut::new();
    let mut frames = Vec::new();
    loop {
        let frame = match reader.next_frame(&mut buf) {
            Ok(frame) => frame,
            Err(error) => return (frames, Err(error)),
        };
        if let Some(frame) = frame {
            frames.push(frame);
            continue;
        }
        if stream.is_empty() {
            return (frames, Ok(buf.len()));
        }
        let hint = reader.read_hint();
        assert!(
            hint > 0 && hint <= FrameReader::TRUSTED.max(buf.len()),
            "reads {hint} with {} there",
            buf.len()
        );
        let cut = if cuts.is_empty() { hint } else { 1 + usize::from(cuts.byte()) };
        buf.extend_from_slice(stream.take(cut.min(hint)));
    }
}

/// The first byte says how many of the next are cuts, the second how long frames may be.
pub fn split(data: &[u8]) {
    let mut input = Input(data);
    let cuts = Input(input.some());
    let max = 16 << (input.byte() % 16);
    let stream = input.rest();
    assert_eq!(in_pieces(Input(stream), cuts, max), at_once(stream, max));
    assert_eq!(in_pieces(Input(stream), Input(&[]), max), at_once(stream, max));
}
