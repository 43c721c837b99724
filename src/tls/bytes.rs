//! Bytes that are read from the front, as TLS writes its structures (RFC 8446 section 3).
//!
//! `&[u8] ──▶ numbers, and vectors behind their lengths`; `None` where they end too early.

/// What is left to read.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    /// The next bytes.
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// The next byte.
    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// The next two bytes as a number.
    pub(super) fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// What follows its length in one byte.
    pub(super) fn vector8(&mut self) -> Option<Bytes<'a>> {
        let length = self.u8()?;
        self.take(length.into()).map(Bytes)
    }

    /// What follows its length in two bytes.
    pub(super) fn vector16(&mut self) -> Option<Bytes<'a>> {
        let length = self.u16()?;
        self.take(length.into()).map(Bytes)
    }

    /// What follows its length in three bytes.
    pub(super) fn vector24(&mut self) -> Option<Bytes<'a>> {
        let [high, middle, low] = *self.take(3)? else { return None };
        self.take(u32::from_be_bytes([0, high, middle, low]) as usize).map(Bytes)
    }

    /// All of it as two-byte codes.
    pub(super) fn codes(self) -> Option<Vec<u16>> {
        let (pairs, []) = self.0.as_chunks() else { return None };
        Some(pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect())
    }
}
