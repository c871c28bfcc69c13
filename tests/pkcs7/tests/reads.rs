// SPDX-License-Identifier: GPL-2.0

//! Signatures by openssl(1), whole and damaged. `data/make` has made them.

use composefs_pkcs7::Key;
use composefs_pkcs7::Message;
use proptest::prelude::*;

/// By the certificate 0102030405060708090a0b0c0d0e0f, which is its own issuer: one with neither
/// attributes nor certificates, with both, and with the key's identifier.
const BARE: &[u8] = include_bytes!("../data/bare.p7s");
const FULL: &[u8] = include_bytes!("../data/full.p7s");
const IDENTIFIER: &[u8] = include_bytes!("../data/identifier.p7s");
/// Made when the certificate, number 66, was no longer valid.
const LATE: &[u8] = include_bytes!("../data/late.p7s");
/// By two.
const TWO: &[u8] = include_bytes!("../data/two.p7s");
const ALL: [&[u8]; 5] = [BARE, FULL, IDENTIFIER, LATE, TWO];

const NUMBER: &[u8] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// The number and the issuer's name of each signer's certificate.
fn signers(bytes: &[u8]) -> Vec<(Vec<u8>, String)> {
    let message = Message::parse(bytes).expect("not a message");
    let named = message.signers().filter_map(|signer| match signer.key {
        Key::Of(number) => {
            let name = number.issuer_name().unwrap_or_default();
            Some((number.digits.to_vec(), String::from_utf8_lossy(name).into()))
        }
        Key::Identifier(_) => None,
    });
    named.collect()
}

#[test]
fn the_signer_is_named_by_number_and_issuer() {
    let one = (NUMBER.to_vec(), "vendor: \u{e4}".to_owned());
    for bytes in [BARE, FULL] {
        assert_eq!(signers(bytes), std::slice::from_ref(&one));
    }
    // A set is sorted.
    assert_eq!(signers(TWO), [(vec![0x66], "late".to_owned()), one]);
}

#[test]
fn the_signer_is_named_by_the_identifier_of_the_key() {
    let message = Message::parse(IDENTIFIER).expect("not a message");
    let keys: Vec<_> = message.signers().map(|signer| signer.key).collect();
    let digits: &[u8] = include_bytes!("../data/identifier");
    assert_eq!(digits.len(), 20);
    assert_eq!(keys, [Key::Identifier(digits)]);
}

#[test]
fn certificates_are_found_and_what_is_signed_in_them() {
    assert_eq!(
        Message::parse(BARE).map(|it| it.certificates().count()),
        Some(0)
    );
    let message = Message::parse(FULL).expect("not a message");
    let [certificate] = message.certificates().collect::<Vec<_>>()[..] else {
        panic!("not one certificate");
    };
    assert_eq!(certificate.number.digits, NUMBER);
    assert_eq!(certificate.signed, include_bytes!("../data/signed"));
    assert_eq!(
        Message::parse(TWO).map(|it| it.certificates().count()),
        Some(2)
    );
}

#[test]
fn signing_while_the_certificate_is_not_valid_is_noticed() {
    for bytes in [BARE, FULL, IDENTIFIER] {
        let message = Message::parse(bytes).expect("not a message");
        assert!(message.signed_while_invalid().is_none());
    }
    for bytes in [LATE, TWO] {
        let message = Message::parse(bytes).expect("not a message");
        let (time, certificate) = message.signed_while_invalid().expect("not noticed");
        assert!(!certificate.is_valid_at(time));
        assert_eq!(certificate.number.digits, [0x66]);
        let (from, to) = certificate.valid;
        assert_eq!(from.date(), (&b"1999"[..], &b"02"[..], &b"28"[..]));
        // A year of four digits begins with 2050.
        assert_eq!(to.date(), (&b"2021"[..], &b"12"[..], &b"31"[..]));
        assert!(certificate.is_valid_at(from) && certificate.is_valid_at(to));
        assert!(from < to && to < time);
    }
    let message = Message::parse(FULL).expect("not a message");
    let to = message.certificates().next().map(|it| it.valid.1);
    let (year, month, day) = to.as_ref().map(|it| it.date()).unwrap_or_default();
    assert_eq!((year, month, day), (&b"2126"[..], &b"03"[..], &b"04"[..]));
}

/// Reads all that can be read.
fn read(bytes: &[u8]) -> usize {
    let Some(message) = Message::parse(bytes) else {
        return 0;
    };
    let mut read = 0;
    for signer in message.signers() {
        read += match signer.key {
            Key::Of(number) => number.digits.len() + number.issuer_name().unwrap_or_default().len(),
            Key::Identifier(bytes) => bytes.len(),
        };
    }
    for certificate in message.certificates() {
        read += certificate.signed.len() + certificate.number.digits.len();
    }
    if let Some((time, _)) = message.signed_while_invalid() {
        read += time.date().0.len();
    }
    read
}

#[test]
fn every_prefix_is_read_or_refused() {
    for bytes in ALL {
        assert!(read(bytes) > 0);
        for len in 0..bytes.len() {
            assert_eq!(read(&bytes[..len]), 0, "{len} bytes");
        }
    }
}

/// Tags, lengths of each form, and what is next to them.
const VALUES: [u8; 17] = [
    0, 1, 2, 3, 6, 0x17, 0x18, 0x30, 0x31, 0x7f, 0x80, 0x81, 0x82, 0x83, 0xa0, 0xa1, 0xff,
];

#[test]
fn every_byte_may_have_another_value() {
    for bytes in ALL {
        let mut changed = bytes.to_vec();
        for at in 0..bytes.len() {
            for value in VALUES {
                changed[at] = value;
                // At most a few parts of the message are told, each once for each use.
                assert!(read(&changed) <= 4 * bytes.len());
            }
            changed[at] = bytes[at];
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read(&bytes);
    }

    #[test]
    fn parts_that_moved_are_read_or_refused(
        which in 0..ALL.len(), from in 0..3000usize, len in 0..400usize, to in 0..3000usize,
        value in any::<u8>(),
    ) {
        let mut bytes = ALL[which].to_vec();
        let from = from % bytes.len();
        let part: Vec<_> = bytes[from..].iter().take(len).copied().collect();
        let to = to % bytes.len();
        bytes.splice(to..to, part);
        let at = (from ^ to) % bytes.len();
        bytes[at] = value;
        read(&bytes);
    }
}
