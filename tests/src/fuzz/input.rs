//! Reads choices out of the fuzzer's bytes.

/// The bytes that are not read yet. At their end every number is 0, so that any input means something.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// Whether everything is read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// At most `count` bytes.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.take(usize::MAX)
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// One of `count` choices (at most 65,536).
    pub fn below(&mut self, count: usize) -> usize {
        let number = if count <= 256 { usize::from(self.byte()) } else { usize::from(self.u16()) };
        number % count.max(1)
    }

    /// Two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// Four bytes.
    pub fn i32(&mut self) -> i32 {
        self.take(4).iter().fold(0, |sum, byte| (sum << 8) | i32::from(*byte))
    }

    /// Eight bytes.
    pub fn i64(&mut self) -> i64 {
        self.take(8).iter().fold(0, |sum, byte| (sum << 8) | i64::from(*byte))
    }

    /// Bytes with their length in front.
    pub fn some(&mut self) -> &'a [u8] {
        let count = usize::from(self.byte());
        self.take(count)
    }

    /// Mostly small numbers, now and then one of the extremes.
    pub fn number(&mut self) -> i32 {
        match self.byte() {
            255 => self.i32(),
            254 => i32::MAX,
            253 => i32::MIN,
            252 => -1,
            small => i32::from(small),
        }
    }
}
