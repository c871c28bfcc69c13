// SPDX-License-Identifier: GPL-2.0

//! Inodes.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::{
    bindings,
    dir,
    file::{
        self,
        RegularFile, //
    },
    later::Node,
    once::OnceBox,
    registration,
    super_block::{
        self,
        SuperBlock, //
    },
    xattr,
    FileSystem, //
};
use core::{
    marker::PhantomData,
    mem::{
        ManuallyDrop,
        MaybeUninit, //
    },
    ops::Deref,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    container_of,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    types::Opaque, //
};

/// The memory of one inode.
#[repr(C)]
pub(super) struct Container<T: FileSystem> {
    inode: bindings::inode,
    /// Dropped by `evict`.
    pinned: Acquired<T::Pinned>,
    /// Initialised by [`NewInode::init`]; never dropped.
    data: MaybeUninit<T::Inode>,
}

/// An inode of `T` that is set up.
///
/// # Invariants
///
/// The inode is embedded in a [`Container<T>`], is set up, and belongs to a super block whose data
/// are set. A reference to it is held while it is borrowed.
#[repr(transparent)]
pub struct Inode<T: FileSystem>(Opaque<bindings::inode>, PhantomData<T>);

// SAFETY: References to an inode may be passed between threads; its data are `Send` and `Sync`.
unsafe impl<T: FileSystem> Send for Inode<T> {}

// SAFETY: As above.
unsafe impl<T: FileSystem> Sync for Inode<T> {}

/// An owned reference to an inode. Dropping it calls `iput()`.
///
/// It borrows the super block, so that it cannot outlive it: when a super block is shut down, its
/// data are freed, and the pointers of inodes that are still in use are poisoned.
///
/// # Invariants
///
/// Owns a reference to `inode`, which is an [`Inode<T>`] of a super block that is borrowed for
/// `'sb`.
pub struct InodeRef<'sb, T: FileSystem> {
    inode: NonNull<bindings::inode>,
    _sb: PhantomData<&'sb SuperBlock<T>>,
}

// SAFETY: `iput()` may be called by any thread that may sleep; the inode is `Send` and `Sync`.
unsafe impl<T: FileSystem> Send for InodeRef<'_, T> {}

// SAFETY: A shared reference gives only `&Inode<T>`, which is `Sync`.
unsafe impl<T: FileSystem> Sync for InodeRef<'_, T> {}

impl<T: FileSystem> InodeRef<'_, T> {
    /// # Safety
    ///
    /// `inode` must be an inode of `T` that is set up, and its super block must have its data as
    /// long as the result lives. The caller must own a reference, which the result takes over.
    unsafe fn from_raw(inode: NonNull<bindings::inode>) -> Self {
        // INVARIANT: The reference is owned, and the super block has its data.
        Self {
            inode,
            _sb: PhantomData,
        }
    }

    /// Passes the reference to a C function that takes it over.
    pub(super) fn into_raw(self) -> *mut bindings::inode {
        ManuallyDrop::new(self).inode.as_ptr()
    }
}

impl<T: FileSystem> Deref for InodeRef<'_, T> {
    type Target = Inode<T>;

    #[inline]
    fn deref(&self) -> &Inode<T> {
        // SAFETY: By the type invariants the inode is set up, and a reference is held.
        unsafe { Inode::from_raw(self.inode.as_ptr()) }
    }
}

impl<T: FileSystem> Drop for InodeRef<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the reference is owned. It is not used again.
        unsafe { bindings::iput(self.inode.as_ptr()) };
    }
}

impl<T: FileSystem> Inode<T> {
    /// # Safety
    ///
    /// `ptr` must be an inode of `T` that is set up, with a reference held for the lifetime `'a`.
    #[inline]
    pub(super) unsafe fn from_raw<'a>(ptr: *mut bindings::inode) -> &'a Self {
        // SAFETY: The inode is set up, and a reference is held. The type is transparent.
        unsafe { &*ptr.cast() }
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::inode {
        self.0.get()
    }

    #[inline]
    fn container(&self) -> *mut Container<T> {
        // SAFETY: By the type invariants the inode is in a container.
        unsafe { container_of!(self.0.get(), Container<T>, inode) }
    }

    /// Returns the inode number.
    #[inline]
    pub fn ino(&self) -> u64 {
        // SAFETY: The number of an inode that is set up does not change.
        unsafe { (*self.0.get()).i_ino }
    }

    /// Returns the size in bytes. It does not change, because the file system is read-only.
    #[inline]
    pub fn size(&self) -> u64 {
        // SAFETY: The inode is valid.
        let size = unsafe { bindings::i_size_read(self.0.get()) };
        u64::try_from(size).unwrap_or(0)
    }

    #[inline]
    fn is_type(&self, format: c_uint) -> bool {
        // SAFETY: The type of an inode that is set up does not change.
        let mode = unsafe { (*self.0.get()).i_mode };
        c_uint::from(mode) & bindings::S_IFMT == format
    }

    /// Whether it is a directory.
    #[inline]
    pub fn is_dir(&self) -> bool {
        self.is_type(bindings::S_IFDIR)
    }

    /// Whether it is a regular file.
    #[inline]
    pub fn is_regular(&self) -> bool {
        self.is_type(bindings::S_IFREG)
    }

    /// Returns the data that the inode has from the start.
    #[inline]
    pub fn data(&self) -> &T::Inode {
        // SAFETY: The inode is set up, so `NewInode::init` has initialised the data. Since then
        // there are only shared references to them.
        unsafe { (*self.container()).data.assume_init_ref() }
    }

    /// Returns the data that the inode gets once.
    #[inline]
    pub fn pinned(&self) -> &Acquired<T::Pinned> {
        // SAFETY: `alloc` has initialised them. Only `evict` borrows them mutably, when there are
        // no references to the inode and so no `Inode` to borrow them from.
        unsafe { &(*self.container()).pinned }
    }

    /// Returns a number that the file system may store in the inode.
    #[inline]
    pub fn hint(&self) -> &Hint {
        // SAFETY: `Hint` is a transparent wrapper of a word with any value. `i_private` belongs to
        // the file system. Only this and `NewInode::init` access it.
        unsafe { &*(&raw mut (*self.0.get()).i_private).cast() }
    }

    /// Returns the super block.
    #[inline]
    pub fn super_block(&self) -> &SuperBlock<T> {
        // SAFETY: By the type invariants the super block has its data. It outlives its inodes.
        unsafe { SuperBlock::from_raw((*self.0.get()).i_sb) }
    }

    /// Whether it is an inode of `sb`.
    pub(super) fn is_of(&self, sb: &SuperBlock<T>) -> bool {
        core::ptr::eq(self.super_block(), sb)
    }

    /// Reports damaged metadata of this inode to the listeners of fanotify's `FAN_FS_ERROR`.
    pub fn report_corruption(&self) {
        // SAFETY: The inode is valid.
        unsafe {
            bindings::fserror_report_file_metadata(self.0.get(), EFSCORRUPTED.to_errno());
        }
    }

    /// Reports lost content of this inode to the listeners of fanotify's `FAN_FS_ERROR`.
    pub fn report_data_lost(&self) {
        // SAFETY: The inode is valid.
        unsafe {
            bindings::fserror_report_data_lost(self.0.get(), 0, self.size());
        }
    }
}

/// Data that an inode gets once, by the first of several tasks.
#[repr(transparent)]
pub struct Acquired<T>(OnceBox<Node<T>>);

impl<T> Acquired<T> {
    /// Returns the data, if they are set.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        self.0.get().map(|node| &node.value)
    }

    /// Sets the data unless they are set already. Returns the data that are set then. The memory is
    /// charged to the memory cgroup of the task that sets them.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn get_or_set(&self, value: T) -> Result<&T> {
        let node = KBox::new(Node::new(value), GFP_KERNEL_ACCOUNT)?;
        Ok(&self.0.get_or_set(node).value)
    }
}

/// A number without meaning for the VFS. Reads and writes are not ordered.
#[repr(transparent)]
pub struct Hint(Atomic<usize>);

impl Hint {
    /// Returns the number, 0 at first.
    #[inline]
    pub fn get(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// Sets the number.
    #[inline]
    pub fn set(&self, value: usize) {
        self.0.store(value, Relaxed);
    }
}

/// Attributes of an inode of any type.
#[derive(Clone, Copy)]
pub struct Attributes {
    /// Type and permissions: `i_mode`.
    pub mode: u16,
    /// Number of links, not 0.
    pub nlink: u32,
    /// Owner, in the user namespace of the super block.
    pub uid: u32,
    /// Group, in the user namespace of the super block.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Number of units of 512 bytes that it occupies: `i_blocks`.
    pub blocks: u64,
    /// Modification time in seconds since 1970. The other times are set to it.
    pub mtime: i64,
    /// Nanoseconds of `mtime`.
    pub mtime_nsec: u32,
    /// Whether the inode is known to have no access control list.
    pub no_acl: bool,
    /// First value of [`Inode::hint`].
    pub hint: usize,
}

/// The type of an inode, and what depends on it.
pub enum InodeType<'a, T> {
    /// A directory.
    Directory,
    /// A symbolic link with its target.
    Symlink(&'a [u8]),
    /// A regular file.
    Regular(RegularFile<T>),
    /// A device with its number as `new_encode_dev()` encodes it, a fifo or a socket.
    Special(u32),
}

/// The result of [`SuperBlock::iget`].
pub enum Iget<'sb, T: FileSystem> {
    /// The inode was in memory.
    Cached(InodeRef<'sb, T>),
    /// The inode is new, and must be set up. Other tasks that look it up wait.
    New(NewInode<'sb, T>),
}

/// A new inode. If it is dropped without being set up, it is removed from memory, and tasks that
/// wait for it get an error.
///
/// # Invariants
///
/// Owns a reference to the inode, which is locked by `I_NEW`, embedded in a [`Container<T>`], and
/// belongs to a super block that is borrowed for `'sb`.
pub struct NewInode<'sb, T: FileSystem> {
    inode: NonNull<bindings::inode>,
    _sb: PhantomData<&'sb SuperBlock<T>>,
}

impl<T: FileSystem> SuperBlock<T> {
    /// Finds the inode number `ino` in memory, or creates it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn iget(&self, ino: u64) -> Result<Iget<'_, T>> {
        // SAFETY: The super block is valid. `alloc` allocates its inodes.
        let inode = NonNull::new(unsafe { bindings::iget_locked(self.as_ptr(), ino) });
        let inode = inode.ok_or(ENOMEM)?;
        // SAFETY: A reference to the inode is held.
        if unsafe { bindings::inode_is_new(inode.as_ptr()) } {
            // INVARIANT: The inode is new, and the reference is owned.
            Ok(Iget::New(NewInode {
                inode,
                _sb: PhantomData,
            }))
        } else {
            // SAFETY: The reference is owned. An inode of this super block that is not new was set
            // up by `NewInode::init`.
            Ok(Iget::Cached(unsafe { InodeRef::from_raw(inode) }))
        }
    }
}

impl<T: FileSystem> SuperBlock<T> {
    /// Finds the inode number `ino`, if it is in memory.
    pub fn cached(&self, ino: u64) -> Option<InodeRef<'_, T>> {
        // SAFETY: The super block is valid.
        let inode = NonNull::new(unsafe { bindings::ilookup(self.as_ptr(), ino) })?;
        // SAFETY: The reference is owned. `ilookup()` waits until the inode is set up, and returns
        // none if that fails.
        Some(unsafe { InodeRef::from_raw(inode) })
    }
}

impl<'sb, T: FileSystem> NewInode<'sb, T> {
    /// Sets the inode up and unlocks it. `data` are the data that it has from the start.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `kind` is not the type of the mode, the size is larger than a file can be, or a
    /// link target has a NUL. `ENOMEM`, or the error of `data`.
    pub fn init<E>(
        self,
        attributes: &Attributes,
        kind: InodeType<'_, T>,
        data: impl PinInit<T::Inode, E>,
    ) -> Result<InodeRef<'sb, T>>
    where
        Error: From<E>,
        T: dir::Operations + file::Operations + xattr::Operations,
    {
        let inode = self.inode.as_ptr();
        let size = i64::try_from(attributes.size).map_err(|_| EINVAL)?;
        let format = c_uint::from(attributes.mode) & bindings::S_IFMT;
        let fits = match &kind {
            InodeType::Directory => format == bindings::S_IFDIR,
            InodeType::Symlink(_) => format == bindings::S_IFLNK,
            InodeType::Regular(_) => format == bindings::S_IFREG,
            InodeType::Special(_) => [
                bindings::S_IFCHR,
                bindings::S_IFBLK,
                bindings::S_IFIFO,
                bindings::S_IFSOCK,
            ]
            .contains(&format),
        };
        if !fits {
            return Err(EINVAL);
        }
        // SAFETY: The inode is in a container, which does not move. Nothing else accesses the data
        // before the inode is set up. If this fails they need no drop.
        unsafe {
            let container: *mut Container<T> = container_of!(inode, Container<T>, inode);
            pin_init::raw_try_init((*container).data.as_mut_ptr(), data)?;
        }
        // `free` frees the link target by the mode, so both are set together.
        let link = match &kind {
            InodeType::Symlink(target) => Some(copy_link(target)?),
            _ => None,
        };
        // SAFETY: Nothing else uses the inode until it is unlocked.
        unsafe {
            (*inode).i_mode = attributes.mode;
            (*inode).i_private = core::ptr::without_provenance_mut(attributes.hint);
            bindings::set_nlink(inode, attributes.nlink);
            bindings::i_uid_write(inode, attributes.uid);
            bindings::i_gid_write(inode, attributes.gid);
            bindings::i_size_write(inode, size);
            (*inode).i_blocks = attributes.blocks;
            bindings::inode_set_times(inode, attributes.mtime, attributes.mtime_nsec);
        }
        // SAFETY: As above. The table is static.
        unsafe {
            if attributes.no_acl {
                bindings::cache_no_acl(inode);
            }
            (*inode).i_op = Tables::<T>::inode_operations();
        }
        match kind {
            // SAFETY: As above.
            InodeType::Directory => unsafe { dir::set_operations::<T>(inode) },
            // SAFETY: As above.
            InodeType::Regular(file) => unsafe { file.set_operations(inode) },
            // SAFETY: As above.
            InodeType::Special(rdev) => unsafe {
                let rdev = bindings::new_decode_dev(rdev);
                bindings::init_special_inode(inode, attributes.mode, rdev);
            },
            // SAFETY: As above. The link target ends in a NUL, and has this length. `free` frees
            // it.
            InodeType::Symlink(_) => unsafe {
                if let Some((target, len)) = link {
                    bindings::inode_set_cached_link(inode, target, len);
                }
                (*inode).i_op = Tables::<T>::link_operations();
            },
        }
        // SAFETY: The inode is new, and is now set up.
        unsafe { bindings::unlock_new_inode(inode) };
        let me = ManuallyDrop::new(self);
        // SAFETY: The inode is set up. The result takes over the reference of `self`.
        Ok(unsafe { InodeRef::from_raw(me.inode) })
    }
}

impl<T: FileSystem> Drop for NewInode<'_, T> {
    fn drop(&mut self) {
        // SAFETY: The inode is new. `iget_failed()` drops the reference, which is owned.
        unsafe { bindings::iget_failed(self.inode.as_ptr()) };
    }
}

/// Copies a link target, with a NUL behind it, to memory for `kfree()`. Returns the copy and its
/// length without the NUL.
fn copy_link(target: &[u8]) -> Result<(*mut c_char, c_int)> {
    if target.contains(&0) {
        return Err(EINVAL);
    }
    let len = c_int::try_from(target.len()).map_err(|_| EINVAL)?;
    let size = target.len().checked_add(1).ok_or(EINVAL)?;
    let mut copy = KVec::with_capacity(size, GFP_KERNEL_ACCOUNT)?;
    copy.extend_from_slice(target, GFP_KERNEL_ACCOUNT)?;
    copy.push(0, GFP_KERNEL_ACCOUNT)?;
    let (raw, _, _) = copy.into_raw_parts();
    Ok((raw, len))
}

/// Operation tables of inodes.
pub(super) struct Tables<T>(PhantomData<T>);

impl<T: dir::Operations + xattr::Operations> Tables<T> {
    const DIR_OPERATIONS: bindings::inode_operations = bindings::inode_operations {
        lookup: Some(dir::lookup::<T>),
        ..Self::OTHER_OPERATIONS
    };
}

impl<T: xattr::Operations> Tables<T> {
    pub(super) const OTHER_OPERATIONS: bindings::inode_operations = bindings::inode_operations {
        getattr: Some(getattr),
        ..xattr::inode_operations::<T>()
    };

    const LINK_OPERATIONS: bindings::inode_operations = bindings::inode_operations {
        get_inode_acl: None,
        getattr: Some(getattr),
        get_link: Some(bindings::simple_get_link),
        ..xattr::inode_operations::<T>()
    };

    fn inode_operations() -> &'static bindings::inode_operations {
        &Self::OTHER_OPERATIONS
    }

    fn link_operations() -> &'static bindings::inode_operations {
        &Self::LINK_OPERATIONS
    }
}

/// Attributes of statx(2) that are known of all inodes.
const KNOWN_ATTRIBUTES: u32 =
    bindings::STATX_ATTR_IMMUTABLE | bindings::STATX_ATTR_APPEND | bindings::STATX_ATTR_COMPRESSED;

/// `->getattr` of all inodes. It sets `STATX_ATTR_IMMUTABLE`. `S_IMMUTABLE` is not set, because
/// overlayfs would copy it to a file that it copies up.
///
/// # Safety
///
/// `path` must lead to an inode. The others must be arguments of `->getattr`.
#[inline]
pub(super) unsafe extern "C" fn getattr(
    idmap: *mut bindings::mnt_idmap,
    path: *const bindings::path,
    stat: *mut bindings::kstat,
    request: u32,
    _flags: c_uint,
) -> c_int {
    let immutable = u64::from(bindings::STATX_ATTR_IMMUTABLE);
    // SAFETY: `path` and `stat` are the arguments of `->getattr`.
    unsafe {
        (*stat).attributes |= immutable;
        (*stat).attributes_mask |= u64::from(KNOWN_ATTRIBUTES);
        bindings::generic_fillattr(idmap, request, (*(*path).dentry).d_inode, stat);
    }
    0
}

/// Returns the inode operations of directories.
pub(super) fn directory_operations<T: dir::Operations + xattr::Operations>(
) -> &'static bindings::inode_operations {
    &Tables::<T>::DIR_OPERATIONS
}

/// `->alloc_inode`.
///
/// # Safety
///
/// `sb` must be a super block of the file system `T`.
pub(super) unsafe extern "C" fn alloc<T: super_block::Operations>(
    sb: *mut bindings::super_block,
) -> *mut bindings::inode {
    const {
        assert!(
            !core::mem::needs_drop::<T::Inode>(),
            "data of an inode are never dropped"
        )
    };
    // SAFETY: The type of the super block is in the registration of `T`.
    let container = unsafe {
        let cache = registration::inode_cache::<T>((*sb).s_type);
        bindings::alloc_inode_sb(sb, cache).cast::<Container<T>>()
    };
    if container.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: The memory has the size of a container, and nothing else uses it. `init_once` has set
    // up the inode. The link target of its last use was freed, so the pointer is cleared.
    unsafe {
        (&raw mut (*container).pinned).write(Acquired(OnceBox::default()));
        (*container).inode.i_mode = 0;
        &raw mut (*container).inode
    }
}

/// Returns size and alignment of a container.
pub(super) fn memory_layout<T: FileSystem>() -> (c_uint, c_uint) {
    const {
        assert!(size_of::<Container<T>>() <= 4096);
    }
    // Cannot truncate: see above.
    (
        size_of::<Container<T>>() as c_uint,
        align_of::<Container<T>>() as c_uint,
    )
}

/// Constructor of the inode cache. It runs once for each piece of memory, not for each inode.
///
/// # Safety
///
/// `container` must be memory for a [`Container<T>`].
pub(super) unsafe extern "C" fn init_once<T: FileSystem>(container: *mut c_void) {
    // SAFETY: The memory is that of a container.
    unsafe { bindings::inode_init_once(&raw mut (*container.cast::<Container<T>>()).inode) };
}

/// `->evict_inode`: drops data whose drop may sleep. There are no references any more, but RCU walk
/// may still access the inode.
///
/// # Safety
///
/// `inode` must be an inode of `T` that is being evicted.
pub(super) unsafe extern "C" fn evict<T: FileSystem>(inode: *mut bindings::inode) {
    // SAFETY: The inode is in a container. There are no references, so there is no `Inode<T>` that
    // gives access to `pinned`.
    let pinned = unsafe {
        bindings::truncate_inode_pages_final(&raw mut (*inode).i_data);
        bindings::clear_inode(inode);
        (*container_of!(inode, Container<T>, inode)).pinned.0.take()
    };
    if let Some(pinned) = pinned {
        // SAFETY: The inode has data, so it was set up, and its super block has data: these are
        // dropped after all inodes were evicted.
        let sb = unsafe { SuperBlock::<T>::from_raw((*inode).i_sb) };
        if T::evicted(sb.data(), &pinned.value) {
            sb.drop_later(pinned);
        }
    }
}

/// `->free_inode`: frees the memory after an RCU grace period.
///
/// # Safety
///
/// `inode` must be an inode of `T` to which nothing refers any more.
pub(super) unsafe extern "C" fn free<T: FileSystem>(inode: *mut bindings::inode) {
    // SAFETY: `alloc` clears the mode and `NewInode::init` sets it, so a symbolic link has a target
    // from `copy_link`. `kfree()` frees memory of any slab cache.
    unsafe {
        if c_uint::from((*inode).i_mode) & bindings::S_IFMT == bindings::S_IFLNK {
            bindings::free_cached_link(inode);
        }
        bindings::kfree(container_of!(inode, Container<T>, inode).cast());
    }
}
