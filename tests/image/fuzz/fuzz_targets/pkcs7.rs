// SPDX-License-Identifier: GPL-2.0

//! Reads all that can be read of a signature.

#![no_main]

use composefs_pkcs7::{Key, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(message) = Message::parse(data) else {
        return;
    };
    for signer in message.signers() {
        if let Key::Of(number) = signer.key {
            assert!(number.issuer_name().unwrap_or_default().len() < data.len());
        }
    }
    for certificate in message.certificates() {
        assert!(certificate.signed.len() < data.len());
    }
    if let Some((time, certificate)) = message.signed_while_invalid() {
        assert!(!certificate.is_valid_at(time));
    }
});
