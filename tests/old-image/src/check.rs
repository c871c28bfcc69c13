// SPDX-License-Identifier: GPL-2.0

//! What holds for every dump, whatever the image says.

use std::collections::HashMap;

use composefs_old_image::Error;
use composefs_old_image::Image;

/// Makes the dump of an image, of at most `limit` bytes.
///
/// # Errors
///
/// When the bytes are no such image, or one that is damaged.
///
/// # Panics
///
/// If something was written before an error.
pub fn dump(bytes: &[u8], limit: u64) -> Result<String, Error> {
    let image = Image::new(bytes)?;
    let mut text = Vec::new();
    let result = composefs_old_image::dump(&image, &mut text, limit);
    if result.is_err() {
        assert!(text.is_empty(), "an error came after a part of the dump");
    }
    result.map(|()| String::from_utf8(text).expect("the dump is text"))
}

/// Makes the dump of any bytes, and checks it.
///
/// # Errors
///
/// When the bytes are no such image, or one that is damaged.
///
/// # Panics
///
/// If the dump is longer than its limit, or if one of its lines cannot be right.
pub fn checked(bytes: &[u8], limit: u64) -> Result<String, Error> {
    let text = match dump(bytes, limit) {
        Ok(text) => text,
        Err(error) => {
            if let Error::Damaged { at, .. } = error {
                assert!(at <= bytes.len() as u64, "{error}: behind the image's end");
            }
            return Err(error);
        }
    };
    assert!(text.len() as u64 <= limit);
    // Whether a path is a directory.
    let mut seen = HashMap::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        assert!(fields.len() >= 11, "{line}");
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        let (path, mode, payload) = (fields[0], fields[2], fields[8]);
        let (parent, name) = path.rsplit_once('/').expect("an absolute path");
        match parent {
            _ if seen.is_empty() => assert_eq!(path, "/"),
            "" => assert!(!name.is_empty()),
            parent => assert_eq!(seen.get(parent), Some(&true), "{line}"),
        }
        if mode.starts_with('@') {
            assert_eq!(seen.get(payload), Some(&false), "{line}");
        }
        let mode = u32::from_str_radix(mode.trim_start_matches('@'), 8).expect("a mode");
        let directory = mode & 0o170_000 == 0o040_000;
        assert!(seen.insert(path, directory).is_none(), "{line}");
        for xattr in &fields[11..] {
            assert_eq!(xattr.matches('=').count(), 1, "{line}");
        }
    }
    assert!(!seen.is_empty());
    Ok(text)
}
