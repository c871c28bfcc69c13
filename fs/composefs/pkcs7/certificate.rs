// SPDX-License-Identifier: GPL-2.0

//! Certificates of X.509: which one it is, and when it is valid.

use super::der::{
    tag,
    Value,
    Values, //
};

/// The object identifier of a common name.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// The identity of a certificate: its issuer, and the number that it has there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Number<'a> {
    issuer: &'a [u8],
    /// The bytes of the number.
    pub digits: &'a [u8],
}

impl<'a> Number<'a> {
    /// Reads the contents of both.
    pub(super) fn new(issuer: &'a [u8], digits: &'a [u8]) -> Self {
        Self { issuer, digits }
    }

    /// Returns the common name of the issuer, if there is one. It may have any bytes.
    pub fn issuer_name(&self) -> Option<&'a [u8]> {
        Values::new(self.issuer)
            .flat_map(|parts| Values::new(parts.content))
            .find_map(|part| {
                let mut part = Values::new(part.content);
                let is_name = part.read(tag::OBJECT)? == COMMON_NAME;
                is_name.then(|| part.next()).flatten()
            })
            .map(|name| name.content)
    }
}

/// A second, as the digits of a date and a time of day. Zones are not known: DER has only that of
/// Greenwich.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Time([u8; 14]);

impl Time {
    pub(super) fn parse(value: &Value<'_>) -> Option<Self> {
        let digits = value.content.strip_suffix(b"Z")?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        match value.tag {
            tag::GENERALIZED_TIME => Some(Self(digits.try_into().ok()?)),
            tag::UTC_TIME => {
                let digits: &[u8; 12] = digits.try_into().ok()?;
                let [tens, ..] = digits;
                let century = match tens {
                    b'0'..=b'4' => *b"20",
                    _ => *b"19",
                };
                let mut time = [b'0'; 14];
                for (to, from) in time.iter_mut().zip(century.iter().chain(digits)) {
                    *to = *from;
                }
                Some(Self(time))
            }
            _ => None,
        }
    }

    /// Returns the digits of year, month and day.
    pub fn date(&self) -> (&[u8], &[u8], &[u8]) {
        let (year, rest) = self.0.split_at_checked(4).unwrap_or_default();
        let (month, rest) = rest.split_at_checked(2).unwrap_or_default();
        let (day, _) = rest.split_at_checked(2).unwrap_or_default();
        (year, month, day)
    }
}

/// A certificate.
#[derive(Clone, Copy, Debug)]
pub struct Certificate<'a> {
    /// Which one it is.
    pub number: Number<'a>,
    /// What its issuer has signed. The kernel's blacklist knows a certificate by the SHA-256 of
    /// these bytes.
    pub signed: &'a [u8],
    /// It is not valid before the first of them, nor after the second.
    pub valid: (Time, Time),
}

impl<'a> Certificate<'a> {
    /// Reads the content of a certificate.
    pub(super) fn parse(content: &'a [u8]) -> Option<Self> {
        let signed = Values::new(content).read_whole(tag::SEQUENCE)?;
        let mut fields = Values::new(signed.content);
        // The version. Certificates of the first one do not have it.
        let _ = fields.read(tag::VALUES_0);
        let digits = fields.read(tag::INTEGER)?;
        let _algorithm = fields.read(tag::SEQUENCE)?;
        let issuer = fields.read(tag::SEQUENCE)?;
        let mut valid = Values::new(fields.read(tag::SEQUENCE)?);
        let (from, to) = (valid.next()?, valid.next()?);
        Some(Self {
            number: Number::new(issuer, digits),
            signed: signed.whole,
            valid: (Time::parse(&from)?, Time::parse(&to)?),
        })
    }

    /// Whether it is valid at a time.
    pub fn is_valid_at(&self, time: Time) -> bool {
        let (from, to) = self.valid;
        from <= time && time <= to
    }
}
