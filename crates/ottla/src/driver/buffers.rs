//! Read buffers that are used again once every slice of what was read into them is gone.
//!
//! A fresh buffer of a megabyte costs its page faults, more than the copy out of the kernel. So a large buffer
//! that was read full is kept by its empty rest, and taken up again when that rest is the only one left.

use std::collections::VecDeque;

use bytes::BytesMut;

/// From this size on a buffer is large, and kept.
const KEPT_FROM: usize = 128 << 10;
/// A small buffer is read into as long as it has this much room: whole frames fill it one after the other.
const LEAST_ROOM: usize = 4 << 10;
/// A larger one is not: it is an exception, and would be memory that nobody needs.
const KEPT_TO: usize = 4 << 20;
/// Most bytes of all buffers that are kept, in use or not.
const KEPT_TOTAL: usize = 16 << 20;

/// Where one connection reads to.
#[derive(Debug, Default)]
pub(super) struct ReadBuffer {
    pub(super) bytes: BytesMut,
    /// Size of the allocation when it was made.
    allocated: usize,
}

#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// In the order in which they were filled.
    kept: VecDeque<ReadBuffer>,
    total: usize,
}

impl Buffers {
    /// Makes room for `more` bytes, or for some, behind what `buffer` holds.
    ///
    /// Little goes into a small buffer: a frame of a few bytes must not keep a megabyte alive that the core
    /// does not know of.
    pub(super) fn reserve(&mut self, buffer: &mut ReadBuffer, more: usize) {
        let held = buffer.bytes.len();
        let needed = held.saturating_add(more);
        let small = needed < KEPT_FROM;
        if small && held == 0 && buffer.allocated >= KEPT_FROM {
            self.keep(std::mem::take(buffer));
        }
        if buffer.bytes.capacity() - held >= if small { more.min(LEAST_ROOM) } else { more } {
            return;
        }
        if small && buffer.allocated < KEPT_FROM {
            buffer.bytes.reserve(more);
            return;
        }
        let mut fresh = self.take(needed);
        fresh.bytes.extend_from_slice(&buffer.bytes);
        buffer.bytes.clear();
        self.keep(std::mem::replace(buffer, fresh));
    }

    fn take(&mut self, needed: usize) -> ReadBuffer {
        // Frames are read in the order in which they came: of the buffers that are free again the one that was filled
        // last is the warmest.
        for at in (0..self.kept.len()).rev() {
            let Some(kept) = self.kept.get_mut(at) else { break };
            let fits = kept.allocated >= needed && kept.allocated / 2 <= needed;
            if fits
                && kept.bytes.try_reclaim(needed)
                && let Some(found) = self.kept.remove(at)
            {
                self.total -= found.allocated;
                return found;
            }
        }
        ReadBuffer { bytes: BytesMut::with_capacity(needed), allocated: needed }
    }

    pub(super) fn keep(&mut self, buffer: ReadBuffer) {
        if !(KEPT_FROM..=KEPT_TO).contains(&buffer.allocated) {
            return;
        }
        self.total += buffer.allocated;
        self.kept.push_back(buffer);
        while self.total > KEPT_TOTAL {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.total -= oldest.allocated;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(buffers: &mut Buffers, buffer: &mut ReadBuffer, len: usize) -> bytes::Bytes {
        buffers.reserve(buffer, len);
        buffer.bytes.extend_from_slice(&vec![1; len]);
        buffer.bytes.split_to(len).freeze()
    }

    #[test]
    fn a_large_buffer_is_used_again_when_its_slices_are_gone_and_not_before() {
        let (mut buffers, mut buffer) = (Buffers::default(), ReadBuffer::default());
        let first = fill(&mut buffers, &mut buffer, 1 << 20);
        let address = first.as_ptr();
        let second = fill(&mut buffers, &mut buffer, 1 << 20);
        assert_ne!(second.as_ptr(), address);
        drop(first);
        let third = fill(&mut buffers, &mut buffer, 1 << 20);
        assert_eq!(third.as_ptr(), address);
        assert!(second.iter().all(|b| *b == 1));
    }

    #[test]
    fn a_small_frame_does_not_keep_a_large_buffer() {
        let (mut buffers, mut buffer) = (Buffers::default(), ReadBuffer::default());
        drop(fill(&mut buffers, &mut buffer, 1 << 20));
        let small = fill(&mut buffers, &mut buffer, 100);
        assert!(buffer.allocated < KEPT_FROM);
        // The large one is free for the next large frame, although the small frame is held.
        let large = buffers.take(1 << 20);
        assert!(buffers.kept.is_empty());
        drop((small, large));
    }

    #[test]
    fn small_frames_fill_one_buffer() {
        let (mut buffers, mut buffer) = (Buffers::default(), ReadBuffer::default());
        let mut frames = Vec::new();
        buffers.reserve(&mut buffer, 64 << 10);
        for _ in 0..50 {
            buffers.reserve(&mut buffer, 64 << 10);
            buffer.bytes.extend_from_slice(&[1; 1_000]);
            frames.push(buffer.bytes.split_to(1_000).freeze());
        }
        let first = frames[0].as_ptr() as usize;
        assert!(frames.iter().all(|frame| (first..first + (64 << 10)).contains(&(frame.as_ptr() as usize))));
    }

    #[test]
    fn what_was_read_already_moves_along() {
        let (mut buffers, mut buffer) = (Buffers::default(), ReadBuffer::default());
        buffers.reserve(&mut buffer, 4096);
        buffer.bytes.extend_from_slice(b"half a frame");
        buffers.reserve(&mut buffer, 1 << 20);
        assert_eq!(&buffer.bytes[..], b"half a frame");
        assert!(buffer.bytes.capacity() - buffer.bytes.len() >= 1 << 20);
    }

    #[test]
    fn kept_memory_is_bounded() {
        let (mut buffers, mut buffer) = (Buffers::default(), ReadBuffer::default());
        let held: Vec<_> = (0..64).map(|_| fill(&mut buffers, &mut buffer, 1 << 20)).collect();
        assert!(buffers.total <= KEPT_TOTAL);
        assert_eq!(buffers.total, buffers.kept.iter().map(|b| b.allocated).sum::<usize>());
        drop(held);
        fill(&mut buffers, &mut buffer, 100 << 20);
        assert!(buffers.kept.iter().all(|b| b.allocated <= KEPT_TO));
    }
}
