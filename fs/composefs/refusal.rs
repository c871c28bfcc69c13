// SPDX-License-Identifier: GPL-2.0

//! Why a signature was refused, in words for the mounter.

use crate::digest::Digest;
use crate::pkcs7::{
    Key,
    Message,
    Number,
    Time, //
};
use crate::reason::Reason;
use crate::vfs::keyring;
use kernel::{
    fmt,
    prelude::*,
    str::BStr, //
};

/// Most bytes of a number or name that are shown. Longer ones are not valid, RFC 5280 says.
const SHOWN: usize = 64;

/// A signature that was refused.
pub(crate) struct Refusal<'a> {
    /// Why.
    pub(crate) error: Error,
    /// Of what it should have been.
    pub(crate) digest: &'a Digest,
    /// The signature.
    pub(crate) signature: &'a [u8],
    /// The keyring that root can fill.
    pub(crate) keyring: &'a CStr,
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = Message::parse(self.signature);
        let by = BySigners(message.as_ref());
        match self.error {
            ENOKEY => f.write_fmt(fmt!(
                "none of the trusted keys has made it, but {by}: keys are added to the keyring {}",
                self.keyring
            )),
            EKEYREVOKED => f.write_fmt(fmt!("the key that has made it was revoked: {by}")),
            EKEYEXPIRED => f.write_fmt(fmt!("the key that has made it has expired: {by}")),
            EKEYREJECTED => self.rejected(f, message.as_ref(), by),
            EBADMSG => f.write_str("it is not a PKCS#7 signature in DER without content"),
            ENOPKG => f.write_str("this kernel lacks the algorithm of it"),
            error => f.write_fmt(fmt!("it cannot be verified: {}", Reason(error))),
        }
    }
}

impl Refusal<'_> {
    /// Says which of the things is wrong for which the kernel has the same error number.
    fn rejected(
        &self,
        f: &mut fmt::Formatter<'_>,
        message: Option<&Message<'_>>,
        by: BySigners<'_>,
    ) -> fmt::Result {
        let blacklisted = message.and_then(|it| {
            it.certificates()
                .find(|certificate| keyring::is_blacklisted(certificate.signed))
        });
        if let Some(certificate) = blacklisted {
            // It need not be that of a signer.
            let by = By(Key::Of(certificate.number));
            return f.write_fmt(fmt!("it has {by}, which is on the kernel's blacklist"));
        }
        match message.and_then(|it| it.signed_while_invalid()) {
            Some((time, certificate)) => {
                let by = By(Key::Of(certificate.number));
                let (from, to) = certificate.valid;
                f.write_fmt(fmt!(
                    "it was made on {} by {by}, which is valid from {} to {} only",
                    Day(time),
                    Day(from),
                    Day(to)
                ))
            }
            None => f.write_fmt(fmt!(
                "it is not a good signature of {} by {by}, or the kernel's blacklist has the key",
                self.digest
            )),
        }
    }
}

/// Most signers that are named. There is one in most messages.
const SIGNERS: usize = 3;

/// The keys that a message names.
struct BySigners<'a>(Option<&'a Message<'a>>);

impl fmt::Display for BySigners<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut signers = self.0.into_iter().flat_map(|it| it.signers());
        let Some(first) = signers.next() else {
            return f.write_str("an unknown one");
        };
        By(first.key).fmt(f)?;
        for signer in signers.take(SIGNERS - 1) {
            f.write_fmt(fmt!(", {}", By(signer.key)))?;
        }
        Ok(())
    }
}

/// A key that a message names.
struct By<'a>(Key<'a>);

impl fmt::Display for By<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Key::Of(number) => {
                f.write_fmt(fmt!("the certificate {}", Hex(digits(number))))?;
                match number.issuer_name() {
                    Some(name) => f.write_fmt(fmt!(" by \"{}\"", BStr::from_bytes(cut(name)))),
                    None => Ok(()),
                }
            }
            Key::Identifier(bytes) => {
                f.write_fmt(fmt!("the key with the identifier {}", Hex(bytes)))
            }
        }
    }
}

/// The digits of a certificate's number. A zero before them only says that it is positive.
fn digits(number: Number<'_>) -> &[u8] {
    match number.digits {
        [0, rest @ ..] if !rest.is_empty() => rest,
        digits => digits,
    }
}

fn cut(bytes: &[u8]) -> &[u8] {
    bytes.get(..SHOWN).unwrap_or(bytes)
}

/// Bytes as hexadecimal digits.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in cut(self.0) {
            f.write_fmt(fmt!("{byte:02x}"))?;
        }
        Ok(())
    }
}

/// The day of a time.
struct Day(Time);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.0.date();
        f.write_fmt(fmt!(
            "{}-{}-{}",
            BStr::from_bytes(year),
            BStr::from_bytes(month),
            BStr::from_bytes(day)
        ))
    }
}
