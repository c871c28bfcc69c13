// SPDX-License-Identifier: GPL-2.0

//! An object: found under an object directory, opened and verified when it is first read.
//!
//! Finding it is a lookup of names, which takes the locks of directories. Others fault in user
//! memory under those, so a lookup must never happen under the lock of a memory map: a path that
//! is not known yet is looked up at open(2), and an mmap(2) makes do with what is known by then.
//! Opening and verifying wait for the first read or mmap.

use crate::{
    fault::{
        self,
        Hex, //
    },
    image::Content,
    inode::{
        self,
        Pinned, //
    },
    options::Verity,
    vfs::{
        backing::BackingFile,
        cred,
        file::{
            Access,
            File, //
        },
        inode::Inode,
        once::OnceBox,
        path::Path,
        private_file::PrivateFile,
        verity, //
    },
    Composefs, //
};
use kernel::{
    fmt,
    prelude::*, //
};

/// What an open file has of its object.
pub(crate) struct OpenBlob {
    /// Where the object was found at open(2), if the inode did not know it yet.
    path: Option<Path>,
    /// The object, verified.
    file: OnceBox<BackingFile>,
}

/// Longest path of an object in bytes, with a NUL.
const PATH_MAX: usize = 4096;

/// Prepares the opening of a file whose content is in an object.
///
/// # Errors
///
/// `ENOMEM`, or what keeps the image from being read. An object that is missing or wrong is no
/// error yet: it may have been put right when it is read.
pub(crate) fn prepare(file: &File<Composefs>) -> Result {
    let inode = file.inode();
    if inode.pinned().get().is_some() {
        return Ok(());
    }
    let path = match find(inode) {
        Ok(path) => path,
        Err(e) if e == EIO => return Ok(()),
        Err(e) => return Err(e),
    };
    let eager = path.open_may_wait();
    let open = OpenBlob {
        path: Some(path),
        file: OnceBox::default(),
    };
    file.private().get_or_set(KBox::new(open, GFP_KERNEL)?);
    if eager {
        // Too late under the lock of a memory map. Who reads will see the error.
        let _ = get(file, Access::Read);
    }
    Ok(())
}

/// Returns where the object of `inode` is, which has been verified.
///
/// # Errors
///
/// `EIO` if there is no object that could be verified.
pub(crate) fn path(inode: &Inode<Composefs>) -> Result<Path> {
    if let Some(Pinned::Blob(path)) = inode.pinned().get() {
        return Ok(path.clone());
    }
    let path = find(inode)?;
    let file = PrivateFile::open(&path, inode.super_block().data().credential());
    let file = file.map_err(|e| not_opened(inode, e))?;
    check(inode, &path, file.size(), file.verity_digest())?;
    pin(inode, &path)?;
    Ok(path)
}

/// Keeps the path of an object that has been verified.
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
    let open = file.private().get();
    if let Some(backing) = open.and_then(|open| open.file.get()) {
        return Ok(backing);
    }
    if access == Access::NoWait {
        return Err(EAGAIN);
    }
    let inode = file.inode();
    let found;
    let path = match (inode.pinned().get(), open) {
        (Some(Pinned::Blob(path)), _)
        | (
            _,
            Some(OpenBlob {
                path: Some(path), ..
            }),
        ) => path,
        _ if access == Access::Map => return Err(EIO),
        _ => {
            found = find(inode)?;
            &found
        }
    };
    if access == Access::Map && path.open_may_wait() {
        return Err(EIO);
    }
    let backing = open_verified(file, path)?;
    pin(inode, path)?;
    let backing = KBox::new(backing, GFP_KERNEL)?;
    let open = match file.private().get() {
        Some(open) => open,
        None => file.private().get_or_set(KBox::new(
            OpenBlob {
                path: None,
                file: OnceBox::default(),
            },
            GFP_KERNEL,
        )?),
    };
    Ok(open.file.get_or_set(backing))
}

/// The path of the object of `inode`, relative to an object directory and with a NUL behind it.
fn redirect(inode: &Inode<Composefs>) -> Result<KVec<u8>> {
    let mut name = KVec::zeroed(PATH_MAX, GFP_KERNEL)?;
    let (room, _) = name
        .split_at_mut_checked(PATH_MAX.saturating_sub(1))
        .ok_or(EIO)?;
    let image = inode.super_block().data().image();
    let len = image
        .redirect(&inode::node(inode), room)
        .map_err(|e| fault::of_image(inode, e))?
        .ok_or(EIO)?;
    name.truncate(len.saturating_add(1));
    Ok(name)
}

/// Looks for the object of `inode` in one object directory after the other.
fn find(inode: &Inode<Composefs>) -> Result<Path> {
    let mounted = inode.super_block().data();
    let name = redirect(inode)?;
    let name = CStr::from_bytes_with_nul(&name).map_err(|_| EIO)?;
    let fail = |what: fmt::Arguments<'_>| fault::of_object(inode, name.to_bytes(), what);
    for basedir in mounted.basedirs() {
        match cred::with(mounted.credential(), || basedir.lookup(name)) {
            Ok(path) if path.is_regular() => return Ok(path),
            Ok(_) => return Err(fail(fmt!("is not a regular file"))),
            Err(e) if e == ENOENT || e == ENOTDIR => (),
            Err(e) if e == ENOMEM || e == EINTR || e == ERESTARTSYS => return Err(e),
            Err(e) if e == ELOOP => return Err(fail(fmt!("its path has a symbolic link"))),
            Err(e) => return Err(fail(fmt!("cannot be looked up: {e:?}"))),
        }
    }
    if mounted.basedirs().is_empty() {
        return Err(fail(fmt!("no object directory was given (basedir=)")));
    }
    Err(fail(fmt!("is in none of the object directories")))
}

/// Opens the object at `path`, and returns it only if it is the one that the image means.
fn open_verified(file: &File<Composefs>, path: &Path) -> Result<BackingFile> {
    let inode = file.inode();
    let credential = inode.super_block().data().credential();
    let backing = BackingFile::open(file, path, credential).map_err(|e| not_opened(inode, e))?;
    check(inode, path, backing.size(), backing.verity_digest())?;
    Ok(backing)
}

/// The error for who wanted an object that could not be opened.
fn not_opened(inode: &Inode<Composefs>, error: Error) -> Error {
    if error == ENOMEM || error == EINTR || error == ERESTARTSYS {
        return error;
    }
    fail(inode, fmt!("cannot be opened: {error:?}"))
}

/// As [`fault::of_object`], with the object's name read again: it is kept nowhere.
fn fail(inode: &Inode<Composefs>, what: fmt::Arguments<'_>) -> Error {
    let name = redirect(inode).unwrap_or_default();
    let name = name.strip_suffix(&[0]).unwrap_or(&name);
    fault::of_object(inode, name, what)
}

/// Checks an object at `path` that has been opened: it must have the size and digest that the image
/// names.
fn check(
    inode: &Inode<Composefs>,
    path: &Path,
    size: u64,
    found: Result<Option<verity::Digest>>,
) -> Result {
    let mounted = inode.super_block().data();
    let content = mounted.image().content(&inode::node(inode));
    let Content::External(expected) = content.map_err(|e| fault::of_image(inode, e))? else {
        // It was external when the inode was read.
        return Err(EIO);
    };
    if size != inode.size() {
        return Err(fail(
            inode,
            fmt!("has {} bytes, expected {}", size, inode.size()),
        ));
    }
    if mounted.verity() == Verity::Off {
        return Ok(());
    }
    let Some(expected) = expected else {
        return match mounted.verity() {
            Verity::Required => Err(fail(
                inode,
                fmt!("the image names no digest for it, and verity requires one"),
            )),
            _ => Ok(()),
        };
    };
    // A store that cannot have digests at all is what tryverity is for, and nothing else.
    if mounted.verity() == Verity::Try && !path.has_verity() {
        return Ok(());
    }
    let expected = Hex {
        algorithm: expected.algorithm().as_raw(),
        bytes: expected.as_bytes(),
    };
    let Some(found) = found? else {
        return Err(fail(
            inode,
            fmt!("has no fs-verity digest, expected {expected}"),
        ));
    };
    if found.algorithm != expected.algorithm || found.bytes() != expected.bytes {
        let found = Hex {
            algorithm: found.algorithm,
            bytes: found.bytes(),
        };
        return Err(fail(
            inode,
            fmt!("has the wrong fs-verity digest: expected {expected}, found {found}"),
        ));
    }
    Ok(())
}
