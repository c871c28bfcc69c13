// SPDX-License-Identifier: GPL-2.0

//! Paths and mounts.
//!
//! C headers: [`include/linux/path.h`](srctree/include/linux/path.h),
//! [`include/linux/namei.h`](srctree/include/linux/namei.h),
//! [`include/linux/mount.h`](srctree/include/linux/mount.h)

use super::{
    bindings,
    statfs::StatFs, //
};
use core::ptr::NonNull;
#[cfg(CONFIG_FSNOTIFY)]
use kernel::sync::rcu;
use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*,
    str::CString, //
};

/// A path to an existing file: `struct path`.
///
/// # Invariants
///
/// Owns a reference to a mount and one to a positive dentry on it. The reference keeps the dentry
/// positive.
#[repr(transparent)]
pub struct Path(bindings::path);

// SAFETY: References to mounts and dentries may be dropped by any thread.
unsafe impl Send for Path {}

// SAFETY: A `struct path` does not change. Mounts and dentries have their own locks.
unsafe impl Sync for Path {}

impl Path {
    /// Looks `name` up as the current task does, and follows symbolic links.
    ///
    /// # Errors
    ///
    /// The error of the path lookup: `ENOENT`, `ENOTDIR`, `EACCES`, `ELOOP`, ...
    pub fn lookup(name: &CStr) -> Result<Self> {
        let mut path: bindings::path = pin_init::zeroed();
        let flags = bindings::LOOKUP_FOLLOW;
        // SAFETY: The name is a C string, and `path` has room for the result.
        to_result(unsafe { bindings::kern_path(name.as_char_ptr(), flags, &raw mut path) })?;
        // INVARIANT: `kern_path` took the references.
        Ok(Self(path))
    }

    /// Looks up the path that a parameter is, as the current task does, and follows symbolic links.
    /// `fc` gets a message.
    ///
    /// # Errors
    ///
    /// As [`lookup`](Self::lookup).
    ///
    /// # Safety
    ///
    /// `fc` must be a context that is locked, and `param` one of its parameters of the type
    /// `fs_value_is_filename`.
    pub(super) unsafe fn of_parameter(
        fc: *mut bindings::fs_context,
        param: *mut bindings::fs_parameter,
    ) -> Result<Self> {
        let mut path: bindings::path = pin_init::zeroed();
        let flags = bindings::LOOKUP_FOLLOW;
        // SAFETY: Context and parameter are valid. The function changes only parameters that are
        // strings. `path` has room for the result.
        to_result(unsafe {
            bindings::fs_lookup_param(fc, param, false, flags, (&raw mut path).cast())
        })?;
        // INVARIANT: `fs_lookup_param` took the references.
        Ok(Self(path))
    }

    /// Returns the path of `file`.
    ///
    /// # Safety
    ///
    /// `file` must be an open file.
    pub(super) unsafe fn of_file(file: *mut bindings::file) -> Self {
        // SAFETY: The path of an open file leads to a positive dentry.
        let path = unsafe { *bindings::file_f_path(file) };
        // SAFETY: The mount and the dentry are valid.
        unsafe { bindings::path_get(&raw const path) };
        // INVARIANT: `path_get` took the references.
        Self(path)
    }

    /// Whether both are the same dentry on the same mount.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.mnt == other.0.mnt && self.0.dentry == other.0.dentry
    }

    /// Returns the name that the current task would use.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENAMETOOLONG`.
    pub fn name(&self) -> Result<CString> {
        let mut buffer = KVec::<u8>::zeroed(PATH_MAX, GFP_KERNEL)?;
        // SAFETY: The path is valid, and the buffer has `PATH_MAX` bytes.
        let name = from_err_ptr(unsafe {
            bindings::d_path(self.as_ptr(), buffer.as_mut_ptr(), PATH_MAX as c_int)
        })?;
        // SAFETY: The result is a C string in the buffer.
        Ok(CString::try_from(unsafe { CStr::from_char_ptr(name) })?)
    }

    /// Returns the identity of the path: the dentry, and how the mount shows it. It is unique as
    /// long as the path exists, and that of a clone of the mount is the same.
    pub fn identity(&self) -> Identity {
        // SAFETY: The path is valid.
        unsafe {
            let mnt = self.0.mnt;
            Identity {
                super_block: (*mnt).mnt_sb.addr(),
                dentry: self.0.dentry.addr(),
                idmap: bindings::mnt_idmap(mnt).cast::<c_void>().addr(),
                flags: (*mnt).mnt_flags & bindings::MNT_FLAGS,
            }
        }
    }

    pub(super) fn as_ptr(&self) -> *const bindings::path {
        &raw const self.0
    }

    pub(super) fn inode(&self) -> *mut bindings::inode {
        // SAFETY: By the type invariants the dentry is valid and positive.
        unsafe { bindings::d_inode(self.0.dentry) }
    }

    fn super_block(&self) -> *mut bindings::super_block {
        // SAFETY: By the type invariants the mount is valid.
        unsafe { (*self.0.mnt).mnt_sb }
    }

    fn is_type(&self, format: c_uint) -> bool {
        // SAFETY: The inode is valid because its dentry is positive. The type never changes.
        let mode = unsafe { (*self.inode()).i_mode };
        c_uint::from(mode) & bindings::S_IFMT == format
    }

    /// Whether it is a regular file.
    pub fn is_regular(&self) -> bool {
        self.is_type(bindings::S_IFREG)
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.is_type(bindings::S_IFDIR)
    }

    /// Whether it is a block device.
    pub fn is_block_device(&self) -> bool {
        self.is_type(bindings::S_IFBLK)
    }

    /// Checks whether the current task may open it for reading, as `may_open()` does.
    ///
    /// # Errors
    ///
    /// `EACCES`, also for a device on a `nodev` mount, or the error of `inode_permission()`.
    pub fn may_read(&self) -> Result {
        // SAFETY: By the type invariants the mount, and so its super block, are valid.
        let (mnt_flags, s_iflags) =
            unsafe { ((*self.0.mnt).mnt_flags, (*self.super_block()).s_iflags) };
        let is_device = self.is_type(bindings::S_IFBLK) || self.is_type(bindings::S_IFCHR);
        let has_devices = mnt_flags & bindings::mount_flags_MNT_NODEV as c_int == 0
            && s_iflags & bindings::SB_I_NODEV as c_ulong == 0;
        if is_device && !has_devices {
            return Err(EACCES);
        }
        let mask = bindings::MAY_OPEN | bindings::MAY_READ;
        // SAFETY: The mount is valid, and the inode because its dentry is positive.
        to_result(unsafe {
            let idmap = bindings::mnt_idmap(self.0.mnt);
            bindings::inode_permission(idmap, self.inode(), mask as c_int)
        })
    }

    /// Whether the current task owns it, or has `CAP_FOWNER` over it.
    pub fn is_owned(&self) -> bool {
        // SAFETY: The mount is valid, and the inode because its dentry is positive.
        unsafe {
            let idmap = bindings::mnt_idmap(self.0.mnt);
            bindings::inode_owner_or_capable(idmap, self.inode())
        }
    }

    /// Returns `s_stack_depth` of its file system: 0 if that is not stacked on another one.
    pub fn stack_depth(&self) -> c_int {
        // SAFETY: The mount keeps the super block.
        unsafe { (*self.super_block()).s_stack_depth }
    }

    /// Whether its file system supports fs-verity.
    #[cfg(CONFIG_FS_VERITY)]
    pub fn has_verity(&self) -> bool {
        // SAFETY: The mount keeps the super block.
        unsafe { !(*self.super_block()).s_vop.is_null() }
    }

    /// Whether its file system supports fs-verity.
    #[cfg(not(CONFIG_FS_VERITY))]
    pub fn has_verity(&self) -> bool {
        false
    }

    /// Whether its file system opens files without a path lookup, without waiting for a daemon or a
    /// server, and without taking locks that are held during page faults. The list has the file
    /// systems whose `->open` was reviewed.
    pub fn opens_at_once(&self) -> bool {
        let is_known = matches!(
            self.magic(),
            bindings::BTRFS_MAGIC
                | bindings::EROFS_MAGIC
                | bindings::EXT4_MAGIC
                | bindings::RAMFS_MAGIC
                | bindings::SQUASHFS_MAGIC
                | bindings::TMPFS_MAGIC
                | bindings::XFS_MAGIC
        );
        // SAFETY: The dentry is valid. These flags do not change.
        let flags = unsafe { core::ptr::read_volatile(&raw const (*self.0.dentry).d_flags) };
        let revalidates = bindings::DCACHE_OP_REVALIDATE | bindings::DCACHE_OP_WEAK_REVALIDATE;
        is_known && self.stack_depth() == 0 && flags & revalidates == 0
    }

    /// Whether opening it must read its fs-verity descriptor from the disk first.
    pub fn lacks_verity_info(&self) -> bool {
        let inode = self.inode();
        // SAFETY: The inode is valid because its dentry is positive. `i_flags` is read without a
        // lock, as `IS_VERITY()` does.
        let flags = unsafe { core::ptr::read_volatile(&raw const (*inode).i_flags) };
        // SAFETY: As above.
        flags & bindings::S_VERITY != 0 && unsafe { bindings::fsverity_get_info(inode).is_null() }
    }

    /// Whether it has a lease. An open may have to wait until the lease is broken.
    #[inline]
    pub fn is_leased(&self) -> bool {
        // SAFETY: The inode is valid because its dentry is positive. `i_opflags` is read without a
        // lock, as `locks_inode_context()` does.
        unsafe {
            let inode = (*self.0.dentry).d_inode;
            let flags = core::ptr::read_volatile(&raw const (*inode).i_opflags);
            c_uint::from(flags) & bindings::IOP_FLCTX != 0 && Self::has_leases(inode)
        }
    }

    /// # Safety
    ///
    /// `inode` must be valid.
    #[cold]
    unsafe fn has_leases(inode: *mut bindings::inode) -> bool {
        // SAFETY: The inode is valid. Its lock context, if it has one, exists as long as the inode.
        unsafe {
            let context = bindings::locks_inode_context(inode);
            !context.is_null() && bindings::list_empty_careful(&raw const (*context).flc_lease) == 0
        }
    }

    /// Whether it has a listener to open, read or close events, or to permission events.
    #[inline]
    pub fn is_watched(&self) -> bool {
        self.is_watched_for(bindings::FS_READING_EVENTS)
    }

    /// Whether it has a listener to permission events.
    pub fn is_guarded(&self) -> bool {
        self.is_watched_for(bindings::FS_PERMISSION_EVENTS)
    }

    /// Whether it has a listener to one of these events. Marks of the mount are not checked: a
    /// private mount cannot have any.
    #[cfg(CONFIG_FSNOTIFY)]
    #[inline]
    fn is_watched_for(&self, events: u32) -> bool {
        // SAFETY: Dentry, inode and super block are valid. Masks and flags are read without a lock,
        // as `fsnotify_object_watched()` and `__fsnotify_parent()` do.
        let (masks, flags) = unsafe {
            let inode = (*self.0.dentry).d_inode;
            let sb = (*inode).i_sb;
            let masks = core::ptr::read_volatile(&raw const (*inode).i_fsnotify_mask)
                | core::ptr::read_volatile(&raw const (*sb).s_fsnotify_mask);
            let flags = core::ptr::read_volatile(&raw const (*self.0.dentry).d_flags);
            (masks, flags)
        };
        let parent = match flags & bindings::DCACHE_FSNOTIFY_PARENT_WATCHED {
            0 => 0,
            _ => self.parent_mask(),
        };
        (masks | parent) & events != 0
    }

    /// Returns the events that watches of its directory are about.
    #[cfg(CONFIG_FSNOTIFY)]
    #[cold]
    fn parent_mask(&self) -> u32 {
        let _guard = rcu::read_lock();
        // SAFETY: The dentry is valid. A rename may change its parent, whose memory is freed after
        // a grace period, and so is that of its inode.
        unsafe {
            let parent = core::ptr::read_volatile(&raw const (*self.0.dentry).d_parent);
            let inode = core::ptr::read_volatile(&raw const (*parent).d_inode);
            match inode.is_null() {
                true => 0,
                false => core::ptr::read_volatile(&raw const (*inode).i_fsnotify_mask),
            }
        }
    }

    #[cfg(not(CONFIG_FSNOTIFY))]
    fn is_watched_for(&self, _events: u32) -> bool {
        false
    }

    /// Returns the extents of the file.
    ///
    /// # Safety
    ///
    /// The arguments must be those of `->fiemap`.
    pub(super) unsafe fn fiemap(
        &self,
        info: *mut bindings::fiemap_extent_info,
        start: u64,
        len: u64,
    ) -> c_int {
        let inode = self.inode();
        // SAFETY: The inode is valid because its dentry is positive. Its table does not change.
        match unsafe { (*(*inode).i_op).fiemap } {
            // SAFETY: The inode is valid, and the rest are the arguments of `->fiemap`.
            Some(fiemap) => unsafe { fiemap(inode, info, start, len) },
            None => EOPNOTSUPP.to_errno(),
        }
    }

    /// Whether the dentry was unlinked, or replaced by a rename.
    pub fn is_unlinked(&self) -> bool {
        // SAFETY: The path is valid.
        unsafe { bindings::path_is_unlinked(self.as_ptr()) }
    }

    /// Returns `s_magic` of its file system.
    pub fn magic(&self) -> c_ulong {
        // SAFETY: The mount keeps the super block.
        unsafe { (*self.super_block()).s_magic }
    }

    /// Returns size and free space of its file system.
    ///
    /// # Errors
    ///
    /// The error of `->statfs`.
    pub fn statfs(&self) -> Result<StatFs> {
        let mut buf: bindings::kstatfs = pin_init::zeroed();
        // SAFETY: The path is valid. The kernel crate has an opaque `kstatfs`; this one is the
        // complete type.
        to_result(unsafe { bindings::vfs_statfs(self.as_ptr(), (&raw mut buf).cast()) })?;
        Ok(StatFs::from_raw(buf))
    }
}

/// Longest name in bytes, with a NUL.
const PATH_MAX: usize = 4096;

/// See [`Path::identity`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    super_block: usize,
    dentry: usize,
    idmap: usize,
    flags: c_int,
}

impl Clone for Path {
    fn clone(&self) -> Self {
        // SAFETY: The path is valid.
        unsafe { bindings::path_get(self.as_ptr()) };
        // INVARIANT: `path_get` took the references.
        Self(bindings::path {
            mnt: self.0.mnt,
            dentry: self.0.dentry,
        })
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the references are owned. They are not used again.
        unsafe { bindings::path_put(self.as_ptr()) };
    }
}

/// A private clone of a mount. Changes of mounts in any namespace do not affect it.
///
/// # Invariants
///
/// `mnt` is a mount that is owned by the [`PrivateMounts`] that this is borrowed from.
#[repr(transparent)]
pub struct PrivateMount {
    mnt: NonNull<bindings::vfsmount>,
}

/// Private clones of mounts. They are unmounted together, which waits for one RCU grace period
/// instead of one for each.
#[derive(Default)]
pub struct PrivateMounts(KVec<PrivateMount>);

// SAFETY: A mount may be used and unmounted by any thread.
unsafe impl Send for PrivateMount {}

// SAFETY: As above.
unsafe impl Sync for PrivateMount {}

impl PrivateMounts {
    /// Clones the mount that `path` is on, with `path` as its root.
    ///
    /// # Errors
    ///
    /// `EPERM` without `CAP_SYS_ADMIN` over the mount, `EINVAL` if it cannot be cloned, `ENOMEM`.
    pub fn add(&mut self, path: &Path) -> Result<&PrivateMount> {
        self.0.reserve(1, GFP_KERNEL_ACCOUNT)?;
        // SAFETY: The path is valid.
        let mnt = from_err_ptr(unsafe { bindings::clone_private_mount(path.as_ptr()) })?;
        // INVARIANT: `clone_private_mount` has returned a new mount.
        let mount = PrivateMount {
            mnt: NonNull::new(mnt).ok_or(EINVAL)?,
        };
        self.0.push(mount, GFP_KERNEL_ACCOUNT)?;
        self.0.last().ok_or(EINVAL)
    }

    /// Returns all mounts in the order in which they were added.
    pub fn all(&self) -> &[PrivateMount] {
        &self.0
    }
}

impl Drop for PrivateMounts {
    fn drop(&mut self) {
        if self.0.is_empty() {
            return;
        }
        // Cannot fail: memory for that many mounts cannot be allocated.
        let count = c_uint::try_from(self.0.len()).unwrap_or(c_uint::MAX);
        // SAFETY: The mounts are owned, and are in no namespace. `PrivateMount` is a transparent
        // wrapper of a pointer to a mount.
        unsafe { bindings::kern_unmount_array(self.0.as_mut_ptr().cast(), count) };
    }
}

impl PrivateMount {
    /// Whether `path` leads to the root, on whatever mount.
    pub fn has_root(&self, path: &Path) -> bool {
        // SAFETY: The mount is valid. Its root does not change.
        unsafe { (*self.mnt.as_ptr()).mnt_root == path.0.dentry }
    }

    /// Returns the root of the mount.
    pub fn root(&self) -> Path {
        // SAFETY: The mount is valid, and its root is a positive dentry.
        let path = unsafe {
            bindings::path {
                mnt: self.mnt.as_ptr(),
                dentry: (*self.mnt.as_ptr()).mnt_root,
            }
        };
        // SAFETY: The mount and the dentry are valid.
        unsafe { bindings::path_get(&raw const path) };
        // INVARIANT: `path_get` took the references.
        Path(path)
    }

    /// Looks `name` up below the root. Does not follow symbolic links, and crosses no mount.
    ///
    /// # Errors
    ///
    /// The error of the path lookup: `ENOENT`, `ELOOP` for a symbolic link, `EXDEV` for a name that
    /// leads out, ...
    pub fn lookup(&self, name: &CStr) -> Result<Path> {
        let mut path: bindings::path = pin_init::zeroed();
        // SAFETY: The mount is valid and has a root, the name is a C string, and `path` has room
        // for the result.
        to_result(unsafe {
            bindings::vfs_path_lookup(
                (*self.mnt.as_ptr()).mnt_root,
                self.mnt.as_ptr(),
                name.as_char_ptr(),
                bindings::LOOKUP_BENEATH | bindings::LOOKUP_NO_SYMLINKS | bindings::LOOKUP_NO_XDEV,
                &raw mut path,
            )
        })?;
        // INVARIANT: `vfs_path_lookup` took the references.
        Ok(Path(path))
    }
}
