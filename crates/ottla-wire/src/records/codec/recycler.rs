//! Buffers that decompressed batches lie in, which come back when the last handle of their batch is dropped.
//!
//! A buffer that was just read is still in the processor's cache; one from the system is not, and what is given back to
//! the system comes again with its page faults.

use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use bytes::Bytes;

/// What waits to be used again, at most: bytes, and buffers.
const KEEP: usize = 1 << 20;
const KEEP_BUFFERS: usize = 64;

/// Shared by a decoder and what it decoded.
#[derive(Default)]
pub(super) struct Recycler(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    /// The one that came back last is at the end: it is the warmest.
    buffers: Vec<Vec<u8>>,
    bytes: usize,
    /// The decoder is gone.
    closed: bool,
}

impl Kept {
    fn add(&mut self, buffer: Vec<u8>) {
        let size = buffer.capacity();
        if self.closed || size == 0 || size > KEEP {
            return;
        }
        self.bytes = self.bytes.saturating_add(size);
        self.buffers.push(buffer);
        while self.bytes > KEEP || self.buffers.len() > KEEP_BUFFERS {
            // The oldest: nothing of its size was wanted for the longest time.
            let oldest = self.buffers.remove(0);
            self.bytes = self.bytes.saturating_sub(oldest.capacity());
        }
    }
}

impl Recycler {
    /// A buffer with room for `size` bytes and not much more; whatever it was filled with may still be in it.
    pub(super) fn take(&self, size: usize) -> Vec<u8> {
        let most = most_for(size);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.buffers.reserve(1);
        let fits = |buffer: &Vec<u8>| (size..=most).contains(&buffer.capacity());
        if let Some(at) = kept.buffers.iter().rposition(fits) {
            let buffer = kept.buffers.remove(at);
            kept.bytes = kept.bytes.saturating_sub(buffer.capacity());
            return buffer;
        }
        drop(kept);
        // Where it is large, zeroed pages from the system instead of pages zeroed by us.
        vec![0; size]
    }

    /// Takes `buffer` back.
    pub(super) fn give(&self, buffer: Vec<u8>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(buffer);
    }

    /// The first `len` bytes of `buffer` as they lie there. It comes back when they are not used any more.
    pub(super) fn lend(&self, buffer: Vec<u8>, len: usize) -> Bytes {
        Bytes::from_owner(Lease { buffer, len, home: Arc::clone(&self.0) })
    }
}

/// The largest buffer that is taken for `size` bytes: what a batch keeps in memory beyond itself is bounded by it.
pub(super) fn most_for(size: usize) -> usize {
    size.saturating_add(size / 4).saturating_add(1 << 10)
}

impl Drop for Recycler {
    /// Batches may be held for long after: then their buffers are just freed.
    fn drop(&mut self) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Kept { closed: true, ..Kept::default() };
    }
}

/// A buffer that somebody reads.
struct Lease {
    buffer: Vec<u8>,
    len: usize,
    home: Arc<Mutex<Kept>>,
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }
}

impl Drop for Lease {
    /// Waits for nobody: a handle may be dropped anywhere. If the decoder is just at it, the buffer is freed.
    fn drop(&mut self) {
        match self.home.try_lock() {
            Ok(mut kept) => kept.add(core::mem::take(&mut self.buffer)),
            Err(TryLockError::Poisoned(poisoned)) => {
                poisoned.into_inner().add(core::mem::take(&mut self.buffer))
            }
            Err(TryLockError::WouldBlock) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(recycler: &Recycler, size: usize) -> (Bytes, *const u8) {
        let mut buffer = recycler.take(size);
        buffer.clear();
        buffer.resize(size, 7);
        let at = buffer.as_ptr();
        (recycler.lend(buffer, size), at)
    }

    #[test]
    fn a_buffer_comes_back_with_its_last_handle_and_not_before() {
        let recycler = Recycler::default();
        let (data, at) = filled(&recycler, 10_000);
        let slice = data.slice(5..9);
        drop(data);
        assert_ne!(filled(&recycler, 10_000).1, at);
        assert_eq!(&slice[..], [7; 4]);
        drop(slice);
        assert_eq!(filled(&recycler, 9_990).1, at);
    }

    #[test]
    fn a_buffer_is_not_much_larger_than_what_it_is_for() {
        let recycler = Recycler::default();
        drop(filled(&recycler, 100_000));
        let (small, _) = filled(&recycler, 50_000);
        drop(small);
        assert!(recycler.take(50_000).capacity() <= most_for(50_000));
        assert_eq!(recycler.0.lock().unwrap().buffers.len(), 1);
    }

    #[test]
    fn what_is_kept_is_bounded_and_ends_with_the_decoder() {
        let recycler = Recycler::default();
        let held: Vec<_> = (0..40).map(|_| filled(&recycler, 100_000).0).collect();
        let late = filled(&recycler, 100_000).0;
        drop(held);
        let home = Arc::clone(&recycler.0);
        {
            let kept = home.lock().unwrap();
            assert_eq!(kept.bytes, kept.buffers.iter().map(Vec::capacity).sum::<usize>());
            assert!((KEEP - 200_000..=KEEP).contains(&kept.bytes), "{}", kept.bytes);
        }
        drop(filled(&recycler, 2 * KEEP));
        drop(recycler);
        drop(late);
        assert!(home.lock().unwrap().buffers.is_empty());
    }
}
