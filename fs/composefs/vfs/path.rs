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
use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*,
    str::CString, //
};

/// An existing file: a mount and a positive dentry, with a reference to each.
///
/// # Invariants
///
/// `0` holds references to a mount and to a positive dentry on it. The dentry stays positive,
/// because the reference keeps its inode from being taken away.
#[repr(transparent)]
pub struct Path(bindings::path);

// SAFETY: References to mounts and dentries may be put from any thread.
unsafe impl Send for Path {}

// SAFETY: A `struct path` does not change; what it points to has locks of its own.
unsafe impl Sync for Path {}

impl Path {
    /// Finds what `name` names for the current task, following a symbolic link.
    ///
    /// # Errors
    ///
    /// What path lookup gives: `ENOENT`, `ENOTDIR`, `EACCES`, `ELOOP`, ...
    pub fn lookup(name: &CStr) -> Result<Self> {
        let mut path: bindings::path = pin_init::zeroed();
        let flags = bindings::LOOKUP_FOLLOW;
        // SAFETY: The name is a valid C string; on success `path` is filled in.
        to_result(unsafe { bindings::kern_path(name.as_char_ptr(), flags, &raw mut path) })?;
        // INVARIANT: `kern_path` took the references.
        Ok(Self(path))
    }

    /// Where `file` is.
    ///
    /// # Safety
    ///
    /// `file` must be an open file.
    pub(super) unsafe fn of_file(file: *mut bindings::file) -> Self {
        // SAFETY: An open file has a path, to a positive dentry.
        let path = unsafe { *bindings::file_path(file) };
        // SAFETY: Mount and dentry are valid.
        unsafe { bindings::path_get(&raw const path) };
        // INVARIANT: `path_get` took the references.
        Self(path)
    }

    /// Whether both lead to the same file in the same way.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.mnt == other.0.mnt && self.0.dentry == other.0.dentry
    }

    /// Its name, as the current task would name it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENAMETOOLONG`.
    pub fn name(&self) -> Result<CString> {
        let mut buffer = KVec::<u8>::zeroed(PATH_MAX, GFP_KERNEL)?;
        // SAFETY: The path is valid, the buffer as long as said.
        let name = from_err_ptr(unsafe {
            bindings::d_path(self.as_ptr(), buffer.as_mut_ptr(), PATH_MAX as c_int)
        })?;
        // SAFETY: On success the result is a C string in the buffer.
        Ok(CString::try_from(unsafe { CStr::from_char_ptr(name) })?)
    }

    /// What tells it from any other path as long as it exists: file system, dentry, and how the
    /// mount shows it.
    pub fn identity(&self) -> Identity {
        // SAFETY: The path is valid.
        unsafe {
            let mnt = self.0.mnt;
            Identity {
                super_block: (*mnt).mnt_sb.addr(),
                dentry: self.0.dentry.addr(),
                idmap: bindings::mnt_idmap(mnt).cast::<c_void>().addr(),
                flags: (*mnt).mnt_flags,
            }
        }
    }

    pub(super) fn as_ptr(&self) -> *const bindings::path {
        &raw const self.0
    }

    fn inode(&self) -> *mut bindings::inode {
        // SAFETY: The dentry is valid and positive by the type invariants.
        unsafe { bindings::d_inode(self.0.dentry) }
    }

    fn super_block(&self) -> *mut bindings::super_block {
        // SAFETY: The mount is valid by the type invariants.
        unsafe { (*self.0.mnt).mnt_sb }
    }

    fn is_type(&self, format: c_uint) -> bool {
        // SAFETY: The inode is valid as long as its dentry is positive. The type never changes.
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

    /// Whether the current task may open it for reading.
    ///
    /// # Errors
    ///
    /// `EACCES`, also for a device on a mount or file system that is to have none, or what the
    /// file system's own check gives.
    pub fn may_read(&self) -> Result {
        // SAFETY: The path is valid.
        to_result(unsafe { bindings::path_may_read(self.as_ptr()) })
    }

    /// Whether the current task owns it or could change it as if it did.
    pub fn is_owned(&self) -> bool {
        // SAFETY: The path is valid.
        unsafe { bindings::path_owner_or_capable(self.as_ptr()) }
    }

    /// How deep in a stack of file systems its file system is: 0 is one that stands on nothing.
    pub fn stack_depth(&self) -> c_int {
        // SAFETY: The super block is valid as long as the mount.
        unsafe { (*self.super_block()).s_stack_depth }
    }

    /// Whether its file system has fs-verity at all.
    pub fn has_verity(&self) -> bool {
        // SAFETY: The super block is valid as long as the mount.
        unsafe { bindings::sb_has_verity(self.super_block()) }
    }

    /// Whether its file system opens files without looking names up, waiting for a daemon or a
    /// server, or taking locks. Only such are named here whose `->open` was read.
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
        // SAFETY: The dentry is valid. What operations it has does not change.
        let flags = unsafe { core::ptr::read_volatile(&raw const (*self.0.dentry).d_flags) };
        let revalidates = bindings::DCACHE_OP_REVALIDATE | bindings::DCACHE_OP_WEAK_REVALIDATE;
        is_known && self.stack_depth() == 0 && flags & revalidates == 0
    }

    /// Whether its fs-verity information has still to be read from the disk when it is opened.
    pub fn lacks_verity_info(&self) -> bool {
        // SAFETY: The inode is valid as long as its dentry is positive.
        unsafe { bindings::inode_lacks_verity_info(self.inode()) }
    }

    /// Whether somebody holds a lease on it, which an open may have to wait for.
    #[inline]
    pub fn is_leased(&self) -> bool {
        // SAFETY: The path is valid, and so is its inode. `i_opflags` is read without a lock, as
        // `locks_inode_context` reads it.
        unsafe {
            let inode = (*self.0.dentry).d_inode;
            let flags = core::ptr::read_volatile(&raw const (*inode).i_opflags);
            c_uint::from(flags) & bindings::IOP_FLCTX != 0 && bindings::inode_is_leased(inode)
        }
    }

    /// Whether somebody is told when it is opened, read or closed, or asked for permission.
    #[inline]
    pub fn is_watched(&self) -> bool {
        self.is_watched_for(bindings::FS_READING_EVENTS)
    }

    /// Whether somebody may be asked for permission to open or read it.
    pub fn is_guarded(&self) -> bool {
        self.is_watched_for(bindings::FS_PERMISSION_EVENTS)
    }

    /// Whether somebody listens to one of these events. Marks of mounts do not count: nobody can
    /// mark one that is private.
    #[cfg(CONFIG_FSNOTIFY)]
    #[inline]
    fn is_watched_for(&self, events: u32) -> bool {
        // SAFETY: The path is valid, and so are its inode and super block. Masks and flags are
        // read without a lock, as `fsnotify_object_watched` and `__fsnotify_parent` read them.
        unsafe {
            let inode = (*self.0.dentry).d_inode;
            let sb = (*inode).i_sb;
            let masks = core::ptr::read_volatile(&raw const (*inode).i_fsnotify_mask)
                | core::ptr::read_volatile(&raw const (*sb).s_fsnotify_mask);
            let flags = core::ptr::read_volatile(&raw const (*self.0.dentry).d_flags);
            let parent = match flags & bindings::DCACHE_FSNOTIFY_PARENT_WATCHED {
                0 => 0,
                _ => bindings::fsnotify_parent_mask(self.0.dentry),
            };
            (masks | parent) & events != 0
        }
    }

    #[cfg(not(CONFIG_FSNOTIFY))]
    fn is_watched_for(&self, _events: u32) -> bool {
        false
    }

    /// Whether the name that led here is gone, or leads elsewhere now.
    pub fn is_unlinked(&self) -> bool {
        // SAFETY: The path is valid.
        unsafe { bindings::path_is_unlinked(self.as_ptr()) }
    }

    /// Magic number of its file system.
    pub fn magic(&self) -> c_ulong {
        // SAFETY: The super block is valid as long as the mount.
        unsafe { (*self.super_block()).s_magic }
    }

    /// Size and free space of its file system.
    ///
    /// # Errors
    ///
    /// What the file system gives.
    pub fn statfs(&self) -> Result<StatFs> {
        let mut buf: bindings::kstatfs = pin_init::zeroed();
        // SAFETY: The path is valid. `kstatfs` is the structure that the kernel crate knows only
        // by name.
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
        // INVARIANT: `path_get` took a second pair of references.
        Self(bindings::path {
            mnt: self.0.mnt,
            dentry: self.0.dentry,
        })
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        // SAFETY: We own the references by the type invariants.
        unsafe { bindings::path_put(self.as_ptr()) };
    }
}

/// A private clone of a mount, which later changes in any namespace do not touch.
///
/// # Invariants
///
/// `mnt` is a mount that the [`PrivateMounts`] own that this is borrowed from.
#[repr(transparent)]
pub struct PrivateMount {
    mnt: NonNull<bindings::vfsmount>,
}

/// Private clones of mounts. They are given up together, which costs the wait for one grace period
/// instead of one each.
#[derive(Default)]
pub struct PrivateMounts(KVec<PrivateMount>);

// SAFETY: A mount may be used and given up from any thread.
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
        // INVARIANT: `clone_private_mount` gave us the mount.
        let mount = PrivateMount {
            mnt: NonNull::new(mnt).ok_or(EINVAL)?,
        };
        self.0.push(mount, GFP_KERNEL_ACCOUNT)?;
        self.0.last().ok_or(EINVAL)
    }

    /// All of them, in the order in which they were added.
    pub fn all(&self) -> &[PrivateMount] {
        &self.0
    }
}

impl Drop for PrivateMounts {
    fn drop(&mut self) {
        if self.0.is_empty() {
            return;
        }
        let count = c_uint::try_from(self.0.len()).unwrap_or(c_uint::MAX);
        // SAFETY: We own the mounts by the type invariants, and they are in no namespace.
        // `PrivateMount` is a transparent wrapper of a pointer to one.
        unsafe { bindings::kern_unmount_array(self.0.as_mut_ptr().cast(), count) };
    }
}

impl PrivateMount {
    /// The directory at its root.
    pub fn root(&self) -> Path {
        // SAFETY: The mount is valid and has a root, which is a directory or file that exists.
        let path = unsafe {
            bindings::path {
                mnt: self.mnt.as_ptr(),
                dentry: (*self.mnt.as_ptr()).mnt_root,
            }
        };
        // SAFETY: Mount and dentry are valid.
        unsafe { bindings::path_get(&raw const path) };
        // INVARIANT: `path_get` took the references.
        Path(path)
    }

    /// Finds `name` below the root: not above it, not through a symbolic link, not on another
    /// mount.
    ///
    /// # Errors
    ///
    /// What path lookup gives: `ENOENT`, `ELOOP` for a symbolic link, `EXDEV` for a way out, ...
    pub fn lookup(&self, name: &CStr) -> Result<Path> {
        let mut path: bindings::path = pin_init::zeroed();
        // SAFETY: The mount is valid and has a root; the name is a valid C string; on success
        // `path` is filled in.
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
