// SPDX-License-Identifier: GPL-2.0

//! What a PKCS#7 message says about its signers, for the message that says why it was refused.
//!
//! Nothing here decides whether a signature is good: the kernel's own parser and
//! `verify_pkcs7_signature()` do, and tell no more than an error number. This reads the same bytes
//! once more. They are hostile. It uses no kernel type, allocates nothing and cannot panic, so the
//! same source files are tested and fuzzed on the host. Each value is within another one, whose
//! length is known, and nothing calls itself.
//!
//! | file             | contents                                              |
//! |------------------|-------------------------------------------------------|
//! | `certificate.rs` | [`Certificate`], and [`Number`], which one it is      |
//! | `der.rs`         | values with tags and lengths                          |
//!
//! RFC 5652 has the format of the message, RFC 5280 that of certificates.

#![deny(
    unsafe_code,
    missing_docs,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod certificate;
mod der;

pub use certificate::{
    Certificate,
    Number,
    Time, //
};
use der::{
    tag,
    Values, //
};

/// The object identifier of the time of signing.
const SIGNING_TIME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x05];

/// A signed message.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    certificates: Values<'a>,
    signers: Values<'a>,
}

impl<'a> Message<'a> {
    /// Reads a message. Returns `None` if the bytes are not a message in DER.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut outer = Values::new(Values::new(bytes).read(tag::SEQUENCE)?);
        let _type = outer.read(tag::OBJECT)?;
        let mut data = Values::new(outer.read(tag::VALUES_0)?);
        let mut fields = Values::new(data.read(tag::SEQUENCE)?);
        let _version = fields.read(tag::INTEGER)?;
        let _algorithms = fields.read(tag::SET)?;
        let _content = fields.read(tag::SEQUENCE)?;
        let certificates = fields.read(tag::VALUES_0).unwrap_or_default();
        // Lists of certificates that were revoked. The kernel does not read them.
        let _ = fields.read(tag::VALUES_1);
        Some(Self {
            certificates: Values::new(certificates),
            signers: Values::new(fields.read(tag::SET)?),
        })
    }

    /// The certificates that are in the message.
    pub fn certificates(&self) -> impl Iterator<Item = Certificate<'a>> {
        self.certificates
            .filter_map(|value| Certificate::parse(value.content))
    }

    /// The signers of the message. Most messages have one.
    pub fn signers(&self) -> impl Iterator<Item = Signer<'a>> {
        self.signers
            .filter_map(|value| Signer::parse(value.content))
    }

    /// A signer with its time of signing, and its certificate, if that is in the message and was
    /// not valid at that time.
    pub fn signed_while_invalid(&self) -> Option<(Time, Certificate<'a>)> {
        self.signers().find_map(|signer| {
            let time = signer.time?;
            let mut own = self
                .certificates()
                .filter(|certificate| signer.key == Key::Of(certificate.number));
            own.next()
                .filter(|certificate| !certificate.is_valid_at(time))
                .map(|certificate| (time, certificate))
        })
    }
}

/// How a signer names the key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key<'a> {
    /// That of a certificate.
    Of(Number<'a>),
    /// By the identifier that its certificate gives it.
    Identifier(&'a [u8]),
}

/// A signer of a message.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    /// The key that was used.
    pub key: Key<'a>,
    /// When it was used, if the signer says so.
    pub time: Option<Time>,
}

impl<'a> Signer<'a> {
    fn parse(content: &'a [u8]) -> Option<Self> {
        let mut fields = Values::new(content);
        let _version = fields.read(tag::INTEGER)?;
        let key = match fields.read(tag::SEQUENCE) {
            Some(number) => {
                let mut number = Values::new(number);
                let issuer = number.read(tag::SEQUENCE)?;
                Key::Of(Number::new(issuer, number.read(tag::INTEGER)?))
            }
            None => Key::Identifier(fields.read(tag::BYTES_0)?),
        };
        let _algorithm = fields.read(tag::SEQUENCE)?;
        let attributes = fields.read(tag::VALUES_0).unwrap_or_default();
        let time = Values::new(attributes).find_map(|attribute| {
            let mut attribute = Values::new(attribute.content);
            let is_time = attribute.read(tag::OBJECT)? == SIGNING_TIME;
            let values = attribute.read(tag::SET)?;
            is_time
                .then(|| Time::parse(&Values::new(values).next()?))
                .flatten()
        });
        Some(Self { key, time })
    }
}
