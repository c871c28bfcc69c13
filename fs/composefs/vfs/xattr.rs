// SPDX-License-Identifier: GPL-2.0

//! Extended attributes and access control lists.
//!
//! C headers: [`include/linux/xattr.h`](srctree/include/linux/xattr.h),
//! [`include/linux/posix_acl.h`](srctree/include/linux/posix_acl.h)

use super::{
    bindings,
    inode::Inode,
    to_ssize,
    FileSystem, //
};
use core::{
    marker::PhantomData,
    mem::MaybeUninit, //
};
use kernel::{
    error::VTABLE_DEFAULT_ERROR,
    prelude::*, //
};

/// Operations for extended attributes. A file system without xattrs implements none of them.
#[vtable]
pub trait Operations: FileSystem {
    /// Returns the length of the value of the xattr `name`, which includes the prefix. Writes the
    /// value to `out` if it has room.
    ///
    /// # Errors
    ///
    /// `ENODATA` if there is no such xattr.
    fn get_xattr(_inode: &Inode<Self>, _name: &[u8], _out: &mut ValueBuffer<'_>) -> Result<usize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Pushes the name of each xattr that the current task may see.
    ///
    /// # Errors
    ///
    /// `ERANGE` from the list, if there is no room for a name.
    fn list_xattr(_inode: &Inode<Self>, _list: &mut XattrList<'_>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns an access control list in the format of the xattr. `None` if there is none.
    ///
    /// # Errors
    ///
    /// The error of reading it.
    fn acl(_inode: &Inode<Self>, _kind: AclKind) -> Result<Option<KVec<u8>>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// The type of an access control list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AclKind {
    /// `system.posix_acl_access`: permissions of the file.
    Access,
    /// `system.posix_acl_default`: first permissions of files that are created in a directory.
    Default,
}

/// The buffer of getxattr(2).
pub struct ValueBuffer<'a> {
    memory: &'a mut [MaybeUninit<u8>],
    /// Number of bytes at the start that are initialised.
    filled: usize,
}

impl ValueBuffer<'_> {
    /// Returns the first `len` bytes of the buffer, set to 0. `None` if it is too small, or if the
    /// caller asks for the length only.
    pub fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        let room = self.memory.get_mut(..len)?;
        room.fill(MaybeUninit::new(0));
        self.filled = len;
        // SAFETY: All of them were just initialised.
        Some(unsafe { &mut *(core::ptr::from_mut(room) as *mut [u8]) })
    }
}

/// The buffer of listxattr(2).
pub struct XattrList<'a> {
    /// `None` if the caller asks for the size only.
    out: Option<&'a mut [MaybeUninit<u8>]>,
    used: usize,
}

impl XattrList<'_> {
    /// Adds the name `prefix` followed by `name`.
    ///
    /// # Errors
    ///
    /// `ERANGE` if there is no room for it.
    pub fn push(&mut self, prefix: &[u8], name: &[u8]) -> Result {
        let len = prefix.len().checked_add(name.len()).ok_or(ERANGE)?;
        let end = self.used.checked_add(len).ok_or(ERANGE)?;
        let with_nul = end.checked_add(1).ok_or(ERANGE)?;
        if let Some(out) = &mut self.out {
            let room = out.get_mut(self.used..with_nul).ok_or(ERANGE)?;
            let (head, tail) = room.split_at_mut_checked(prefix.len()).ok_or(ERANGE)?;
            let (middle, nul) = tail.split_at_mut_checked(name.len()).ok_or(ERANGE)?;
            copy(head, prefix);
            copy(middle, name);
            nul.fill(MaybeUninit::new(0));
        }
        self.used = with_nul;
        Ok(())
    }
}

/// Copies bytes between slices of the same length. Unlike `copy_from_slice()` it cannot panic.
fn copy(to: &mut [MaybeUninit<u8>], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        to.write(*from);
    }
}

/// Returns the buffer of a caller of the VFS. Not every caller in the kernel has initialised it.
///
/// # Safety
///
/// `buf` must be valid for writing `size` bytes for the lifetime `'a`, or `size` 0.
unsafe fn buffer<'a>(buf: *mut c_void, size: usize) -> &'a mut [MaybeUninit<u8>] {
    if size == 0 || buf.is_null() {
        return &mut [];
    }
    // SAFETY: `buf` has `size` bytes.
    unsafe { core::slice::from_raw_parts_mut(buf.cast(), size) }
}

/// Returns the handlers of the super blocks of `T`, null if `T` has no xattrs.
pub(super) fn handlers<T: Operations>() -> *const *const bindings::xattr_handler {
    if T::HAS_GET_XATTR {
        Table::<T>::HANDLERS.0.as_ptr()
    } else {
        core::ptr::null()
    }
}

/// Adds the xattr operations to a table of inode operations.
pub(super) const fn inode_operations<T: Operations>() -> bindings::inode_operations {
    bindings::inode_operations {
        listxattr: if T::HAS_LIST_XATTR {
            Some(list::<T>)
        } else {
            None
        },
        get_inode_acl: if T::HAS_ACL {
            Some(get_inode_acl::<T>)
        } else {
            None
        },
        ..pin_init::zeroed()
    }
}

struct Table<T>(PhantomData<T>);

/// A list of handlers with a null pointer at its end.
struct Handlers([*const bindings::xattr_handler; 2]);

// SAFETY: The list and its handlers are never written to.
unsafe impl Sync for Handlers {}

impl<T: Operations> Table<T> {
    /// An empty prefix matches each name, and the handler gets the whole name.
    const HANDLER: bindings::xattr_handler = bindings::xattr_handler {
        prefix: kernel::str::as_char_ptr_in_const_context(c""),
        get: Some(Self::get),
        ..pin_init::zeroed()
    };

    const HANDLERS: &'static Handlers = &Handlers([&Self::HANDLER, core::ptr::null()]);

    /// # Safety
    ///
    /// `inode` must be an inode of `T` with a reference held, `name` a C string, and `buf` valid
    /// for writing `size` bytes.
    unsafe extern "C" fn get(
        _handler: *const bindings::xattr_handler,
        _dentry: *mut bindings::dentry,
        inode: *mut bindings::inode,
        name: *const c_char,
        buf: *mut c_void,
        size: usize,
    ) -> c_int {
        // SAFETY: The arguments are those of an xattr handler.
        let (inode, name, memory) = unsafe {
            (
                Inode::<T>::from_raw(inode),
                CStr::from_char_ptr(name),
                buffer(buf, size),
            )
        };
        let mut out = ValueBuffer { memory, filled: 0 };
        match T::get_xattr(inode, name.to_bytes(), &mut out) {
            Ok(len) if size != 0 && len > size => ERANGE.to_errno(),
            // The caller would read bytes that were not initialised.
            Ok(len) if size != 0 && len > out.filled => EIO.to_errno(),
            Ok(len) => c_int::try_from(len).unwrap_or(E2BIG.to_errno()),
            Err(e) => e.to_errno(),
        }
    }
}

/// `->listxattr`.
///
/// # Safety
///
/// `dentry` must be positive and of `T`, and `buf` valid for writing `size` bytes.
pub(super) unsafe extern "C" fn list<T: Operations>(
    dentry: *mut bindings::dentry,
    buf: *mut c_char,
    size: usize,
) -> isize {
    // SAFETY: `buf` has `size` bytes. The dentry is referenced, and keeps the inode.
    let (inode, out) = unsafe {
        (
            Inode::<T>::from_raw(bindings::d_inode(dentry)),
            buffer(buf.cast(), size),
        )
    };
    let mut list = XattrList {
        out: (size != 0).then_some(out),
        used: 0,
    };
    to_ssize(T::list_xattr(inode, &mut list).map(|()| list.used))
}

/// `->get_inode_acl`.
///
/// # Safety
///
/// `inode` must be an inode of `T`, with a reference held unless `rcu`.
pub(super) unsafe extern "C" fn get_inode_acl<T: Operations>(
    inode: *mut bindings::inode,
    kind: c_int,
    rcu: bool,
) -> *mut bindings::posix_acl {
    // Reading may sleep.
    if rcu {
        return ECHILD.to_ptr();
    }
    let kind = match kind {
        bindings::POSIX_ACL_ACCESS => AclKind::Access,
        bindings::POSIX_ACL_DEFAULT => AclKind::Default,
        _ => return EINVAL.to_ptr(),
    };
    // SAFETY: A reference to the inode is held.
    match T::acl(unsafe { Inode::<T>::from_raw(inode) }, kind) {
        Ok(None) => core::ptr::null_mut(),
        // SAFETY: The value has `value.len()` bytes. The inode keeps the super block.
        Ok(Some(value)) => unsafe {
            bindings::posix_acl_from_xattr(
                (*(*inode).i_sb).s_user_ns,
                value.as_ptr().cast(),
                value.len(),
            )
        },
        Err(e) => e.to_ptr(),
    }
}

#[cfg(CONFIG_RUST_VFS_KUNIT_TEST)]
#[allow(clippy::arithmetic_side_effects)]
#[kunit_tests(composefs_vfs_xattr)]
mod tests {
    use super::*;
    use crate::vfs::kunit::{
        ensure,
        Mount,
        Toy,
        VALUE, //
    };

    /// Value of the bytes behind a buffer.
    const GUARD: u8 = 0xa5;

    #[test]
    fn a_value_never_leaves_its_buffer() -> Result {
        let mount = Mount::new()?;
        let Some(root) = mount.sb().cached(1) else {
            return Err(EINVAL);
        };
        for size in 0..VALUE.len() + 3 {
            let mut room = [GUARD; 16];
            // SAFETY: The inode is referenced. The memory is larger than the size.
            let result = unsafe {
                Table::<Toy>::get(
                    core::ptr::null(),
                    core::ptr::null_mut(),
                    root.as_ptr(),
                    c"user.name".as_char_ptr(),
                    room.as_mut_ptr().cast(),
                    size,
                )
            };
            let expected = match size {
                1..10 => ERANGE.to_errno(),
                _ => c_int::try_from(VALUE.len())?,
            };
            ensure!(result == expected);
            ensure!(room.iter().skip(size).all(|byte| *byte == GUARD));
            ensure!(size < VALUE.len() || room.starts_with(VALUE));
        }
        Ok(())
    }

    #[test]
    fn a_list_never_leaves_its_buffer() -> Result {
        const ALL: &[u8] = b"user.a\0trusted.bc\0";
        for size in 0..=ALL.len() + 1 {
            let mut room = [MaybeUninit::new(GUARD); 32];
            let mut list = XattrList {
                out: room.get_mut(..size),
                used: 0,
            };
            let result = list
                .push(b"user.", b"a")
                .and_then(|()| list.push(b"trusted.", b"bc"));
            let used = list.used;
            ensure!(result.is_ok() == (size >= ALL.len()));
            ensure!(result.is_ok() || result == Err(ERANGE));
            ensure!(used <= size);
            // SAFETY: All bytes were initialised.
            let room = room.map(|byte| unsafe { byte.assume_init() });
            ensure!(room.iter().skip(size).all(|byte| *byte == GUARD));
            ensure!(room.get(..used) == ALL.get(..used));
        }
        Ok(())
    }

    #[test]
    fn the_size_of_a_list_is_that_of_its_names() -> Result {
        let mut list = XattrList { out: None, used: 0 };
        list.push(b"user.", b"a")?;
        list.push(b"", b"bc")?;
        ensure!(list.used == 10);
        list.used = usize::MAX - 2;
        ensure!(list.push(b"user.", b"a") == Err(ERANGE));
        Ok(())
    }
}
