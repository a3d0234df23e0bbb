//! Arrays inside received bytes.

use std::fmt;
use std::marker::PhantomData;

use crate::{Element, Read, Reader};

/// An array inside a received message: a slice that was checked once, element by element, when the message was
/// decoded. Iterating it reads the elements again, infallibly and without allocating.
pub struct Array<'a, T> {
    /// Exactly the elements.
    bytes: &'a [u8],
    count: u32,
    version: i16,
    flexible: bool,
    elements: PhantomData<fn() -> T>,
}

impl<'a, T> Array<'a, T> {
    /// `bytes` must be `count` elements that were parsed with [`crate::Check`]: only a [`Reader`] makes arrays.
    pub(crate) const fn new(bytes: &'a [u8], count: u32, version: i16, flexible: bool) -> Self {
        Self { bytes, count, version, flexible, elements: PhantomData }
    }

    /// Number of elements.
    #[inline]
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<'a, T: Element<'a>> Array<'a, T> {
    /// The elements, in order.
    #[inline]
    pub fn iter(&self) -> ArrayIter<'a, T> {
        ArrayIter {
            reader: Reader::checked(self.bytes, self.version, self.flexible),
            left: self.count,
            elements: PhantomData,
        }
    }

    /// The first element.
    pub fn first(&self) -> Option<T> {
        self.iter().next()
    }
}

impl<T> Clone for Array<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Array<'_, T> {}

impl<T> Default for Array<'_, T> {
    fn default() -> Self {
        Self::new(&[], 0, 0, false)
    }
}

impl<'a, T: Element<'a> + fmt::Debug> fmt::Debug for Array<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a, T: Element<'a> + PartialEq> PartialEq for Array<'a, T> {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.iter().eq(other.iter())
    }
}

impl<'a, T: Element<'a> + Eq> Eq for Array<'a, T> {}

impl<'a, T: Element<'a>> IntoIterator for Array<'a, T> {
    type Item = T;
    type IntoIter = ArrayIter<'a, T>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, T: Element<'a>> IntoIterator for &Array<'a, T> {
    type Item = T;
    type IntoIter = ArrayIter<'a, T>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The elements of an [`Array`].
pub struct ArrayIter<'a, T> {
    reader: Reader<'a>,
    left: u32,
    elements: PhantomData<fn() -> T>,
}

impl<'a, T: Element<'a>> Iterator for ArrayIter<'a, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.left = self.left.checked_sub(1)?;
        // The same bytes passed the same parser when the array was made, so this cannot fail; if it did, the
        // iteration would end here.
        let element = T::parse::<Read>(&mut self.reader, "").ok();
        if element.is_none() {
            self.left = 0;
        }
        element
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl<'a, T: Element<'a>> ExactSizeIterator for ArrayIter<'a, T> {}

impl<'a, T: Element<'a>> std::iter::FusedIterator for ArrayIter<'a, T> {}

impl<T> Clone for ArrayIter<'_, T> {
    fn clone(&self) -> Self {
        Self { reader: self.reader.clone(), left: self.left, elements: PhantomData }
    }
}

impl<T> fmt::Debug for ArrayIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArrayIter").field("left", &self.left).finish_non_exhaustive()
    }
}
