//! How records are encoded and decoded: little-endian integers, texts after their length, every
//! byte accounted for.
//!
//! The small ones are inlined into the contexts that use them: a snapshot is millions of fields.
//!
//! It knows no record. A context implements [`Codec`] for its entries; the bytes are then that
//! context's promise.

use std::fmt;

/// Bytes that are not a record of any version that this build knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError(pub &'static str);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "decode record: {}", self.0)
    }
}

impl std::error::Error for DecodeError {}

/// A type with an encoding of its own. `decode(encode(x)) = x`, which
/// [`crate::log::Batch::push_record`] asserts in debug builds.
pub trait Codec: Sized + PartialEq + fmt::Debug {
    /// Appends its bytes. They are never empty, and as many as [`crate::log::ENTRY_BYTES_MAX`] at
    /// the most.
    fn encode(&self, out: &mut Writer<'_>);

    /// Reads it back. Every byte must be accounted for: end with [`Reader::end`].
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;
}

/// Appends fields.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Appends to `out`.
    #[inline]
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    #[inline]
    pub fn u8(&mut self, n: u8) {
        self.out.push(n);
    }

    #[inline]
    pub fn u16(&mut self, n: u16) {
        self.bytes(&n.to_le_bytes());
    }

    #[inline]
    pub fn u32(&mut self, n: u32) {
        self.bytes(&n.to_le_bytes());
    }

    #[inline]
    pub fn u64(&mut self, n: u64) {
        self.bytes(&n.to_le_bytes());
    }

    #[inline]
    pub fn flag(&mut self, flag: bool) {
        self.u8(u8::from(flag));
    }

    /// Length (u16) and UTF-8. The caller bounds its texts far below 64 KiB.
    pub fn text(&mut self, text: &str) {
        debug_assert!(u16::try_from(text.len()).is_ok(), "a text of {} bytes", text.len());
        self.u16(text.len() as u16);
        self.bytes(text.as_bytes());
    }
}

/// Takes fields off the front, each checked.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from their start.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    #[inline]
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DecodeError("too short"))?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(DecodeError("too short"))?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    #[inline]
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    #[inline]
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    #[inline]
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    #[inline]
    pub fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError("flag is neither 0 nor 1")),
        }
    }

    pub fn text(&mut self) -> Result<String, DecodeError> {
        let len = usize::from(self.u16()?);
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| DecodeError("text is not UTF-8"))?;
        Ok(text.to_owned())
    }

    /// Nothing is left over.
    #[inline]
    pub fn end(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError("bytes left over")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_as_they_were_written() {
        let mut bytes = Vec::new();
        let mut w = Writer::new(&mut bytes);
        w.u8(1);
        w.u16(2);
        w.u32(3);
        w.u64(u64::MAX);
        w.flag(true);
        w.text("höchstens");
        w.bytes(&[7; 16]);
        let mut r = Reader::new(&bytes);
        assert_eq!((r.u8(), r.u16(), r.u32(), r.u64()), (Ok(1), Ok(2), Ok(3), Ok(u64::MAX)));
        assert_eq!((r.flag(), r.text()), (Ok(true), Ok("höchstens".to_owned())));
        assert_eq!((r.left(), r.array()), (16, Ok([7; 16])));
        assert_eq!(r.end(), Ok(()));
    }

    #[test]
    fn malformed_fields_are_refused() {
        assert_eq!(Reader::new(&[1]).u16(), Err(DecodeError("too short")));
        assert_eq!(Reader::new(&[2]).flag(), Err(DecodeError("flag is neither 0 nor 1")));
        assert_eq!(Reader::new(&[1, 0, 0xff]).text(), Err(DecodeError("text is not UTF-8")));
        assert_eq!(Reader::new(&[9]).end(), Err(DecodeError("bytes left over")));
        assert_eq!(Reader::new(&[9, 0]).text(), Err(DecodeError("too short")));
    }
}
