//! Checked reading and plain writing of little-endian values.

use crate::base::{Error, Status};

/// Why bytes are not a message. Names the field, for the log; the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError(pub &'static str);

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Error::new(Status::Protocol, format!("malformed message: {}", error.0))
    }
}

/// What decoding yields.
pub type Decoded<T> = Result<T, DecodeError>;

/// Reads values from the front of a message.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from the first one on.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize, field: &'static str) -> Decoded<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(DecodeError(field))?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Decoded<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError(field))?;
        self.rest = rest;
        Ok(*head)
    }

    /// One byte.
    pub fn u8(&mut self, field: &'static str) -> Decoded<u8> {
        Ok(self.array::<1>(field)?[0])
    }

    /// A byte that must be 0 or 1.
    pub fn bool(&mut self, field: &'static str) -> Decoded<bool> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError(field)),
        }
    }

    /// Two bytes.
    pub fn u16(&mut self, field: &'static str) -> Decoded<u16> {
        Ok(u16::from_le_bytes(self.array(field)?))
    }

    /// Four bytes.
    pub fn u32(&mut self, field: &'static str) -> Decoded<u32> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    /// Eight bytes.
    pub fn u64(&mut self, field: &'static str) -> Decoded<u64> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// Sixteen bytes.
    pub fn u128(&mut self, field: &'static str) -> Decoded<u128> {
        Ok(u128::from_le_bytes(self.array(field)?))
    }

    /// A length of two bytes and that many bytes: a key.
    pub fn short_bytes(&mut self, field: &'static str) -> Decoded<&'a [u8]> {
        let len = self.u16(field)?;
        self.take(usize::from(len), field)
    }

    /// A length of four bytes and that many bytes: a value.
    pub fn bytes(&mut self, field: &'static str) -> Decoded<&'a [u8]> {
        let len = self.u32(field)?;
        self.take(len as usize, field)
    }

    /// Short bytes that are UTF-8.
    pub fn text(&mut self, field: &'static str) -> Decoded<&'a str> {
        std::str::from_utf8(self.short_bytes(field)?).map_err(|_| DecodeError(field))
    }

    /// Short bytes that are UTF-8, at most `max` of them.
    pub fn bounded_text(&mut self, max: usize, field: &'static str) -> Decoded<&'a str> {
        let text = self.text(field)?;
        if text.len() <= max { Ok(text) } else { Err(DecodeError(field)) }
    }

    /// A count of elements of which each takes at least `element_bytes`: refused if the message
    /// cannot hold that many, so that a hostile count never sizes an allocation.
    pub fn count(&mut self, element_bytes: usize, field: &'static str) -> Decoded<usize> {
        let count = self.u32(field)? as usize;
        match count.checked_mul(element_bytes) {
            Some(bytes) if bytes <= self.rest.len() => Ok(count),
            _ => Err(DecodeError(field)),
        }
    }

    /// A count of at most `max` elements. For elements that take more memory than bytes on the
    /// wire: without the bound, a frame at the limit would cost many times its size.
    pub fn bounded_count(
        &mut self,
        element_bytes: usize,
        max: usize,
        field: &'static str,
    ) -> Decoded<usize> {
        let count = self.count(element_bytes, field)?;
        if count <= max { Ok(count) } else { Err(DecodeError(field)) }
    }

    /// Refuses trailing bytes.
    pub fn finish(self) -> Decoded<()> {
        match self.rest.is_empty() {
            true => Ok(()),
            false => Err(DecodeError("trailing bytes")),
        }
    }
}

/// Appends values to a buffer. Lengths were checked where the values came from.
pub trait Writer {
    /// One byte.
    fn put_u8(&mut self, value: u8);
    /// Two bytes.
    fn put_u16(&mut self, value: u16);
    /// Four bytes.
    fn put_u32(&mut self, value: u32);
    /// Eight bytes.
    fn put_u64(&mut self, value: u64);
    /// Sixteen bytes.
    fn put_u128(&mut self, value: u128);
    /// A key: two bytes of length, then the bytes.
    fn put_short_bytes(&mut self, bytes: &[u8]);
    /// A value: four bytes of length, then the bytes.
    fn put_bytes(&mut self, bytes: &[u8]);
    /// A text, cut at a character's boundary if it is longer than 65,535 bytes.
    fn put_text(&mut self, text: &str) {
        self.put_text_cut(text, usize::from(u16::MAX));
    }
    /// A text, cut at a character's boundary if it is longer than `max` bytes.
    fn put_text_cut(&mut self, text: &str, max: usize);
    /// A number of elements.
    fn put_count(&mut self, count: usize);
}

impl Writer for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }
    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_u128(&mut self, value: u128) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_short_bytes(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= usize::from(u16::MAX), "short bytes are bounded by callers");
        self.put_u16(bytes.len() as u16);
        self.extend_from_slice(bytes);
    }
    fn put_bytes(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= u32::MAX as usize, "values are bounded by callers");
        self.put_u32(bytes.len() as u32);
        self.extend_from_slice(bytes);
    }
    fn put_text_cut(&mut self, text: &str, max: usize) {
        let mut end = text.len().min(max).min(usize::from(u16::MAX));
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.put_short_bytes(&text.as_bytes()[..end]);
    }
    fn put_count(&mut self, count: usize) {
        debug_assert!(count <= u32::MAX as usize, "counts are bounded by callers");
        self.put_u32(count as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_count_is_refused_before_it_sizes_anything() {
        let mut bytes = Vec::new();
        bytes.put_u32(u32::MAX);
        assert_eq!(Reader::new(&bytes).count(1, "count"), Err(DecodeError("count")));
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let mut bytes = Vec::new();
        bytes.put_text(&"é".repeat(40_000));
        let text = Reader::new(&bytes).text("text").unwrap();
        assert_eq!(text.len(), 65_534);
    }
}
