// SPDX-License-Identifier: GPL-2.0

//! Extended attributes.

use std::collections::BTreeSet;

use zerocopy::FromBytes as _;

use crate::error::Error;
use crate::image::Area;
use crate::image::to_u64;
use crate::raw;

const COUNT_SIZE: usize = 2;

/// Longest name: `XATTR_NAME_MAX`.
const NAME_MAX: usize = 255;

/// Calls a function with the name and the value of each attribute, in their order.
///
/// # Errors
///
/// What is wrong with them, or what the function returns.
pub(crate) fn for_each<'a>(
    xattrs: Area<'a>,
    mut each: impl FnMut(&'a [u8], &'a [u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    if xattrs.bytes.is_empty() {
        return Ok(());
    }
    let wrong = |what: &'static str| Error::damaged(xattrs.at, what);
    let short = || wrong("xattrs: they end before the last one");
    let (count, rest) = xattrs
        .bytes
        .split_first_chunk::<COUNT_SIZE>()
        .ok_or_else(short)?;
    let count = usize::from(u16::from_le_bytes(*count));
    let (table, mut rest) =
        <[raw::Xattr]>::ref_from_prefix_with_elems(rest, count).map_err(|_| short())?;
    let mut names = BTreeSet::new();
    for raw in table {
        let at = xattrs.at.saturating_add(to_u64(xattrs.bytes.len()));
        let at = at.saturating_sub(to_u64(rest.len()));
        let (name, value);
        (name, rest) = rest
            .split_at_checked(raw.name_length.get().into())
            .ok_or_else(short)?;
        (value, rest) = rest
            .split_at_checked(raw.value_length.get().into())
            .ok_or_else(short)?;
        if name.is_empty() || name.len() > NAME_MAX {
            return Err(Error::damaged(at, "xattr: its name has not 1 to 255 bytes"));
        }
        if name.contains(&0) {
            return Err(Error::damaged(at, "xattr: its name has a NUL in it"));
        }
        if !names.insert(name) {
            return Err(Error::damaged(at, "xattr: its name is there twice"));
        }
        each(name, value)?;
    }
    match rest {
        [] => Ok(()),
        _ => Err(wrong("xattrs: there are bytes behind the last one")),
    }
}
