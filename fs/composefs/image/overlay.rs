// SPDX-License-Identifier: GPL-2.0

//! The xattrs of overlayfs: their meaning, and which xattrs users see.
//!
//! Composefs images are written for an overlayfs on top. The private xattrs of overlayfs tell where
//! the content of files is, and are not shown. Xattrs of these names that belong to the files
//! themselves are escaped: they are stored with `overlay.` twice, and shown with `overlay.` once.
//!
//! No function of this file reads the image.

use super::{
    reader::copy_front,
    Algorithm,
    Digest,
    NAME_LEN, //
};

/// `user.`. C header: `fs/erofs/erofs_fs.h`: `EROFS_XATTR_INDEX_USER`
pub const INDEX_USER: u8 = 1;
/// `system.posix_acl_access`, with an empty name.
/// C header: `fs/erofs/erofs_fs.h`: `EROFS_XATTR_INDEX_POSIX_ACL_ACCESS`
pub const INDEX_POSIX_ACL_ACCESS: u8 = 2;
/// `system.posix_acl_default`, with an empty name.
/// C header: `fs/erofs/erofs_fs.h`: `EROFS_XATTR_INDEX_POSIX_ACL_DEFAULT`
pub const INDEX_POSIX_ACL_DEFAULT: u8 = 3;
/// `trusted.`. C header: `fs/erofs/erofs_fs.h`: `EROFS_XATTR_INDEX_TRUSTED`
pub const INDEX_TRUSTED: u8 = 4;
/// `security.`. C header: `fs/erofs/erofs_fs.h`: `EROFS_XATTR_INDEX_SECURITY`
pub const INDEX_SECURITY: u8 = 6;

/// `trusted.overlay.metacopy`: the content is in another file. May hold its digest.
pub(super) const METACOPY: &[u8] = b"overlay.metacopy";
/// `trusted.overlay.redirect`: path of the file with the content.
pub(super) const REDIRECT: &[u8] = b"overlay.redirect";

/// What becomes of the second `overlay.` in the names of escaped xattrs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escapes {
    /// It is not shown: users see the names that the files had when they were packed.
    Removed,
    /// It is shown. An overlayfs on top of the mount removes it. If it were removed here,
    /// overlayfs would take the xattrs for its own.
    Kept,
}

/// C header: `fs/overlayfs/overlayfs.h`: `OVL_XATTR_NAMESPACE`, `OVL_XATTR_ESCAPE_PREFIX`
const NAMESPACE: &[u8] = b"overlay.";
const TRUSTED: &[u8] = b"trusted.";

/// A name as users see it: `prefix` followed by `name`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visible<'a> {
    /// `user.`, `trusted.`, `security.` or the whole name of an ACL.
    pub prefix: &'static str,
    /// The rest; empty for an ACL.
    pub name: &'a [u8],
}

/// Whether the xattr stored under `index` and `name` is a private one of overlayfs, which is never
/// shown.
///
/// C header: `fs/overlayfs/xattrs.c`: `ovl_is_private_xattr()`
pub fn is_private(index: u8, name: &[u8]) -> bool {
    index == INDEX_TRUSTED
        && match name.strip_prefix(NAMESPACE) {
            Some(rest) => !rest.starts_with(NAMESPACE),
            None => false,
        }
}

/// Returns the name under which users see the xattr that is stored under `index` and `name`, or
/// `None` if it is not shown.
///
/// C header: `fs/overlayfs/xattrs.c`: `ovl_listxattr()`
pub fn visible(index: u8, name: &[u8], escapes: Escapes) -> Option<Visible<'_>> {
    let prefix = match index {
        INDEX_USER => "user.",
        INDEX_TRUSTED => "trusted.",
        INDEX_SECURITY => "security.",
        INDEX_POSIX_ACL_ACCESS if name.is_empty() => {
            return Some(Visible {
                prefix: "system.posix_acl_access",
                name,
            })
        }
        INDEX_POSIX_ACL_DEFAULT if name.is_empty() => {
            return Some(Visible {
                prefix: "system.posix_acl_default",
                name,
            })
        }
        // No prefix, `lustre.`, or an index that EROFS does not define.
        _ => return None,
    };
    // getxattr(2) refuses a prefix without a name.
    if name.is_empty() || is_private(index, name) {
        return None;
    }
    let escaped = match (index, escapes) {
        (INDEX_TRUSTED, Escapes::Removed) => name
            .strip_prefix(NAMESPACE)
            .filter(|rest| rest.starts_with(NAMESPACE)),
        _ => None,
    };
    let name = escaped.unwrap_or(name);
    // It refuses a name longer than `XATTR_NAME_MAX`, too.
    if prefix.len().saturating_add(name.len()) > NAME_LEN {
        return None;
    }
    Some(Visible { prefix, name })
}

/// Returns the stored name, under [`INDEX_TRUSTED`], of the xattr that users see as `trusted.`
/// followed by `name`. An escaped name is put together in `buffer`. `None` if no such xattr exists:
/// the escaped name is too long, or users do not see it.
///
/// C header: `fs/overlayfs/xattrs.c`: `ovl_own_xattr_get()`
pub fn stored_trusted<'a>(
    name: &'a [u8],
    escapes: Escapes,
    buffer: &'a mut [u8; NAME_LEN],
) -> Option<&'a [u8]> {
    if !name.starts_with(NAMESPACE) {
        return Some(name);
    }
    if escapes == Escapes::Kept {
        return (!is_private(INDEX_TRUSTED, name)).then_some(name);
    }
    let len = NAMESPACE.len().checked_add(name.len())?;
    // overlayfs includes `trusted.` in the limit.
    let limit = NAME_LEN.checked_sub(TRUSTED.len())?;
    if len > limit {
        return None;
    }
    let out = buffer.get_mut(..len)?;
    let prefix = copy_front(out, NAMESPACE);
    copy_front(out.get_mut(prefix..)?, name);
    Some(out)
}

/// Bytes of a metacopy xattr that come before the digest.
///
/// C header: `fs/overlayfs/overlayfs.h`: `struct ovl_metacopy`
const METACOPY_HEADER: usize = 4;

/// Longest metacopy xattr, in bytes.
pub(super) const METACOPY_MAX: usize = METACOPY_HEADER + Digest::MAX;

/// Decodes a metacopy xattr. Returns the digest of the content, if it has one.
///
/// # Errors
///
/// A description of what is wrong.
///
/// C header: `fs/overlayfs/overlayfs.h`: `struct ovl_metacopy`
pub(super) fn metacopy(value: &[u8]) -> Result<Option<Digest>, &'static str> {
    if value.is_empty() {
        return Ok(None);
    }
    let Some((&[version, len, flags, algo], digest)) = value.split_first_chunk() else {
        return Err("metacopy xattr is too short");
    };
    if version != 0 {
        return Err("metacopy xattr: version is not supported");
    }
    if usize::from(len) != value.len() {
        return Err("metacopy xattr: length is not that of the xattr");
    }
    if flags != 0 {
        return Err("metacopy xattr: flags are not supported");
    }
    let Some(algorithm) = Algorithm::of_raw(algo) else {
        return Err("metacopy xattr: digest algorithm is not supported");
    };
    match Digest::new(algorithm, digest) {
        Some(digest) => Ok(Some(digest)),
        None => Err("metacopy xattr: length is not that of the digest algorithm"),
    }
}

/// Checks the path of an object, without its leading slash. It must consist of names, separated by
/// single slashes.
///
/// # Errors
///
/// A description of what is wrong.
pub(super) fn check_path(path: &[u8]) -> Result<(), &'static str> {
    if path.contains(&0) {
        return Err("redirect xattr has a NUL");
    }
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" => return Err("redirect xattr has an empty component"),
            b"." | b".." => return Err("redirect xattr has a component '.' or '..'"),
            _ => (),
        }
    }
    Ok(())
}
