// SPDX-License-Identifier: GPL-2.0

//! composefs: a read-only file system of verified metadata over shared, content-addressed files.
//!
//! A mount takes an image and one or more basedirs. The image holds names, modes, attributes and,
//! for each file, the path and the fs-verity digest of an object. The objects, which hold the
//! content, are below the basedirs. See `Documentation/filesystems/composefs.rst`.
//!
//! | file           | contents                                                              |
//! |----------------|-----------------------------------------------------------------------|
//! | `mount.rs`     | from a file system context to a filled super block                    |
//! | `file.rs`      | open(2), and where reads and memory maps get the content              |
//! | `dir.rs`       | lookup and readdir                                                    |
//! | `xattr.rs`     | extended attributes and ACLs, with the names that overlayfs shows     |
//! | `handle.rs`    | file handles                                                          |
//! | `inode.rs`     | reading inodes from the image, and what is kept of them               |
//! | `object.rs`    | finding the object of an inode, and verifying it                      |
//! | `report.rs`    | log lines, fserror events and error numbers for damage                |
//! | `trace.rs`     | trace events                                                          |
//! | `sb.rs`        | what a super block holds                                              |
//! | `options.rs`   | mount options                                                         |
//! | `signature.rs` | the signature of an image                                             |
//! | `refusal.rs`   | why a signature was refused, in words                                 |
//! | `reason.rs`    | the text of an error number                                           |
//! | `given.rs`     | files and directories that mount options name                         |
//! | `digest.rs`    | fs-verity digests                                                     |
//! | `cache.rs`     | the image's bytes, through a page cache                               |
//! | `image/`       | the on-disk format                                                    |
//! | `pkcs7/`       | what a signature says about its signers                               |
//! | `vfs/`         | safe abstractions over the C VFS                                      |
//!
//! A file imports only files below it in this list.

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

mod cache;
mod digest;
mod dir;
mod file;
mod given;
mod handle;
pub mod image;
mod inode;
mod mount;
mod object;
mod options;
pub mod pkcs7;
mod reason;
mod refusal;
mod report;
mod sb;
mod signature;
mod trace;
#[allow(unsafe_code, clippy::as_conversions)]
pub mod vfs;
mod xattr;

use kernel::prelude::*;

crate::vfs::registration::module_fs! {
    type: Composefs,
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
            description: "Largest number of small objects that a mount keeps open",
        },
        require_signatures: bool {
            default: false,
            description: "Refuse images without a good signature",
        },
        secondary_keyring: bool {
            default: false,
            description: "Trust the kernel's own keys and its secondary keyring, too",
        },
        platform_keyring: bool {
            default: false,
            description: "Trust the keys of the machine's firmware, too",
        },
    },
}

/// The file system type. The files above implement its operations.
struct Composefs;

impl crate::vfs::FileSystem for Composefs {
    type Module = LocalModule;
    const NAME: &'static CStr = c"composefs";
    const INODE_CACHE_NAME: &'static CStr = c"composefs_inode";
    const KEYRING_NAME: Option<&'static CStr> = Some(signature::KEYRING);

    fn allows_user_namespaces() -> bool {
        module_parameters::userns_mount.value()
    }

    type Context = mount::Context;
    type Key = sb::Key;
    type Super = sb::SbInfo;
    type Inode = inode::InodeData;
    type Pinned = inode::FileData;

    fn evicted(sbi: &sb::SbInfo, data: &inode::FileData) -> bool {
        match data {
            inode::FileData::Object(object) => object.evicted(&sbi.shared_objects),
            inode::FileData::Inline(_) | inode::FileData::Zeros => false,
        }
    }

    fn drop_later(data: inode::FileData) {
        if let inode::FileData::Object(object) = data {
            object.drop_later();
        }
    }
}
