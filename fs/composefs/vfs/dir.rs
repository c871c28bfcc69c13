// SPDX-License-Identifier: GPL-2.0

//! Directories.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::{
    bindings,
    inode::{
        self,
        Inode,
        InodeRef, //
    },
    xattr,
    FileSystem, //
};
use core::{
    marker::PhantomData,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    error::from_result,
    prelude::*, //
};

/// What a file system does with its directories.
pub trait Operations: FileSystem {
    /// Finds `name` in `dir`; `None` if there is none.
    ///
    /// # Errors
    ///
    /// Anything that keeps it from being known whether there is one: such an error is not cached.
    fn lookup<'a>(dir: &'a Inode<Self>, name: &[u8]) -> Result<Option<InodeRef<'a, Self>>>;

    /// Gives the entries of `dir` from the emitter's position on, until they end or the emitter
    /// wants no more.
    ///
    /// # Errors
    ///
    /// Whatever keeps an entry from being read; those that were given before it count.
    fn read_dir(dir: &Inode<Self>, emitter: &mut DirEmitter<'_>) -> Result;
}

/// Type of `filldir_t`.
type Actor = unsafe extern "C" fn(
    *mut bindings::dir_context,
    *const c_char,
    c_int,
    i64,
    u64,
    c_uint,
) -> bool;

/// Takes the entries of a directory: `struct dir_context`.
///
/// # Invariants
///
/// `ctx` is valid and used by nobody else as long as this object exists, and `actor` is its own.
pub struct DirEmitter<'a> {
    ctx: NonNull<bindings::dir_context>,
    /// `ctx->actor`.
    actor: Actor,
    _ctx: PhantomData<&'a mut bindings::dir_context>,
}

impl DirEmitter<'_> {
    /// Where to go on: what [`Self::set_pos`] was called with, or any other number that the user
    /// made lseek(2) go to.
    pub fn pos(&self) -> u64 {
        // SAFETY: The context is valid by the type invariants.
        u64::try_from(unsafe { (*self.ctx.as_ptr()).pos }).unwrap_or(0)
    }

    /// Says where to go on. A position that is none, because it is too large, ends the directory.
    pub fn set_pos(&mut self, pos: u64) {
        // SAFETY: The context is valid and ours by the type invariants.
        unsafe { (*self.ctx.as_ptr()).pos = i64::try_from(pos).unwrap_or(i64::MAX) };
    }

    /// Gives an entry; `false` if there is no more room for it. The position must be the entry's
    /// own.
    ///
    /// `file_type` is one of `FT_*` of `include/linux/fs_types.h`; any other means unknown.
    ///
    /// C header: [`include/linux/fs.h`](srctree/include/linux/fs.h): `dir_emit()`, which masks the
    /// flags that a type may have. Ours has none.
    #[inline]
    pub fn emit(&mut self, name: &[u8], ino: u64, file_type: u8) -> bool {
        let ctx = self.ctx.as_ptr();
        let Ok(len) = c_int::try_from(name.len()) else {
            return false;
        };
        // SAFETY: The context is valid and ours by the type invariants, and so is the function; the
        // name is as long as said.
        unsafe {
            let pos = (*ctx).pos;
            (self.actor)(ctx, name.as_ptr().cast(), len, pos, ino, dtype(file_type))
        }
    }
}

/// As `fs_ftype_to_dtype()`, without a call for each entry.
#[inline]
fn dtype(file_type: u8) -> c_uint {
    match c_uint::from(file_type) {
        bindings::FT_REG_FILE => bindings::DT_REG,
        bindings::FT_DIR => bindings::DT_DIR,
        bindings::FT_CHRDEV => bindings::DT_CHR,
        bindings::FT_BLKDEV => bindings::DT_BLK,
        bindings::FT_FIFO => bindings::DT_FIFO,
        bindings::FT_SOCK => bindings::DT_SOCK,
        bindings::FT_SYMLINK => bindings::DT_LNK,
        _ => bindings::DT_UNKNOWN,
    }
}

/// Makes an inode that is being set up a directory.
///
/// # Safety
///
/// `inode` must be an inode of `T` that nobody else uses yet.
pub(super) unsafe fn set_operations<T: Operations + xattr::Operations>(
    inode: *mut bindings::inode,
) {
    // SAFETY: Nothing else uses the inode; the tables are static.
    unsafe {
        (*inode).i_op = inode::directory_operations::<T>();
        bindings::inode_set_fop(inode, &Table::<T>::FILE_OPERATIONS);
    }
}

struct Table<T>(PhantomData<T>);

impl<T: Operations> Table<T> {
    /// Without an owner, see [`super::file`].
    const FILE_OPERATIONS: bindings::file_operations = bindings::file_operations {
        llseek: Some(bindings::generic_file_llseek),
        read: Some(bindings::generic_read_dir),
        iterate_shared: Some(Self::iterate_shared),
        fsync: Some(bindings::noop_fsync),
        setlease: Some(bindings::generic_setlease),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `file` must be an open directory of `T`, and `ctx` a valid context.
    unsafe extern "C" fn iterate_shared(
        file: *mut bindings::file,
        ctx: *mut bindings::dir_context,
    ) -> c_int {
        // SAFETY: An open file holds its inode, which is set up. The context is ours for the call.
        let (dir, actor) = unsafe { (Inode::<T>::from_raw((*file).f_inode), (*ctx).actor) };
        let (Some(ctx), Some(actor)) = (NonNull::new(ctx), actor) else {
            return EINVAL.to_errno();
        };
        // INVARIANT: The context is ours for the call, and the function is its own.
        let mut emitter = DirEmitter {
            ctx,
            actor,
            _ctx: PhantomData,
        };
        from_result(|| {
            T::read_dir(dir, &mut emitter)?;
            Ok(0)
        })
    }
}

/// `->lookup`.
///
/// # Safety
///
/// `dir` must be a directory of `T`, locked at least shared, and `dentry` one below it that is
/// being looked up.
pub(super) unsafe extern "C" fn lookup<T: Operations>(
    dir: *mut bindings::inode,
    dentry: *mut bindings::dentry,
    _flags: c_uint,
) -> *mut bindings::dentry {
    let mut len = 0;
    // SAFETY: A dentry's name does not change while it is being looked up, and the caller holds a
    // reference to the directory, which is set up.
    let (name, dir) = unsafe {
        let name = bindings::d_name(dentry, &raw mut len);
        (
            core::slice::from_raw_parts(name, len as usize),
            Inode::<T>::from_raw(dir),
        )
    };
    if name.len() > NAME_MAX {
        return ENAMETOOLONG.to_ptr();
    }
    let result = T::lookup(dir, name);
    let inode = match result {
        Ok(None) => ptr::null_mut(),
        Ok(Some(inode)) if !inode.is_of(dir.super_block()) => return EIO.to_ptr(),
        Ok(Some(inode)) => inode.into_raw(),
        Err(e) => return e.to_ptr(),
    };
    // SAFETY: The dentry is being looked up; the function takes over our reference to the inode,
    // also where it fails.
    unsafe { bindings::d_splice_alias(inode, dentry) }
}

/// Longest name in bytes.
const NAME_MAX: usize = 255;
