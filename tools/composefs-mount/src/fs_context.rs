// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A file system context, fsopen(2), whose errors say what the file system said.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::FsMountFlags;
use rustix::mount::FsOpenFlags;
use rustix::mount::FsPickFlags;
use rustix::mount::MountAttrFlags;
use rustix::path::Arg;

use crate::error::Error;
use crate::error::Result;

/// A file system that is being configured.
#[derive(Debug)]
pub(crate) struct FsContext {
    fd: OwnedFd,
    name: &'static str,
}

impl FsContext {
    /// Opens a context for a type of file system. The kernel loads its module if it can.
    /// Returns `None` if there is no such type.
    pub(crate) fn open(name: &'static str) -> Result<Option<Self>> {
        match rustix::mount::fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC) {
            Ok(fd) => Ok(Some(Self { fd, name })),
            Err(Errno::NODEV) => Ok(None),
            Err(errno) => Err(Error::FileSystem {
                doing: format!("opening file system {name}"),
                errno,
                messages: Vec::new(),
            }),
        }
    }

    /// Opens a context for a type of file system without which there is no mount.
    pub(crate) fn require(name: &'static str) -> Result<Self> {
        Self::open(name)?.ok_or_else(|| Error::FileSystem {
            doing: format!("opening file system {name}"),
            errno: Errno::NODEV,
            messages: vec![format!("the kernel has no file system {name}")],
        })
    }

    /// Opens a context for what is mounted at `target`, to change it.
    pub(crate) fn pick(name: &'static str, target: impl Arg) -> Result<Self> {
        match rustix::mount::fspick(CWD, target, FsPickFlags::FSPICK_CLOEXEC) {
            Ok(fd) => Ok(Self { fd, name }),
            Err(errno) => Err(Error::FileSystem {
                doing: format!("opening the mounted {name}"),
                errno,
                messages: Vec::new(),
            }),
        }
    }

    pub(crate) fn set_flag(&self, key: &str) -> Result<()> {
        let done = rustix::mount::fsconfig_set_flag(&self.fd, key);
        done.map_err(|errno| self.refused(&format!("option {key}"), errno))
    }

    pub(crate) fn set_string(&self, key: &str, value: impl Arg) -> Result<()> {
        let done = rustix::mount::fsconfig_set_string(&self.fd, key, value);
        done.map_err(|errno| self.refused(&format!("option {key}"), errno))
    }

    pub(crate) fn set_fd(&self, key: &str, value: impl AsFd) -> Result<()> {
        let done = rustix::mount::fsconfig_set_fd(&self.fd, key, value);
        done.map_err(|errno| self.refused(&format!("option {key}"), errno))
    }

    /// Sets a flag, or a string if there is a value.
    pub(crate) fn set(&self, key: &str, value: Option<&str>) -> Result<()> {
        match value {
            None => self.set_flag(key),
            Some(value) => self.set_string(key, value),
        }
    }

    /// Makes the super block.
    pub(crate) fn create(&self) -> Result<()> {
        let done = rustix::mount::fsconfig_create(&self.fd);
        done.map_err(|errno| self.refused("mounting", errno))
    }

    /// Changes the super block.
    pub(crate) fn reconfigure(&self) -> Result<()> {
        let done = rustix::mount::fsconfig_reconfigure(&self.fd);
        done.map_err(|errno| self.refused("remounting", errno))
    }

    /// Makes a mount of the super block.
    pub(crate) fn mount(&self, attributes: MountAttrFlags) -> Result<OwnedFd> {
        let done = rustix::mount::fsmount(&self.fd, FsMountFlags::FSMOUNT_CLOEXEC, attributes);
        done.map_err(|errno| self.refused("mounting", errno))
    }

    fn refused(&self, doing: &str, errno: Errno) -> Error {
        Error::FileSystem {
            doing: format!("{}: {doing}", self.name),
            errno,
            messages: self.messages(),
        }
    }

    /// The messages that wait in the context. Each read returns one.
    fn messages(&self) -> Vec<String> {
        // The kernel keeps eight.
        const MAX: usize = 16;
        let mut messages = Vec::new();
        let mut buffer = [0; 4096];
        while messages.len() < MAX {
            let Ok(size @ 1..) = rustix::io::read(&self.fd, &mut buffer) else {
                break;
            };
            let text = String::from_utf8_lossy(buffer.get(..size).unwrap_or_default());
            messages.push(message(&text).to_owned());
        }
        messages
    }
}

/// A message without its level and newline: `e composefs: text`.
fn message(text: &str) -> &str {
    let text = text.trim_end();
    ["e ", "w ", "i "]
        .iter()
        .find_map(|level| text.strip_prefix(level))
        .unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_no_level() {
        assert_eq!(message("e overlay: no upper\n"), "overlay: no upper");
        assert_eq!(message("elsewhere"), "elsewhere");
    }
}
