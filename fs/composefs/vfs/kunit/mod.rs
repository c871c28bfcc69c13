// SPDX-License-Identifier: GPL-2.0

//! Support for the KUnit tests of this layer: mounts of file system types, in no namespace. The
//! tests are in the files that they test.
//!
//! They check the lifetimes and bounds on which the `unsafe` code depends. Run them in a kernel
//! with KASAN. A failed test returns an error instead of asserting: an assertion of KUnit ends the
//! thread without running destructors, and the type would stay registered.

mod inode;
mod sample;

use super::{
    bindings,
    buffer::Buffer,
    context::{
        self,
        FsContext, //
    },
    dir::{
        self,
        DirEmitter, //
    },
    export,
    file,
    folio::LockedFolio,
    inode::{
        Attributes,
        Iget,
        Inode,
        InodeRef,
        InodeType, //
    },
    mapping::{
        PrivateMapping,
        Reader, //
    },
    path::PrivateMount,
    registration::Registration,
    super_block::{
        self,
        NewSuperBlock,
        SuperBlock, //
    },
    xattr::{
        self,
        ValueBuffer,
        XattrList, //
    },
    FileSystem, //
};
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    mem::MaybeUninit,
    ptr::NonNull, //
};
use kernel::{
    error::from_err_ptr,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            AtomicFlag,
            Full,
            Relaxed,
            Release, //
        },
        Arc, //
    }, //
};

/// Ends a test with an error and a log line, if a condition is false.
macro_rules! ensure {
    ($condition:expr) => {
        if !$condition {
            pr_err!(
                "# {}:{}: not so: {}\n",
                file!(),
                line!(),
                stringify!($condition)
            );
            return Err(EINVAL);
        }
    };
}
pub(super) use ensure;

/// A file system type with a root directory, and with inodes that tests create.
pub(super) struct Toy;

/// Data of a super block of [`Toy`].
pub(super) struct ToyData {
    /// One for each of [`SIZES`].
    pub(super) mappings: KVec<PrivateMapping<Pattern, 4096>>,
}

/// Sizes of the mappings: around those of pages and of large folios.
pub(super) const SIZES: [u64; 8] = [0, 1, 4095, 4096, 4097, 65536, 262_145, 300_000];

/// Counts its drop in a shared counter.
pub(super) struct Dropped(Arc<Atomic<i32>>);

impl Dropped {
    /// Creates a value that counts in `count`.
    pub(super) fn new(count: &Arc<Atomic<i32>>) -> Self {
        Self(count.clone())
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl FileSystem for Toy {
    type Module = crate::LocalModule;
    const NAME: &'static CStr = c"composefs_kunit";
    const INODE_CACHE_NAME: &'static CStr = c"composefs_kunit_inode";
    type Context = ();
    type Key = ();
    type Super = ToyData;
    type Inode = u64;
    type Pinned = Dropped;
}

impl context::Operations for Toy {}

impl dir::Operations for Toy {
    fn lookup<'a>(_: &'a Inode<Self>, _: &[u8]) -> Result<Option<InodeRef<'a, Self>>> {
        Ok(None)
    }

    fn read_dir(_: &Inode<Self>, _: &mut DirEmitter<'_>) -> Result {
        Ok(())
    }
}

impl file::Operations for Toy {
    fn read_folio(_: &Inode<Self>, _: &mut LockedFolio<'_>) -> Result {
        Err(EIO)
    }
}

#[vtable]
impl export::Operations for Toy {}

/// Value of the xattr that all inodes have.
pub(super) const VALUE: &[u8] = b"ten bytes.";

#[vtable]
impl xattr::Operations for Toy {
    fn get_xattr(_: &Inode<Self>, _: &[u8], out: &mut ValueBuffer<'_>) -> Result<usize> {
        if let Some(room) = out.room(VALUE.len()) {
            room.iter_mut()
                .zip(VALUE)
                .for_each(|(to, from)| *to = *from);
        }
        Ok(VALUE.len())
    }

    fn list_xattr(_: &Inode<Self>, list: &mut XattrList<'_>) -> Result {
        list.push(b"user.", b"name")
    }
}

/// Inode number of the root.
const ROOT: u64 = 1;

/// Returns the attributes of an inode with this type and permissions.
pub(super) fn attributes(mode: u16) -> Attributes {
    Attributes {
        mode,
        nlink: 1,
        uid: 0,
        gid: 0,
        size: 0,
        blocks: 0,
        mtime: 0,
        mtime_nsec: 0,
        no_acl: true,
        hint: 0,
    }
}

#[vtable]
impl super_block::Operations for Toy {
    fn fill_super<'a>(
        _: &FsContext<'a>,
        (): &mut (),
        sb: NewSuperBlock<'a, Self>,
    ) -> Result<InodeRef<'a, Self>> {
        let mut mappings = KVec::with_capacity(SIZES.len(), GFP_KERNEL)?;
        for size in SIZES {
            let mapping = PrivateMapping::new(Pattern::new(size), size)?;
            mappings.push(mapping, GFP_KERNEL)?;
        }
        let data = ToyData { mappings };
        let attributes_of_sb = super_block::Attributes {
            magic: 0x6b75_6e69,
            block_bits: 12,
            posix_acl: false,
            stacking: None,
            uuid: [0; 16],
        };
        match sb.init(&attributes_of_sb, Ok(data))?.iget(ROOT)? {
            Iget::New(new) => new.init(&attributes(0o40755), InodeType::Directory, 0),
            Iget::Cached(root) => Ok(root),
        }
    }
}

/// A source of bytes that differ from all bytes nearby. Its reads are counted, and can be made to
/// fail.
pub(super) struct Pattern {
    size: u64,
    broken: Atomic<i32>,
    reads: Atomic<i32>,
}

impl Pattern {
    pub(super) fn new(size: u64) -> Self {
        Self {
            size,
            broken: Atomic::new(0),
            reads: Atomic::new(0),
        }
    }

    /// Returns the byte at `pos`.
    pub(super) fn at(pos: u64) -> u8 {
        (pos ^ pos >> 8 ^ pos >> 16 ^ pos >> 24 ^ pos >> 32) as u8
    }

    /// Returns the number of reads so far.
    pub(super) fn reads(&self) -> i32 {
        self.reads.load(Relaxed)
    }

    /// Sets whether reads end too early.
    pub(super) fn set_broken(&self, broken: bool) {
        self.broken.store(broken.into(), Relaxed);
    }
}

impl Reader for Pattern {
    fn read(&self, pos: u64, out: &mut Buffer<'_>) -> Result {
        let left = usize::try_from(self.size.saturating_sub(pos)).map_err(|_| EFBIG)?;
        let mut len = left.min(out.room());
        self.reads.fetch_add(1, Relaxed);
        if self.broken.load(Relaxed) != 0 {
            len /= 2;
        }
        for (byte, pos) in out.rest().iter_mut().take(len).zip(pos..) {
            byte.write(Self::at(pos));
        }
        // SAFETY: They have been written, as there is room for them.
        unsafe { out.advance(len) };
        Ok(())
    }
}

/// Static memory for the registration of `T`: see [`Registration::new`].
pub(super) struct Place<T: super_block::Operations> {
    taken: AtomicFlag,
    memory: UnsafeCell<MaybeUninit<Registration<T>>>,
}

// SAFETY: Only the task that has set `taken` uses the memory.
unsafe impl<T: super_block::Operations> Sync for Place<T> {}

impl<T: super_block::Operations> Place<T> {
    /// Creates a place without a registration.
    pub(super) const fn new() -> Self {
        Self {
            taken: AtomicFlag::new(false),
            memory: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }
}

/// A file system type that tests mount.
pub(super) trait Mountable: super_block::Operations + context::Operations {
    /// Returns the static place of its registration.
    fn place() -> &'static Place<Self>;
}

impl Mountable for Toy {
    fn place() -> &'static Place<Self> {
        static PLACE: Place<Toy> = Place::new();
        &PLACE
    }
}

/// A mount of `T`. There is only one at a time.
///
/// # Invariants
///
/// Owns the mount `mnt` and the place [`Mountable::place`], in which its type is registered.
pub(super) struct MountOf<T: Mountable> {
    mnt: NonNull<bindings::vfsmount>,
    _type: PhantomData<T>,
}

/// A mount of [`Toy`].
pub(super) type Mount = MountOf<Toy>;

impl<T: Mountable> MountOf<T> {
    pub(super) fn new() -> Result<Self> {
        if T::place().taken.xchg(true, Full) {
            return Err(EBUSY);
        }
        Self::register().inspect_err(|_| T::place().taken.store(false, Release))
    }

    /// The place must be ours.
    fn register() -> Result<Self> {
        let registration = T::place().memory.get().cast::<Registration<T>>();
        // SAFETY: The memory is static and ours. The registration is dropped there when it has no
        // mount, or when its only mount is gone.
        let mnt = unsafe {
            pin_init::raw_try_init(registration, Registration::<T>::new())?;
            from_err_ptr(bindings::kern_mount((*registration).fs_type())).inspect_err(|_| {
                core::ptr::drop_in_place(registration);
            })?
        };
        // INVARIANT: `kern_mount` has returned a new mount.
        Ok(Self {
            mnt: NonNull::new(mnt).ok_or(EINVAL)?,
            _type: PhantomData,
        })
    }

    /// Returns the super block.
    pub(super) fn sb(&self) -> &SuperBlock<T> {
        // SAFETY: The mount is valid by the type invariants, and its super block has its data.
        unsafe { SuperBlock::from_raw((*self.mnt.as_ptr()).mnt_sb) }
    }

    /// Returns the mount, to look names up in it.
    pub(super) fn root(&self) -> &PrivateMount {
        // SAFETY: `PrivateMount` is a transparent wrapper of a pointer to a mount, and this mount
        // is in no namespace.
        unsafe { &*(&raw const self.mnt).cast() }
    }
}

impl<T: Mountable> Drop for MountOf<T> {
    fn drop(&mut self) {
        // SAFETY: The mount and the registration are owned. Unmounting evicts all inodes. If one is
        // left, destroying the inode cache warns.
        unsafe {
            bindings::kern_unmount(self.mnt.as_ptr());
            core::ptr::drop_in_place(T::place().memory.get().cast::<Registration<T>>());
        }
        T::place().taken.store(false, Release);
    }
}
