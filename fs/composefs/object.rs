// SPDX-License-Identifier: GPL-2.0

//! Objects: finding the object of an inode under a basedir, and verifying it.
//!
//! [`find`] walks a path, which takes the locks of directories. `getdents64()` faults in user
//! memory under such a lock, so [`find`] must not be called under `mmap_lock`. It also reads the
//! image, which may take the inode lock of the file system that holds the image.
//!
//! The states of an object, and which open file uses it how, are described in `file.rs`.

use crate::vfs::{
    backing::OnceBackingFile,
    cred,
    inode::Inode,
    kernel_file::KernelFile,
    once::OnceFlag,
    path::Path,
    verity, //
};
use crate::{
    digest::{
        self,
        Digest, //
    },
    image::{
        Content,
        InodeLayout, //
    },
    options::Verity,
    reason::Reason,
    report,
    sb::SharedObjects,
    Composefs, //
};
use kernel::{
    fmt,
    prelude::*, //
};

/// Longest path of an object in bytes, with its NUL.
const PATH_MAX: usize = 4096;

/// Whether failures are reported.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// In the log and as an fserror event.
    Loud,
    /// Not at all: the caller tries again later.
    Quiet,
}

/// An object that was found under a basedir.
pub(crate) struct Object {
    /// Where it was found.
    pub(crate) path: Path,
    /// See [`Path::opens_at_once`].
    pub(crate) opens_at_once: bool,
    /// The digest that the image names, if it names one.
    digest: Option<Digest>,
    /// It has passed all checks of the mount. This stays so: `path` pins the inode, and the digest
    /// of an inode does not change.
    verified: OnceFlag,
    /// It has failed a check. The name may lead to another object by now.
    failed: OnceFlag,
    /// The object, opened for all readers of the inode.
    pub(crate) shared: OnceBackingFile,
}

impl Object {
    /// Whether it has passed all checks.
    #[inline]
    pub(crate) fn is_verified(&self) -> bool {
        self.verified.get()
    }

    /// Whether it can be used. Otherwise the name has to be looked up again.
    pub(crate) fn is_usable(&self) -> bool {
        !self.path.is_unlinked() && (self.is_verified() || !self.failed.get())
    }

    /// Whether it is verified, and opening it neither blocks nor notifies a listener.
    #[inline]
    pub(crate) fn opens_silently(&self) -> bool {
        self.is_verified() && self.opens_at_once && !self.path.is_watched()
    }

    /// Called when the inode that holds this object is evicted. Returns whether the object must be
    /// dropped by a worker: dropping the last reference to an unlinked inode deletes it, which
    /// writes to its file system and waits while that is frozen.
    pub(crate) fn evicted(&self, shared_objects: &SharedObjects) -> bool {
        if self.shared.get().is_some() {
            shared_objects.give_back();
        }
        self.path.is_unlinked()
    }

    /// Drops the object in a worker.
    pub(crate) fn drop_later(self) {
        // Close the shared file synchronously, so that this worker drops the last reference to the
        // object, and no other task waits for its deletion.
        self.shared.close();
        drop(self.path);
    }
}

/// Looks up the object of `inode` under one basedir after the other.
///
/// # Errors
///
/// `EIO` if there is none, `EUCLEAN` if the image is damaged, `EOPNOTSUPP` if the content is not
/// in an object, else an error that says nothing about the object, such as `ENOMEM`.
pub(crate) fn find(
    inode: &Inode<Composefs>,
    layout: &InodeLayout,
    report: Report,
) -> Result<Object> {
    let sbi = inode.super_block().data();
    let (name, digest) = redirect(inode, layout)?;
    let name = CStr::from_bytes_with_nul(&name).map_err(|_| EIO)?;
    let fail = |what: fmt::Arguments<'_>| match report {
        Report::Loud => Err(report::object_error(inode, name, what)),
        Report::Quiet => Err(EIO),
    };
    for basedir in sbi.basedirs() {
        match cred::with(&sbi.credential, || basedir.lookup(name)) {
            Ok(path) if path.is_regular() => {
                return Ok(Object {
                    opens_at_once: path.opens_at_once(),
                    path,
                    digest,
                    verified: OnceFlag::default(),
                    failed: OnceFlag::default(),
                    shared: OnceBackingFile::default(),
                })
            }
            Ok(_) => return fail(fmt!("is not a regular file")),
            Err(e) if e == ENOENT || e == ENOTDIR => (),
            Err(e) if is_transient(e) => return Err(e),
            Err(e) if e == ELOOP => return fail(fmt!("its path has a symbolic link")),
            Err(e) => return fail(fmt!("cannot be looked up: {}", Reason(e))),
        }
    }
    if sbi.basedirs().is_empty() {
        return fail(fmt!("no object directory was given (basedir=)"));
    }
    fail(fmt!("is in none of the object directories"))
}

/// Reads the path of the object of `inode`, with a NUL behind it, and its digest.
fn redirect(inode: &Inode<Composefs>, layout: &InodeLayout) -> Result<(KVec<u8>, Option<Digest>)> {
    let image = &inode.super_block().data().image;
    let damaged = |e| report::metadata_error(inode, e);
    let Content::External(digest) = image.content(layout).map_err(damaged)? else {
        return Err(EOPNOTSUPP);
    };
    let mut name = KVec::zeroed(PATH_MAX, GFP_KERNEL)?;
    let (room, _) = name
        .split_at_mut_checked(PATH_MAX.saturating_sub(1))
        .ok_or(EIO)?;
    let len = image.redirect(layout, room).map_err(damaged)?.ok_or(EIO)?;
    name.truncate(len.saturating_add(1));
    Ok((name, digest))
}

/// Opens an object only to verify it.
///
/// # Errors
///
/// As [`open_error`] and [`check`].
pub(crate) fn verify(inode: &Inode<Composefs>, object: &Object) -> Result {
    let file = KernelFile::open(&object.path, &inode.super_block().data().credential);
    let file = file.map_err(|e| open_error(inode, object, e, Report::Loud))?;
    check(inode, object, Report::Loud, file.size(), || {
        file.verity_digest()
    })
}

/// Whether an error says nothing about the object.
fn is_transient(e: Error) -> bool {
    e == ENOMEM || e == EINTR || e == ERESTARTSYS || e == EAGAIN
}

/// Converts the error of opening an object. A permission listener's answer says nothing about the
/// object and is passed on.
pub(crate) fn open_error(
    inode: &Inode<Composefs>,
    object: &Object,
    e: Error,
    report: Report,
) -> Error {
    // The errors of `FAN_DENY_ERRNO` without `EIO`, which cannot be told from a failed read.
    let is_denial = [EPERM, EBUSY, ETXTBSY, ENOSPC, EDQUOT].contains(&e);
    if is_transient(e) || is_denial && object.path.is_guarded() {
        return e;
    }
    fail(
        inode,
        object,
        report,
        fmt!("cannot be opened: {}", Reason(e)),
    )
}

/// Marks an object as failed, reports why, and returns `EIO`. The name in the report is that of the
/// dentry: the image must not be read here.
pub(crate) fn fail(
    inode: &Inode<Composefs>,
    object: &Object,
    report: Report,
    what: fmt::Arguments<'_>,
) -> Error {
    object.failed.set();
    if report == Report::Quiet {
        return EIO;
    }
    let name = object.path.name();
    // The root of the private mount is the basedir.
    let name = name.as_ref().ok().and_then(|name| {
        let relative = name.to_bytes_with_nul().strip_prefix(b"/")?;
        CStr::from_bytes_with_nul(relative).ok()
    });
    report::object_error(inode, name.unwrap_or(c"?"), what)
}

/// Checks the size and the digest of an object that has been opened.
///
/// # Errors
///
/// `EIO` if the object is wrong, else the error of `measure`.
pub(crate) fn check(
    inode: &Inode<Composefs>,
    object: &Object,
    report: Report,
    size: u64,
    measure: impl FnOnce() -> Result<Option<verity::Digest>>,
) -> Result {
    if size != inode.size() {
        return Err(fail(
            inode,
            object,
            report,
            fmt!("has {} bytes, expected {}", size, inode.size()),
        ));
    }
    if !object.is_verified() {
        check_digest(inode, object, report, measure)?;
        object.verified.set();
    }
    Ok(())
}

/// Compares the digest of an object with the one that the image names, as far as the mount asks
/// for it.
fn check_digest(
    inode: &Inode<Composefs>,
    object: &Object,
    report: Report,
    measure: impl FnOnce() -> Result<Option<verity::Digest>>,
) -> Result {
    let mode = inode.super_block().data().verity;
    let fail = |what: fmt::Arguments<'_>| Err(fail(inode, object, report, what));
    if mode == Verity::Off {
        return Ok(());
    }
    let Some(expected) = &object.digest else {
        return match mode {
            Verity::Required => fail(fmt!(
                "the image names no digest for it, and verity requires one"
            )),
            _ => Ok(()),
        };
    };
    // `tryverity` is for file systems without fs-verity, not for files without a digest.
    if mode == Verity::Try && !object.path.has_verity() {
        return Ok(());
    }
    let Some(found) = measure()?.as_ref().and_then(digest::from_verity) else {
        return fail(fmt!("has no fs-verity digest, expected {expected}"));
    };
    if found != *expected {
        return fail(fmt!(
            "has the wrong fs-verity digest: expected {expected}, found {found}"
        ));
    }
    inode.set_verified();
    Ok(())
}
