// SPDX-License-Identifier: GPL-2.0
// error: E0382

//! An inode set up again after others have it.

use composefs_main::vfs::{
    dir,
    file::{self, RegularFile},
    inode::{Attributes, InodeType, NewInode},
    xattr,
};

pub fn twice<T>(new: NewInode<'_, T>, attributes: &Attributes, first: T::Inode, second: T::Inode)
where
    T: dir::Operations + file::Operations + xattr::Operations,
{
    let _ = new.init(attributes, InodeType::Regular(RegularFile::paged()), first);
    let _ = new.init(attributes, InodeType::Regular(RegularFile::paged()), second);
}
