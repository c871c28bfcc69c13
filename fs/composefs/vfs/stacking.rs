// SPDX-License-Identifier: GPL-2.0

//! File systems that stand on others: the data of a regular file are those of a file of another
//! file system.
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

/// Why the data of a file are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To be read, by a caller that may wait for anything.
    Read,
    /// To be read, by a caller that must not wait: what is not open yet is `EAGAIN`.
    NoWait,
    /// To be mapped. The memory map is locked, so no name may be looked up: a lookup takes locks
    /// under which others wait for a memory map.
    Map,
}

/// A file to read the data of another one from.
pub enum ReadSource<'a> {
    /// It is open for that one alone, and is to have its flags.
    Own(&'a BackingFile),
    /// Whoever has the same inode open reads from it, so nothing about it may be changed.
    Shared(&'a BackingFile),
}

/// Where the data of a file are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum DataSource {
    /// In another file.
    Backed,
    /// In the file's own page cache, which [`file::Operations::read_folio`] fills.
    Paged,
}

/// What a stacking file system does with its regular files.
pub trait Operations: file::Operations {
    /// Data that an open file acquires once: `struct file::private_data`.
    type Open: Send + Sync;

    /// Prepares a file that is opened, and says where its data are. `file.private()` is empty.
    ///
    /// # Errors
    ///
    /// Whatever keeps the file from being opened.
    fn open(inode: &Inode<Self>, file: &File<Self>) -> Result<DataSource>;

    /// Returns the file that has the data of `file`, opening it if it is not open yet. Asked for
    /// files that are [`DataSource::Backed`].
    ///
    /// # Errors
    ///
    /// `EAGAIN` if that is not possible as [`Access`] says, `EIO` if there is none.
    fn backing(file: &File<Self>, access: Access) -> Result<&BackingFile>;

    /// Returns the file to read the data of `file` from; `direct` if that is to go past the page
    /// cache. Asked as [`Self::backing`].
    ///
    /// # Errors
    ///
    /// As [`Self::backing`].
    fn reading(file: &File<Self>, access: Access, direct: bool) -> Result<ReadSource<'_>>;

    /// Returns where the file with the data of `inode` is.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if its data are in no other file, `EIO` if there is none.
    fn backing_path(inode: &Inode<Self>) -> Result<Path>;

    /// Returns where the file with the data of `inode` is, for who asks which file that is. It is
    /// looked for if it is not known yet; what is returned stays the same as long as the inode
    /// exists. `None` if the data are in no other file, or there is none.
    fn real_path(inode: &Inode<Self>) -> Option<&Path>;

    /// Returns where the file with the data of `inode` is, whether or not it is the right one: for
    /// who asks what it can do.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if its data are in no other file, else what keeps it from being found.
    fn data_path(inode: &Inode<Self>) -> Result<Path>;

    /// Whose rights the data are read with.
    fn credential(sb: &SuperBlock<Self>) -> &Credential;
}

/// An open regular file of `T`.
///
/// # Invariants
///
/// `private_data` is null or a box of `T::Open`, and changes as [`OnceBox`] changes.
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

    /// The file's inode.
    #[inline]
    pub fn inode(&self) -> &Inode<T> {
        // SAFETY: An open file holds a reference to its inode, which is set up.
        unsafe { Inode::from_raw((*self.0.get()).f_inode) }
    }

    /// `O_*` flags of open(2), as fcntl(2) has changed them.
    pub fn flags(&self) -> c_uint {
        // SAFETY: The file is valid. `f_flags` is changed under a lock but read without, as C does.
        unsafe { core::ptr::read_volatile(&raw const (*self.0.get()).f_flags) }
    }

    /// Whether it was opened to be read without the page cache.
    pub fn is_direct(&self) -> bool {
        self.flags() & bindings::O_DIRECT != 0
    }

    /// Whether nobody is told of what is done with it: fanotify(7) gives such files to those that
    /// it asks for permission.
    pub fn is_nonotify(&self) -> bool {
        // SAFETY: The file is valid.
        unsafe { bindings::file_is_nonotify(self.0.get()) }
    }

    /// What the file system keeps with the open file.
    #[inline]
    pub fn private(&self) -> &OnceBox<T::Open> {
        // SAFETY: `OnceBox` is a transparent wrapper of a pointer, and `private_data` is used as
        // one by the type invariants.
        unsafe { &*(&raw mut (*self.0.get()).private_data).cast() }
    }
}

impl<T: Operations> Inode<T> {
    /// Has statx(2) tell that the data of this regular file are those of a file with fs-verity.
    /// That is a matter of its table, so that stat(2) has nothing to find out.
    pub fn set_verified(&self)
    where
        T: xattr::Operations,
    {
        if !self.is_regular() {
            return;
        }
        let table: *const _ = &InodeTable::<T>::VERIFIED;
        // SAFETY: The inode is valid. Others may read the pointer meanwhile: both tables are
        // static, and different in `getattr` alone.
        unsafe { (&raw mut (*self.as_ptr()).i_op).write_volatile(table) };
    }
}

impl<T: Operations + xattr::Operations> RegularFile<T> {
    /// A file for which [`Operations`] say where its data are. They are asked when it is opened:
    /// most inodes never are.
    #[inline]
    pub fn stacked() -> Self {
        Self::new(&InodeTable::<T>::UNVERIFIED, &Table::<T>::BACKED)
    }
}

struct InodeTable<T>(PhantomData<T>);

impl<T: Operations + xattr::Operations> InodeTable<T> {
    const UNVERIFIED: bindings::inode_operations = bindings::inode_operations {
        getattr: Some(getattr::<T, false>),
        fiemap: Some(fiemap::<T>),
        ..inode::Tables::<T>::OTHER_OPERATIONS
    };

    const VERIFIED: bindings::inode_operations = bindings::inode_operations {
        getattr: Some(getattr::<T, true>),
        ..Self::UNVERIFIED
    };
}

/// What makes a super block that of a stacking file system.
pub struct Stacking<T> {
    /// `s_stack_depth`.
    pub(super) depth: c_int,
    /// `s_d_op`.
    pub(super) dentry_operations: &'static bindings::dentry_operations,
    _type: PhantomData<T>,
}

impl<T: Operations> Stacking<T> {
    /// `depth` is one more than that of the deepest file system below.
    pub fn new(depth: c_int) -> Self {
        Self {
            depth,
            dentry_operations: dentry::operations::<T>(),
            _type: PhantomData,
        }
    }
}

/// `->fiemap`.
///
/// # Safety
///
/// `inode` must be an inode of `T` with a reference held, `info` where the answer goes to.
unsafe extern "C" fn fiemap<T: Operations>(
    inode: *mut bindings::inode,
    info: *mut bindings::fiemap_extent_info,
    start: u64,
    len: u64,
) -> c_int {
    // SAFETY: The VFS holds a reference to the inode for the call.
    let inode = unsafe { Inode::<T>::from_raw(inode) };
    match T::backing_path(inode) {
        // SAFETY: The rest are the arguments of `->fiemap`.
        Ok(path) => cred::with(T::credential(inode.super_block()), || unsafe {
            path.fiemap(info, start, len)
        }),
        Err(e) => e.to_errno(),
    }
}

/// What tells how reads past the page cache have to be aligned.
const DIO: u32 = bindings::STATX_DIOALIGN | bindings::STATX_DIO_READ_ALIGN;

/// `->getattr`. `VERIFIED` if [`Inode::set_verified`] was called.
///
/// # Safety
///
/// `path` must be that of a regular file of `T`, the rest as for `->getattr`.
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

/// Where [`DIO`] is asked for: it is what the file with the data answers. A file that has its data
/// in no other one is read through the page cache, which is 0, as if it could not be read
/// otherwise. Where nothing can be found out nothing is told.
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
            // SAFETY: The path is valid, and what is filled in is ours.
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

    /// Where large pages of the file with the data can be mapped as such.
    #[cfg(CONFIG_TRANSPARENT_HUGEPAGE)]
    const GET_UNMAPPED_AREA: GetUnmappedArea = Some(bindings::thp_get_unmapped_area);
    #[cfg(not(CONFIG_TRANSPARENT_HUGEPAGE))]
    const GET_UNMAPPED_AREA: GetUnmappedArea = None;

    /// Never the table of an inode, but of a file once it is open.
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
                // There is nothing to go past the page cache to, but who asks for it, as `fcntl`
                // may later, gets what `read_paged` reads.
                // SAFETY: Nobody else has the file. Neither table has an owner to be counted.
                DataSource::Paged => unsafe {
                    (*file).f_op = &Self::PAGED;
                    (*file).f_mode |= bindings::FMODE_CAN_ODIRECT;
                },
                DataSource::Backed => {
                    // Whether the file with the data can do either is asked when it is read.
                    // SAFETY: Nobody else has the file.
                    unsafe {
                        (*file).f_mode |= bindings::FMODE_NOWAIT | bindings::FMODE_CAN_ODIRECT;
                    }
                    // Who asks for it at open(2) is to be told at once.
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
                // SAFETY: Nobody else has the file.
                unsafe { Self::drop_private(file) };
                e.to_errno()
            }
        }
    }

    /// # Safety
    ///
    /// `file` must be a file of `T` that nobody else uses.
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
    /// `kiocb` must be a read from an open file of `T`, `iter` where it goes to.
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
        // SAFETY: The file is backed by either.
        unsafe {
            match T::reading(file, access, flags & bindings::IOCB_DIRECT != 0) {
                Ok(ReadSource::Own(own)) => own.read_iter(kiocb, iter, cred),
                Ok(ReadSource::Shared(shared)) => shared.read_shared(kiocb, iter, cred),
                Err(e) => errno_to_isize(e),
            }
        }
    }

    /// Reads through the page cache, also what was asked for with `O_DIRECT`.
    ///
    /// # Safety
    ///
    /// `kiocb` must be a read from an open file of `T`, `iter` where it goes to.
    unsafe extern "C" fn read_paged(
        kiocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: The arguments are those of `->read_iter`.
        unsafe { bindings::filemap_read(kiocb, iter, 0) }
    }

    /// # Safety
    ///
    /// `raw` must be an open file of `T`, the rest as for `->splice_read`.
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
        // SAFETY: `pos` is the position to read from, and the kiocb is on the stack.
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
    /// `file` must be an open file of `T`, and `vma` be being set up for it.
    unsafe extern "C" fn mmap(
        file: *mut bindings::file,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        // SAFETY: The caller holds a reference to the file for the call.
        let file = unsafe { File::<T>::from_raw(file) };
        match T::backing(file, Access::Map) {
            // SAFETY: The file is backed by this one. This is the last thing done with the vma.
            Ok(backing) => unsafe { backing.mmap(vma, Self::credential(file)) },
            Err(e) => e.to_errno(),
        }
    }

    /// Only the file with the data knows where its holes are.
    ///
    /// # Safety
    ///
    /// `raw` must be an open file of `T` whose position is ours to set.
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

    /// Answers what is asked about the fs-verity of a file for the file with its data.
    ///
    /// # Safety
    ///
    /// `file` must be an open file of `T`, `arg` what the user gave.
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
            // SAFETY: The argument is as the user gave it; both only read what anybody who may
            // read the file may know.
            Ok(backing) => unsafe { backing.ioctl(cmd, arg, Self::credential(file)) },
            Err(e) => errno_to_isize(e),
        }
    }

    fn credential(file: &File<T>) -> &Credential {
        T::credential(file.inode().super_block())
    }
}
