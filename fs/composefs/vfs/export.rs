// SPDX-License-Identifier: GPL-2.0

//! File handles: name_to_handle_at(2), open_by_handle_at(2), NFS, fanotify's `FAN_REPORT_FID`.
//!
//! A handle holds the number of an inode and that of a directory that it is in. It comes from user
//! space and may be forged: the file system must verify it.
//!
//! C header: [`include/linux/exportfs.h`](srctree/include/linux/exportfs.h)

use super::{
    bindings,
    inode::{
        Inode,
        InodeRef, //
    },
    super_block::SuperBlock,
    FileSystem, //
};
use core::{
    marker::PhantomData,
    ptr, //
};
use kernel::{
    error::VTABLE_DEFAULT_ERROR,
    prelude::*, //
};

/// Operations for file handles. A file system without handles implements none of them. Others
/// implement [`Self::by_handle`] and [`Self::parent_ino`].
#[vtable]
pub trait Operations: FileSystem {
    /// Returns the inode `ino`, which a handle says is in the directory `parent`. Without `parent`
    /// the inode must be a directory. `hint` is a value of [`Self::hint`] or any other number. A
    /// wrong one may only cost time.
    ///
    /// # Errors
    ///
    /// `ESTALE` if the inode cannot be reached from the root.
    fn by_handle(
        _sb: &SuperBlock<Self>,
        _ino: u64,
        _parent: Option<u64>,
        _hint: u32,
    ) -> Result<InodeRef<'_, Self>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the number of a directory that `inode` is in.
    ///
    /// # Errors
    ///
    /// The error of reading it.
    fn parent_ino(_inode: &Inode<Self>) -> Result<u64> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns a number that helps to find `inode` in the directory `parent`, 0 for none. It is a
    /// part of handles. These are compared, so an inode should always have the same number.
    fn hint(_inode: &Inode<Self>, _parent: u64) -> u32 {
        0
    }
}

/// Returns the operations of the super blocks of `T`, null if `T` has no handles.
pub(super) fn operations<T: Operations>() -> *const kernel::bindings::export_operations {
    if !T::HAS_BY_HANDLE || !T::HAS_PARENT_INO {
        return ptr::null();
    }
    // The kernel crate has an opaque `export_operations`. This one is the complete type.
    ptr::from_ref(&Table::<T>::OPERATIONS).cast()
}

/// Length of a handle in words: number and generation of the inode, and of its directory, as
/// `FILEID_INO64_GEN_PARENT`. A number is never reused, so there are no generations. The hint is
/// stored as the generation of the inode, and 0 as that of the directory.
const LEN: usize = 6;

/// `FILEID_INO64_GEN_PARENT` of `enum fid_type`.
const TYPE: c_int = 0x82;

/// `FILEID_INVALID` of `enum fid_type`.
const INVALID: c_int = 0xff;

/// The content of a handle.
struct Handle {
    ino: u64,
    hint: u32,
    parent: u64,
}

/// Finds an inode by the content of a handle.
type Find<T> = fn(&SuperBlock<T>, Handle) -> Result<InodeRef<'_, T>>;

struct Table<T>(PhantomData<T>);

impl<T: Operations> Table<T> {
    const OPERATIONS: bindings::export_operations = bindings::export_operations {
        encode_fh: Some(Self::encode_fh),
        fh_to_dentry: Some(Self::fh_to_dentry),
        fh_to_parent: Some(Self::fh_to_parent),
        get_parent: Some(Self::get_parent),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `inode`, and `parent` if it is not null, must be inodes of `T` with references held, and
    /// `fh` valid for writing `*max_len` words.
    unsafe extern "C" fn encode_fh(
        inode: *mut bindings::inode,
        fh: *mut u32,
        max_len: *mut c_int,
        parent: *mut bindings::inode,
    ) -> c_int {
        // SAFETY: `max_len` is valid.
        let room = unsafe { core::mem::replace(&mut *max_len, LEN as c_int) };
        if usize::try_from(room).unwrap_or(0) < LEN {
            return INVALID;
        }
        // SAFETY: A reference to the inode is held.
        let inode = unsafe { Inode::<T>::from_raw(inode) };
        let parent = if parent.is_null() {
            T::parent_ino(inode)
        } else {
            // SAFETY: A reference to the parent is held.
            Ok(unsafe { Inode::<T>::from_raw(parent) }.ino())
        };
        let Ok(parent) = parent else {
            return INVALID;
        };
        let [a, b] = split(inode.ino());
        let [c, d] = split(parent);
        let hint = T::hint(inode, parent);
        // SAFETY: There is room for it.
        unsafe {
            fh.cast::<[u32; LEN]>()
                .write_unaligned([a, b, hint, c, d, 0])
        };
        TYPE
    }

    /// Decodes a handle.
    ///
    /// # Safety
    ///
    /// `fid` must be valid for reading `len` words.
    unsafe fn decode(fid: *const bindings::fid, len: c_int, kind: c_int) -> Option<Handle> {
        if kind != TYPE || usize::try_from(len).unwrap_or(0) < LEN {
            return None;
        }
        // SAFETY: `fid` has `len` words.
        let [a, b, hint, c, d, _] = unsafe { fid.cast::<[u32; LEN]>().read_unaligned() };
        Some(Handle {
            ino: join(a, b),
            hint,
            parent: join(c, d),
        })
    }

    /// Returns a dentry for the inode that `find` returns for the handle.
    ///
    /// # Safety
    ///
    /// `sb` must be a mounted super block of `T`, `fid` valid for reading `len` words.
    unsafe fn find(
        sb: *mut bindings::super_block,
        fid: *mut bindings::fid,
        len: c_int,
        kind: c_int,
        find: Find<T>,
    ) -> *mut bindings::dentry {
        // SAFETY: `fid` has `len` words. A mounted super block has its data.
        let (sb, handle) = unsafe { (SuperBlock::<T>::from_raw(sb), Self::decode(fid, len, kind)) };
        match handle {
            Some(handle) => alias(sb, find(sb, handle)),
            None => ptr::null_mut(),
        }
    }

    /// # Safety
    ///
    /// As for [`Self::find`].
    unsafe extern "C" fn fh_to_dentry(
        sb: *mut bindings::super_block,
        fid: *mut bindings::fid,
        len: c_int,
        kind: c_int,
    ) -> *mut bindings::dentry {
        let find: Find<T> =
            |sb, handle| T::by_handle(sb, handle.ino, Some(handle.parent), handle.hint);
        // SAFETY: The arguments are those of `->fh_to_dentry`.
        unsafe { Self::find(sb, fid, len, kind, find) }
    }

    /// # Safety
    ///
    /// As for [`Self::find`].
    unsafe extern "C" fn fh_to_parent(
        sb: *mut bindings::super_block,
        fid: *mut bindings::fid,
        len: c_int,
        kind: c_int,
    ) -> *mut bindings::dentry {
        // The directory is valid only if the inode is in it.
        let find: Find<T> = |sb, handle| {
            T::by_handle(sb, handle.ino, Some(handle.parent), handle.hint)?;
            T::by_handle(sb, handle.parent, None, 0)
        };
        // SAFETY: The arguments are those of `->fh_to_parent`.
        unsafe { Self::find(sb, fid, len, kind, find) }
    }

    /// # Safety
    ///
    /// `child` must be a directory of `T`.
    unsafe extern "C" fn get_parent(child: *mut bindings::dentry) -> *mut bindings::dentry {
        // SAFETY: A reference to the dentry is held, and it is positive.
        let dir = unsafe { Inode::<T>::from_raw(bindings::d_inode(child)) };
        let sb = dir.super_block();
        let parent = T::parent_ino(dir).and_then(|ino| T::by_handle(sb, ino, None, 0));
        alias(sb, parent)
    }
}

/// Returns a dentry for an inode of `sb`, or the error.
fn alias<T: FileSystem>(
    sb: &SuperBlock<T>,
    inode: Result<InodeRef<'_, T>>,
) -> *mut bindings::dentry {
    match inode {
        Ok(inode) if !inode.is_of(sb) => ESTALE.to_ptr(),
        // SAFETY: The function takes over the reference to the inode, even if it fails.
        Ok(inode) => unsafe { bindings::d_obtain_alias(inode.into_raw()) },
        Err(e) => e.to_ptr(),
    }
}

/// Splits a number into its high and low half.
fn split(ino: u64) -> [u32; 2] {
    [(ino >> 32) as u32, ino as u32]
}

/// Joins the halves of a number.
fn join(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}
