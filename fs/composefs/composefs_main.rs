// SPDX-License-Identifier: GPL-2.0

//! composefs: a read-only file system of verified metadata over shared, content-addressed files.
//!
//! A mount takes an image, which holds names, modes, attributes and, for each file, the path and
//! the fs-verity digest of its content, and object directories, in which the content is. See
//! `Documentation/filesystems/composefs.rst`.
//!
//! | file       | what                                                                      |
//! |------------|---------------------------------------------------------------------------|
//! | `mount.rs` | parameters, the super block                                               |
//! | `inode.rs` | inodes of the image as inodes of the VFS                                  |
//! | `dir.rs`   | lookup and readdir                                                        |
//! | `xattr.rs` | extended attributes and access control lists, as overlayfs would show them |
//! | `file.rs`  | open, and where the data come from                                        |
//! | `handle.rs` | file handles                                                             |
//! | `blob.rs`  | an object: found, opened and verified when first read                     |
//! | `cache.rs` | the image's bytes, through a page cache                                   |
//! | `fault.rs` | what is said when something is wrong with an image or an object           |
//! | `image/`   | the on-disk format                                                        |
//! | `vfs/`     | safe abstractions over the C VFS                                          |

#![deny(
    unsafe_code,
    missing_docs,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod blob;
mod cache;
mod dir;
mod fault;
mod file;
mod handle;
pub mod image;
mod inode;
mod mount;
mod options;
#[allow(unsafe_code, clippy::as_conversions)]
pub mod vfs;
mod xattr;

use kernel::prelude::*;

module! {
    type: Module,
    name: "composefs",
    authors: ["The composefs for Linux developers"],
    description: "Read-only file system of verified metadata over content-addressed files",
    license: "GPL",
    alias: ["fs-composefs"],
    params: {
        userns_mount: bool {
            default: false,
            description: "Let the root of a user namespace mount images",
        },
        shared_objects: u32 {
            default: 4096,
            description: "Small objects that a mount keeps open at most",
        },
    },
}

/// The file system type; its parts are in the files named above.
struct Composefs;

impl vfs::FileSystem for Composefs {
    type Module = LocalModule;
    const NAME: &'static CStr = c"composefs";
    const INODE_CACHE_NAME: &'static CStr = c"composefs_inode";
    fn allows_user_namespaces() -> bool {
        module_parameters::userns_mount.value()
    }

    type Context = options::Options;
    type Key = mount::Key;
    type Super = mount::Mounted;
    type Inode = inode::Kept;
    type Pinned = inode::Pinned;
    type Open = blob::OpenBlob;

    fn evicted(mounted: &mount::Mounted, pinned: &inode::Pinned) -> bool {
        match pinned {
            inode::Pinned::Blob(blob) => blob::evicted(mounted.shared(), blob),
            inode::Pinned::Content(_) | inode::Pinned::Zeros => false,
        }
    }

    fn drop_later(pinned: inode::Pinned) {
        if let inode::Pinned::Blob(blob) = pinned {
            blob::drop_later(blob);
        }
    }
}

/// What is there while the module is loaded.
#[pin_data]
struct Module {
    #[pin]
    _registration: vfs::registration::Registration<Composefs>,
}

impl kernel::InPlaceModule for Module {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _registration <- vfs::registration::Registration::new(),
        })
    }
}
