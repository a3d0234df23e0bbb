//! The buffer that decompressors write into.

use bytes::Bytes;

use crate::records::error::{Fault, LIMIT_SETTING};

/// Results up to this size are copied out of the scratch buffer, which stays warm; larger ones leave with the
/// buffer itself.
const COPY_OUT: usize = 256 << 10;
/// What the scratch buffer may keep between batches.
const KEEP: usize = 1 << 20;

/// A growing buffer with a limit.
#[derive(Default)]
pub(super) struct Output {
    /// Its length is what was ever initialized, so that reusing it zeroes nothing again.
    buf: Vec<u8>,
    filled: usize,
    limit: usize,
}

impl Output {
    /// Empties it and sets how much may be written.
    pub(super) fn begin(&mut self, limit: usize) {
        self.filled = 0;
        self.limit = limit;
    }

    pub(super) fn capacity(&self) -> usize {
        self.buf.capacity()
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
            if self.filled == 0 && self.buf.capacity() < end {
                // Zeroed pages from the system instead of pages zeroed by us, and nothing to copy.
                self.buf = vec![0; end];
            } else {
                let grown = end.max(self.buf.len().saturating_mul(2).min(self.limit.saturating_add(1)));
                self.buf.resize(grown, 0);
            }
        }
        self.buf.get_mut(self.filled..).unwrap_or_default()
    }

    /// The last `size` bytes written (or fewer), and space as from [`space`](Self::space).
    #[cfg(feature = "lz4")]
    pub(super) fn window_and_space(&mut self, size: usize, want: usize) -> (&[u8], &mut [u8]) {
        self.space(want);
        let (written, space) = self.buf.split_at_mut_checked(self.filled).unwrap_or_default();
        let window = written.get(written.len().saturating_sub(size)..).unwrap_or_default();
        (window, space)
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
        self.buf.truncate(self.filled);
        self.buf.reserve_exact(expected);
        let done = write(&mut self.buf);
        self.filled = self.buf.len();
        done.map(|_| ())
    }

    /// The error of a stream that gives `at_least` bytes or more.
    pub(super) fn over(&self, at_least: usize) -> Fault {
        Fault::Limit { setting: LIMIT_SETTING, limit: self.limit, at_least }
    }

    /// What was written, in an allocation of its own of that size.
    pub(super) fn take(&mut self) -> Bytes {
        if self.filled <= COPY_OUT {
            return Bytes::copy_from_slice(self.buf.get(..self.filled).unwrap_or_default());
        }
        let mut whole = core::mem::take(&mut self.buf);
        whole.truncate(self.filled);
        // A boxed slice has no spare capacity, so that what is counted is what is held.
        Bytes::from(whole.into_boxed_slice())
    }

    /// Gives up a scratch buffer that a failed batch has blown up.
    pub(super) fn trim(&mut self) {
        if self.buf.capacity() > KEEP {
            self.buf = Vec::new();
        }
    }
}
