// SPDX-License-Identifier: GPL-2.0 OR MIT

//! What to mount.

use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::mount::MountAttrFlags;

use crate::digest::Digest;
use crate::error::Error;
use crate::error::Result;
use crate::location::Location;
use crate::mounted::Mounted;
use crate::mounted::WhyStack;
use crate::native;
use crate::prepared::Prepared;
use crate::stack;

/// Which objects must have the digest that the image names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verity {
    /// None: what the objects hold is trusted. `noverity` of composefs.
    Off,
    /// Every object for which the image names a digest. `verity=on` of overlayfs.
    #[default]
    On,
    /// Every object, and the image must name a digest for each. `verity` of composefs and
    /// `verity=require` of overlayfs. [`MountOptions::digest`] implies it.
    Required,
    /// As [`Required`](Self::Required), but [`Off`](Self::Off) for a stack on a kernel before Linux
    /// 6.8.
    Try,
}

/// Which way to mount an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefer {
    /// By the file system composefs, if the kernel has it or can load it, else as a stack.
    #[default]
    Native,
    /// As a stack of erofs and overlayfs on every kernel.
    Stack,
}

/// Options that the VFS or a security module handles for every file system.
const COMMON: [&str; 15] = [
    "async",
    "context",
    "defcontext",
    "dirsync",
    "fscontext",
    "lazytime",
    "mand",
    "nolazytime",
    "nomand",
    "ro",
    "rootcontext",
    "rw",
    "seclabel",
    "silent",
    "sync",
];

/// What to mount, and how.
#[derive(Clone, Debug)]
pub struct MountOptions<'a> {
    pub(crate) image: Location<'a>,
    pub(crate) basedirs: Vec<Location<'a>>,
    pub(crate) source: Option<OsString>,
    pub(crate) digest: Option<Digest>,
    pub(crate) signature: Option<Location<'a>>,
    pub(crate) signed: bool,
    pub(crate) verity: Verity,
    pub(crate) prefer: Prefer,
    pub(crate) upper: Option<(Location<'a>, Location<'a>)>,
    pub(crate) idmap: Option<BorrowedFd<'a>>,
    pub(crate) attributes: MountAttrFlags,
    pub(crate) common: Vec<(String, Option<String>)>,
    pub(crate) temporary_mount_point: Option<&'a Path>,
}

impl<'a> MountOptions<'a> {
    /// Options for an image, with the defaults of every other option.
    ///
    /// An image that is given by file descriptor is used as this very open file: composefs keeps
    /// it open while it is mounted, so that a lock on it, see flock(2), tells that the image is in
    /// use. (A stack does not.)
    pub fn new(image: impl Into<Location<'a>>) -> Self {
        Self {
            image: image.into(),
            basedirs: Vec::new(),
            source: None,
            digest: None,
            signature: None,
            signed: false,
            verity: Verity::default(),
            prefer: Prefer::default(),
            upper: None,
            idmap: None,
            attributes: MountAttrFlags::empty(),
            common: Vec::new(),
            temporary_mount_point: None,
        }
    }

    /// Adds a directory of objects. They are searched in the order in which they were added.
    pub fn basedir(mut self, directory: impl Into<Location<'a>>) -> Self {
        self.basedirs.push(directory.into());
        self
    }

    /// Sets the text that `/proc/mounts` shows as the source of the mount. The default is the path
    /// of the image. It has at most 255 bytes, which need not be UTF-8.
    ///
    /// bootc expects `composefs:` and the digest of the image.
    pub fn source(mut self, label: impl Into<OsString>) -> Self {
        self.source = Some(label.into());
        self
    }

    /// Sets the fs-verity digest that the image must have. It implies [`Verity::Required`].
    pub fn digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// Sets a file with a signature of the image: a PKCS#7 message in DER, as `fsverity sign` makes
    /// it. The kernel verifies it by the keys in its keyring `.composefs`. It implies
    /// [`Verity::Required`]. A stack cannot be mounted with it.
    pub fn signature(mut self, file: impl Into<Location<'a>>) -> Self {
        self.signature = Some(file.into());
        self
    }

    /// Demands that the file of the image has an fs-verity signature of its own, which the kernel
    /// verifies by the keys in its keyring `.fs-verity`. It implies [`Verity::Required`]. A stack
    /// cannot be mounted with it.
    pub fn signed(mut self, signed: bool) -> Self {
        self.signed = signed;
        self
    }

    /// The name of an option that pins the image.
    pub(crate) fn pinned_by(&self) -> Option<&'static str> {
        match self.digest {
            Some(_) => Some("digest"),
            None => self.signed_by(),
        }
    }

    /// The name of an option that asks for a signature.
    pub(crate) fn signed_by(&self) -> Option<&'static str> {
        match (&self.signature, self.signed) {
            (Some(_), _) => Some("signature"),
            (None, true) => Some("signed"),
            (None, false) => None,
        }
    }

    /// Sets which objects must have the digest that the image names.
    pub fn verity(mut self, verity: Verity) -> Self {
        self.verity = verity;
        self
    }

    /// Sets which way to mount the image.
    pub fn prefer(mut self, prefer: Prefer) -> Self {
        self.prefer = prefer;
        self
    }

    /// Makes the mount writable: one overlayfs with this upper directory and this work directory.
    pub fn upper(
        mut self,
        upperdir: impl Into<Location<'a>>,
        workdir: impl Into<Location<'a>>,
    ) -> Self {
        self.upper = Some((upperdir.into(), workdir.into()));
        self
    }

    /// Maps the owners of the image's files by a user namespace, an open `/proc/PID/ns/user`.
    pub fn idmap(mut self, user_namespace: BorrowedFd<'a>) -> Self {
        self.idmap = Some(user_namespace);
        self
    }

    /// Adds attributes of the mount: read-only, nodev and so on.
    pub fn attributes(mut self, attributes: MountAttrFlags) -> Self {
        self.attributes |= attributes;
        self
    }

    /// Adds an option that the VFS or a security module handles for every file system, for example
    /// `sync` or `context=...`.
    ///
    /// # Errors
    ///
    /// [`Error::NotCommon`] for any other option.
    pub fn common_option(mut self, name: &str, value: Option<&str>) -> Result<Self> {
        if !COMMON.contains(&name) {
            return Err(Error::NotCommon(name.to_owned()));
        }
        self.common
            .push((name.to_owned(), value.map(str::to_owned)));
        Ok(self)
    }

    /// Sets a directory at which erofs may be mounted for a moment. A kernel before 6.15 needs
    /// one for a stack; without this, it is made in the directory for temporary files.
    pub fn temporary_mount_point(mut self, directory: &'a Path) -> Self {
        self.temporary_mount_point = Some(directory);
        self
    }

    /// Opens what the options refer to, and compares the digest of the image, but mounts nothing.
    ///
    /// # Errors
    ///
    /// Those of [`mount`](Self::mount) that do not come from a file system.
    pub fn check(&self) -> Result<()> {
        Prepared::new(self).map(drop)
    }

    /// Mounts the image. The mount is not attached anywhere yet.
    ///
    /// # Errors
    ///
    /// What is wrong with the image, a directory or an option, or what a file system has refused.
    /// Nothing stays mounted, and no file stays open.
    pub fn mount(&self) -> Result<Mounted> {
        let prepared = Prepared::new(self)?;
        let why = match self.prefer {
            Prefer::Native => match native::mount(&prepared)? {
                Some(mounted) => return Ok(mounted),
                None => WhyStack::NoFileSystem,
            },
            Prefer::Stack => WhyStack::Preferred,
        };
        stack::mount(&prepared, why)
    }
}
