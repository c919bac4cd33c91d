//! A cursor over untrusted little-endian bytes. Every read is checked and fails
//! with the rule of the object being parsed.

use super::{FormatError, Result};

pub struct Reader<'a> {
    bytes: &'a [u8],
    /// The rule that short or left-over bytes break.
    rule: &'static str,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8], rule: &'static str) -> Self {
        Reader { bytes, rule }
    }

    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    pub fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(length)
            .ok_or_else(|| FormatError::new(self.rule, "ends too early"))?;
        self.bytes = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self
            .bytes
            .split_first_chunk::<N>()
            .ok_or_else(|| FormatError::new(self.rule, "ends too early"))?;
        self.bytes = rest;
        Ok(*taken)
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    pub fn rest(self) -> &'a [u8] {
        self.bytes
    }

    /// Nothing may be left.
    pub fn end(self) -> Result<()> {
        match self.bytes {
            [] => Ok(()),
            rest => Err(FormatError::new(
                self.rule,
                format!("{} bytes too many at the end", rest.len()),
            )),
        }
    }
}
