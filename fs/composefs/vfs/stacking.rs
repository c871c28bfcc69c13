// SPDX-License-Identifier: GPL-2.0

//! Stacking file systems: the data of a regular file are in a file of another file system.
//!
//! A file system opts in by [`RegularFile::stacked`] for its files, and by [`Stacking`] for its
//! super block.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/backing-file.h`](srctree/include/linux/backing-file.h)

use super::{
    backing::BackingFile,
    bindings,
    cred,
    dentry,
    errno_to_isize,
    fiemap::{
        self,
        Extent, //
    },
    file::{
        self,
        RegularFile, //
    },
    inode::{
        self,
        Inode, //
    },
    once::OnceBox,
    path::Path,
    super_block::SuperBlock,
    xattr, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    cred::Credential,
    error::to_result,
    prelude::*,
    types::Opaque, //
};

/// Why the data of a file are needed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// For a read that may wait.
    Read,
    /// For a read that must not wait. `EAGAIN` if the backing file is not open yet.
    NoWait,
    /// For a memory map, under `mmap_lock`. A path lookup is not possible: it takes locks under
    /// which other tasks fault in user memory.
    Map,
}

/// The backing file of a read.
pub enum ReadSource<'a> {
    /// It is open for this file alone, and gets its flags.
    Own(&'a BackingFile),
    /// All files that have the inode open share it. A read must not change it.
    Shared(&'a BackingFile),
}

/// Where the data of a file are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum DataSource {
    /// In another file.
    Backed,
    /// In memory, as [`Operations::kept`], or in the file's own page cache, which
    /// [`file::Operations::read_folio`] fills.
    Paged,
}

/// Operations of regular files whose data are in another file.
pub trait Operations: file::Operations {
    /// Data of an open file: `struct file::private_data`. An open file gets them once.
    type Open: Send + Sync;

    /// Prepares a file that is being opened, and returns where its data are. `file.private()` is
    /// empty.
    ///
    /// # Errors
    ///
    /// The error of open(2).
    fn open(inode: &Inode<Self>, file: &File<Self>) -> Result<DataSource>;

    /// Returns the backing file of `file`, and opens it if necessary. Called for files that are
    /// [`DataSource::Backed`].
    ///
    /// # Errors
    ///
    /// `EAGAIN` if `access` does not permit opening it, `EIO` if there is no valid backing file.
    fn backing(file: &File<Self>, access: Access) -> Result<&BackingFile>;

    /// Returns the backing file for a read of `file`. `direct` is set for direct I/O. Called as
    /// [`Self::backing`].
    ///
    /// # Errors
    ///
    /// As [`Self::backing`].
    fn reading(file: &File<Self>, access: Access, direct: bool) -> Result<ReadSource<'_>>;

    /// Returns the content of `file` if its inode keeps all of it in memory. A read copies it, and
    /// takes no page of the page cache, which may be 64 KiB. Called for files that are
    /// [`DataSource::Paged`].
    fn kept(file: &File<Self>) -> Option<&[u8]>;

    /// Returns the path of the file with the data of `inode`.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the data are not in another file, `EIO` if there is no valid one.
    fn backing_path(inode: &Inode<Self>) -> Result<Path>;

    /// Returns the extent at byte `offset` of data that are not in another file. `None` if there is
    /// none from there on.
    ///
    /// # Errors
    ///
    /// The error of reading where the data are.
    fn own_extent(inode: &Inode<Self>, offset: u64) -> Result<Option<Extent>>;

    /// Returns the path of the file with the data of `inode` for `->d_real`. Looks it up if it is
    /// not known yet. The result does not change while the inode exists. `None` if the data are not
    /// in another file, or there is no valid one.
    fn real_path(inode: &Inode<Self>) -> Option<&Path>;

    /// Returns the path of the file with the data of `inode`, which need not be a valid one: only
    /// its capabilities are read.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the data are not in another file, else the error of the lookup.
    fn data_path(inode: &Inode<Self>) -> Result<Path>;

    /// Returns the credentials with which the data are read.
    fn credential(sb: &SuperBlock<Self>) -> &Credential;
}

/// An open regular file of `T`.
///
/// # Invariants
///
/// `private_data` is null or a box of `T::Open`, and is used as a [`OnceBox`].
#[repr(transparent)]
pub struct File<T: Operations>(Opaque<bindings::file>, PhantomData<T>);

impl<T: Operations> File<T> {
    /// # Safety
    ///
    /// `ptr` must be an open file of `T`, with a reference held for the lifetime `'a`.
    #[inline]
    unsafe fn from_raw<'a>(ptr: *mut bindings::file) -> &'a Self {
        // SAFETY: The pointer is an open file of `T`, and `File` is a transparent wrapper.
        unsafe { &*ptr.cast() }
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::file {
        self.0.get()
    }

    /// Returns the inode.
    #[inline]
    pub fn inode(&self) -> &Inode<T> {
        // SAFETY: An open file holds a reference to its inode, which is set up.
        unsafe { Inode::from_raw((*self.0.get()).f_inode) }
    }

    /// Returns the `O_*` flags of open(2), as changed by fcntl(2).
    pub fn flags(&self) -> c_uint {
        // SAFETY: The file is valid. `f_flags` is changed under a lock but read without, as C does.
        unsafe { core::ptr::read_volatile(&raw const (*self.0.get()).f_flags) }
    }

    /// Whether it was opened for direct I/O.
    pub fn is_direct(&self) -> bool {
        self.flags() & bindings::O_DIRECT != 0
    }

    /// Whether it has no listeners by `FMODE_NONOTIFY`. fanotify(7) passes such files to permission
    /// listeners.
    pub fn is_nonotify(&self) -> bool {
        // SAFETY: The file is valid.
        unsafe { bindings::file_is_nonotify(self.0.get()) }
    }

    /// Returns the data of the open file.
    #[inline]
    pub fn private(&self) -> &OnceBox<T::Open> {
        // SAFETY: `OnceBox` is a transparent wrapper of a pointer. By the type invariants
        // `private_data` is used as one.
        unsafe { &*(&raw mut (*self.0.get()).private_data).cast() }
    }
}

impl<T: Operations> Inode<T> {
    /// Makes statx(2) report `STATX_ATTR_VERITY` for this regular file, whose data are verified
    /// before they are read. It switches to another
    /// operation table, so that stat(2) need not check anything.
    pub fn set_verified(&self)
    where
        T: xattr::Operations,
    {
        if !self.is_regular() {
            return;
        }
        let table: *const _ = &InodeTable::<T>::VERIFIED;
        // SAFETY: The inode is valid. The pointer may be read concurrently: both tables are static,
        // and differ only in `getattr`.
        unsafe { (&raw mut (*self.as_ptr()).i_op).write_volatile(table) };
    }
}

impl<T: Operations + xattr::Operations> RegularFile<T> {
    /// A file whose data are where [`Operations::open`] says. It is asked at open(2), because most
    /// inodes are never opened.
    ///
    /// `verified` is set if all its data are verified before they are read. Otherwise
    /// [`Inode::set_verified`] may tell so later.
    #[inline]
    pub fn stacked(verified: bool) -> Self {
        let table = match verified {
            true => &InodeTable::<T>::VERIFIED,
            false => &InodeTable::<T>::UNVERIFIED,
        };
        // SAFETY: All three tables are those of files of `T`.
        unsafe { Self::new(table, &Table::<T>::BACKED) }
    }
}

struct InodeTable<T>(PhantomData<T>);

impl<T: Operations + xattr::Operations> InodeTable<T> {
    const UNVERIFIED: bindings::inode_operations = bindings::inode_operations {
        getattr: Some(getattr::<T, false>),
        fiemap: Some(fiemap::fiemap::<T>),
        ..inode::Tables::<T>::OTHER_OPERATIONS
    };

    const VERIFIED: bindings::inode_operations = bindings::inode_operations {
        getattr: Some(getattr::<T, true>),
        ..Self::UNVERIFIED
    };
}

/// Makes a super block one of a stacking file system.
pub struct Stacking<T> {
    /// `s_stack_depth`.
    pub(super) depth: c_int,
    /// `s_d_op`.
    pub(super) dentry_operations: &'static bindings::dentry_operations,
    _type: PhantomData<T>,
}

impl<T: Operations> Stacking<T> {
    /// `depth` is one more than the depth of the deepest file system below.
    pub fn new(depth: c_int) -> Self {
        Self {
            depth,
            dentry_operations: dentry::operations::<T>(),
            _type: PhantomData,
        }
    }
}

/// The part of statx(2) about the alignment of direct I/O.
const DIO: u32 = bindings::STATX_DIOALIGN | bindings::STATX_DIO_READ_ALIGN;

/// `->getattr`. `VERIFIED` for a file whose data are verified.
///
/// # Safety
///
/// `path` must lead to a regular file of `T`. The others must be arguments of `->getattr`.
unsafe extern "C" fn getattr<T: Operations, const VERIFIED: bool>(
    idmap: *mut bindings::mnt_idmap,
    path: *const bindings::path,
    stat: *mut bindings::kstat,
    request: u32,
    flags: c_uint,
) -> c_int {
    // SAFETY: `stat` is valid for the call, and path and arguments are those of `->getattr`.
    unsafe {
        if VERIFIED {
            (*stat).attributes |= u64::from(bindings::STATX_ATTR_VERITY);
        }
        if request & DIO != 0 {
            return getattr_dio::<T>(idmap, path, stat, request, flags);
        }
        inode::getattr(idmap, path, stat, request, flags)
    }
}

/// Fills in [`DIO`] if it is requested: the values are those of the file with the data. A file
/// without one is read through the page cache, and reports 0. If the file cannot be found, nothing
/// is reported.
///
/// # Safety
///
/// As for [`getattr`].
#[cold]
#[inline(never)]
unsafe fn getattr_dio<T: Operations>(
    idmap: *mut bindings::mnt_idmap,
    path: *const bindings::path,
    stat: *mut bindings::kstat,
    request: u32,
    flags: c_uint,
) -> c_int {
    let asked = request & DIO;
    // SAFETY: The path is valid for the call, and keeps its inode, which is set up.
    let inode = unsafe { Inode::<T>::from_raw((*(*path).dentry).d_inode) };
    let answer = T::data_path(inode).and_then(|path| {
        let mut answer: bindings::kstat = pin_init::zeroed();
        let (path, to) = (path.as_ptr(), &raw mut answer);
        cred::with(T::credential(inode.super_block()), || {
            // SAFETY: The path is valid, and `backing` has room for the result.
            to_result(unsafe { bindings::vfs_getattr_nosec(path, to, asked, flags) })
        })?;
        Ok(answer)
    });
    match answer {
        // SAFETY: `stat` is what `->getattr` fills in.
        Ok(answer) => unsafe {
            (*stat).result_mask |= answer.result_mask & asked;
            (*stat).dio_mem_align = answer.dio_mem_align;
            (*stat).dio_offset_align = answer.dio_offset_align;
            (*stat).dio_read_offset_align = answer.dio_read_offset_align;
        },
        // SAFETY: As above.
        Err(e) if e == EOPNOTSUPP => unsafe { (*stat).result_mask |= asked },
        Err(_) => (),
    }
    // SAFETY: The arguments are those of `->getattr`.
    unsafe { inode::getattr(idmap, path, stat, request, flags) }
}

/// Type of `->get_unmapped_area`.
type GetUnmappedArea = Option<
    unsafe extern "C" fn(*mut bindings::file, c_ulong, c_ulong, c_ulong, c_ulong) -> c_ulong,
>;

struct Table<T>(PhantomData<T>);

impl<T: Operations> Table<T> {
    /// The table of the inodes, too.
    const BACKED: bindings::file_operations = bindings::file_operations {
        llseek: Some(Self::llseek),
        fadvise: Some(Self::fadvise),
        unlocked_ioctl: Some(Self::ioctl),
        compat_ioctl: bindings::compat_ptr_ioctl,
        open: Some(Self::open),
        release: Some(Self::release),
        read_iter: Some(Self::read_iter),
        splice_read: Some(Self::splice_read),
        mmap: Some(Self::mmap),
        get_unmapped_area: Self::GET_UNMAPPED_AREA,
        fsync: Some(bindings::noop_fsync),
        setlease: Some(bindings::generic_setlease),
        ..pin_init::zeroed()
    };

    /// Places the mapping so that large pages of the backing file can be mapped.
    #[cfg(CONFIG_TRANSPARENT_HUGEPAGE)]
    const GET_UNMAPPED_AREA: GetUnmappedArea = Some(bindings::thp_get_unmapped_area);
    #[cfg(not(CONFIG_TRANSPARENT_HUGEPAGE))]
    const GET_UNMAPPED_AREA: GetUnmappedArea = None;

    /// This is never the table of an inode. open(2) sets it in the file.
    const PAGED: bindings::file_operations = bindings::file_operations {
        llseek: Some(bindings::generic_file_llseek),
        release: Some(Self::release),
        read_iter: Some(Self::read_paged),
        splice_read: Some(bindings::filemap_splice_read),
        mmap: Some(bindings::generic_file_readonly_mmap),
        fsync: Some(bindings::noop_fsync),
        setlease: Some(bindings::generic_setlease),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `inode` and `file` must be those of a regular file of `T` that is being opened.
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: The file is being opened, so nothing else uses its private data. The inode is set
        // up.
        let (inode, user_file) = unsafe {
            (*file).private_data = core::ptr::null_mut();
            (Inode::from_raw(inode), File::<T>::from_raw(file))
        };
        let result = T::open(inode, user_file).and_then(|data| {
            match data {
                // Direct I/O goes through the page cache. fcntl(2) may ask for it later, too.
                // SAFETY: No other task has the file. Both tables have no owner.
                DataSource::Paged => unsafe {
                    (*file).f_op = &Self::PAGED;
                    (*file).f_mode |= bindings::FMODE_CAN_ODIRECT;
                },
                DataSource::Backed => {
                    // Reads check whether the backing file supports these.
                    // SAFETY: No other task has the file.
                    unsafe {
                        (*file).f_mode |= bindings::FMODE_NOWAIT | bindings::FMODE_CAN_ODIRECT;
                    }
                    // open(2) with `O_DIRECT` must fail if the backing file does not support it.
                    if user_file.is_direct()
                        && !T::backing(user_file, Access::Read)?.can_direct_io()
                    {
                        return Err(EINVAL);
                    }
                }
            }
            Ok(())
        });
        match result {
            Ok(()) => 0,
            Err(e) => {
                // `->release` is not called for a file that was not opened.
                // SAFETY: No other task has the file.
                unsafe { Self::drop_private(file) };
                e.to_errno()
            }
        }
    }

    /// # Safety
    ///
    /// `file` must be a file of `T` that nothing else uses.
    unsafe fn drop_private(file: *mut bindings::file) {
        // SAFETY: The private data are null or a box, by the invariants of `File`.
        unsafe {
            let private = core::mem::replace(&mut (*file).private_data, core::ptr::null_mut());
            if let Some(private) = NonNull::new(private.cast::<T::Open>()) {
                drop(KBox::from_raw(private.as_ptr()));
            }
        }
    }

    /// # Safety
    ///
    /// `file` must be an open file of `T` that is being closed for the last time.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: `->release` is called when the last reference to the file is gone.
        unsafe { Self::drop_private(file) };
        0
    }

    /// # Safety
    ///
    /// `kiocb` and `iter` must be the arguments of `->read_iter` of an open file of `T`.
    unsafe extern "C" fn read_iter(
        kiocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: The caller holds a reference to the file for the call.
        let (file, flags) = unsafe { (File::<T>::from_raw((*kiocb).ki_filp), (*kiocb).ki_flags) };
        let access = if flags & bindings::IOCB_NOWAIT != 0 {
            Access::NoWait
        } else {
            Access::Read
        };
        let cred = Self::credential(file);
        // SAFETY: Both are backing files of this file.
        unsafe {
            match T::reading(file, access, flags & bindings::IOCB_DIRECT != 0) {
                Ok(ReadSource::Own(own)) => own.read_iter(kiocb, iter, cred),
                Ok(ReadSource::Shared(shared)) => shared.read_shared(kiocb, iter, cred),
                Err(e) => errno_to_isize(e),
            }
        }
    }

    /// Reads what the inode keeps, or through the page cache, even with `O_DIRECT`.
    ///
    /// # Safety
    ///
    /// `kiocb` and `iter` must be the arguments of `->read_iter` of an open file of `T`.
    unsafe extern "C" fn read_paged(
        kiocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: The caller holds a reference to the file for the call.
        let file = unsafe { File::<T>::from_raw((*kiocb).ki_filp) };
        match T::kept(file) {
            // SAFETY: The arguments are those of `->read_iter`.
            Some(content) => unsafe { file::read_kept(kiocb, iter, content) },
            // SAFETY: As above.
            None => unsafe { bindings::filemap_read(kiocb, iter, 0) },
        }
    }

    /// # Safety
    ///
    /// `raw` must be an open file of `T`. The others must be arguments of `->splice_read`.
    unsafe extern "C" fn splice_read(
        raw: *mut bindings::file,
        pos: *mut i64,
        pipe: *mut bindings::pipe_inode_info,
        len: usize,
        flags: c_uint,
    ) -> isize {
        // SAFETY: The caller holds a reference to the file for the call.
        let file = unsafe { File::<T>::from_raw(raw) };
        let cred = Self::credential(file);
        let mut kiocb: bindings::kiocb = pin_init::zeroed();
        // SAFETY: The file is open.
        unsafe { bindings::init_sync_kiocb(&raw mut kiocb, raw) };
        let direct = kiocb.ki_flags & bindings::IOCB_DIRECT != 0;
        let kiocb = &raw mut kiocb;
        // SAFETY: `pos` is the position to read from. The kiocb is on the stack.
        unsafe { (*kiocb).ki_pos = *pos };
        let n = match T::reading(file, Access::Read, direct) {
            // SAFETY: The file backs the user's. The arguments are those of `->splice_read`.
            Ok(ReadSource::Own(own)) => unsafe { own.splice_read(kiocb, pipe, len, flags, cred) },
            // SAFETY: As above.
            Ok(ReadSource::Shared(shared)) => unsafe {
                shared.splice_shared(kiocb, pipe, len, flags, cred)
            },
            Err(e) => return errno_to_isize(e),
        };
        // SAFETY: As above.
        unsafe { *pos = (*kiocb).ki_pos };
        n
    }

    /// # Safety
    ///
    /// `file` must be an open file of `T`, and `vma` the argument of `->mmap`.
    unsafe extern "C" fn mmap(
        file: *mut bindings::file,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        // SAFETY: The caller holds a reference to the file for the call.
        let file = unsafe { File::<T>::from_raw(file) };
        match T::backing(file, Access::Map) {
            // SAFETY: The file is backed by this one. The vma is not used after this.
            Ok(backing) => unsafe { backing.mmap(vma, Self::credential(file)) },
            Err(e) => e.to_errno(),
        }
    }

    /// `->llseek`: the holes are those of the backing file.
    ///
    /// # Safety
    ///
    /// `raw` must be an open file of `T` whose position is locked.
    unsafe extern "C" fn llseek(raw: *mut bindings::file, offset: i64, whence: c_int) -> i64 {
        if !matches!(
            c_uint::try_from(whence),
            Ok(bindings::SEEK_DATA | bindings::SEEK_HOLE)
        ) {
            // SAFETY: The VFS holds the lock of the file's position, if it has one.
            return unsafe { bindings::generic_file_llseek(raw, offset, whence) };
        }
        // SAFETY: The caller holds a reference to the file for the call.
        let file = unsafe { File::<T>::from_raw(raw) };
        let pos = match T::backing(file, Access::Read) {
            Ok(backing) => backing.seek(offset, whence, Self::credential(file)),
            Err(e) => return e.to_errno().into(),
        };
        if pos < 0 {
            return pos;
        }
        // SAFETY: The VFS holds the lock of the file's position, if it has one.
        unsafe { bindings::vfs_setpos(raw, pos, bindings::MAX_LFS_FILESIZE) }
    }

    /// # Safety
    ///
    /// `file` must be an open file of `T`.
    unsafe extern "C" fn fadvise(
        file: *mut bindings::file,
        offset: i64,
        len: i64,
        advice: c_int,
    ) -> c_int {
        // SAFETY: The caller holds a reference to the file for the call.
        let file = unsafe { File::<T>::from_raw(file) };
        match T::backing(file, Access::Read) {
            Ok(backing) => backing.fadvise(offset, len, advice, Self::credential(file)),
            Err(e) => e.to_errno(),
        }
    }

    /// `->unlocked_ioctl`: the fs-verity ioctls are passed to the backing file.
    ///
    /// # Safety
    ///
    /// `file` must be an open file of `T`, and `arg` the argument of ioctl(2).
    unsafe extern "C" fn ioctl(file: *mut bindings::file, cmd: c_uint, arg: c_ulong) -> c_long {
        if !matches!(
            cmd,
            bindings::MEASURE_VERITY | bindings::READ_VERITY_METADATA
        ) {
            return errno_to_isize(ENOTTY);
        }
        // SAFETY: The caller holds a reference to the file for the call.
        let file = unsafe { File::<T>::from_raw(file) };
        match T::backing(file, Access::Read) {
            // SAFETY: The argument is that of ioctl(2). Both commands only read what any reader of
            // the file may know.
            Ok(backing) => unsafe { backing.ioctl(cmd, arg, Self::credential(file)) },
            Err(e) => errno_to_isize(e),
        }
    }

    fn credential(file: &File<T>) -> &Credential {
        T::credential(file.inode().super_block())
    }
}
