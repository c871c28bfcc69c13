// SPDX-License-Identifier: GPL-2.0

//! Listing and reading the extended attributes of a file.

use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;

use anyhow::Result;
use anyhow::bail;
use composefs_image::DiskInode;
use rustix::fs::fgetxattr;
use rustix::fs::fgetxattr_query;
use rustix::fs::flistxattr;
use rustix::fs::getxattr;
use rustix::fs::getxattr_query;
use rustix::fs::listxattr;
use rustix::io::Errno;

use crate::expected::Expected;
use crate::expected::is_unowned;
use crate::operation::Operation;
use crate::operation::perform;
use crate::walk::Seen;

/// Bytes of the longest list (`XATTR_LIST_MAX`) and of the longest value
/// (`XATTR_SIZE_MAX`).
const SIZE: usize = 65536;

/// Largest number of values to read from a file.
const VALUES_MAX: usize = 12;

/// Checks the xattrs of an open file.
pub fn of_file(
    fd: &OwnedFd,
    inode: &DiskInode,
    expected: &Expected<'_>,
    seen: &mut Seen,
) -> Result<()> {
    let list = |out: &mut [u8]| flistxattr(fd, out);
    let len = |name: &[u8]| fgetxattr_query(fd, name);
    let get = |name: &[u8], out: &mut [u8]| fgetxattr(fd, name, out);
    check(list, len, get, inode, expected, seen)
}

/// Checks the xattrs of a file that was opened with O_PATH.
pub fn of_path(
    fd: &OwnedFd,
    inode: &DiskInode,
    expected: &Expected<'_>,
    seen: &mut Seen,
) -> Result<()> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let list = |out: &mut [u8]| listxattr(&path, out);
    let len = |name: &[u8]| getxattr_query(&path, name);
    let get = |name: &[u8], out: &mut [u8]| getxattr(&path, name, out);
    check(list, len, get, inode, expected, seen)
}

/// Compares the results of listxattr(2) and getxattr(2) with the image.
fn check(
    list: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    len: impl Fn(&[u8]) -> Result<usize, Errno>,
    get: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
    inode: &DiskInode,
    expected: &Expected<'_>,
    seen: &mut Seen,
) -> Result<()> {
    let nid = inode.layout.nid();
    let mut buffer = vec![0; SIZE];
    let wanted = expected.xattr_list(&inode.layout);
    let result = perform(Operation::Listxattr, || list(&mut buffer));
    let found = result.map(|len| &buffer[..len]);
    if found != wanted.as_deref().map_err(|error| *error) {
        bail!(
            "inode {nid}: listxattr returns {:?}, the image has {:?}",
            text(found),
            text(wanted.as_deref().map_err(|error| *error))
        );
    }
    let Ok(names) = wanted else {
        seen.damage += 1;
        return Ok(());
    };
    let names = names
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty());
    for name in names.take(VALUES_MAX) {
        let len = perform(Operation::Getxattr, || len(name));
        let result = perform(Operation::Getxattr, || get(name, &mut buffer));
        let found = result.map(|len| &buffer[..len]);
        let Some(wanted) = expected.xattr(inode, name) else {
            continue;
        };
        if found == Err(Errno::ACCESS) && is_unowned(inode) {
            continue;
        }
        // Reading a `user.` xattr needs read permission for the file.
        if name.starts_with(b"user.") && found.is_err_and(|e| expected.may_refuse(inode, e)) {
            continue;
        }
        if found != wanted.as_deref().map_err(|error| *error) || len != found.map(<[u8]>::len) {
            bail!(
                "inode {nid}: getxattr of {} returns {len:?} and {:?}, the image has {:?}",
                name.escape_ascii(),
                text(found),
                text(wanted.as_deref().map_err(|error| *error))
            );
        }
        seen.damage += u32::from(found == Err(Errno::UCLEAN));
    }
    Ok(())
}

/// The result, escaped for printing.
fn text(bytes: Result<&[u8], Errno>) -> Result<String, Errno> {
    bytes.map(|bytes| bytes.escape_ascii().take(400).map(char::from).collect())
}
