// SPDX-License-Identifier: GPL-2.0

//! What is said when something is wrong with an image or an object.
//!
//! Damage is a line in the kernel log, an event for fanotify's `FAN_FS_ERROR` listeners, and an
//! error for who met it: `EUCLEAN` for metadata, `EIO` for content. An interrupted or failed read
//! is none of these: it says nothing about what would have been read, and is passed on as it is.

use crate::{
    image,
    mount::Mounted,
    vfs::{
        efscorrupted,
        inode::Inode,
        log, //
    },
    Composefs, //
};
use kernel::{
    fmt,
    prelude::*, //
};

/// The error for who met `error` when asking the image about `inode`.
pub(crate) fn of_image(inode: &Inode<Composefs>, error: image::Error<Error>) -> Error {
    match error {
        image::Error::Source(e) => e,
        image::Error::Corrupt(corrupt) => {
            warn_corrupt(inode.super_block().data(), inode.ino(), corrupt);
            inode.report_corruption();
            efscorrupted()
        }
    }
}

/// Writes to the log that the inode `nid` of an image is damaged.
pub(crate) fn warn_corrupt(mounted: &Mounted, nid: u64, corrupt: image::Corrupt) {
    let (limit, what) = (mounted.limit(), corrupt.what);
    let source = Brief(mounted.source());
    // What leads out of any image has no place in this one.
    if corrupt.at == u64::MAX {
        log::warn(limit, fmt!("{source}: inode {nid}: {what}"));
        return;
    }
    let at = corrupt.at;
    log::warn(
        limit,
        fmt!("{source}: inode {nid}: {what} (at byte {at} of the image)"),
    );
}

/// Writes to the log what is wrong with the object `name` that has the content of `inode`, and
/// returns the error for who wanted it.
pub(crate) fn of_object(inode: &Inode<Composefs>, name: &CStr, what: fmt::Arguments<'_>) -> Error {
    warn_content(inode, fmt!("object {}: {}", Brief(name), what));
    inode.report_data_lost();
    EIO
}

/// Writes to the log why nobody may read the content of `inode`, which is in no object, and returns
/// the error for who wanted it.
pub(crate) fn of_content(inode: &Inode<Composefs>, what: &str) -> Error {
    warn_content(inode, fmt!("{what}"));
    inode.report_data_lost();
    EIO
}

/// Writes to the log what is wrong with the content of `inode`.
fn warn_content(inode: &Inode<Composefs>, what: fmt::Arguments<'_>) {
    let mounted = inode.super_block().data();
    let source = Brief(mounted.source());
    log::warn(
        mounted.limit(),
        fmt!("{source}: inode {}: {what}", inode.ino()),
    );
}

/// A name that somebody else has chosen, for people: on one line, and not so long that the kernel
/// log cuts off what comes after it.
struct Brief<'a>(&'a CStr);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// An escaped byte is four characters, a line of the log has some thousand, and there may
        /// be two names in one.
        const MAX: usize = 400;

        let mut left = MAX;
        for byte in self.0.to_bytes() {
            let graphic = byte.is_ascii_graphic() || *byte == b' ';
            let Some(rest) = left.checked_sub(if graphic { 1 } else { 4 }) else {
                return f.write_str("...");
            };
            left = rest;
            match graphic {
                true => write!(f, "{}", char::from(*byte))?,
                false => write!(f, "\\x{byte:02x}")?,
            }
        }
        Ok(())
    }
}

/// An error, for people. The kernel has names for them only if it is configured so.
pub(crate) struct Reason(pub(crate) Error);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = [
            (EACCES, "permission denied"),
            (EPERM, "operation not permitted"),
            (ENOENT, "no such file or directory"),
            (ENOTDIR, "not a directory"),
            (ELOOP, "too many symbolic links"),
            (EXDEV, "on another file system"),
            (ENAMETOOLONG, "name too long"),
            (EIO, "input/output error"),
            (ENOMEM, "out of memory"),
            (EINVAL, "not possible"),
            (EINTR, "interrupted"),
            (ENXIO, "no such device"),
            (ETXTBSY, "open for writing"),
        ];
        match known.iter().find(|(e, _)| *e == self.0) {
            Some((_, text)) => f.write_str(text),
            None => write!(f, "error {}", self.0.to_errno()),
        }
    }
}

/// A digest, for people.
pub(crate) struct Hex<'a> {
    /// `FS_VERITY_HASH_ALG_*`.
    pub(crate) algorithm: u8,
    /// The digest.
    pub(crate) bytes: &'a [u8],
}

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.algorithm {
            1 => f.write_str("sha256:")?,
            2 => f.write_str("sha512:")?,
            other => write!(f, "algorithm {other}:")?,
        }
        for byte in self.bytes {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}
