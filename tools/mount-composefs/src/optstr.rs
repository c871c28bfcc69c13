// SPDX-License-Identifier: GPL-2.0

//! The syntax of `-o`: options separated by commas, names separated by colons, and backslashes,
//! which make the next byte part of a name.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

/// An option and its value, as they were written.
pub(crate) type Pair<'a> = (&'a [u8], Option<&'a [u8]>);

/// Splits a list of options at its commas. Empty options are left out.
pub(crate) fn options(list: &[u8]) -> Vec<Pair<'_>> {
    split(list, b',')
        .into_iter()
        .filter(|option| !option.is_empty())
        .map(pair)
        .collect()
}

/// The names in a value, without backslashes. `None` if one of them is empty.
pub(crate) fn names(value: &[u8]) -> Option<Vec<OsString>> {
    split(value, b':')
        .into_iter()
        .map(|name| Some(unescaped(name)).filter(|name| !name.is_empty()))
        .collect()
}

/// A value without its backslashes. One at the very end stands for itself.
pub(crate) fn unescaped(value: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => *rest.next().unwrap_or(byte),
            byte => *byte,
        });
    }
    OsString::from_vec(bytes)
}

/// Splits at the first equals sign.
fn pair(option: &[u8]) -> Pair<'_> {
    match option.iter().position(|byte| *byte == b'=') {
        Some(equals) => {
            let (key, value) = option.split_at(equals);
            (key, value.get(1..))
        }
        None => (option, None),
    }
}

/// Splits at each separator that has no backslash before it and is not in quotes. Quotes are
/// only behind an equals sign, around a whole value, which is how contexts of SELinux that have
/// commas are written.
fn split(text: &[u8], separator: u8) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut begin = 0;
    let mut escaped = false;
    let mut quoted = false;
    let mut before = None;
    for (at, &byte) in text.iter().enumerate() {
        if escaped {
            escaped = false;
        } else if quoted {
            quoted = byte != b'"';
        } else if byte == b'\\' {
            escaped = true;
        } else if byte == b'"' && before == Some(b'=') {
            quoted = closed(text.get(at + 1..), separator);
        } else if byte == separator {
            parts.extend(text.get(begin..at));
            begin = at + 1;
        }
        before = Some(byte);
    }
    parts.extend(text.get(begin..));
    parts
}

/// Whether a quote ends, and the value with it.
fn closed(text: Option<&[u8]>, separator: u8) -> bool {
    let text = text.unwrap_or_default();
    let Some(end) = text.iter().position(|byte| *byte == b'"') else {
        return false;
    };
    text.get(end + 1).is_none_or(|next| *next == separator)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn strings(list: &str) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        options(list.as_bytes())
            .into_iter()
            .map(|(key, value)| match value {
                Some(value) => format!("{} -> {}", text(key), text(value)),
                None => text(key),
            })
            .collect()
    }

    #[test]
    fn commas_separate_options() {
        assert_eq!(
            strings("a,b=c,,d=e=f,g="),
            ["a", "b -> c", "d -> e=f", "g -> "]
        );
        assert_eq!(strings(""), [""; 0]);
    }

    #[test]
    fn a_backslash_keeps_a_comma() {
        assert_eq!(strings(r"a=b\,c,d"), [r"a -> b\,c", "d"]);
        // A backslash that is itself escaped does not.
        assert_eq!(strings(r"a=b\\,c"), [r"a -> b\\", "c"]);
        assert_eq!(strings(r"a=b\"), [r"a -> b\"]);
    }

    #[test]
    fn quotes_keep_commas() {
        assert_eq!(
            strings(r#"context="a:c0,c1",ro"#),
            [r#"context -> "a:c0,c1""#, "ro"]
        );
        // What is not around a whole value is no quote.
        assert_eq!(strings(r#"a=b"c,d"e"#), [r#"a -> b"c"#, r#"d"e"#]);
        assert_eq!(strings(r#"a="c,d"#), [r#"a -> "c"#, "d"]);
        assert_eq!(strings(r#"a="b"c,d"#), [r#"a -> "b"c"#, "d"]);
    }

    #[test]
    fn colons_separate_names() {
        let names = |value: &str| names(value.as_bytes());
        assert_eq!(names("/a:/b").unwrap(), ["/a", "/b"]);
        assert_eq!(names(r"/a\:b:/c\,d\\").unwrap(), ["/a:b", r"/c,d\"]);
        for wrong in ["", ":", "/a:", ":/a", "/a::/b"] {
            assert_eq!(names(wrong), None, "{wrong}");
        }
    }

    /// A name as a value of an option. `escaped` in the module is the same.
    fn escaped(name: &[u8]) -> Vec<u8> {
        let special = |byte: &u8| matches!(byte, b',' | b':' | b'\\');
        let bytes = name.iter();
        bytes
            .flat_map(|byte| special(byte).then_some(b'\\').into_iter().chain([*byte]))
            .collect()
    }

    proptest! {
        #[test]
        fn any_names_can_be_given(
            paths in vec(vec(any::<u8>().prop_map(|byte| byte.max(1)), 0..20), 1..4),
        ) {
            // A quote is one only around a whole value.
            let paths: Vec<_> = paths.into_iter().map(|path| [b"/".to_vec(), path].concat()).collect();
            let value: Vec<_> = paths.iter().map(|path| escaped(path)).collect();
            let list = [b"ro,basedir=".to_vec(), value.join(&b':'), b",rw".to_vec()].concat();
            let found = options(&list);
            prop_assert_eq!(found.len(), 3);
            let found = names(found[1].1.unwrap()).unwrap();
            let found: Vec<_> = found.into_iter().map(OsString::into_vec).collect();
            prop_assert_eq!(found, paths);
        }
    }

    #[test]
    fn bytes_need_not_be_text() {
        assert_eq!(unescaped(b"\xff\\\xfe").into_vec(), b"\xff\xfe");
    }
}
