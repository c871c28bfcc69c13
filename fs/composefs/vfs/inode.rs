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

/// What the memory of one inode holds.
#[repr(C)]
pub(super) struct Container<T: FileSystem> {
    inode: bindings::inode,
    /// Dropped by `evict_inode`.
    pinned: Acquired<T::Pinned>,
    /// Initialised by [`NewInode::init`]; never dropped.
    data: MaybeUninit<T::Inode>,
}

/// An inode of `T` that is ready for use.
///
/// # Invariants
///
/// The inode is embedded in a [`Container<T>`], fully set up, and of a super block whose data are
/// set. Whoever can borrow it holds a reference to it.
#[repr(transparent)]
pub struct Inode<T: FileSystem>(Opaque<bindings::inode>, PhantomData<T>);

// SAFETY: References to an inode may be passed between threads; its data are `Send` and `Sync`.
unsafe impl<T: FileSystem> Send for Inode<T> {}

// SAFETY: As above.
unsafe impl<T: FileSystem> Sync for Inode<T> {}

/// A reference to an inode that we own. It is put when dropped: `iput()`.
///
/// It borrows the super block. When a super block is shut down, its data are freed, and the
/// pointers of inodes that are still in use are overwritten. So no reference may be kept longer.
///
/// # Invariants
///
/// `inode` is an [`Inode<T>`] of a super block that is borrowed for `'sb`. We own a reference to
/// it.
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
    /// `inode` must be an inode of `T` that is set up, of a super block that has its data for the
    /// lifetime of the result. The caller gives up a reference to it.
    unsafe fn from_raw(inode: NonNull<bindings::inode>) -> Self {
        // INVARIANT: This is what the safety requirements say.
        Self {
            inode,
            _sb: PhantomData,
        }
    }

    /// Gives the reference to a C function that puts it.
    pub(super) fn into_raw(self) -> *mut bindings::inode {
        ManuallyDrop::new(self).inode.as_ptr()
    }
}

impl<T: FileSystem> Deref for InodeRef<'_, T> {
    type Target = Inode<T>;

    #[inline]
    fn deref(&self) -> &Inode<T> {
        // SAFETY: The inode is set up, and we own a reference to it, by the type invariants.
        unsafe { Inode::from_raw(self.inode.as_ptr()) }
    }
}

impl<T: FileSystem> Drop for InodeRef<'_, T> {
    fn drop(&mut self) {
        // SAFETY: We own the reference by the type invariants, and do not use it again.
        unsafe { bindings::iput(self.inode.as_ptr()) };
    }
}

impl<T: FileSystem> Inode<T> {
    /// # Safety
    ///
    /// `ptr` must be an inode of `T` that is set up, with a reference held for the lifetime `'a`.
    #[inline]
    pub(super) unsafe fn from_raw<'a>(ptr: *mut bindings::inode) -> &'a Self {
        // SAFETY: The inode is set up, and a reference is held; the type is transparent.
        unsafe { &*ptr.cast() }
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::inode {
        self.0.get()
    }

    #[inline]
    fn container(&self) -> *mut Container<T> {
        // SAFETY: The inode is in a container by the type invariants.
        unsafe { container_of!(self.0.get(), Container<T>, inode) }
    }

    /// Inode number.
    #[inline]
    pub fn ino(&self) -> u64 {
        // SAFETY: The number of an inode that is set up does not change.
        unsafe { (*self.0.get()).i_ino }
    }

    /// Size in bytes. That of a file system that cannot be written to does not change.
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

    /// The file system's own data.
    #[inline]
    pub fn data(&self) -> &T::Inode {
        // SAFETY: `NewInode::init` has initialised the data, because the inode is set up. Since
        // then only shared references are made to them.
        unsafe { (*self.container()).data.assume_init_ref() }
    }

    /// What the inode acquired since, or is to acquire.
    #[inline]
    pub fn pinned(&self) -> &Acquired<T::Pinned> {
        // SAFETY: Written by `alloc`; mutably borrowed only by `evict`, when nobody has a
        // reference to the inode and so no `Inode` to borrow it from.
        unsafe { &(*self.container()).pinned }
    }

    /// A number that the file system may keep with the inode.
    #[inline]
    pub fn hint(&self) -> &Hint {
        // SAFETY: `Hint` is a transparent wrapper of a word that any value is good for.
        // `i_private` is for the file system, and only this and `NewInode::init` use it.
        unsafe { &*(&raw mut (*self.0.get()).i_private).cast() }
    }

    /// Its super block.
    #[inline]
    pub fn super_block(&self) -> &SuperBlock<T> {
        // SAFETY: The super block outlives its inodes and has its data by the type invariants.
        unsafe { SuperBlock::from_raw((*self.0.get()).i_sb) }
    }

    /// Whether it is an inode of `sb`.
    pub(super) fn is_of(&self, sb: &SuperBlock<T>) -> bool {
        core::ptr::eq(self.super_block(), sb)
    }

    /// Tells fanotify's `FAN_FS_ERROR` listeners that this inode's metadata are damaged.
    pub fn report_corruption(&self) {
        // SAFETY: The inode is valid.
        unsafe {
            bindings::fserror_report_file_metadata(self.0.get(), EFSCORRUPTED.to_errno());
        }
    }

    /// Tells fanotify's `FAN_FS_ERROR` listeners that this inode's content cannot be had.
    pub fn report_data_lost(&self) {
        // SAFETY: The inode is valid.
        unsafe {
            bindings::fserror_report_data_lost(self.0.get(), 0, self.size());
        }
    }
}

/// An empty place for what an inode acquires once.
#[repr(transparent)]
pub struct Acquired<T>(OnceBox<Node<T>>);

impl<T> Acquired<T> {
    /// Returns what is in, if anything is.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        self.0.get().map(|node| &node.value)
    }

    /// Puts `value` in if the place is empty, and returns what is in it then. The memory is
    /// charged to whoever comes first.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn get_or_set(&self, value: T) -> Result<&T> {
        let node = KBox::new(Node::new(value), GFP_KERNEL_ACCOUNT)?;
        Ok(&self.0.get_or_set(node).value)
    }
}

/// A number that helps to find something, and may be any: readers and writers are not ordered.
#[repr(transparent)]
pub struct Hint(Atomic<usize>);

impl Hint {
    /// Returns a number that was set, or 0.
    #[inline]
    pub fn get(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// Sets it.
    #[inline]
    pub fn set(&self, value: usize) {
        self.0.store(value, Relaxed);
    }
}

/// What every inode has, whatever its type.
#[derive(Clone, Copy)]
pub struct Attributes {
    /// Type and permissions: `i_mode`.
    pub mode: u16,
    /// Number of links, not 0.
    pub nlink: u32,
    /// Owner, as the user namespace of the super block numbers it.
    pub uid: u32,
    /// Group, as the user namespace of the super block numbers it.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Number of units of 512 bytes that it occupies: `i_blocks`.
    pub blocks: u64,
    /// Time of the last change of content, in seconds since 1970. The other times are set to it.
    pub mtime: i64,
    /// Nanoseconds of `mtime`.
    pub mtime_nsec: u32,
    /// Whether it is known to have no access control list that counts.
    pub no_acl: bool,
    /// What [`Inode::hint`] is at first.
    pub hint: usize,
}

/// What an inode is.
pub enum InodeType<'a, T> {
    /// A directory.
    Directory,
    /// A symbolic link with its target.
    Symlink(&'a [u8]),
    /// A regular file.
    Regular(RegularFile<T>),
    /// A device with its number in the form of `new_encode_dev()`, a fifo or a socket.
    Special(u32),
}

/// An inode that [`SuperBlock::iget`] found.
pub enum Iget<'sb, T: FileSystem> {
    /// It was in memory already.
    Cached(InodeRef<'sb, T>),
    /// It is to be set up. Others who look for it wait.
    New(NewInode<'sb, T>),
}

/// An inode that is to be set up. Dropped without that, it is forgotten, and those who wait for
/// it get an error.
///
/// # Invariants
///
/// The inode is locked as `I_NEW`, embedded in a [`Container<T>`], and of a super block that is
/// borrowed for `'sb`. We own a reference to it.
pub struct NewInode<'sb, T: FileSystem> {
    inode: NonNull<bindings::inode>,
    _sb: PhantomData<&'sb SuperBlock<T>>,
}

impl<T: FileSystem> SuperBlock<T> {
    /// Finds or makes the inode number `ino`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn iget(&self, ino: u64) -> Result<Iget<'_, T>> {
        // SAFETY: The super block is valid; its inodes are allocated by `alloc`.
        let inode = NonNull::new(unsafe { bindings::iget_locked(self.as_ptr(), ino) });
        let inode = inode.ok_or(ENOMEM)?;
        // SAFETY: The inode is valid, we have a reference to it.
        if unsafe { bindings::inode_is_new(inode.as_ptr()) } {
            // INVARIANT: It is new, and the reference is ours.
            Ok(Iget::New(NewInode {
                inode,
                _sb: PhantomData,
            }))
        } else {
            // SAFETY: The reference is ours; an inode of this super block that is not new was
            // set up by `NewInode::init`.
            Ok(Iget::Cached(unsafe { InodeRef::from_raw(inode) }))
        }
    }
}

impl<T: FileSystem> SuperBlock<T> {
    /// Finds the inode number `ino` if it is in memory.
    pub fn cached(&self, ino: u64) -> Option<InodeRef<'_, T>> {
        // SAFETY: The super block is valid.
        let inode = NonNull::new(unsafe { bindings::ilookup(self.as_ptr(), ino) })?;
        // SAFETY: We own a reference. `ilookup` waits until the inode is set up, and gives none
        // that could not be.
        Some(unsafe { InodeRef::from_raw(inode) })
    }
}

impl<'sb, T: FileSystem> NewInode<'sb, T> {
    /// Sets the inode up and lets others have it. `data` are the file system's own.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `kind` is not the type that the mode says, the size is not one that a file can
    /// have, or a link target has a NUL; `ENOMEM`; the error of `data`.
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
        // SAFETY: The inode is in a container, whose memory does not move. Nobody else looks at
        // the data before the inode is set up, and they need no drop if that fails.
        unsafe {
            let container: *mut Container<T> = container_of!(inode, Container<T>, inode);
            pin_init::raw_try_init((*container).data.as_mut_ptr(), data)?;
        }
        // `free` goes by this pointer, so it is set only together with the mode.
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
            // SAFETY: As above. The link target is NUL-terminated, has this length, and is freed
            // by `free`.
            InodeType::Symlink(_) => unsafe {
                if let Some((target, len)) = link {
                    bindings::inode_set_cached_link(inode, target, len);
                }
                (*inode).i_op = Tables::<T>::link_operations();
            },
        }
        // SAFETY: The inode is new, and set up now.
        unsafe { bindings::unlock_new_inode(inode) };
        let me = ManuallyDrop::new(self);
        // SAFETY: The inode is set up now, and the reference of `self` becomes the result's.
        Ok(unsafe { InodeRef::from_raw(me.inode) })
    }
}

impl<T: FileSystem> Drop for NewInode<'_, T> {
    fn drop(&mut self) {
        // SAFETY: The inode is new, and we own a reference, which this puts.
        unsafe { bindings::iget_failed(self.inode.as_ptr()) };
    }
}

/// Copies a link target to memory that `kfree` frees, with a NUL behind it. Returns the copy and
/// the length without the NUL.
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

/// `->getattr` of what is no regular file, and the rest of it for those that are. Says as well that
/// no file can be changed, whoever wants to. `S_IMMUTABLE` would say so, too, but a file system on
/// top would take that over for its own copy of the file.
///
/// # Safety
///
/// `path` must be valid and lead to an inode, the rest be as for `->getattr`.
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
        (*stat).attributes_mask |= immutable;
        bindings::generic_fillattr(idmap, request, (*(*path).dentry).d_inode, stat);
    }
    0
}

/// Operations of a directory's inode.
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
    // SAFETY: The super block is of `T`, so its type is in `T`'s registration.
    let container = unsafe {
        let cache = registration::inode_cache::<T>((*sb).s_type);
        bindings::alloc_inode_sb(sb, cache).cast::<Container<T>>()
    };
    if container.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: The memory is ours, and as large as a container. `init_once` has set up the inode.
    // The last user of the memory may have left a link target, which must not be freed again.
    unsafe {
        (&raw mut (*container).pinned).write(Acquired(OnceBox::default()));
        (*container).inode.i_mode = 0;
        &raw mut (*container).inode
    }
}

/// Size and alignment of the memory that one inode takes.
pub(super) fn memory_layout<T: FileSystem>() -> (c_uint, c_uint) {
    const {
        assert!(size_of::<Container<T>>() <= 4096);
    }
    // Neither can be cut off: see above.
    (
        size_of::<Container<T>>() as c_uint,
        align_of::<Container<T>>() as c_uint,
    )
}

/// Constructor of the inode cache: runs once for each piece of memory, not for each inode.
///
/// # Safety
///
/// `container` must be memory for a [`Container<T>`].
pub(super) unsafe extern "C" fn init_once<T: FileSystem>(container: *mut c_void) {
    // SAFETY: The memory is that of a container.
    unsafe { bindings::inode_init_once(&raw mut (*container.cast::<Container<T>>()).inode) };
}

/// `->evict_inode`: gives up what may need to sleep. Nobody has a reference any more, but RCU walk
/// may still look at the inode.
///
/// # Safety
///
/// `inode` must be an inode of `T` that is being evicted.
pub(super) unsafe extern "C" fn evict<T: FileSystem>(inode: *mut bindings::inode) {
    // SAFETY: The inode is in a container. Without a reference nobody has an `Inode<T>`, through
    // which alone `pinned` is reached.
    let pinned = unsafe {
        bindings::truncate_inode_pages_final(&raw mut (*inode).i_data);
        bindings::clear_inode(inode);
        (*container_of!(inode, Container<T>, inode)).pinned.0.take()
    };
    if let Some(pinned) = pinned {
        // SAFETY: The inode has acquired something, so that it was set up, and its super block has
        // data: they are dropped only when all inodes have been evicted.
        let sb = unsafe { SuperBlock::<T>::from_raw((*inode).i_sb) };
        if T::evicted(sb.data(), &pinned.value) {
            sb.drop_later(pinned);
        }
    }
}

/// `->free_inode`: frees the memory, an RCU grace period after the inode was evicted.
///
/// # Safety
///
/// `inode` must be an inode of `T` that nobody can find any more.
pub(super) unsafe extern "C" fn free<T: FileSystem>(inode: *mut bindings::inode) {
    // SAFETY: `alloc` clears the mode and `NewInode::init` sets it, so that a symbolic link has a
    // target from `copy_link`. `kfree` frees what came from any slab cache.
    unsafe {
        if c_uint::from((*inode).i_mode) & bindings::S_IFMT == bindings::S_IFLNK {
            bindings::free_cached_link(inode);
        }
        bindings::kfree(container_of!(inode, Container<T>, inode).cast());
    }
}
