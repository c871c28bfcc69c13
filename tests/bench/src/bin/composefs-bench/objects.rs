// SPDX-License-Identifier: GPL-2.0

//! Which object a file's content is in.

use std::ffi::CStr;
use std::ffi::CString;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use rustix::fs::lgetxattr;

/// Longest name of an object: two levels of a SHA-512 digest, and a slash more.
const LONGEST: usize = 256;

/// The path of a file's object below the store. `erofs` is where the image is
/// mounted as erofs, which shows the attributes meant for overlayfs.
pub fn name(erofs: &Path, path: &CStr) -> Result<CString> {
    let path = erofs.join(OsStr::from_bytes(path.to_bytes()));
    let mut value = Vec::with_capacity(LONGEST);
    lgetxattr(
        &path,
        "trusted.overlay.redirect",
        rustix::buffer::spare_capacity(&mut value),
    )
    .with_context(|| format!("the object of {}", path.display()))?;
    let name = value.strip_prefix(b"/").unwrap_or(&value);
    Ok(CString::new(name)?)
}
