// SPDX-License-Identifier: GPL-2.0

//! Super blocks.
//!
//! C header: [`include/linux/fs/super_types.h`](srctree/include/linux/fs/super_types.h)

use super::{
    bindings,
    context::{
        self,
        FsContext, //
    },
    dir,
    export,
    file,
    inode::{
        self,
        InodeRef, //
    },
    later::{
        Later,
        Node, //
    },
    stacking::Stacking,
    statfs::StatFs,
    xattr,
    FileSystem, //
};
use core::{
    marker::PhantomData,
    mem::MaybeUninit,
    ptr::NonNull, //
};
use kernel::{
    error::{
        from_result,
        VTABLE_DEFAULT_ERROR, //
    },
    prelude::*,
    seq_file::SeqFile,
    types::{
        ForeignOwnable,
        Opaque, //
    }, //
};

/// Operations of super blocks.
#[vtable]
pub trait Operations:
    FileSystem
    + context::Operations
    + dir::Operations
    + export::Operations
    + file::Operations
    + xattr::Operations
{
    /// Prepares a mount. If it returns a key, and a super block in the same user namespace has an
    /// equal key and the same flags, that one is mounted. Otherwise [`Self::fill_super`] fills a
    /// new one. With [`FsContext::has_security_options`] there must be no key, because security
    /// options cannot be compared.
    ///
    /// # Errors
    ///
    /// The reason why it cannot be mounted. `fc` gets a message for the user.
    fn prepare(_fc: &FsContext<'_>, _context: &mut Self::Context) -> Result<Option<Self::Key>> {
        Ok(None)
    }

    /// Reads what [`Self::fill_super`] needs, before a super block exists. sync(2) and other walks
    /// of all super blocks wait for one that is being filled, and the read may be from a file
    /// system that never answers.
    ///
    /// # Errors
    ///
    /// The error of the read. `fc` gets a message for the user.
    fn load(_fc: &FsContext<'_>, _context: &mut Self::Context) -> Result {
        Ok(())
    }

    /// Fills a new super block, and returns its root directory. It should not wait: see
    /// [`Self::load`].
    ///
    /// # Errors
    ///
    /// The reason why it cannot be mounted. `fc` gets a message for the user.
    fn fill_super<'a>(
        fc: &FsContext<'a>,
        context: &mut Self::Context,
        sb: NewSuperBlock<'a, Self>,
    ) -> Result<InodeRef<'a, Self>>;

    /// Returns size and free space. Without it, statfs(2) returns only the type: `simple_statfs()`.
    ///
    /// # Errors
    ///
    /// The error of a file system below.
    fn statfs(_sb: &SuperBlock<Self>) -> Result<StatFs> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Shows the options of the mount, each with [`show_option`].
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn show_options(_sb: &SuperBlock<Self>, _seq: &SeqFile) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// The target of `s_fs_info`, from `sget_fc()` until after `kill_anon_super()`.
///
/// # Invariants
///
/// `data` and `later` are initialised if `has_data` is set. They are pinned, and are set up and
/// dropped only while nothing else uses the super block.
pub(super) struct Info<T: FileSystem> {
    key: Option<T::Key>,
    has_data: bool,
    data: MaybeUninit<T::Super>,
    /// Values that a worker drops. Dropping them may need the data.
    later: MaybeUninit<Later<T>>,
}

impl<T: FileSystem> Info<T> {
    pub(super) fn new(key: Option<T::Key>) -> Self {
        // INVARIANT: `has_data` is not set.
        Self {
            key,
            has_data: false,
            data: MaybeUninit::uninit(),
            later: MaybeUninit::uninit(),
        }
    }
}

impl<T: FileSystem> Drop for Info<T> {
    fn drop(&mut self) {
        if self.has_data {
            // SAFETY: By the type invariants the data are initialised. They are not used again. The
            // queue is drained first, because its values may need the data.
            unsafe {
                self.later.assume_init_ref().drain();
                self.data.assume_init_drop();
            }
        }
    }
}

/// A super block of `T` that has its data.
///
/// # Invariants
///
/// `s_fs_info` is a box of [`Info<T>`] with data, as long as this object can be borrowed.
#[repr(transparent)]
pub struct SuperBlock<T: FileSystem>(Opaque<bindings::super_block>, PhantomData<T>);

// SAFETY: A super block may be used from any thread; its data are `Send` and `Sync`.
unsafe impl<T: FileSystem> Send for SuperBlock<T> {}

// SAFETY: As above.
unsafe impl<T: FileSystem> Sync for SuperBlock<T> {}

impl<T: FileSystem> SuperBlock<T> {
    /// # Safety
    ///
    /// `ptr` must be a super block of `T` whose data are set and stay so for the lifetime `'a`.
    pub(super) unsafe fn from_raw<'a>(ptr: *mut bindings::super_block) -> &'a Self {
        // SAFETY: The data of the super block are set. The type is transparent.
        unsafe { &*ptr.cast() }
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::super_block {
        self.0.get()
    }

    /// Returns the data of the super block.
    #[inline]
    pub fn data(&self) -> &T::Super {
        // SAFETY: By the type invariants `s_fs_info` is an `Info<T>` with data.
        unsafe {
            let info = (*self.0.get()).s_fs_info.cast::<Info<T>>();
            (*info).data.assume_init_ref()
        }
    }

    /// Passes data of an inode to the worker that drops them.
    pub(super) fn drop_later(&self, pinned: KBox<Node<T::Pinned>>) {
        // SAFETY: As in `data`.
        let later = unsafe {
            let info = (*self.0.get()).s_fs_info.cast::<Info<T>>();
            (*info).later.assume_init_ref()
        };
        later.push(pinned);
    }

    /// Returns the number of its anonymous device, `s_dev`.
    #[inline]
    pub fn device(&self) -> u32 {
        // SAFETY: The device number of a super block does not change.
        unsafe { (*self.0.get()).s_dev }
    }

    /// Returns `s_stack_depth`.
    pub(super) fn stack_depth(&self) -> c_int {
        // SAFETY: The depth of a super block does not change once it is set up.
        unsafe { (*self.0.get()).s_stack_depth }
    }

    /// Reports damaged metadata to the listeners of fanotify's `FAN_FS_ERROR`.
    pub fn report_corruption(&self) {
        // SAFETY: The super block is valid.
        unsafe {
            bindings::fserror_report_metadata(self.0.get(), EFSCORRUPTED.to_errno());
        }
    }
}

/// Attributes of a new super block.
pub struct Attributes<T> {
    /// `s_magic`, which statfs(2) returns as the type.
    pub magic: c_ulong,
    /// `s_blocksize_bits`: binary logarithm of the block size.
    pub block_bits: u8,
    /// Whether it has access control lists.
    pub posix_acl: bool,
    /// Set for a stacking file system.
    pub stacking: Option<Stacking<T>>,
    /// `s_uuid`. All zeros for none.
    pub uuid: [u8; 16],
}

/// A super block without data, in `->fill_super`.
///
/// # Invariants
///
/// Nothing else uses the super block. `s_fs_info` is a box of [`Info<T>`] without data.
pub struct NewSuperBlock<'a, T: FileSystem> {
    sb: NonNull<bindings::super_block>,
    _type: PhantomData<&'a mut T>,
}

/// Largest block size: 64 KiB, as `BLK_MAX_BLOCK_SIZE`.
const BLOCK_BITS_MAX: u8 = 16;

impl<'a, T: FileSystem> NewSuperBlock<'a, T> {
    /// Sets attributes and data. The super block is read-only, and access times are not updated.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the stack of file systems is too deep, or the error of `data`.
    pub fn init(
        self,
        attributes: &Attributes<T>,
        data: impl PinInit<T::Super, Error>,
    ) -> Result<&'a SuperBlock<T>>
    where
        T: Operations,
    {
        let stacking = attributes.stacking.as_ref();
        let stack_depth = stacking.map_or(0, |stacking| stacking.depth);
        if stack_depth > bindings::FILESYSTEM_MAX_STACK_DEPTH as c_int {
            return Err(EINVAL);
        }
        if attributes.block_bits > BLOCK_BITS_MAX {
            return Err(EINVAL);
        }
        let block_size = 1 << attributes.block_bits;
        let sb = self.sb.as_ptr();
        // SAFETY: By the type invariants nothing else uses the super block.
        unsafe {
            (*sb).s_magic = attributes.magic;
            (*sb).s_blocksize = block_size;
            (*sb).s_blocksize_bits = attributes.block_bits;
            (*sb).s_maxbytes = bindings::MAX_LFS_FILESIZE;
            (*sb).s_time_gran = 1;
            (*sb).s_stack_depth = stack_depth;
            (*sb).s_flags |= bindings::SB_RDONLY | bindings::SB_NOATIME;
        }
        // SAFETY: As above.
        unsafe {
            if (*sb).s_user_ns != &raw mut bindings::init_user_ns {
                // The administrator does not trust what the root of a user namespace mounts.
                (*sb).s_iflags |= bindings::SB_I_UNTRUSTED_MOUNTER as c_ulong;
            }
            if attributes.posix_acl {
                (*sb).s_flags |= bindings::SB_POSIXACL;
            }
            if attributes.uuid != [0; 16] {
                (*sb).s_uuid.b = attributes.uuid;
                (*sb).s_uuid_len = 16;
            }
        }
        // SAFETY: As above. The tables are static.
        unsafe {
            (*sb).s_xattr = xattr::handlers::<T>();
            (*sb).s_export_op = export::operations::<T>();
            if let Some(stacking) = stacking {
                bindings::set_default_d_op(sb, stacking.dentry_operations);
            }
        }
        // SAFETY: By the type invariants `s_fs_info` is a box of `Info<T>` without data. The box is
        // not moved out of, so the data are pinned.
        unsafe {
            let info = (*sb).s_fs_info.cast::<Info<T>>();
            pin_init::raw_try_init((*info).data.as_mut_ptr(), data)?;
            Later::init((*info).later.as_mut_ptr());
            (*info).has_data = true;
        }
        // SAFETY: The data are set. `kill_sb` drops them, after `fill_super` has returned.
        Ok(unsafe { SuperBlock::from_raw(sb) })
    }
}

/// Shows one option in `/proc/mounts`, escaped if necessary.
pub fn show_option(seq: &SeqFile, name: &CStr, value: Option<&CStr>) {
    let value = value.map_or(core::ptr::null(), |v| v.as_char_ptr());
    // SAFETY: `SeqFile` is a transparent wrapper of `struct seq_file`. Its own methods change it
    // through a shared reference, too. The strings are valid.
    unsafe {
        bindings::seq_show_option(
            core::ptr::from_ref(seq).cast_mut().cast(),
            name.as_char_ptr(),
            value,
        );
    }
}

/// Whether `sb` can be used for the mount of `fc`. `sget_fc()` calls it under a spinlock.
///
/// # Safety
///
/// `sb` must be a super block of `T` that is not dead, and `fc` a context of `T` with an
/// [`Info<T>`] in `s_fs_info`.
pub(super) unsafe extern "C" fn test<T: Operations>(
    sb: *mut bindings::super_block,
    fc: *mut bindings::fs_context,
) -> c_int {
    // SAFETY: A super block that can be found has an `Info` until it is dead. The key in it does
    // not change.
    let same = unsafe {
        let has = &raw const (*(*sb).s_fs_info.cast::<Info<T>>()).key;
        let wanted = &raw const (*(*fc).s_fs_info.cast::<Info<T>>()).key;
        match (&*has, &*wanted) {
            (Some(has), Some(wanted)) => has == wanted && is_compatible(sb, fc),
            _ => false,
        }
    };
    same.into()
}

/// Whether `sb` has the flags that `fc` asks for, and the same user namespace. `sget_fc()` fails
/// the mount if it finds a super block of another user namespace.
///
/// # Safety
///
/// Both must be valid. It is called under a spinlock.
unsafe fn is_compatible(sb: *mut bindings::super_block, fc: *mut bindings::fs_context) -> bool {
    let flags = bindings::SB_SYNCHRONOUS
        | bindings::SB_DIRSYNC
        | bindings::SB_LAZYTIME
        | bindings::SB_MANDLOCK;
    // SAFETY: Both are valid. The namespace of a super block does not change.
    unsafe {
        let user_ns = match (*fc).global() {
            true => &raw mut bindings::init_user_ns,
            false => (*fc).user_ns,
        };
        let wanted = (*fc).sb_flags as c_ulong;
        (*sb).s_user_ns == user_ns && ((*sb).s_flags ^ wanted) & flags == 0
    }
}

/// Fills a new super block.
///
/// # Safety
///
/// `sb` must be a new super block of the file system `T`, and `fc` its context.
pub(super) unsafe fn fill_super<T: Operations>(
    sb: *mut bindings::super_block,
    fc: *mut bindings::fs_context,
) -> c_int {
    let Some(new) = NonNull::new(sb) else {
        return EINVAL.to_errno();
    };
    // SAFETY: Nothing else uses a new super block. The context is locked, and `fs_private` was set
    // by `init_fs_context()` and is not otherwise borrowed.
    let context = unsafe {
        (*sb).s_op = &Tables::<T>::OPERATIONS;
        (*fc).fs_private.cast::<T::Context>().as_mut()
    };
    let Some(context) = context else {
        return EINVAL.to_errno();
    };
    // INVARIANT: Nothing else uses the super block until this function returns, and `get_tree()`
    // has set `s_fs_info`.
    let new = NewSuperBlock {
        sb: new,
        _type: PhantomData,
    };
    // SAFETY: The context is locked.
    let root = match T::fill_super(unsafe { &FsContext::from_raw::<T>(fc) }, context, new) {
        Ok(root) => root.into_raw(),
        Err(e) => return e.to_errno(),
    };
    // SAFETY: The reference to the inode is owned. `d_make_root()` takes it over, even if it fails.
    unsafe {
        if (*root).i_sb != sb {
            bindings::iput(root);
            return EINVAL.to_errno();
        }
        (*sb).s_root = bindings::d_make_root(root);
        if (*sb).s_root.is_null() {
            return ENOMEM.to_errno();
        }
    }
    0
}

/// `->kill_sb`.
///
/// # Safety
///
/// `sb` must be a super block of the file system `T` that is being shut down.
pub(super) unsafe extern "C" fn kill_sb<T: FileSystem>(sb: *mut bindings::super_block) {
    // SAFETY: The super block is being shut down. `s_fs_info` is null or the box of `get_tree`.
    // Inodes use the data, and `sget_fc()` reads the key, until `kill_anon_super()` returns.
    unsafe {
        let info = (*sb).s_fs_info;
        bindings::kill_anon_super(sb);
        // Closing files of the data may wait for a disk. `s_umount` is not held any more, so walks
        // of super blocks do not wait, too.
        drop(KBox::<Info<T>>::try_from_foreign(info));
    }
}

/// The operation table of super blocks.
struct Tables<T>(PhantomData<T>);

impl<T: Operations> Tables<T> {
    const OPERATIONS: bindings::super_operations = bindings::super_operations {
        alloc_inode: Some(inode::alloc::<T>),
        free_inode: Some(inode::free::<T>),
        evict_inode: Some(inode::evict::<T>),
        statfs: if T::HAS_STATFS {
            Some(Self::statfs)
        } else {
            Some(bindings::simple_statfs)
        },
        show_options: if T::HAS_SHOW_OPTIONS {
            Some(Self::show_options)
        } else {
            None
        },
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `dentry` must belong to a mounted super block of `T`, and `buf` must be valid for writing.
    unsafe extern "C" fn statfs(
        dentry: *mut bindings::dentry,
        buf: *mut kernel::bindings::kstatfs,
    ) -> c_int {
        // SAFETY: A mounted super block has its data.
        let sb = unsafe { SuperBlock::<T>::from_raw((*dentry).d_sb) };
        from_result(|| {
            let answer = T::statfs(sb)?.into_raw();
            // SAFETY: The kernel crate has an opaque `kstatfs`. This one is the complete type.
            unsafe { buf.cast::<bindings::kstatfs>().write(answer) };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `dentry` must belong to a mounted super block of `T`, and `seq` must be a valid `seq_file`.
    unsafe extern "C" fn show_options(
        seq: *mut bindings::seq_file,
        dentry: *mut bindings::dentry,
    ) -> c_int {
        // SAFETY: A mounted super block has its data. The `seq_file` is valid for the call.
        let (sb, seq) = unsafe {
            (
                SuperBlock::<T>::from_raw((*dentry).d_sb),
                SeqFile::from_raw(seq),
            )
        };
        from_result(|| {
            T::show_options(sb, seq)?;
            Ok(0)
        })
    }
}
