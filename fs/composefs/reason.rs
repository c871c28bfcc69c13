// SPDX-License-Identifier: GPL-2.0

//! The text of an error number, for the messages to a mounter.

use kernel::{
    fmt,
    prelude::*, //
};

/// The text of an error number. `errname()` has names only with `CONFIG_SYMBOLIC_ERRNAME`.
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
            (
                ENOKEY,
                "it is encrypted and locked, or no key is trusted for its fs-verity signature",
            ),
            (EKEYREJECTED, "its fs-verity signature is wrong"),
        ];
        match known.iter().find(|(e, _)| *e == self.0) {
            Some((_, text)) => f.write_str(text),
            None => write!(f, "error {}", self.0.to_errno()),
        }
    }
}
