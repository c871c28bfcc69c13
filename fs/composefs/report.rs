// SPDX-License-Identifier: GPL-2.0

//! Reports of damage: a log line, an fserror event and an error number.
//!
//! Damage is reported three times: as a line in the kernel log, as an event for the listeners of
//! fanotify's `FAN_FS_ERROR`, and as the error of the system call, `EUCLEAN` for metadata and
//! `EIO` for content. An interrupted or failed read is not damage. Its error is passed on as it
//! is.

use crate::vfs::{
    inode::Inode,
    log, //
};
use crate::{
    image,
    sb::SbInfo,
    trace,
    Composefs, //
};
use kernel::{
    fmt,
    prelude::*,
    str::CString, //
};

/// Reports `error`, which reading the metadata of `inode` gave, and converts it.
pub(crate) fn metadata_error(inode: &Inode<Composefs>, error: image::Error<Error>) -> Error {
    match error {
        image::Error::Source(e) => e,
        image::Error::Corrupt(corrupt) => {
            warn_corrupt(inode.super_block().data(), inode.ino(), corrupt);
            inode.report_corruption();
            EFSCORRUPTED
        }
    }
}

/// Logs that the inode `nid` of an image is damaged.
pub(crate) fn warn_corrupt(sbi: &SbInfo, nid: u64, corrupt: image::Corrupt) {
    let (source, what) = (Escaped(&sbi.image_name), corrupt.what);
    match corrupt.at {
        // The position is beyond what 64 bits can address.
        u64::MAX => warn(sbi, fmt!("{source}: inode {nid}: {what}")),
        at => warn(
            sbi,
            fmt!("{source}: inode {nid}: {what} (at byte {at} of the image)"),
        ),
    }
}

/// Emits the trace event of a message, and writes it to the kernel log.
///
/// A message for which there is no memory is lost. The system call fails anyway.
fn warn(sbi: &SbInfo, message: fmt::Arguments<'_>) {
    if let Ok(message) = CString::try_from_fmt(message) {
        trace::fault(&message);
        log::warn::<Composefs>(&sbi.limit, &message);
    }
}

/// Reports that the object `name` of `inode` is missing or wrong, and returns `EIO`.
pub(crate) fn object_error(
    inode: &Inode<Composefs>,
    name: &CStr,
    what: fmt::Arguments<'_>,
) -> Error {
    content_error(inode, fmt!("object {}: {}", Escaped(name), what))
}

/// Reports that the content of `inode` cannot be read, and returns `EIO`.
pub(crate) fn content_error(inode: &Inode<Composefs>, what: fmt::Arguments<'_>) -> Error {
    let sbi = inode.super_block().data();
    let source = Escaped(&sbi.image_name);
    warn(sbi, fmt!("{source}: inode {}: {what}", inode.ino()));
    inode.report_data_lost();
    EIO
}

/// A name from an image or a mounter, for the log: on one line, and short enough that the log does
/// not cut off what follows.
struct Escaped<'a>(&'a CStr);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Longest output in bytes. A line has room for about 1000, and two names may be in one.
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
