// SPDX-License-Identifier: GPL-2.0

//! Files and directories that mount options name.

use crate::vfs::{
    context::FsContext,
    passed_file::Descriptor,
    path::Path, //
};
use core::ops::Deref;
use kernel::{
    prelude::*,
    str::CString, //
};

/// A string from the mounter, charged to the mounter's memory cgroup. A
/// [`CString`](kernel::str::CString) is not charged.
///
/// # Invariants
///
/// The last byte is a NUL, and there is no other NUL.
#[derive(PartialEq, Eq)]
pub(crate) struct Name(KVec<u8>);

impl Name {
    /// Copies `name`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(name: &CStr) -> Result<Self> {
        let bytes = name.to_bytes_with_nul();
        let mut copy = KVec::with_capacity(bytes.len(), GFP_KERNEL_ACCOUNT)?;
        copy.extend_from_slice(bytes, GFP_KERNEL_ACCOUNT)?;
        // INVARIANT: The bytes are those of a `CStr`.
        Ok(Self(copy))
    }
}

impl Deref for Name {
    type Target = CStr;

    fn deref(&self) -> &CStr {
        // Cannot fail, by the type invariants.
        CStr::from_bytes_with_nul(&self.0).unwrap_or_default()
    }
}

/// A file or directory that an option names.
pub(crate) struct Given {
    /// The path as the mounter wrote it, for messages and `/proc/mounts`.
    pub(crate) name: Name,
    /// The file itself, if the mounter passed a file descriptor or a path from one.
    pub(crate) path: Option<Path>,
}

impl Given {
    /// The file that a file descriptor of the mounter is open on.
    pub(crate) fn by_descriptor(descriptor: &Descriptor<'_>) -> Result<Self> {
        Self::by_path(descriptor.path())
    }

    /// The file that a path of the mounter leads to.
    pub(crate) fn by_path(path: Path) -> Result<Self> {
        Ok(Self {
            name: Name::new(&path.name()?)?,
            path: Some(path),
        })
    }

    /// Whether a mount has it already, by the name `name`. Names are compared as they were written:
    /// what they lead to may have changed. `is_same` compares a file that was passed as a file
    /// descriptor, whose name may be spelled in another way.
    pub(crate) fn is(&self, name: &Name, is_same: impl FnOnce(&Path) -> bool) -> bool {
        match &self.path {
            Some(path) => is_same(path),
            None => self.name == *name,
        }
    }
}

/// Splits the first name off `bytes`, which is a part of `value`: up to the byte `separator`. A
/// backslash makes the next byte part of a name. [`escape`] is the inverse. Returns the name, and
/// the bytes behind the separator if there is one.
pub(crate) fn next_name<'a>(
    fc: &FsContext<'_>,
    option: &str,
    value: &CStr,
    bytes: &'a [u8],
    separator: Option<u8>,
) -> Result<(Name, Option<&'a [u8]>)> {
    let mut name = KVec::new();
    let mut rest = bytes.iter();
    let after = loop {
        let byte = match rest.next() {
            None => break None,
            Some(byte) if Some(*byte) == separator => break Some(rest.as_slice()),
            Some(b'\\') => rest.next().ok_or(EINVAL).inspect_err(|_| {
                fc.error(fmt!("{option}: '{value}' ends in a backslash"));
            })?,
            Some(byte) => byte,
        };
        name.push(*byte, GFP_KERNEL)?;
    };
    if name.is_empty() {
        let what = match separator {
            Some(_) => "has a directory without a name",
            None => "is not a name",
        };
        fc.error(fmt!("{option}: '{value}' {what}"));
        return Err(EINVAL);
    }
    name.push(0, GFP_KERNEL)?;
    let name = CStr::from_bytes_with_nul(&name).map_err(|_| EINVAL)?;
    Ok((Name::new(name)?, after))
}

/// Escapes the name of a file for an option. A comma separates options, and a colon names.
pub(crate) fn escape(name: &CStr) -> Result<CString> {
    let mut escaped = KVec::new();
    for byte in name.to_bytes() {
        if matches!(byte, b':' | b',' | b'\\') {
            escaped.push(b'\\', GFP_KERNEL)?;
        }
        escaped.push(*byte, GFP_KERNEL)?;
    }
    escaped.push(0, GFP_KERNEL)?;
    let escaped = CStr::from_bytes_with_nul(&escaped).map_err(|_| EINVAL)?;
    Ok(CString::try_from(escaped)?)
}
