// SPDX-License-Identifier: GPL-2.0

//! An object: found under an object directory, opened and verified when it is first read.
//!
//! Finding it is a lookup of names, which takes the locks of directories. Others fault in user
//! memory under those, so a lookup must never happen under the lock of a memory map; nor must a
//! read of the image, which may take the locks of the file system that the image is on. What is not
//! known yet is looked up at open(2), and an mmap(2) makes do with what is known by then. Opening
//! and verifying wait for the first read or mmap.

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
    options::Verity,
    vfs::{
        backing::{
            BackingFile,
            OnceBackingFile, //
        },
        cred,
        file::{
            Access,
            File, //
        },
        inode::Inode,
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
    /// What was found at open(2), if the inode did not know the object yet.
    found: Option<KBox<Found>>,
    /// The object, verified.
    file: OnceBackingFile,
}

/// What the image says of an object, and where it was found.
struct Found {
    /// Path relative to an object directory, with a NUL behind it.
    name: KVec<u8>,
    /// The digest that it must have, if the image names one.
    digest: Option<Digest>,
    path: Path,
}

/// Longest path of an object in bytes, with a NUL.
const PATH_MAX: usize = 4096;

/// Prepares the opening of a file whose content is in an object.
///
/// # Errors
///
/// `ENOMEM`, `EINTR`, or what keeps the image from being read. An object that is missing or wrong
/// is no error yet: it may have been put right when it is read.
pub(crate) fn prepare(file: &File<Composefs>) -> Result {
    let eager = match file.inode().pinned().get() {
        Some(Pinned::Blob(path)) => path.open_may_wait(),
        _ => match find(file.inode(), Report::Quiet) {
            Ok(found) => {
                let eager = found.path.open_may_wait();
                let open = OpenBlob {
                    found: Some(KBox::new(found, GFP_KERNEL)?),
                    file: OnceBackingFile::default(),
                };
                file.private().get_or_set(KBox::new(open, GFP_KERNEL)?);
                eager
            }
            Err(e) if e == EIO => false,
            Err(e) => return Err(e),
        },
    };
    if !eager {
        return Ok(());
    }
    // It would be too late under the lock of a memory map.
    match get(file, Access::Read) {
        Err(e) if is_transient(e) => Err(e),
        // Who reads will see the error.
        _ => Ok(()),
    }
}

/// Returns where the object of `inode` is, which has been verified.
///
/// # Errors
///
/// `EOPNOTSUPP` if its content is in no object, `EIO` if there is none that could be verified.
pub(crate) fn path(inode: &Inode<Composefs>) -> Result<Path> {
    match inode.pinned().get() {
        Some(Pinned::Blob(path)) => return Ok(path.clone()),
        Some(Pinned::Content(_) | Pinned::Zeros) => return Err(EOPNOTSUPP),
        None => (),
    }
    let found = find(inode, Report::Loud)?;
    let file = PrivateFile::open(&found.path, inode.super_block().data().credential());
    let file = file.map_err(|e| not_opened(inode, &found, e))?;
    check(inode, &found, file.size(), file.verity_digest())?;
    pin(inode, &found.path)?;
    Ok(found.path)
}

/// Keeps the path of an object that has been verified, unless there is one already.
fn pin(inode: &Inode<Composefs>, path: &Path) -> Result {
    if inode.pinned().get().is_none() {
        let pinned = KBox::new(Pinned::Blob(path.clone()), GFP_KERNEL)?;
        inode.pinned().get_or_set(pinned);
    }
    Ok(())
}

/// Returns the object that `file` reads from, opened and verified.
///
/// # Errors
///
/// `EIO` if there is no object that could be verified, `EAGAIN` if it is not open yet and the
/// caller must not wait.
pub(crate) fn get(file: &File<Composefs>, access: Access) -> Result<&BackingFile> {
    if let Some(backing) = file.private().get().and_then(|open| open.file.get()) {
        return Ok(backing);
    }
    let backing = match access {
        Access::NoWait => return Err(EAGAIN),
        Access::Map => open_known(file),
        Access::Read => open_known_or_found(file),
    };
    trace::blob_open(file.inode(), &backing);
    let backing = backing?;
    let open = match file.private().get() {
        Some(open) => open,
        None => {
            let open = KBox::new(OpenBlob::default(), GFP_KERNEL)?;
            file.private().get_or_set(open)
        }
    };
    open.file.get_or_set(backing)
}

/// Opens the object from what is known of it, looking nothing up and not reading the image. An
/// object whose opening may do more than that had to be opened at open(2).
fn open_known(file: &File<Composefs>) -> Result<BackingFile> {
    let inode = file.inode();
    if let Some(Pinned::Blob(path)) = inode.pinned().get() {
        if path.open_may_wait() {
            return Err(EIO);
        }
        return open_pinned(file, path);
    }
    match file.private().get().and_then(|open| open.found.as_deref()) {
        Some(found) if !found.path.open_may_wait() => open_verified(file, found),
        _ => Err(EIO),
    }
}

/// Opens the object from what is known of it, or looks it up again if that leads to none: it may
/// have been put right meanwhile.
fn open_known_or_found(file: &File<Composefs>) -> Result<BackingFile> {
    let inode = file.inode();
    let found = || file.private().get().and_then(|open| open.found.as_deref());
    let (path, first) = match (inode.pinned().get(), found()) {
        (Some(Pinned::Blob(path)), _) => (Some(path), open_pinned(file, path)),
        (_, Some(found)) => (Some(&found.path), open_verified(file, found)),
        _ => (None, Err(EIO)),
    };
    if first.is_ok() && !path.is_some_and(Path::is_unlinked) {
        return first;
    }
    let again = find(inode, Report::Loud).and_then(|found| {
        // What has just failed needs no second line in the log.
        if path.is_some_and(|path| path.is_same(&found.path)) {
            return Err(EIO);
        }
        open_verified(file, &found)
    });
    match (again, first) {
        (Ok(backing), _) => Ok(backing),
        // Its name is gone, but it is still the object that was verified.
        (Err(_), Ok(backing)) => Ok(backing),
        (Err(_), Err(e)) if path.is_some() => Err(e),
        (Err(e), Err(_)) => Err(e),
    }
}

/// Opens an object that has been verified, at a path that the inode keeps. It is the same inode,
/// whose digest cannot change; its size can, where it has none.
fn open_pinned(file: &File<Composefs>, path: &Path) -> Result<BackingFile> {
    let inode = file.inode();
    let backing = BackingFile::open(file, path, inode.super_block().data().credential())?;
    if backing.size() != inode.size() {
        return Err(EIO);
    }
    Ok(backing)
}

/// Opens an object, and returns it only if it is the one that the image means.
fn open_verified(file: &File<Composefs>, found: &Found) -> Result<BackingFile> {
    let inode = file.inode();
    let credential = inode.super_block().data().credential();
    let backing = BackingFile::open(file, &found.path, credential);
    let backing = backing.map_err(|e| not_opened(inode, found, e))?;
    check(inode, found, backing.size(), backing.verity_digest())?;
    pin(inode, &found.path)?;
    Ok(backing)
}

/// What the image says of the object of `inode`: its path, with a NUL behind it, and its digest.
fn redirect(inode: &Inode<Composefs>) -> Result<(KVec<u8>, Option<Digest>)> {
    let image = inode.super_block().data().image();
    let node = inode::node(inode);
    let damaged = |e| fault::of_image(inode, e);
    let Content::External(digest) = image.content(&node).map_err(damaged)? else {
        // It was external when the inode was read: the image has changed.
        return Err(EIO);
    };
    let mut name = KVec::zeroed(PATH_MAX, GFP_KERNEL)?;
    let (room, _) = name
        .split_at_mut_checked(PATH_MAX.saturating_sub(1))
        .ok_or(EIO)?;
    let len = image.redirect(&node, room).map_err(damaged)?.ok_or(EIO)?;
    name.truncate(len.saturating_add(1));
    // An open file keeps it.
    let mut kept = KVec::with_capacity(name.len(), GFP_KERNEL)?;
    kept.extend_from_slice(&name, GFP_KERNEL)?;
    Ok((kept, digest))
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
fn find(inode: &Inode<Composefs>, report: Report) -> Result<Found> {
    let mounted = inode.super_block().data();
    let (name, digest) = redirect(inode)?;
    let cstr = CStr::from_bytes_with_nul(&name).map_err(|_| EIO)?;
    let fail = |what: fmt::Arguments<'_>| match report {
        Report::Loud => Err(fail(inode, &name, what)),
        Report::Quiet => Err(EIO),
    };
    for basedir in mounted.basedirs() {
        match cred::with(mounted.credential(), || basedir.lookup(cstr)) {
            Ok(path) if path.is_regular() => return Ok(Found { name, digest, path }),
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

/// The error for who wanted an object that could not be opened.
fn not_opened(inode: &Inode<Composefs>, found: &Found, e: Error) -> Error {
    if is_transient(e) {
        return e;
    }
    fail(inode, &found.name, fmt!("cannot be opened: {}", Reason(e)))
}

/// As [`fault::of_object`], for a name with a NUL behind it.
fn fail(inode: &Inode<Composefs>, name: &[u8], what: fmt::Arguments<'_>) -> Error {
    fault::of_object(inode, name.strip_suffix(&[0]).unwrap_or(name), what)
}

/// Checks an object that has been opened: it must have the size and digest that the image names.
fn check(
    inode: &Inode<Composefs>,
    object: &Found,
    size: u64,
    digest: Result<Option<verity::Digest>>,
) -> Result {
    let required = inode.super_block().data().verity();
    let fail = |what: fmt::Arguments<'_>| Err(fail(inode, &object.name, what));
    if size != inode.size() {
        return fail(fmt!("has {} bytes, expected {}", size, inode.size()));
    }
    if required == Verity::Off {
        return Ok(());
    }
    let Some(expected) = &object.digest else {
        return match required {
            Verity::Required => fail(fmt!(
                "the image names no digest for it, and verity requires one"
            )),
            _ => Ok(()),
        };
    };
    // A store that cannot have digests at all is what tryverity is for, and nothing else.
    if required == Verity::Try && !object.path.has_verity() {
        return Ok(());
    }
    let expected = Hex {
        algorithm: expected.algorithm().as_raw(),
        bytes: expected.as_bytes(),
    };
    let Some(found) = digest? else {
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
    Ok(())
}
