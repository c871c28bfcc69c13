// SPDX-License-Identifier: GPL-2.0

//! DER: values, each behind its tag and length.

/// The tags that a signature uses.
pub(super) mod tag {
    /// A number.
    pub(in super::super) const INTEGER: u8 = 0x02;
    /// The name of an algorithm or attribute.
    pub(in super::super) const OBJECT: u8 = 0x06;
    /// A time in a year of two digits.
    pub(in super::super) const UTC_TIME: u8 = 0x17;
    /// A time in a year of four digits.
    pub(in super::super) const GENERALIZED_TIME: u8 = 0x18;
    /// Values in a given order.
    pub(in super::super) const SEQUENCE: u8 = 0x30;
    /// Values in any order.
    pub(in super::super) const SET: u8 = 0x31;
    /// What has the number 0 where it is, and consists of bytes.
    pub(in super::super) const BYTES_0: u8 = 0x80;
    /// What has the number 0 where it is, and consists of values.
    pub(in super::super) const VALUES_0: u8 = 0xa0;
    /// The same with the number 1.
    pub(in super::super) const VALUES_1: u8 = 0xa1;
}

/// One value.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    /// What it is.
    pub(super) tag: u8,
    /// The value itself.
    pub(super) content: &'a [u8],
    /// The same with tag and length.
    pub(super) whole: &'a [u8],
}

/// Values that stand one after the other. It ends at the first that is not in DER, or is longer
/// than 65535 bytes.
#[derive(Clone, Copy)]
pub(super) struct Values<'a>(&'a [u8]);

impl<'a> Values<'a> {
    /// The values that `bytes` consists of.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Reads the next value if it has this tag. Returns its content.
    pub(super) fn read(&mut self, tag: u8) -> Option<&'a [u8]> {
        Some(self.read_whole(tag)?.content)
    }

    /// As [`read`](Self::read), with tag and length.
    pub(super) fn read_whole(&mut self, tag: u8) -> Option<Value<'a>> {
        let mut rest = *self;
        let value = rest.next()?;
        if value.tag != tag {
            return None;
        }
        *self = rest;
        Some(value)
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let (tag, rest) = self.0.split_first()?;
        let (short, rest) = rest.split_first()?;
        let (len, rest) = match short {
            0..=0x7f => (u16::from(*short), rest),
            0x81 => {
                let (len, rest) = rest.split_first()?;
                (u16::from(*len), rest)
            }
            0x82 => {
                let (len, rest) = rest.split_first_chunk()?;
                (u16::from_be_bytes(*len), rest)
            }
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(usize::from(len))?;
        let (whole, after) = self
            .0
            .split_at_checked(self.0.len().checked_sub(after.len())?)?;
        self.0 = after;
        Some(Value {
            tag: *tag,
            content,
            whole,
        })
    }
}
