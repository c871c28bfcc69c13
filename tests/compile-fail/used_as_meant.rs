// SPDX-License-Identifier: GPL-2.0
// compiles

//! The functions that the other files misuse, used as they are meant to be. This shows that those
//! files fail for the reason they name.

use composefs_main::vfs::{
    context::FsContext,
    dir,
    file::{self, RegularFile},
    inode::{Attributes, Iget, Inode, InodeRef, InodeType},
    mapping::{PrivateMapping, Reader},
    path::{Path, PrivateMounts},
    super_block::SuperBlock,
    xattr, FileSystem,
};
use kernel::prelude::*;

pub fn get<'a, T>(
    sb: &'a SuperBlock<T>,
    attributes: &Attributes,
    data: T::Inode,
) -> Result<InodeRef<'a, T>>
where
    T: dir::Operations + file::Operations + xattr::Operations,
{
    match sb.iget(1)? {
        Iget::Cached(inode) => Ok(inode),
        Iget::New(new) => new.init(attributes, InodeType::Regular(RegularFile::paged()), data),
    }
}

pub fn number<T: FileSystem>(sb: &SuperBlock<T>) -> u64 {
    let inode = sb.cached(1);
    let inode: Option<&Inode<T>> = inode.as_deref();
    inode.map_or(0, Inode::ino)
}

pub fn complain(fc: &FsContext<'_>) {
    fc.error(fmt!("no"));
}

pub fn root(path: &Path) -> Result<Path> {
    let mut mounts = PrivateMounts::default();
    Ok(mounts.add(path)?.root())
}

pub fn first<R: Reader>(mapping: &PrivateMapping<R, 4096>) -> Result<Option<u8>> {
    Ok(mapping.bytes(0)?.first().copied())
}
