// SPDX-License-Identifier: GPL-2.0

//! System calls for which rustix has no safe function.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd as _;
use std::os::fd::OwnedFd;
use std::ptr;

use rustix::io::Errno;

/// Longest file handle, `MAX_HANDLE_SZ`.
const HANDLE_MAX: usize = 128;

// _IOW('f', 133, struct fsverity_enable_arg), _IOWR('f', 134, struct fsverity_digest)
const FS_IOC_ENABLE_VERITY: libc::c_ulong = 0x4080_6685;
const FS_IOC_MEASURE_VERITY: libc::c_ulong = 0xc004_6686;

/// A file handle.
#[derive(Clone, Debug)]
pub struct Handle {
    /// Its type.
    pub kind: i32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// `struct file_handle` with room for any handle.
#[repr(C)]
struct RawHandle {
    bytes: u32,
    kind: i32,
    handle: [u8; HANDLE_MAX],
}

/// How a file is mapped.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    /// `PROT_`
    pub prot: i32,
    /// `MAP_`
    pub flags: i32,
    /// Whether the pages are asked for by madvise(2) before they are used.
    pub populate: bool,
}

fn errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Maps a part of a file, and copies `len` bytes of it to `out`, from its position 0 on, by
/// pwrite(2): so that a page that cannot be read is an error, and no signal. Returns how many.
///
/// # Errors
///
/// That of mmap(2) or pwrite(2): EFAULT, if no byte can be read.
pub fn map(
    file: BorrowedFd<'_>,
    pos: u64,
    len: usize,
    mapping: Mapping,
    out: BorrowedFd<'_>,
) -> Result<usize, Errno> {
    let Mapping { prot, flags, .. } = mapping;
    let pos = i64::try_from(pos).map_err(|_| Errno::OVERFLOW)?;
    // SAFETY: This makes a new mapping, at an address that the kernel chooses.
    let area = unsafe { libc::mmap(ptr::null_mut(), len, prot, flags, file.as_raw_fd(), pos) };
    if area == libc::MAP_FAILED {
        return Err(errno());
    }
    if mapping.populate {
        // SAFETY: It only reads pages of the mapping.
        unsafe { libc::madvise(area, len, libc::MADV_POPULATE_READ) };
    }
    // SAFETY: The kernel reads the mapping, and finds out what cannot be read.
    let copied = unsafe { libc::pwrite(out.as_raw_fd(), area, len, 0) };
    let copied = usize::try_from(copied).map_err(|_| errno());
    // SAFETY: Nothing refers to the mapping.
    unsafe { libc::munmap(area, len) };
    copied
}

/// name_to_handle_at(2)
///
/// # Errors
///
/// Its errors.
pub fn handle(dir: BorrowedFd<'_>, path: &CStr, flags: i32) -> Result<Handle, Errno> {
    let mut raw = RawHandle {
        bytes: HANDLE_MAX as u32,
        kind: 0,
        handle: [0; HANDLE_MAX],
    };
    let mut mount: u64 = 0;
    // SAFETY: The handle has room for as many bytes as it says, and the number of a mount is no
    // longer than 64 bits.
    let done = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            dir.as_raw_fd(),
            path.as_ptr(),
            &raw mut raw,
            &raw mut mount,
            flags,
        )
    };
    if done != 0 {
        return Err(errno());
    }
    let bytes = raw.handle.get(..raw.bytes as usize).unwrap_or_default();
    Ok(Handle {
        kind: raw.kind,
        bytes: bytes.to_vec(),
    })
}

/// open_by_handle_at(2)
///
/// # Errors
///
/// Its errors.
pub fn open_by_handle(
    mount: BorrowedFd<'_>,
    handle: &Handle,
    flags: i32,
) -> Result<OwnedFd, Errno> {
    let mut raw = RawHandle {
        bytes: 0,
        kind: handle.kind,
        handle: [0; HANDLE_MAX],
    };
    for (to, from) in raw.handle.iter_mut().zip(&handle.bytes) {
        *to = *from;
        raw.bytes += 1;
    }
    // SAFETY: The handle has as many bytes as it says.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            mount.as_raw_fd(),
            &raw mut raw,
            flags,
        )
    };
    owned(fd)
}

fn owned(fd: i64) -> Result<OwnedFd, Errno> {
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(errno());
    }
    // SAFETY: The system call has returned a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// ioctl(2) with a pointer to a kilobyte of bytes.
///
/// The requests of [`REQUESTS`] write no more than that.
///
/// # Errors
///
/// Its errors.
pub fn ioctl(file: BorrowedFd<'_>, request: Request, bytes: &mut [u8; 1024]) -> Result<i32, Errno> {
    // SAFETY: The request writes no more than a kilobyte, and keeps no pointer.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), request.0, bytes.as_mut_ptr()) };
    if done < 0 { Err(errno()) } else { Ok(done) }
}

/// A request of ioctl(2).
#[derive(Clone, Copy, Debug)]
pub struct Request(libc::c_ulong);

/// All that are used, in the order of `case::IOCTLS`.
pub const REQUESTS: [Request; 14] = [
    Request(FS_IOC_MEASURE_VERITY),
    Request(FS_IOC_ENABLE_VERITY),
    Request(0xc028_6687), // FS_IOC_READ_VERITY_METADATA, here of length 0
    Request(0x8008_6601), // FS_IOC_GETFLAGS
    Request(0x4008_6602), // FS_IOC_SETFLAGS
    Request(0x8008_7601), // FS_IOC_GETVERSION
    Request(0x801c_581f), // FS_IOC_FSGETXATTR
    Request(0xc020_660b), // FS_IOC_FIEMAP, without extents
    Request(0x2),         // FIGETBSZ
    Request(0x1),         // FIBMAP
    Request(0x541b),      // FIONREAD
    Request(0x8011_1500), // FS_IOC_GETFSUUID
    Request(0x8080_1501), // FS_IOC_GETFSSYSFSPATH
    Request(0x1234_5678), // none
];

/// Enables fs-verity with SHA-256 and blocks of 4 KiB.
///
/// # Errors
///
/// Those of the ioctl.
pub fn enable_verity(file: BorrowedFd<'_>) -> Result<(), Errno> {
    // struct fsverity_enable_arg: version, hash_algorithm, block_size
    let mut bytes = [0; 1024];
    for (at, value) in [(0, 1_u8), (4, 1), (9, 0x10)] {
        bytes[at] = value;
    }
    ioctl(file, Request(FS_IOC_ENABLE_VERITY), &mut bytes).map(drop)
}

/// The digest of a file with fs-verity.
///
/// # Errors
///
/// Those of the ioctl.
pub fn measure_verity(file: BorrowedFd<'_>) -> Result<[u8; 32], Errno> {
    // struct fsverity_digest: digest_algorithm, digest_size
    let mut bytes = [0; 1024];
    bytes[2] = 32;
    ioctl(file, Request(FS_IOC_MEASURE_VERITY), &mut bytes)?;
    let digest = bytes.get(4..36).and_then(|digest| digest.try_into().ok());
    digest.ok_or(Errno::IO)
}
