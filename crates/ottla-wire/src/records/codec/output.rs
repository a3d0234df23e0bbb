//! The buffer that decompressors write into.

use bytes::Bytes;

use super::recycler::{Recycler, most_for};
use crate::records::error::{Fault, LIMIT_SETTING};

/// Results up to this size are copied out of a buffer that is much too large for them, which stays warm; larger ones
/// leave with the buffer itself.
const COPY_OUT: usize = 256 << 10;
/// Up to this size they always are: that costs less than to keep account of them.
const SMALL: usize = 4 << 10;
/// What the buffer may keep between batches.
const KEEP: usize = 1 << 20;

/// A growing buffer with a limit. Results leave with it, where it is not much larger than they are.
#[derive(Default)]
pub(super) struct Output {
    /// Its length is what was ever initialized, so that reusing it zeroes nothing again.
    buf: Vec<u8>,
    filled: usize,
    limit: usize,
    /// How much came out of the last batches: one that is like them finds its room at once.
    expected: usize,
    recycler: Recycler,
}

impl Output {
    /// Empties it and sets how much may be written.
    pub(super) fn begin(&mut self, limit: usize) {
        self.filled = 0;
        self.limit = limit;
        // Some more, so that a batch that is a little larger than the one before fits.
        let size = self.expected.saturating_add(self.expected / 16).min(limit);
        if !(SMALL..KEEP).contains(&size) {
            return;
        }
        if self.buf.capacity() > most_for(size) {
            self.recycler.give(core::mem::take(&mut self.buf));
        }
        self.provide(size);
    }

    pub(super) fn capacity(&self) -> usize {
        self.buf.capacity()
    }

    /// An empty buffer is replaced by one for `size` bytes, if it is smaller.
    fn provide(&mut self, size: usize) {
        if self.filled == 0 && self.buf.capacity() < size {
            self.recycler.give(core::mem::take(&mut self.buf));
            self.buf = self.recycler.take(size);
        }
    }

    /// What was written so far.
    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    /// What may be written in all.
    #[cfg(feature = "zstd")]
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// What was written from position `start` on.
    #[cfg(feature = "gzip")]
    pub(super) fn written_from(&self, start: usize) -> &[u8] {
        self.buf.get(start..self.filled).unwrap_or_default()
    }

    /// What may still be written.
    pub(super) fn left(&self) -> usize {
        self.limit.saturating_sub(self.filled)
    }

    /// Space for `want` more bytes, or for one byte more than the limit leaves, whichever is less: a decoder
    /// that fills that one byte has gone over the limit and [`advance`](Self::advance) says so.
    ///
    /// `want` must be no more than the input at hand can really give.
    pub(super) fn space(&mut self, want: usize) -> &mut [u8] {
        let want = want.min(self.left().saturating_add(1));
        let end = self.filled.saturating_add(want);
        if self.buf.len() < end {
            self.provide(end);
            if self.buf.capacity() < end {
                let grown = end.max(self.buf.len().saturating_mul(2).min(self.limit.saturating_add(1)));
                self.buf.reserve_exact(grown.saturating_sub(self.buf.len()));
            }
            self.buf.resize(self.buf.capacity(), 0);
        }
        self.buf.get_mut(self.filled..).unwrap_or_default()
    }

    /// How much can be written without asking for [`space`](Self::space).
    #[cfg(any(feature = "lz4", feature = "zstd"))]
    pub(super) fn at_hand(&self) -> usize {
        self.buf.capacity().saturating_sub(self.filled)
    }

    /// The last `size` bytes written, and behind them space as from [`space`](Self::space).
    #[cfg(feature = "lz4")]
    pub(super) fn written_and_space(&mut self, size: usize, want: usize) -> &mut [u8] {
        self.space(want);
        self.buf.get_mut(self.filled.saturating_sub(size)..).unwrap_or_default()
    }

    /// Counts `written` bytes of the last space as written.
    pub(super) fn advance(&mut self, written: usize) -> Result<(), Fault> {
        self.filled = self.filled.saturating_add(written);
        if self.filled > self.limit { Err(self.over(self.filled)) } else { Ok(()) }
    }

    /// Appends `data`.
    pub(super) fn extend(&mut self, data: &[u8]) -> Result<(), Fault> {
        if data.len() > self.left() {
            return Err(self.over(self.filled.saturating_add(data.len())));
        }
        if let Some(space) = self.space(data.len()).get_mut(..data.len()) {
            space.copy_from_slice(data);
        }
        self.advance(data.len())
    }

    /// Lets `write` append to the buffer as a plain vector; the caller sees to it that no more than
    /// [`limit`](Self::limit) is taken out.
    #[cfg(feature = "zstd")]
    pub(super) fn append<E>(
        &mut self,
        expected: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Result<usize, E>,
    ) -> Result<(), E> {
        self.provide(expected);
        self.buf.truncate(self.filled);
        self.buf.reserve_exact(expected);
        let done = write(&mut self.buf);
        self.filled = self.buf.len();
        done.map(|_| ())
    }

    /// Forgets what was written behind position `to`.
    #[cfg(feature = "zstd")]
    pub(super) fn rewind(&mut self, to: usize) {
        self.filled = to.min(self.filled);
    }

    /// The error of a stream that gives `at_least` bytes or more.
    pub(super) fn over(&self, at_least: usize) -> Fault {
        Fault::Limit { setting: LIMIT_SETTING, limit: self.limit, at_least }
    }

    /// What was written, and how large the allocation is that it lies in.
    pub(super) fn take(&mut self) -> (Bytes, usize) {
        // Falls slowly, so that a small batch among larger ones does not cost the next one its room.
        self.expected = self.filled.max(self.expected.saturating_sub(self.expected / 8));
        let is_roomy = self.buf.capacity() > most_for(self.filled);
        if self.filled <= SMALL || (self.filled <= COPY_OUT && is_roomy) {
            let copy = Bytes::copy_from_slice(self.buf.get(..self.filled).unwrap_or_default());
            return (copy, self.filled);
        }
        let mut whole = core::mem::take(&mut self.buf);
        if is_roomy {
            whole.truncate(self.filled);
            whole.shrink_to_fit();
        }
        let size = whole.capacity();
        (self.recycler.lend(whole, self.filled), size)
    }

    /// Gives up a buffer that a failed batch has blown up.
    pub(super) fn trim(&mut self) {
        if self.buf.capacity() > KEEP {
            self.buf = Vec::new();
        }
    }
}
