//! A walk over a request body before kafka-protocol sees it.
//!
//! kafka-protocol reserves memory for an array's announced count before it looks at what follows, so fourteen bytes
//! could ask for hundreds of gigabytes and abort the process. The walk checks every count and length against the
//! bytes that are left and limits the number of elements; it allocates nothing.

use super::shapes::{Field, Ty};

/// More array elements than this in one request are refused.
const MAX_ELEMENTS: usize = 1_000_000;

/// Checks that `body` is one request of the given shape.
pub(crate) fn check(fields: &[Field], version: i16, flexible: bool, body: &[u8]) -> Result<(), &'static str> {
    let mut walk = Walk { rest: body, version, flexible, elements: 0 };
    walk.fields(fields)?;
    if walk.rest.is_empty() { Ok(()) } else { Err("bytes left after the last field") }
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    elements: usize,
}

impl<'a> Walk<'a> {
    fn fields(&mut self, fields: &[Field]) -> Result<(), &'static str> {
        for field in fields {
            if field.versions.contains(&self.version) {
                self.ty(&field.ty)?;
            }
        }
        if self.flexible { self.tags() } else { Ok(()) }
    }

    fn ty(&mut self, ty: &Ty) -> Result<(), &'static str> {
        match ty {
            Ty::Fixed(size) => self.take(*size).map(drop),
            Ty::Str => {
                let length = if self.flexible { self.compact()? } else { self.short()? };
                let bytes = self.take(length.unwrap_or(0))?;
                std::str::from_utf8(bytes).map(drop).map_err(|_| "a string is not utf-8")
            }
            Ty::Bytes => {
                let length = if self.flexible { self.compact()? } else { self.int()? };
                self.take(length.unwrap_or(0)).map(drop)
            }
            Ty::Array(element) => {
                let count = self.count()?;
                (0..count).try_for_each(|_| self.ty(element))
            }
            Ty::Structs(fields) => {
                let count = self.count()?;
                (0..count).try_for_each(|_| self.fields(fields))
            }
        }
    }

    fn count(&mut self) -> Result<usize, &'static str> {
        let count = if self.flexible { self.compact()? } else { self.int()? }.unwrap_or(0);
        self.elements = self.elements.saturating_add(count);
        if count > self.rest.len() {
            return Err("an array announces more elements than bytes are left");
        }
        if self.elements > MAX_ELEMENTS {
            return Err("more than a million array elements");
        }
        Ok(count)
    }

    fn tags(&mut self) -> Result<(), &'static str> {
        let count = self.uvarint()?;
        self.elements = self.elements.saturating_add(count as usize);
        if self.elements > MAX_ELEMENTS {
            return Err("more than a million tagged fields");
        }
        for _ in 0..count {
            self.uvarint()?;
            let size = self.uvarint()?;
            self.take(size as usize)?;
        }
        Ok(())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or("a field is longer than the request")?;
        self.rest = rest;
        Ok(taken)
    }

    /// A compact length: none for null.
    fn compact(&mut self) -> Result<Option<usize>, &'static str> {
        Ok((self.uvarint()? as usize).checked_sub(1))
    }

    fn short(&mut self) -> Result<Option<usize>, &'static str> {
        match self.take(2)?.try_into().map(i16::from_be_bytes) {
            Ok(-1) => Ok(None),
            Ok(length) => usize::try_from(length).map(Some).map_err(|_| "a negative length"),
            Err(_) => Err("a field is longer than the request"),
        }
    }

    fn int(&mut self) -> Result<Option<usize>, &'static str> {
        match self.take(4)?.try_into().map(i32::from_be_bytes) {
            Ok(-1) => Ok(None),
            Ok(length) => usize::try_from(length).map(Some).map_err(|_| "a negative length"),
            Err(_) => Err("a field is longer than the request"),
        }
    }

    fn uvarint(&mut self) -> Result<u32, &'static str> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = *self.take(1)?.first().ok_or("a field is longer than the request")?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("an unterminated varint")
    }
}

#[cfg(test)]
mod tests {
    use super::super::shapes::request;
    use super::*;
    use crate::api::Api;

    #[test]
    fn a_count_beyond_the_bytes_left_is_refused() {
        // Metadata v1: one array count and nothing behind it.
        let error = check(request(Api::Metadata), 1, false, &i32::MAX.to_be_bytes()).unwrap_err();
        assert!(error.contains("more elements"), "{error}");
    }

    #[test]
    fn an_unterminated_varint_is_refused() {
        let error = check(request(Api::Metadata), 12, true, &[0xff; 5]).unwrap_err();
        assert!(error.contains("varint"), "{error}");
    }

    #[test]
    fn bytes_after_the_end_are_refused() {
        assert!(check(request(Api::Metadata), 1, false, &[0, 0, 0, 0, 9]).is_err());
        assert!(check(request(Api::Metadata), 1, false, &[0, 0, 0, 0]).is_ok());
    }
}
