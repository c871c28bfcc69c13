// SPDX-License-Identifier: GPL-2.0

//! The object of a file.

use std::ffi::CStr;
use std::ffi::CString;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use rustix::fs::lgetxattr;

/// Longest path of an object: a SHA-512 digest in hexadecimal, and two slashes.
const LONGEST: usize = 256;

/// Returns the path of a file's object in the object directory. `erofs` is where the
/// image is mounted as erofs, which shows the xattr that overlayfs reads.
pub fn name(erofs: &Path, path: &CStr) -> Result<CString> {
    let path = erofs.join(OsStr::from_bytes(path.to_bytes()));
    let mut value = Vec::with_capacity(LONGEST);
    lgetxattr(
        &path,
        "trusted.overlay.redirect",
        rustix::buffer::spare_capacity(&mut value),
    )
    .with_context(|| format!("cannot find the object of {}", path.display()))?;
    let name = value.strip_prefix(b"/").unwrap_or(&value);
    Ok(CString::new(name)?)
}
