// SPDX-License-Identifier: GPL-2.0

//! Regular files: open, and where the data come from.
//!
//! The data of most files are those of an object, in the object's own page cache. Small files
//! have theirs in the image: they are read at open(2) and kept, so that a page fault only copies.

use crate::{
    blob,
    fault,
    image::Content,
    inode::{
        self,
        Pinned, //
    },
    options::Verity,
    vfs::{
        backing::BackingFile,
        file::{
            self,
            Access,
            Data,
            File,
            Reading, //
        },
        folio::NewFolio,
        inode::Inode,
        path::Path,
        super_block::SuperBlock, //
    },
    Composefs, //
};
use kernel::{
    cred::Credential,
    prelude::*, //
};

/// Largest file in the image, in bytes.
const INLINE_MAX: usize = 8192;

impl file::Operations for Composefs {
    #[inline]
    fn open(inode: &Inode<Self>, file: &File<Self>) -> Result<Data> {
        match inode.pinned().get() {
            Some(Pinned::Blob(blob)) => blob::prepare(file, blob).map(|()| Data::Backed),
            Some(Pinned::Content(_) | Pinned::Zeros) => Ok(Data::Paged),
            None => open_first(inode, file),
        }
    }

    fn backing(file: &File<Self>, access: Access) -> Result<&BackingFile> {
        blob::get(file, access)
    }

    #[inline]
    fn reading(file: &File<Self>, access: Access, direct: bool) -> Result<Reading<'_>> {
        blob::reading(file, access, direct)
    }

    fn backing_path(inode: &Inode<Self>) -> Result<Path> {
        blob::path(inode)
    }

    fn real_path(inode: &Inode<Self>) -> Option<&Path> {
        blob::real_path(inode)
    }

    fn data_path(inode: &Inode<Self>) -> Result<Path> {
        blob::data_path(inode)
    }

    fn credential(sb: &SuperBlock<Self>) -> &Credential {
        sb.data().credential()
    }

    fn read_folio(inode: &Inode<Self>, folio: &mut NewFolio<'_>) -> Result {
        let pos = usize::try_from(folio.pos()).map_err(|_| EIO)?;
        let content = match inode.pinned().get() {
            Some(Pinned::Content(content)) => content.get(pos..).unwrap_or(&[]),
            Some(Pinned::Zeros) => &[],
            // Every open sets it, and there is no reading without one.
            Some(Pinned::Blob(_)) | None => return Err(EIO),
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

/// Opens a file that nobody has opened since its inode was read.
fn open_first(inode: &Inode<Composefs>, file: &File<Composefs>) -> Result<Data> {
    let mounted = inode.super_block().data();
    let node = inode::node(inode);
    let content = mounted.image().content(&node);
    let pinned = match content.map_err(|e| fault::of_image(inode, e))? {
        Content::External(_) => return blob::prepare_unknown(file).map(|()| Data::Backed),
        // Whoever wrote zeros in place of an object and its digest would have them believed.
        Content::Sparse if inode.size() != 0 && mounted.verity() == Verity::Required => {
            return Err(fault::of_content(
                inode,
                "the image has no content and names no digest for it, and verity requires one",
            ));
        }
        Content::Sparse => Pinned::Zeros,
        Content::Inline => {
            let data = inode::read_whole(mounted, &node, INLINE_MAX);
            Pinned::Content(data.map_err(|e| fault::of_image(inode, e))?)
        }
    };
    inode.pinned().get_or_set(pinned)?;
    Ok(Data::Paged)
}
