// SPDX-License-Identifier: GPL-2.0

//! A small file system: a place to begin to read this layer, and a test of it.
//!
//! Its tree is fixed, and the content of its file is in memory:
//!
//! ```text
//! /               a directory
//! /docs           a directory
//! /docs/hello     a regular file
//! ```
//!
//! A file system is a type without data that implements [`FileSystem`] and one `Operations` trait
//! for each kind of object. A module registers the type with
//! [`module_fs!`](crate::vfs::registration::module_fs); the tests mount it without a name.

use super::{
    MountOf,
    Mountable,
    Place, //
};
use crate::vfs::{
    context::{
        self,
        FsContext, //
    },
    dir::{
        self,
        DirEmitter, //
    },
    export,
    file::{
        self,
        RegularFile, //
    },
    folio::LockedFolio,
    inode::{
        Attributes,
        Iget,
        Inode,
        InodeRef,
        InodeType, //
    },
    super_block::{
        self,
        NewSuperBlock,
        SuperBlock, //
    },
    xattr,
    FileSystem, //
};
use kernel::prelude::*;

/// A file or directory. Its inode number is one more than its index in [`TREE`].
struct Node {
    /// Inode number of the directory that it is in.
    parent: u64,
    name: &'static [u8],
    /// `None` for a directory.
    content: Option<&'static [u8]>,
}

/// Inode number of the root directory.
const ROOT: u64 = 1;

/// The content of `/docs/hello`.
const HELLO: &[u8] = b"Hello from Rust.\n";

static TREE: [Node; 3] = [
    Node {
        parent: ROOT,
        name: b"",
        content: None,
    },
    Node {
        parent: ROOT,
        name: b"docs",
        content: None,
    },
    Node {
        parent: 2,
        name: b"hello",
        content: Some(HELLO),
    },
];

/// Returns the node with the inode number `ino`.
fn node(ino: u64) -> Result<&'static Node> {
    let index = ino.checked_sub(1).and_then(|i| usize::try_from(i).ok());
    index.and_then(|index| TREE.get(index)).ok_or(ENOENT)
}

/// Returns the inode numbers and nodes of the directory with the number `ino`.
fn children(ino: u64) -> impl Iterator<Item = (u64, &'static Node)> {
    let numbered = (ROOT..).zip(&TREE);
    numbered.filter(move |(child, node)| node.parent == ino && *child != ROOT)
}

/// The file system type.
pub(super) struct Sample;

impl FileSystem for Sample {
    type Module = crate::LocalModule;
    const NAME: &'static CStr = c"vfs_sample";
    const INODE_CACHE_NAME: &'static CStr = c"vfs_sample_inode";
    // Nothing is kept with a mount in the making, a super block or an inode: all is in `TREE`.
    type Context = ();
    type Key = ();
    type Super = ();
    type Inode = ();
    type Pinned = ();
}

impl Sample {
    /// Returns the inode `ino`. The VFS keeps inodes in memory, so there is nothing to do unless
    /// the inode is new: then it is locked, and `init` unlocks it.
    fn inode(sb: &SuperBlock<Self>, ino: u64) -> Result<InodeRef<'_, Self>> {
        let new = match sb.iget(ino)? {
            Iget::Cached(inode) => return Ok(inode),
            Iget::New(new) => new,
        };
        let content = node(ino)?.content;
        let (mode, nlink, kind) = match content {
            None => (0o040_555, 2, InodeType::Directory),
            Some(_) => (0o100_444, 1, InodeType::Regular(RegularFile::paged())),
        };
        let attributes = Attributes {
            mode,
            nlink,
            uid: 0,
            gid: 0,
            size: u64::try_from(content.map_or(0, <[u8]>::len))?,
            blocks: 0,
            mtime: 0,
            mtime_nsec: 0,
            no_acl: true,
            hint: 0,
        };
        new.init(&attributes, kind, ())
    }
}

/// There are no options: the VFS itself takes `ro`, `nodev` and the like.
impl context::Operations for Sample {}

#[vtable]
impl super_block::Operations for Sample {
    /// Gives the super block its data first: inodes borrow it from then on.
    fn fill_super<'a>(
        _: &FsContext<'a>,
        (): &mut (),
        sb: NewSuperBlock<'a, Self>,
    ) -> Result<InodeRef<'a, Self>> {
        let attributes = super_block::Attributes {
            magic: 0x5341_4d50,
            block_bits: 12,
            posix_acl: false,
            stacking: None,
            uuid: [0; 16],
        };
        Self::inode(sb.init(&attributes, Ok(()))?, ROOT)
    }
}

/// `FT_REG_FILE` and `FT_DIR` of `include/linux/fs_types.h`.
const FT_REG_FILE: u8 = 1;
const FT_DIR: u8 = 2;

impl dir::Operations for Sample {
    fn lookup<'a>(dir: &'a Inode<Self>, name: &[u8]) -> Result<Option<InodeRef<'a, Self>>> {
        match children(dir.ino()).find(|(_, node)| node.name == name) {
            Some((ino, _)) => Self::inode(dir.super_block(), ino).map(Some),
            None => Ok(None),
        }
    }

    /// Emits what is at the emitter's position and behind it. Here a position is the number of an
    /// entry, with `.` and `..` in front.
    fn read_dir(dir: &Inode<Self>, emitter: &mut DirEmitter<'_>) -> Result {
        let dots: [(&[u8], u64, u8); 2] = [
            (b".", dir.ino(), FT_DIR),
            (b"..", node(dir.ino())?.parent, FT_DIR),
        ];
        let entries = children(dir.ino()).map(|(ino, node)| match node.content {
            None => (node.name, ino, FT_DIR),
            Some(_) => (node.name, ino, FT_REG_FILE),
        });
        let entries = Iterator::chain(dots.into_iter(), entries);
        let start = emitter.pos();
        for (pos, (name, ino, file_type)) in (0..).zip(entries) {
            if pos < start {
                continue;
            }
            emitter.set_pos(pos);
            if !emitter.emit(name, ino, file_type) {
                return Ok(());
            }
            emitter.set_pos(pos + 1);
        }
        Ok(())
    }
}

impl file::Operations for Sample {
    /// Copies a part of the content to the page cache. The folio is all zeros before.
    fn read_folio(inode: &Inode<Self>, folio: &mut LockedFolio<'_>) -> Result {
        let content = node(inode.ino())?.content.ok_or(EISDIR)?;
        let from = content.get(usize::try_from(folio.pos())?..).unwrap_or(&[]);
        for (to, from) in folio.bytes_mut().iter_mut().zip(from) {
            *to = *from;
        }
        Ok(())
    }
}

// There are no extended attributes and no file handles: the tables have NULL in their place.
#[vtable]
impl xattr::Operations for Sample {}

#[vtable]
impl export::Operations for Sample {}

impl Mountable for Sample {
    fn place() -> &'static Place<Self> {
        static PLACE: Place<Sample> = Place::new();
        &PLACE
    }
}

#[kunit_tests(composefs_vfs_sample)]
mod tests {
    use super::*;
    use crate::vfs::{
        bindings,
        buffer::Buffer,
        cred,
        kernel_file::KernelFile,
        kunit::ensure,
        mapping::Reader, //
    };
    use core::mem::MaybeUninit;
    use kernel::error::{
        from_err_ptr,
        to_result, //
    };

    #[test]
    fn names_lead_to_files() -> Result {
        let mount = MountOf::<Sample>::new()?;
        ensure!(mount.root().lookup(c"docs")?.is_directory());
        ensure!(mount.root().lookup(c"docs/hello")?.is_regular());
        ensure!(mount.root().lookup(c"hello").err() == Some(ENOENT));
        ensure!(mount.root().lookup(c"docs/hello/x").err() == Some(ENOTDIR));
        Ok(())
    }

    #[test]
    fn a_file_has_its_content() -> Result {
        let mount = MountOf::<Sample>::new()?;
        let path = mount.root().lookup(c"docs/hello")?;
        let file = KernelFile::open(&path, &*cred::current()?)?;
        ensure!(file.size() == u64::try_from(HELLO.len())?);
        for pos in 0..HELLO.len() + 2 {
            let mut memory = [MaybeUninit::new(0xa5); 32];
            let mut buffer = Buffer::new(&mut memory);
            file.read(u64::try_from(pos)?, &mut buffer)?;
            let len = buffer.filled();
            // SAFETY: All bytes were given a value.
            let memory = memory.map(|byte| unsafe { byte.assume_init() });
            ensure!(memory.get(..len) == Some(HELLO.get(pos..).unwrap_or(&[])));
        }
        Ok(())
    }

    /// A `dir_context` that counts entries.
    #[repr(C)]
    struct Counter {
        ctx: bindings::dir_context,
        entries: usize,
    }

    /// # Safety
    ///
    /// `ctx` must be that of a [`Counter`].
    unsafe extern "C" fn count(
        ctx: *mut bindings::dir_context,
        _: *const c_char,
        _: c_int,
        _: i64,
        _: u64,
        _: c_uint,
    ) -> bool {
        // SAFETY: The context is the first field of a `Counter`.
        unsafe { (*ctx.cast::<Counter>()).entries += 1 };
        true
    }

    #[test]
    fn a_directory_lists_its_entries() -> Result {
        let mount = MountOf::<Sample>::new()?;
        let (path, cred) = (mount.root().root(), cred::current()?);
        for start in 0..5 {
            let mut counter = Counter {
                ctx: bindings::dir_context {
                    actor: Some(count),
                    ..pin_init::zeroed()
                },
                entries: 0,
            };
            let raw: *mut Counter = &raw mut counter;
            let flags = (bindings::O_RDONLY | bindings::O_DIRECTORY) as c_int;
            // SAFETY: Path and credentials are valid. The file is ours until it is put, and the
            // context is that of a `Counter`.
            let result = unsafe {
                let file = bindings::kernel_file_open(path.as_ptr(), flags, cred.as_ptr());
                let file = from_err_ptr(file)?;
                (*file).f_pos = start;
                (*raw).ctx.pos = start;
                let result = to_result(bindings::iterate_dir(file, raw.cast()));
                bindings::fput(file);
                result
            };
            result?;
            // `.`, `..` and `docs`.
            ensure!(counter.entries == usize::try_from(3 - start).unwrap_or(0));
        }
        Ok(())
    }
}
