// SPDX-License-Identifier: GPL-2.0

//! An object: found under an object directory, opened and verified when it is first read.
//!
//! Finding it is a lookup of names, which takes the locks of directories. Others fault in user
//! memory under those, so a lookup must never happen under the lock of a memory map; nor must a
//! read of the image, which may take the locks of the file system that the image is on. What is not
//! known yet is looked up at open(2), and an mmap(2) makes do with what is known by then.
//!
//! Opening an object waits for whoever holds a lease on it, for a listener that is asked, and
//! before it has been verified for the disk, and must not do that under the lock of a memory map
//! either. So an object is opened and verified at open(2), as overlayfs does it, where opening it
//! could wait or is somebody's business. One that has passed and concerns nobody waits for the
//! first read or mmap.

use crate::{
    fault::{
        self,
        Hex,
        Reason, //
    },
    image::{
        Content,
        Digest, //
    },
    inode::{
        self,
        Pinned, //
    },
    mount::Shared,
    options::Verity,
    vfs::{
        backing::{
            BackingFile,
            OnceBackingFile, //
        },
        cred,
        file::{
            Access,
            File,
            Reading, //
        },
        inode::Inode,
        once::Flag,
        path::Path,
        private_file::PrivateFile,
        trace,
        verity, //
    },
    Composefs, //
};
use kernel::{
    fmt,
    prelude::*, //
};

/// What an open file has of its object.
#[derive(Default)]
pub(crate) struct OpenBlob {
    /// What was found at open(2), if it is not what the inode knows.
    found: Option<KBox<Blob>>,
    /// The object, verified.
    file: OnceBackingFile,
}

/// Where an object was found, and what the image says of it.
pub(crate) struct Blob {
    path: Path,
    /// See [`Path::opens_at_once`].
    opens_at_once: bool,
    /// The digest that it must have, if the image names one.
    digest: Option<Digest>,
    /// Whether it has passed all checks of the mount. Its digest has done so once and for all: the
    /// path keeps its inode in memory, and the digest of an inode does not change.
    passed: Flag,
    /// Whether it has failed one: by now its name may lead to one that passes.
    failed: Flag,
    /// The object, opened for all who read it: see [`shared`].
    shared: OnceBackingFile,
}

impl Blob {
    /// Whether there is no reason to look for another one.
    fn is_good(&self) -> bool {
        !self.path.is_unlinked() && (self.passed.get() || !self.failed.get())
    }

    /// Whether it has passed, and opening it concerns nobody but who reads it.
    #[inline]
    fn is_quiet(&self) -> bool {
        self.passed.get() && self.opens_at_once && !self.path.is_watched()
    }
}

/// Is told that an inode that knew `blob` is evicted, and returns whether `blob` has to be dropped
/// by a worker. With the path of an object whose name is gone the object itself may go, for which
/// its file system writes: that may take long, and for ever where it is frozen.
pub(crate) fn evicted(shared: &Shared, blob: &Blob) -> bool {
    if blob.shared.get().is_some() {
        shared.give_back();
    }
    blob.path.is_unlinked()
}

/// Drops `blob` where that may take long.
pub(crate) fn drop_later(blob: Blob) {
    // Whoever puts the last reference to the object waits for it, and that is to be us.
    blob.shared.close();
    drop(blob.path);
}

/// Largest object that is opened once for all who read it, in bytes: what one readahead brings in.
/// The readahead of larger ones is a matter of each open file.
const SHARED_MAX: u64 = 128 << 10;

/// Longest path of an object in bytes, with a NUL.
const PATH_MAX: usize = 4096;

/// Prepares the opening of a file whose content is in an object that its inode knows, `blob`.
/// Mostly there is nothing to do.
///
/// # Errors
///
/// As [`prepare_unknown`].
#[inline]
pub(crate) fn prepare(file: &File<Composefs>, blob: &Blob) -> Result {
    if blob.is_quiet() && !blob.path.is_unlinked() && !blob.path.is_leased() {
        return Ok(());
    }
    if !blob.is_good() {
        return prepare_unknown(file);
    }
    open_early(file, blob)
}

/// Prepares the opening of a file whose content is in an object: looks for the object, and opens
/// it.
///
/// # Errors
///
/// `ENOMEM`, `EINTR`, what keeps the image from being read, or the answer of a listener that does
/// not permit it. An object that is missing or wrong is no error yet: it may have been put right
/// when it is read.
pub(crate) fn prepare_unknown(file: &File<Composefs>) -> Result {
    let blob = match find(file.inode(), Report::Quiet) {
        Ok(blob) => blob,
        Err(e) if e == EIO => return Ok(()),
        Err(e) => return Err(e),
    };
    keep(file, blob)?;
    match found(file) {
        Some(blob) => open_early(file, blob),
        None => Ok(()),
    }
}

/// Opens the object `blob` for a file that is being opened: under the lock of a memory map it would
/// be too late.
#[cold]
fn open_early(file: &File<Composefs>, blob: &Blob) -> Result {
    let backing = open_verified(file, blob, Access::Read, Report::Quiet);
    trace::blob_open(file.inode(), &backing);
    match backing {
        Ok(backing) => set_opened(file, backing).map(drop),
        // Who reads will see the error, and the log then.
        Err(e) if e == EIO => Ok(()),
        Err(e) => Err(e),
    }
}

/// What the inode knows of its object.
fn known(inode: &Inode<Composefs>) -> Option<&Blob> {
    match inode.pinned().get() {
        Some(Pinned::Blob(blob)) => Some(blob),
        _ => None,
    }
}

/// Keeps what was found: with the inode, or with the open file if the inode knows another one.
fn keep(file: &File<Composefs>, blob: Blob) -> Result {
    if file.inode().pinned().get().is_none() {
        file.inode().pinned().get_or_set(Pinned::Blob(blob))?;
        return Ok(());
    }
    let open = OpenBlob {
        found: Some(KBox::new(blob, GFP_KERNEL_ACCOUNT)?),
        file: OnceBackingFile::default(),
    };
    file.private()
        .get_or_set(KBox::new(open, GFP_KERNEL_ACCOUNT)?);
    Ok(())
}

/// Returns where the object of `inode` is, which has been verified.
///
/// # Errors
///
/// `EOPNOTSUPP` if its content is in no object, `EIO` if there is none that could be verified.
pub(crate) fn path(inode: &Inode<Composefs>) -> Result<Path> {
    match inode.pinned().get() {
        Some(Pinned::Blob(blob)) if blob.passed.get() => return Ok(blob.path.clone()),
        Some(Pinned::Content(_) | Pinned::Zeros) => return Err(EOPNOTSUPP),
        _ => (),
    }
    let blob = find(inode, Report::Loud)?;
    verify(inode, &blob)?;
    Ok(blob.path)
}

/// Returns where the object of `inode` is, verified or not. It is not opened.
///
/// # Errors
///
/// `EOPNOTSUPP` if its content is in no object, else what keeps the object from being found.
pub(crate) fn data_path(inode: &Inode<Composefs>) -> Result<Path> {
    match inode.pinned().get() {
        Some(Pinned::Blob(blob)) if blob.is_good() => Ok(blob.path.clone()),
        Some(Pinned::Content(_) | Pinned::Zeros) => Err(EOPNOTSUPP),
        _ => find(inode, Report::Quiet).map(|blob| blob.path),
    }
}

/// Opens an object only to check it.
fn verify(inode: &Inode<Composefs>, blob: &Blob) -> Result {
    let file = PrivateFile::open(&blob.path, inode.super_block().data().credential());
    let file = file.map_err(|e| not_opened(inode, blob, e, Report::Loud))?;
    check(inode, blob, Report::Loud, file.size(), || {
        file.verity_digest()
    })
}

/// Returns where the object of `inode` is, for who asks which file has its content. The inode keeps
/// it, so that it is the same for who asks again.
///
/// `None` if there is none that could be verified, or another one is read by now: see
/// [`Blob::is_good`].
pub(crate) fn real_path(inode: &Inode<Composefs>) -> Option<&Path> {
    if inode.pinned().get().is_none() {
        let blob = find(inode, Report::Quiet).ok()?;
        inode.pinned().get_or_set(Pinned::Blob(blob)).ok()?;
    }
    let blob = known(inode).filter(|blob| blob.is_good())?;
    if !blob.passed.get() {
        verify(inode, blob).ok()?;
    }
    Some(&blob.path)
}

/// Returns the object that `file` reads from, opened and verified.
///
/// # Errors
///
/// `EIO` if there is no object that could be verified, `EAGAIN` if it is not open yet and to open
/// it takes longer than the caller may wait, or the answer of a listener that does not permit it.
pub(crate) fn get(file: &File<Composefs>, access: Access) -> Result<&BackingFile> {
    match opened(file) {
        Some(backing) => Ok(backing),
        None => open(file, access),
    }
}

/// The object that `file` has opened, if it has opened one.
#[inline]
fn opened(file: &File<Composefs>) -> Option<&BackingFile> {
    file.private().get().and_then(|open| open.file.get())
}

/// Opens the object that `file` reads from, for this file alone.
fn open(file: &File<Composefs>, access: Access) -> Result<&BackingFile> {
    let backing = match access {
        Access::NoWait => return Err(EAGAIN),
        Access::Map => open_known(file),
        Access::Read => open_known_or_found(file),
    };
    trace::blob_open(file.inode(), &backing);
    set_opened(file, backing?)
}

/// Makes `backing` the object that `file` reads from, unless it has one by now.
fn set_opened(file: &File<Composefs>, backing: BackingFile) -> Result<&BackingFile> {
    let open = match file.private().get() {
        Some(open) => open,
        None => {
            let open = KBox::new(OpenBlob::default(), GFP_KERNEL_ACCOUNT)?;
            file.private().get_or_set(open)
        }
    };
    open.file.get_or_set(backing)
}

/// Returns the object to read from: the file's own, or one that is opened for all who read it.
/// `direct` asks for one whose flags are those of `file`.
///
/// # Errors
///
/// As [`get`].
#[inline]
pub(crate) fn reading(file: &File<Composefs>, access: Access, direct: bool) -> Result<Reading<'_>> {
    if let Some(own) = opened(file) {
        return Ok(Reading::Own(own));
    }
    let shared = match direct {
        true => None,
        false => shared(file, access),
    };
    match shared {
        Some(shared) => Ok(Reading::Shared(shared)),
        None => open(file, access).map(Reading::Own),
    }
}

/// Returns the object that `file` reads from, opened for all who read it. Most files are small and
/// opened again and again, and to open a second file for each time would cost more than the
/// reading.
///
/// `None` where that is not to be: the object has not passed yet, is not small, has another size
/// now, its name is gone, somebody listens to it, who is told of each open and read, or enough
/// others are open.
fn shared(file: &File<Composefs>, access: Access) -> Option<&BackingFile> {
    // What has an object of its own goes on with it.
    if file.private().get().is_some() || file.is_nonotify() {
        return None;
    }
    let inode = file.inode();
    let blob = known(inode).filter(|blob| blob.is_quiet() && !blob.path.is_unlinked())?;
    if inode.size() > SHARED_MAX {
        return None;
    }
    // Who opens it alone will be told of a wrong size.
    let is_right = |shared: &&BackingFile| shared.size() == inode.size();
    if let Some(shared) = blob.shared.get() {
        return Some(shared).filter(is_right);
    }
    if access != Access::Read {
        return None;
    }
    open_shared(inode, blob).filter(is_right)
}

/// Opens an object for all who read it, unless enough others are open.
fn open_shared<'a>(inode: &Inode<Composefs>, blob: &'a Blob) -> Option<&'a BackingFile> {
    let mounted = inode.super_block().data();
    if !mounted.shared().take() {
        return None;
    }
    let owner = mounted.image().source().file();
    let opened = BackingFile::open_shared(owner, &blob.path, mounted.credential());
    let first = match opened {
        Ok(backing) => {
            trace::blob_open(inode, &Ok(()));
            blob.shared.set(backing)
        }
        Err(_) => false,
    };
    if !first {
        mounted.shared().give_back();
    }
    blob.shared.get()
}

/// What was found at open(2), or else what the inode knows.
fn found(file: &File<Composefs>) -> Option<&Blob> {
    let open = file.private().get().and_then(|open| open.found.as_deref());
    open.or_else(|| known(file.inode()))
}

/// Opens the object from what is known of it, looking nothing up, not reading the image, and
/// waiting for nobody. What could not be opened at open(2) is given up.
fn open_known(file: &File<Composefs>) -> Result<BackingFile> {
    let inode = file.inode();
    let Some(blob) = found(file) else {
        // Its name is in the image. What was wrong at open(2) was not said then.
        let what = fmt!("was not found when the file was opened");
        return Err(fault::of_object(inode, c"?", what));
    };
    if !blob.opens_at_once || blob.path.lacks_verity_info() {
        let what = fmt!("could not be opened when the file was opened");
        return Err(fail(inode, blob, Report::Loud, what));
    }
    // Who began to listen after open(2) cannot be asked.
    if blob.path.is_guarded() {
        return Err(EAGAIN);
    }
    open_verified(file, blob, Access::Map, Report::Loud)
}

/// Opens the object from what is known of it, or looks it up again if that leads to none: it may
/// have been put right meanwhile. One whose name is gone is still what open(2) found.
fn open_known_or_found(file: &File<Composefs>) -> Result<BackingFile> {
    let Some(blob) = found(file) else {
        let now = find(file.inode(), Report::Loud)?;
        return open_verified(file, &now, Access::Read, Report::Loud);
    };
    let first = match open_verified(file, blob, Access::Read, Report::Loud) {
        Err(e) if e == EIO => e,
        result => return result,
    };
    match find(file.inode(), Report::Loud) {
        // What has just failed needs no second line in the log.
        Ok(now) if !blob.path.is_same(&now.path) => {
            open_verified(file, &now, Access::Read, Report::Loud).map_err(|_| first)
        }
        _ => Err(first),
    }
}

/// Opens an object, and returns it only if it is the one that the image means.
fn open_verified(
    file: &File<Composefs>,
    blob: &Blob,
    access: Access,
    report: Report,
) -> Result<BackingFile> {
    let inode = file.inode();
    let credential = inode.super_block().data().credential();
    let backing = BackingFile::open(file, &blob.path, credential, access);
    let backing = backing.map_err(|e| not_opened(inode, blob, e, report))?;
    check(inode, blob, report, backing.size(), || {
        backing.verity_digest()
    })?;
    Ok(backing)
}

/// What the image says of the object of `inode`: its path, with a NUL behind it, and its digest.
fn redirect(inode: &Inode<Composefs>) -> Result<(KVec<u8>, Option<Digest>)> {
    let image = inode.super_block().data().image();
    let node = inode::node(inode);
    let damaged = |e| fault::of_image(inode, e);
    let Content::External(digest) = image.content(&node).map_err(damaged)? else {
        return Err(EOPNOTSUPP);
    };
    let mut name = KVec::zeroed(PATH_MAX, GFP_KERNEL)?;
    let (room, _) = name
        .split_at_mut_checked(PATH_MAX.saturating_sub(1))
        .ok_or(EIO)?;
    let len = image.redirect(&node, room).map_err(damaged)?.ok_or(EIO)?;
    name.truncate(len.saturating_add(1));
    Ok((name, digest))
}

/// Whether it is said what is wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Report {
    /// In the log, and to listeners.
    Loud,
    /// Not yet: it will be looked up again.
    Quiet,
}

/// Looks for the object of `inode` in one object directory after the other.
fn find(inode: &Inode<Composefs>, report: Report) -> Result<Blob> {
    let mounted = inode.super_block().data();
    let (name, digest) = redirect(inode)?;
    let cstr = CStr::from_bytes_with_nul(&name).map_err(|_| EIO)?;
    let fail = |what: fmt::Arguments<'_>| match report {
        Report::Loud => Err(fault::of_object(inode, cstr, what)),
        Report::Quiet => Err(EIO),
    };
    for basedir in mounted.basedirs() {
        match cred::with(mounted.credential(), || basedir.lookup(cstr)) {
            Ok(path) if path.is_regular() => {
                return Ok(Blob {
                    opens_at_once: path.opens_at_once(),
                    path,
                    digest,
                    passed: Flag::default(),
                    failed: Flag::default(),
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
    if mounted.basedirs().is_empty() {
        return fail(fmt!("no object directory was given (basedir=)"));
    }
    fail(fmt!("is in none of the object directories"))
}

/// Whether an error says nothing about the object.
fn is_transient(e: Error) -> bool {
    e == ENOMEM || e == EINTR || e == ERESTARTSYS || e == EAGAIN
}

/// The error for who wanted an object that could not be opened. What a listener answers that is
/// asked for permission says nothing about the object.
fn not_opened(inode: &Inode<Composefs>, blob: &Blob, e: Error, report: Report) -> Error {
    // What `FAN_DENY_ERRNO` can give, except `EIO`, which looks like a fault.
    let is_denial = [EPERM, EBUSY, ETXTBSY, ENOSPC, EDQUOT].contains(&e);
    if is_transient(e) || is_denial && blob.path.is_guarded() {
        return e;
    }
    let what = fmt!("cannot be opened: {}", Reason(e));
    fail(inode, blob, report, what)
}

/// As [`fault::of_object`], for an object that was found. Its name is asked for where it was found:
/// the image may not be read here.
fn fail(inode: &Inode<Composefs>, blob: &Blob, report: Report, what: fmt::Arguments<'_>) -> Error {
    blob.failed.set();
    if report == Report::Quiet {
        return EIO;
    }
    let name = blob.path.name();
    // Its mount is one of ours, with the object directory at its root.
    let name = name.as_ref().ok().and_then(|name| {
        let relative = name.to_bytes_with_nul().strip_prefix(b"/")?;
        CStr::from_bytes_with_nul(relative).ok()
    });
    fault::of_object(inode, name.unwrap_or(c"?"), what)
}

/// Checks an object that has been opened: it must have the size and digest that the image names.
fn check(
    inode: &Inode<Composefs>,
    blob: &Blob,
    report: Report,
    size: u64,
    digest: impl FnOnce() -> Result<Option<verity::Digest>>,
) -> Result {
    if size != inode.size() {
        let what = fmt!("has {} bytes, expected {}", size, inode.size());
        return Err(fail(inode, blob, report, what));
    }
    if !blob.passed.get() {
        check_digest(inode, blob, report, digest)?;
        blob.passed.set();
    }
    Ok(())
}

/// Checks the digest of an object, as far as the mount asks for it.
fn check_digest(
    inode: &Inode<Composefs>,
    blob: &Blob,
    report: Report,
    digest: impl FnOnce() -> Result<Option<verity::Digest>>,
) -> Result {
    let required = inode.super_block().data().verity();
    let fail = |what: fmt::Arguments<'_>| Err(fail(inode, blob, report, what));
    if required == Verity::Off {
        return Ok(());
    }
    let Some(expected) = &blob.digest else {
        return match required {
            Verity::Required => fail(fmt!(
                "the image names no digest for it, and verity requires one"
            )),
            _ => Ok(()),
        };
    };
    // A store that cannot have digests at all is what tryverity is for, and nothing else.
    if required == Verity::Try && !blob.path.has_verity() {
        return Ok(());
    }
    let expected = Hex {
        algorithm: expected.algorithm().as_raw(),
        bytes: expected.as_bytes(),
    };
    let Some(found) = digest()? else {
        return fail(fmt!("has no fs-verity digest, expected {expected}"));
    };
    if found.algorithm != expected.algorithm || found.bytes() != expected.bytes {
        let found = Hex {
            algorithm: found.algorithm,
            bytes: found.bytes(),
        };
        return fail(fmt!(
            "has the wrong fs-verity digest: expected {expected}, found {found}"
        ));
    }
    inode.set_verified();
    Ok(())
}
