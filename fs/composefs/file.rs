// SPDX-License-Identifier: GPL-2.0

//! Regular files: open, and where reads and memory maps get the content.
//!
//! The content of most files is in an object, and is read through the object's own page cache.
//! Small files have their content in the image. It is read at open(2) and kept by the inode, so
//! that reads and `read_folio` only copy memory. Only a memory map or splice(2) takes a page of the
//! page cache, which is 64 KiB on some machines.
//!
//! # The life of an object
//!
//! | state    | what it means                               | stored in                       |
//! |----------|---------------------------------------------|---------------------------------|
//! | unknown  | nothing was looked up                       | [`FileData`] is not set         |
//! | found    | its path leads to a file under a basedir    | [`FileData`], [`OpenFile`]      |
//! | verified | its size and digest were right              | [`Object::is_verified`]         |
//! | failed   | a check has failed: it is looked up again   | not [`Object::is_usable`]       |
//! | open     | a verified backing file for one struct file | [`OpenFile::backing`]           |
//! | shared   | a verified backing file for all readers     | [`Object::shared`]              |
//!
//! An inode keeps the first object that was found for it. If that one fails later, each open file
//! keeps the one that it has found.
//!
//! open(2) finds the object. A memory map cannot: see [`crate::object`]. Opening an object may
//! wait: for the holder of a lease, for a permission listener or, until it is verified, for the
//! disk. A memory map must not wait for these under `mmap_lock`. So open(2) also opens an object
//! that is not verified or whose opening may wait or notify a listener, as overlayfs does. All
//! others are opened by the first read or memory map.

use crate::vfs::{
    backing::{
        BackingFile,
        OnceBackingFile, //
    },
    fiemap::Extent,
    file,
    folio::LockedFolio,
    inode::Inode,
    path::Path,
    stacking::{
        self,
        Access,
        DataSource,
        File,
        ReadSource, //
    },
    super_block::SuperBlock,
};
use crate::{
    image::{
        self,
        Content, //
    },
    inode::{
        self,
        FileData, //
    },
    object::{
        self,
        Object,
        Report, //
    },
    options::Verity,
    report,
    trace,
    Composefs, //
};
use kernel::{
    cred::Credential,
    prelude::*, //
};

/// Data of an open file: `private_data`.
#[derive(Default)]
pub(crate) struct OpenFile {
    /// The object that open(2) found, if the inode has another one.
    found: Option<KBox<Object>>,
    /// The object, opened for this file alone.
    backing: OnceBackingFile,
}

/// Size in bytes of the largest object that is opened once for all readers: the default of
/// `read_ahead_kb`. Larger files need a readahead state for each open file.
const SHARED_MAX: u64 = 128 << 10;

impl file::Operations for Composefs {
    fn read_folio(inode: &Inode<Self>, folio: &mut LockedFolio<'_>) -> Result {
        let pos = usize::try_from(folio.pos()).map_err(|_| EIO)?;
        let content = match inode.pinned().get() {
            Some(FileData::Inline(content)) => content.get(pos..).unwrap_or(&[]),
            Some(FileData::Zeros) => &[],
            // Cannot happen: only a file that was opened is read, and open(2) sets the data.
            Some(FileData::Object(_)) | None => return Err(EIO),
        };
        let out = folio.bytes_mut();
        let len = content.len().min(out.len());
        let (head, tail) = out.split_at_mut_checked(len).ok_or(EIO)?;
        for (to, from) in head.iter_mut().zip(content) {
            *to = *from;
        }
        tail.fill(0);
        Ok(())
    }
}

impl stacking::Operations for Composefs {
    type Open = OpenFile;

    #[inline]
    fn open(inode: &Inode<Self>, file: &File<Self>) -> Result<DataSource> {
        match inode.pinned().get() {
            Some(FileData::Object(object)) => {
                open_object(file, object)?;
                Ok(DataSource::Backed)
            }
            Some(FileData::Inline(_) | FileData::Zeros) => Ok(DataSource::Paged),
            None => open_first(inode, file),
        }
    }

    fn backing(file: &File<Self>, access: Access) -> Result<&BackingFile> {
        match own_backing(file) {
            Some(backing) => Ok(backing),
            None => open_backing(file, access),
        }
    }

    #[inline]
    fn reading(file: &File<Self>, access: Access, direct: bool) -> Result<ReadSource<'_>> {
        if let Some(own) = own_backing(file) {
            return Ok(ReadSource::Own(own));
        }
        // Direct I/O needs the `f_flags` of this file.
        let shared = match direct {
            true => None,
            false => shared_backing(file, access),
        };
        match shared {
            Some(shared) => Ok(ReadSource::Shared(shared)),
            None => open_backing(file, access).map(ReadSource::Own),
        }
    }

    fn kept(file: &File<Self>) -> Option<&[u8]> {
        match file.inode().pinned().get() {
            Some(FileData::Inline(content)) => Some(content),
            Some(FileData::Zeros | FileData::Object(_)) | None => None,
        }
    }

    fn backing_path(inode: &Inode<Self>) -> Result<Path> {
        match inode.pinned().get() {
            Some(FileData::Object(object)) if object.is_verified() => {
                return Ok(object.path.clone())
            }
            Some(FileData::Inline(_) | FileData::Zeros) => return Err(EOPNOTSUPP),
            _ => (),
        }
        let object = object::find(inode, &inode::layout(inode), Report::Loud)?;
        object::verify(inode, &object)?;
        Ok(object.path)
    }

    fn own_extent(inode: &Inode<Self>, offset: u64) -> Result<Option<Extent>> {
        let image = &inode.super_block().data().image;
        let layout = inode::layout(inode);
        let extent = image.content(&layout).and_then(|content| match content {
            Content::Inline => Ok(Some(layout.extent(offset)?)),
            Content::Sparse | Content::External(_) => Ok(None),
        });
        let extent = extent.map_err(|e| report::metadata_error(inode, e))?;
        Ok(extent.map(|extent| {
            let is_inline = layout.is_inline(&extent);
            let end = offset.saturating_add(extent.len);
            // All others are whole blocks.
            let blocks = end.checked_next_multiple_of(image::BLOCK_SIZE);
            let end = blocks.filter(|_| !is_inline).unwrap_or(end);
            Extent {
                physical: extent.pos,
                len: end.saturating_sub(offset),
                is_inline,
            }
        }))
    }

    /// The inode keeps the object, so that each call gives the same path.
    fn real_path(inode: &Inode<Self>) -> Option<&Path> {
        if inode.pinned().get().is_none() {
            let object = object::find(inode, &inode::layout(inode), Report::Quiet).ok()?;
            inode.pinned().get_or_set(FileData::Object(object)).ok()?;
        }
        let object = inode_object(inode).filter(|object| object.is_usable())?;
        if !object.is_verified() {
            object::verify(inode, object).ok()?;
        }
        Some(&object.path)
    }

    fn data_path(inode: &Inode<Self>) -> Result<Path> {
        match inode.pinned().get() {
            Some(FileData::Object(object)) if object.is_usable() => Ok(object.path.clone()),
            Some(FileData::Inline(_) | FileData::Zeros) => Err(EOPNOTSUPP),
            _ => {
                object::find(inode, &inode::layout(inode), Report::Quiet).map(|object| object.path)
            }
        }
    }

    fn credential(sb: &SuperBlock<Self>) -> &Credential {
        &sb.data().credential
    }
}

/// Opens a file whose inode has no [`FileData`] yet.
fn open_first(inode: &Inode<Composefs>, file: &File<Composefs>) -> Result<DataSource> {
    let sbi = inode.super_block().data();
    let layout = inode::layout(inode);
    let content = sbi.image.content(&layout);
    let data = match content.map_err(|e| report::metadata_error(inode, e))? {
        Content::External(_) => {
            find_object(file)?;
            return Ok(DataSource::Backed);
        }
        // Otherwise an image could replace an object and its digest by zero bytes.
        Content::Sparse if inode.size() != 0 && sbi.verity == Verity::Required => {
            return Err(report::content_error(
                inode,
                fmt!(
                    "the image has no content and names no digest for it, and verity requires one"
                ),
            ));
        }
        Content::Sparse => FileData::Zeros,
        Content::Inline => {
            let bytes = inode::read_inline(sbi, &layout, image::INLINE_MAX);
            FileData::Inline(bytes.map_err(|e| report::metadata_error(inode, e))?)
        }
    };
    inode.pinned().get_or_set(data)?;
    Ok(DataSource::Paged)
}

/// Opens a file whose inode has the object `object`. In most cases there is nothing to do.
#[inline]
fn open_object(file: &File<Composefs>, object: &Object) -> Result {
    if object.opens_silently() && !object.path.is_unlinked() && !object.path.is_leased() {
        return Ok(());
    }
    if !object.is_usable() {
        return find_object(file);
    }
    open_early(file, object)
}

/// Finds the object of a file that is being opened, and opens it.
///
/// # Errors
///
/// `ENOMEM`, `EINTR`, the error of reading the image, or the answer of a permission listener. A
/// missing or wrong object is no error: it may have been replaced when it is read.
fn find_object(file: &File<Composefs>) -> Result {
    let inode = file.inode();
    let object = match object::find(inode, &inode::layout(inode), Report::Quiet) {
        Ok(object) => object,
        Err(e) if e == EIO => return Ok(()),
        Err(e) => return Err(e),
    };
    if inode.pinned().get().is_none() {
        inode.pinned().get_or_set(FileData::Object(object))?;
    } else {
        let open = OpenFile {
            found: Some(KBox::new(object, GFP_KERNEL_ACCOUNT)?),
            backing: OnceBackingFile::default(),
        };
        file.private()
            .get_or_set(KBox::new(open, GFP_KERNEL_ACCOUNT)?);
    }
    match found(file) {
        Some(object) => open_early(file, object),
        None => Ok(()),
    }
}

/// Opens the object of a file that is being opened: see the head of this file.
#[cold]
fn open_early(file: &File<Composefs>, object: &Object) -> Result {
    let backing = open_verified(file, object, Access::Read, Report::Quiet);
    trace::object_open(file.inode(), &backing);
    match backing {
        Ok(backing) => set_backing(file, backing).map(drop),
        // A read or memory map fails and reports it.
        Err(e) if e == EIO => Ok(()),
        Err(e) => Err(e),
    }
}

/// Returns the object of the inode, if it is found.
fn inode_object(inode: &Inode<Composefs>) -> Option<&Object> {
    match inode.pinned().get() {
        Some(FileData::Object(object)) => Some(object),
        _ => None,
    }
}

/// Returns the object of an open file, if it is found: its own, or the one of the inode.
fn found(file: &File<Composefs>) -> Option<&Object> {
    let own = file.private().get().and_then(|open| open.found.as_deref());
    own.or_else(|| inode_object(file.inode()))
}

/// Returns the backing file of this file alone, if it is open.
#[inline]
fn own_backing(file: &File<Composefs>) -> Option<&BackingFile> {
    file.private().get().and_then(|open| open.backing.get())
}

/// Publishes `backing` as the backing file of `file`, unless another task was faster.
fn set_backing(file: &File<Composefs>, backing: BackingFile) -> Result<&BackingFile> {
    let open = match file.private().get() {
        Some(open) => open,
        None => {
            let open = KBox::new(OpenFile::default(), GFP_KERNEL_ACCOUNT)?;
            file.private().get_or_set(open)
        }
    };
    open.backing.get_or_set(backing)
}

/// Opens and verifies the object for this file alone.
///
/// # Errors
///
/// `EIO` if no object could be verified, `EAGAIN` if opening takes longer than the caller may
/// wait, or the answer of a permission listener.
fn open_backing(file: &File<Composefs>, access: Access) -> Result<&BackingFile> {
    let backing = match access {
        Access::NoWait => return Err(EAGAIN),
        Access::Map => open_for_map(file),
        Access::Read => open_for_read(file),
    };
    trace::object_open(file.inode(), &backing);
    set_backing(file, backing?)
}

/// Opens the object without a lookup, without reading the image and without waiting for another
/// task, as `mmap_lock` demands.
fn open_for_map(file: &File<Composefs>) -> Result<BackingFile> {
    let inode = file.inode();
    let Some(object) = found(file) else {
        // open(2) did not report it, and its name is in the image, which must not be read here.
        let what = fmt!("was not found when the file was opened");
        return Err(report::object_error(inode, c"?", what));
    };
    if !object.opens_at_once || object.path.lacks_verity_info() {
        let what = fmt!("could not be opened when the file was opened");
        return Err(object::fail(inode, object, Report::Loud, what));
    }
    // A permission listener that came after open(2) cannot be asked here.
    if object.path.is_guarded() {
        return Err(EAGAIN);
    }
    open_verified(file, object, Access::Map, Report::Loud)
}

/// Opens the object that was found. If it fails, looks it up again, because it may have been
/// replaced. An object that was unlinked after open(2) is still used.
fn open_for_read(file: &File<Composefs>) -> Result<BackingFile> {
    let inode = file.inode();
    let layout = inode::layout(inode);
    let Some(object) = found(file) else {
        let now = object::find(inode, &layout, Report::Loud)?;
        return open_verified(file, &now, Access::Read, Report::Loud);
    };
    let first = match open_verified(file, object, Access::Read, Report::Loud) {
        Err(e) if e == EIO => e,
        result => return result,
    };
    match object::find(inode, &layout, Report::Loud) {
        // The same object has just failed and was reported.
        Ok(now) if !object.path.is_same(&now.path) => {
            open_verified(file, &now, Access::Read, Report::Loud).map_err(|_| first)
        }
        _ => Err(first),
    }
}

/// Opens an object, and returns it only if its size and digest are right.
fn open_verified(
    file: &File<Composefs>,
    object: &Object,
    access: Access,
    report: Report,
) -> Result<BackingFile> {
    let inode = file.inode();
    let credential = &inode.super_block().data().credential;
    let backing = BackingFile::open(file, &object.path, credential, access);
    let backing = backing.map_err(|e| object::open_error(inode, object, e, report))?;
    object::check(inode, object, report, backing.size(), || {
        backing.verity_digest()
    })?;
    Ok(backing)
}

/// Returns the backing file that all readers of the inode share. Most files are small and are
/// opened again and again. Opening a second file for each would cost more than the read.
///
/// `None` if the object is not verified, is large, has another size now, is unlinked or has
/// listeners, which must see each open and read, or if the limit of shared objects is reached.
fn shared_backing(file: &File<Composefs>, access: Access) -> Option<&BackingFile> {
    // A file that began to read from its own backing file goes on with it.
    if file.private().get().is_some() || file.is_nonotify() {
        return None;
    }
    let inode = file.inode();
    let object = inode_object(inode)
        .filter(|object| object.opens_silently() && !object.path.is_unlinked())?;
    if inode.size() > SHARED_MAX {
        return None;
    }
    // `open_backing` reports a wrong size.
    let is_right = |shared: &&BackingFile| shared.size() == inode.size();
    if let Some(shared) = object.shared.get() {
        return Some(shared).filter(is_right);
    }
    if access != Access::Read {
        return None;
    }
    open_shared(inode, object).filter(is_right)
}

/// Opens the backing file that all readers of the inode share.
fn open_shared<'a>(inode: &Inode<Composefs>, object: &'a Object) -> Option<&'a BackingFile> {
    let sb = inode.super_block();
    let sbi = sb.data();
    if !sbi.shared_objects.take() {
        return None;
    }
    let owner = sbi.image.source().file();
    let opened = BackingFile::open_shared(sb, owner, &object.path, &sbi.credential);
    let first = match opened {
        Ok(backing) => {
            trace::object_open(inode, &Ok(()));
            object.shared.set(backing)
        }
        Err(_) => false,
    };
    if !first {
        sbi.shared_objects.give_back();
    }
    object.shared.get()
}
