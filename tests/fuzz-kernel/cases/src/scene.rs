// SPDX-License-Identifier: GPL-2.0

//! A case while it runs: its mounts and open files, and what they have to show.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use rustix::fs::CWD;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::openat;
use rustix::io::Errno;
use rustix::mount::FsMountFlags;
use rustix::mount::FsOpenFlags;
use rustix::mount::FsPickFlags;
use rustix::mount::MountAttrFlags;
use rustix::mount::MoveMountFlags;
use rustix::mount::UnmountFlags;
use rustix::mount::fsconfig_create;
use rustix::mount::fsconfig_reconfigure;
use rustix::mount::fsconfig_set_binary;
use rustix::mount::fsconfig_set_fd;
use rustix::mount::fsconfig_set_flag;
use rustix::mount::fsconfig_set_string;
use rustix::mount::fsmount;
use rustix::mount::fsopen;
use rustix::mount::fspick;
use rustix::mount::move_mount;
use rustix::mount::unmount;

use crate::case::Case;
use crate::grammar::Op;
use crate::grammar::SLOTS;
use crate::reference::Entry;
use crate::seeds;
use crate::seeds::OBJECTS;
use crate::seeds::UNDIGESTED;
use crate::world::ImageFile;
use crate::world::MOUNTS;
use crate::world::World;

/// Most mounts at once.
const MOUNTS_MAX: usize = 3;

/// What no signature looks like: the beginning of a PKCS#7 message, and no more.
const SIGNATURE: [u8; 32] = [
    0x30, 0x1e, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02, 0xa0, 0x11, 0x30,
    0x0f, 0x02, 0x01, 0x01, 0x31, 0, 0x30, 0x0b, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d,
];

/// A mount.
pub struct Made {
    /// Its root directory, until it is unmounted.
    pub root: Option<OwnedFd>,
    attached: Option<PathBuf>,
    /// The image and the options, unless it is an overlayfs.
    pub composefs: Option<Options>,
}

/// How an image was mounted.
#[derive(Clone)]
pub struct Options {
    image: Rc<ImageFile>,
    /// A word of `grammar::VERITY`.
    pub verity: &'static str,
    basedir: &'static str,
    /// A word of `grammar::EXTRAS`.
    pub extra: &'static str,
}

/// An open file.
pub struct Slot {
    /// Its descriptor.
    pub fd: OwnedFd,
    /// Which path it was opened by.
    pub path: u32,
    /// Which mount it is of.
    pub made: usize,
    /// Whether its reads may fail for another reason than that its content is not to be had.
    pub special: bool,
}

/// What a file must give when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want<'a> {
    /// This.
    Exactly(&'a [u8]),
    /// This or an error.
    IfAny(&'a [u8]),
    /// An error.
    Error,
    /// Nobody knows.
    Anything,
}

/// A case that is running.
pub struct Scene<'a> {
    /// What it shares with others.
    pub world: &'a World,
    /// What it is.
    pub case: &'a Case,
    images: Vec<(&'static str, Rc<ImageFile>)>,
    /// Its mounts.
    pub mounts: Vec<Made>,
    /// Number of the mount that operations use.
    pub current: usize,
    /// Its open files.
    pub slots: Vec<Option<Slot>>,
    /// Which objects are not as they should be.
    pub harmed: [bool; OBJECTS.len()],
    /// Which objects ever were not.
    pub were_harmed: [bool; OBJECTS.len()],
}

impl<'a> Scene<'a> {
    /// Begins a case.
    pub fn new(world: &'a World, case: &'a Case) -> Self {
        Self {
            world,
            case,
            images: Vec::new(),
            mounts: Vec::new(),
            current: 0,
            slots: (0..SLOTS).map(|_| None).collect(),
            harmed: [false; OBJECTS.len()],
            were_harmed: [false; OBJECTS.len()],
        }
    }

    /// The mount in use.
    pub fn made(&self) -> Option<&Made> {
        self.mounts.get(self.current)
    }

    /// Its root directory.
    pub fn root(&self) -> Option<&OwnedFd> {
        self.made()?.root.as_ref()
    }

    /// Whether a mount must show what the seed has.
    pub fn is_exact(&self, made: usize) -> bool {
        let options = self
            .mounts
            .get(made)
            .and_then(|made| made.composefs.as_ref());
        self.case.is_unchanged() && options.is_some_and(|options| !options.image.dirty.get())
    }

    /// Whether a mount is one of composefs.
    pub fn is_composefs(&self, made: usize) -> bool {
        let made = self.mounts.get(made);
        made.is_some_and(|made| made.composefs.is_some())
    }

    /// What erofs + overlayfs show at a path.
    pub fn entry(&self, path: u32) -> Option<&'a Entry> {
        let tree = self.world.trees.get(self.case.seed as usize)?;
        tree.get(seeds::paths().get(path as usize)?)
    }

    /// What a regular file must give.
    pub fn want(&self, made: usize, path: u32) -> Want<'a> {
        let entry = self.entry(path).filter(|entry| entry.facts.is_regular());
        let content = entry.and_then(|entry| entry.content.as_deref());
        let options = self
            .mounts
            .get(made)
            .and_then(|made| made.composefs.as_ref());
        let (Some(content), Some(options)) = (content, options) else {
            return Want::Anything;
        };
        if !self.is_exact(made) {
            return Want::Anything;
        }
        let name = seeds::paths().get(path as usize).map_or("", String::as_str);
        let name = if name == "/dir/again" { "/small" } else { name };
        let Some(number) = OBJECTS.iter().position(|(path, _)| *path == name) else {
            return Want::Exactly(content);
        };
        let at = |list: &[bool]| list.get(number).copied().unwrap_or(true);
        if number == UNDIGESTED && matches!(options.verity, "verity" | "digest") {
            return Want::Error;
        }
        let trusted = options.verity == "noverity" || number == UNDIGESTED;
        match options.basedir {
            _ if trusted && at(&self.were_harmed) => Want::Anything,
            "none" | "empty" => Want::Error,
            _ if at(&self.harmed) => Want::IfAny(content),
            _ => Want::Exactly(content),
        }
    }

    fn image(&mut self, kind: &'static str) -> Result<Rc<ImageFile>> {
        if let Some((_, image)) = self.images.iter().find(|(known, _)| *known == kind) {
            return Ok(image.clone());
        }
        let image = Rc::new(self.world.image_file(self.case, kind)?);
        self.images.push((kind, image.clone()));
        Ok(image)
    }

    /// Mounts the image, by an operation `mount`.
    ///
    /// # Errors
    ///
    /// When a good image is refused.
    pub fn mount(&mut self, op: &Op) -> Result<()> {
        if self.mounts.len() >= MOUNTS_MAX {
            return Ok(());
        }
        let options = Options {
            image: self.image(op.word(0))?,
            verity: op.word(1),
            basedir: op.word(2),
            extra: op.word(3),
        };
        let good = self.case.is_unchanged()
            && !options.image.dirty.get()
            && matches!(options.extra, "usual" | "escaped" | "source")
            && (options.verity != "digest" || options.image.digest.is_some());
        let attached = op.word(4) == "attached";
        match self.try_mount(&options, attached) {
            Ok(made) => {
                ensure!(
                    options.extra != "wrong",
                    "an image is mounted by a wrong digest"
                );
                ensure!(
                    options.extra != "signature" && options.extra != "signed",
                    "an image is mounted without a signature"
                );
                ensure!(
                    options.verity != "digest" || options.image.digest.is_some(),
                    "an image without fs-verity is mounted by a digest"
                );
                self.current = self.mounts.len();
                self.mounts.push(made);
                Ok(())
            }
            Err(Errno::NOMEM) => Ok(()),
            Err(error) if good => bail!("a good image is not mounted: {error}"),
            Err(_) => Ok(()),
        }
    }

    fn try_mount(&self, options: &Options, attach: bool) -> Result<Made, Errno> {
        let context = fsopen("composefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        match options.extra {
            "source" => {
                fsconfig_set_string(&context, "source", "any label")?;
                fsconfig_set_string(&context, "image", &options.image.path)?;
            }
            _ if options.verity == "named" => {
                fsconfig_set_fd(&context, "source", &options.image.file)?;
            }
            _ => fsconfig_set_string(&context, "source", &options.image.path)?,
        }
        let store = &self.world.seeds.store;
        match options.basedir {
            "store" => fsconfig_set_string(&context, "basedir", store)?,
            "empty" => fsconfig_set_string(&context, "basedir", &self.world.empty)?,
            "both" => {
                fsconfig_set_string(&context, "basedir", &self.world.empty)?;
                fsconfig_set_string(&context, "basedir", store)?;
            }
            "file" => {
                let dir = openat(CWD, store, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
                fsconfig_set_fd(&context, "basedir", &dir)?;
            }
            _ => {}
        }
        match (options.verity, &options.image.digest) {
            ("named", _) => {}
            ("digest", Some(digest)) => fsconfig_set_string(&context, "digest", digest)?,
            ("digest", None) => fsconfig_set_string(&context, "digest", "11".repeat(32))?,
            (verity, _) => fsconfig_set_flag(&context, verity)?,
        }
        match options.extra {
            "escaped" | "signed" => fsconfig_set_flag(&context, options.extra)?,
            "signature" => fsconfig_set_binary(&context, "signature", &SIGNATURE)?,
            "wrong" => fsconfig_set_string(&context, "digest", "22".repeat(32))?,
            _ => {}
        }
        fsconfig_create(&context)?;
        self.place(&context, attach, Some(options.clone()))
    }

    fn place(
        &self,
        context: &OwnedFd,
        attach: bool,
        composefs: Option<Options>,
    ) -> Result<Made, Errno> {
        // A hostile image may have devices.
        let flags = MountAttrFlags::MOUNT_ATTR_NODEV;
        let detached = fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
        let mut attached = None;
        if attach {
            let target = PathBuf::from(format!("{MOUNTS}/{}", self.mounts.len()));
            let io = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
            fs::create_dir_all(&target).map_err(io)?;
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            move_mount(&detached, "", CWD, &target, flags)?;
            attached = Some(target);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(&detached, ".", flags, Mode::empty());
        let mut made = Made {
            root: None,
            attached,
            composefs,
        };
        match root {
            Ok(root) => made.root = Some(root),
            Err(error) => {
                drop(detached);
                let _ = made.unmount(UnmountFlags::DETACH);
                return Err(error);
            }
        }
        Ok(made)
    }

    /// Mounts overlayfs on top of the mount in use. Its upper directory is on a tmpfs.
    pub fn upper(&mut self, op: &Op) {
        if self.mounts.len() >= MOUNTS_MAX {
            return;
        }
        if let Ok(made) = self.try_upper(op.word(0)) {
            self.current = self.mounts.len();
            self.mounts.push(made);
        }
    }

    fn try_upper(&self, how: &str) -> Result<Made, Errno> {
        let root = self.root().ok_or(Errno::NOENT)?;
        let upper = format!("{MOUNTS}/upper-{}", self.mounts.len());
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let lower = crate::reference::magic(root);
        fsconfig_set_string(&context, "lowerdir+", lower.as_c_str())?;
        for name in ["upperdir", "workdir"] {
            let dir = format!("{upper}/{name}");
            fs::create_dir_all(&dir).map_err(|_| Errno::IO)?;
            fsconfig_set_string(&context, name, &dir)?;
        }
        match how {
            "metacopy" => fsconfig_set_string(&context, "metacopy", "on")?,
            "nfs-export" => fsconfig_set_string(&context, "nfs_export", "on")?,
            "xino" => fsconfig_set_string(&context, "xino", "on")?,
            _ => {}
        }
        fsconfig_create(&context)?;
        self.place(&context, true, None)
    }

    /// Changes options of the mount in use.
    ///
    /// # Errors
    ///
    /// When a mount refuses the options that it has.
    pub fn remount(&self, op: &Op) -> Result<()> {
        let Some((made, root)) = self.made().zip(self.root()) else {
            return Ok(());
        };
        let Some(options) = &made.composefs else {
            return Ok(());
        };
        let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
        let done = fspick(root, "", flags).and_then(|context| {
            match op.word(0) {
                "same" => {}
                "basedir" => fsconfig_set_string(&context, "basedir", &self.world.empty)?,
                "digest" => {
                    let digest = options.image.digest.as_deref().unwrap_or("33");
                    fsconfig_set_string(&context, "digest", digest)?;
                }
                "wrong" => fsconfig_set_string(&context, "digest", "22".repeat(32))?,
                flag => fsconfig_set_flag(&context, flag)?,
            }
            fsconfig_reconfigure(&context)
        });
        match (op.word(0), done) {
            ("wrong", Ok(())) => bail!("a remount accepts a wrong digest"),
            ("noverity", Ok(())) if options.verity != "noverity" => {
                bail!("a remount turns verification off")
            }
            ("same", Err(error)) if error != Errno::NOMEM => {
                bail!("a remount without changes: {error}")
            }
            _ => Ok(()),
        }
    }

    /// Unmounts the mount in use, when nothing uses it any more.
    pub fn unmount(&mut self) {
        if let Some(made) = self.mounts.get_mut(self.current) {
            let _ = made.unmount(UnmountFlags::DETACH);
        }
    }

    /// The file of the image of the mount in use, for a change.
    pub fn image_to_change(&self) -> Option<&ImageFile> {
        let options = self.made()?.composefs.as_ref()?;
        options.image.dirty.set(options.image.digest.is_none());
        Some(&options.image)
    }

    /// Closes all files and unmounts all mounts.
    ///
    /// # Errors
    ///
    /// When something keeps a mount busy.
    pub fn end(mut self) -> Result<()> {
        self.slots.clear();
        let mut result = Ok(());
        for (number, mut made) in self.mounts.drain(..).enumerate().rev() {
            let ended = made.unmount(UnmountFlags::empty());
            if ended.is_err() {
                let _ = made.unmount(UnmountFlags::DETACH);
            }
            if made.composefs.is_none() {
                let _ = fs::remove_dir_all(format!("{MOUNTS}/upper-{number}"));
            }
            let ended = ended.with_context(|| format!("mount {number} cannot be unmounted"));
            result = result.and(ended);
        }
        self.images.clear();
        self.world.remove_images();
        self.world.restore_all()?;
        result
    }
}

impl Made {
    fn unmount(&mut self, flags: UnmountFlags) -> Result<(), Errno> {
        self.root = None;
        match &self.attached {
            Some(target) => unmount(target, flags)?,
            None => return Ok(()),
        }
        self.attached = None;
        Ok(())
    }
}
