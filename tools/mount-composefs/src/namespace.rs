// SPDX-License-Identifier: GPL-2.0

//! `-N`: the mount namespace of another process.

use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use rustix::fs::CWD;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::openat;
use rustix::thread::LinkNameSpaceType;
use rustix::thread::move_into_link_name_space;

use crate::failure::Failure;

/// Enters a mount namespace. Paths are then those in it.
///
/// # Errors
///
/// That it cannot be opened or entered.
pub(crate) fn enter(name: &OsStr) -> Result<(), Failure> {
    let path = path(name);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = openat(CWD, &path, flags, Mode::empty());
    let file = file.map_err(|errno| Failure::open("", &path, errno))?;
    let done = move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Mount));
    done.map_err(|errno| Failure::namespace(&path, errno))
}

/// The path of a namespace: a number is that of a process.
fn path(name: &OsStr) -> PathBuf {
    let number = name.to_str().and_then(|name| name.parse::<u32>().ok());
    match number {
        Some(process) => format!("/proc/{process}/ns/mnt").into(),
        None => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_process() {
        assert_eq!(path("12".as_ref()), PathBuf::from("/proc/12/ns/mnt"));
        assert_eq!(path("/run/12".as_ref()), PathBuf::from("/run/12"));
        assert_eq!(path("-1".as_ref()), PathBuf::from("-1"));
    }
}
