// SPDX-License-Identifier: GPL-2.0

//! Performing operations, and comparing their results with what they must be.

use std::ffi::CString;
use std::os::fd::AsFd as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::SeekFrom;
use rustix::fs::StatxFlags;
use rustix::fs::openat;
use rustix::fs::statx;
use rustix::io::Errno;

use crate::data;
use crate::grammar::Kind;
use crate::grammar::Op;
use crate::names;
use crate::reference;
use crate::scene::Scene;
use crate::scene::Slot;
use crate::scene::Want;
use crate::seeds;
use crate::sys;
use crate::sys::REQUESTS;
use crate::world;
use crate::write;

/// What the bits of an open stand for.
const OPEN_FLAGS: [OFlags; 10] = [
    OFlags::WRONLY,
    OFlags::RDWR,
    OFlags::DIRECT,
    OFlags::NOATIME,
    OFlags::DIRECTORY,
    OFlags::NOFOLLOW,
    OFlags::PATH,
    OFlags::TRUNC,
    OFlags::APPEND,
    OFlags::CREATE,
];

/// Everything that can be asked of statx(2), known or not.
const ASKED: u32 = 0x7fff_ffff;

/// What writes.
const WRITING: OFlags = OFlags::WRONLY
    .union(OFlags::RDWR)
    .union(OFlags::TRUNC)
    .union(OFlags::CREATE);

impl Scene<'_> {
    /// Performs an operation.
    ///
    /// # Errors
    ///
    /// When its result is wrong, or the test itself cannot go on.
    pub fn perform(&mut self, op: &Op) -> Result<()> {
        match op.kind {
            Kind::Mount => self.mount(op),
            Kind::Upper => {
                self.upper(op);
                Ok(())
            }
            Kind::Use => {
                self.current = (op.value(0) as usize).min(self.mounts.len().saturating_sub(1));
                Ok(())
            }
            Kind::Remount => self.remount(op),
            Kind::Unmount => {
                self.unmount();
                Ok(())
            }
            Kind::Open | Kind::Openat2 => self.open(op),
            Kind::Close => {
                self.set_slot(op.value(0), None);
                Ok(())
            }
            Kind::Stat => self.stat(op),
            Kind::Link => self.link(op),
            Kind::Names | Kind::Xattr => self.xattr(op),
            Kind::Handle => self.handle(op),
            Kind::Statfs => {
                if let Some(Ok(file)) = self.at(op.value(0)) {
                    let _ = rustix::fs::fstatfs(&file);
                    let _ = rustix::fs::fstatvfs(&file);
                }
                Ok(())
            }
            Kind::Shown => {
                std::fs::read("/proc/self/mountinfo").context("no table of mounts")?;
                Ok(())
            }
            Kind::List => names::list(self, op),
            Kind::Write => write::perform(self, op),
            Kind::Poke | Kind::Cut => {
                self.change_image(op);
                Ok(())
            }
            Kind::Harm => self.harm(op),
            Kind::Drop => world::drop_caches(op.value(0) + 1),
            _ => match self.slot(op.value(0)) {
                Some(slot) => on_slot(self, slot, op),
                None => Ok(()),
            },
        }
    }

    /// An open file: that of the number, or the next one that is open.
    fn slot(&self, number: u32) -> Option<&Slot> {
        let from = self.slots.iter().skip(number as usize);
        from.chain(&self.slots).flatten().next()
    }

    fn set_slot(&mut self, number: u32, slot: Option<Slot>) {
        if let Some(place) = self.slots.get_mut(number as usize) {
            *place = slot;
        }
    }

    /// Opens a path with `O_PATH`; a symbolic link itself. `None` without a mount.
    pub fn at(&self, path: u32) -> Option<Result<OwnedFd, Errno>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        self.open_at(path, flags)
    }

    /// Opens a path.
    pub fn open_at(&self, path: u32, flags: OFlags) -> Option<Result<OwnedFd, Errno>> {
        let path = reference::relative(seeds::paths().get(path as usize)?).ok()?;
        let flags = flags | OFlags::CLOEXEC;
        Some(openat(
            self.root()?,
            path,
            flags,
            Mode::from_raw_mode(0o600),
        ))
    }

    fn open(&mut self, op: &Op) -> Result<()> {
        let Some(root) = self.root() else {
            return Ok(());
        };
        let path = op.value(1);
        let name = seeds::paths().get(path as usize).context("no such path")?;
        // A FIFO would wait for a writer.
        let mut flags = OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = if op.kind == Kind::Openat2 {
            let resolve = ResolveFlags::from_bits_truncate(op.value(2).into());
            rustix::fs::openat2(
                root,
                reference::relative(name)?,
                flags,
                Mode::empty(),
                resolve,
            )
        } else {
            for (bit, flag) in OPEN_FLAGS.iter().enumerate() {
                if op.value(2) >> bit & 1 == 1 {
                    flags |= *flag;
                }
            }
            let mode = Mode::from_raw_mode(0o600);
            openat(root, reference::relative(name)?, flags, mode)
        };
        let made = self.current;
        match opened {
            Ok(fd) => {
                let stat = rustix::fs::fstat(&fd)?;
                let is_fifo = FileType::from_raw_mode(stat.st_mode) == FileType::Fifo;
                let written = flags.intersects(WRITING) && !flags.contains(OFlags::PATH);
                let created = flags.intersection(WRITING) == OFlags::CREATE;
                ensure!(
                    !self.is_exact(made) || !written || is_fifo || created,
                    "a file is opened for writing"
                );
                let special = op.kind == Kind::Openat2
                    || flags.intersects(OFlags::DIRECT | OFlags::PATH | WRITING);
                let slot = Slot {
                    fd,
                    path,
                    made,
                    special,
                };
                self.set_slot(op.value(0), Some(slot));
            }
            Err(error) => {
                let usual = op.kind == Kind::Open && op.value(2) == 0;
                let want = self.want(made, path);
                if let (true, Want::Exactly(_)) = (usual && error != Errno::NOMEM, want) {
                    // A symbolic link is followed.
                    bail!("a file is not opened: {error}");
                }
            }
        }
        Ok(())
    }

    fn stat(&self, op: &Op) -> Result<()> {
        let Some(file) = self.at(op.value(0)) else {
            return Ok(());
        };
        let entry = self.entry(op.value(0));
        let exact = self.is_exact(self.current);
        let file = match (file, entry) {
            (Ok(file), _) => file,
            (Err(error), Some(_)) if exact && error != Errno::NOMEM => {
                bail!("a file is not found: {error}")
            }
            (Err(_), _) => return Ok(()),
        };
        let flags = match op.word(1) {
            "sync" => AtFlags::STATX_FORCE_SYNC,
            "no-sync" => AtFlags::STATX_DONT_SYNC,
            _ => AtFlags::empty(),
        };
        let stat = statx(
            &file,
            c"",
            flags | AtFlags::EMPTY_PATH,
            StatxFlags::from_bits_retain(ASKED),
        )?;
        if let (true, Some(entry)) = (exact, entry) {
            let facts = reference::facts(&stat);
            ensure!(
                facts == entry.facts,
                "statx shows {facts:?}, and erofs + overlayfs {:?}",
                entry.facts
            );
        }
        Ok(())
    }

    fn link(&self, op: &Op) -> Result<()> {
        let Some(Ok(file)) = self.at(op.value(0)) else {
            return Ok(());
        };
        let target = rustix::fs::readlinkat(&file, c"", Vec::new());
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return Ok(());
        }
        if let (true, Some(entry)) = (self.is_exact(self.current), self.entry(op.value(0))) {
            let target = target?.into_bytes();
            ensure!(
                entry.content.as_deref() == Some(&target[..]),
                "a symbolic link leads to {target:?}"
            );
        }
        Ok(())
    }

    fn xattr(&self, op: &Op) -> Result<()> {
        let Some(Ok(file)) = self.at(op.value(0)) else {
            return Ok(());
        };
        let entry = self.entry(op.value(0));
        let usual = self.made().and_then(|made| made.composefs.as_ref());
        let usual = usual.is_some_and(|options| options.extra != "escaped");
        let exact = usual && self.is_exact(self.current);
        if let (true, Some(entry)) = (exact, entry) {
            let xattrs = reference::xattrs(&file)?;
            ensure!(
                xattrs == entry.xattrs,
                "the xattrs are {xattrs:?}, and by erofs + overlayfs {:?}",
                entry.xattrs
            );
        }
        if op.kind == Kind::Names {
            let path = reference::magic(&file);
            return fits(op.word(1), |room| {
                rustix::fs::listxattr(path.as_c_str(), room)
            });
        }
        let names = match op.word(1) {
            "listed" => reference::xattrs(&file).unwrap_or_default(),
            name => [(CString::new(name)?, Vec::new())].into(),
        };
        let path = reference::magic(&file);
        for name in names.keys() {
            fits(op.word(2), |room| {
                rustix::fs::getxattr(path.as_c_str(), name.as_c_str(), room)
            })?;
        }
        Ok(())
    }

    fn handle(&self, op: &Op) -> Result<()> {
        let (Some(root), Some(path)) = (self.root(), seeds::paths().get(op.value(0) as usize))
        else {
            return Ok(());
        };
        let how = op.word(1);
        let flags = match how {
            "connectable" => 0x2,
            "fid" => 0x200,
            _ => 0,
        };
        let Ok(mut handle) = sys::handle(root.as_fd(), &reference::relative(path)?, flags) else {
            return Ok(());
        };
        let number = op.value(2) as usize;
        match how {
            "short" => handle.bytes.truncate(number % (handle.bytes.len() + 1)),
            "flipped" => {
                let len = handle.bytes.len().max(1);
                if let Some(byte) = handle.bytes.get_mut(number % len) {
                    *byte ^= 1 << (number / len % 8);
                }
            }
            "other-type" => handle.kind = number as i32,
            // The file, and the directories above it, are not in memory then.
            "cold" => world::drop_caches(2)?,
            _ => {}
        }
        let opened = sys::open_by_handle(root.as_fd(), &handle, libc::O_PATH);
        let exact = self.is_exact(self.current) && matches!(how, "good" | "cold" | "connectable");
        match opened {
            Ok(file) => {
                let stat = rustix::fs::fstat(&file);
                if exact {
                    let wanted = self.at(op.value(0)).context("no mount")?;
                    // A path with a slash at its end does not lead to a symbolic link.
                    if let Ok(wanted) = wanted {
                        let ino = rustix::fs::fstat(&wanted)?.st_ino;
                        ensure!(stat?.st_ino == ino, "a handle leads to another file");
                    }
                }
            }
            Err(error) if exact && error != Errno::NOMEM => {
                bail!("a file is not opened by its handle: {error}")
            }
            Err(_) => {}
        }
        Ok(())
    }

    fn change_image(&self, op: &Op) {
        let Some(image) = self.image_to_change() else {
            return;
        };
        let len = image.file.metadata().map_or(0, |data| data.len()).max(1);
        let place = u64::from(op.value(0));
        if op.kind == Kind::Cut {
            let _ = image.file.set_len(place.min(1 << 20));
        } else {
            let byte = [op.value(1) as u8];
            let _ = image.file.write_at(&byte, place % len);
        }
    }

    fn harm(&mut self, op: &Op) -> Result<()> {
        let number = op.value(0) as usize;
        let harmed = op.word(1) != "back";
        self.world
            .harm(number, op.word(1))
            .context("harming an object")?;
        if let Some(place) = self.harmed.get_mut(number) {
            *place = harmed;
        }
        if let (true, Some(place)) = (harmed, self.were_harmed.get_mut(number)) {
            *place = true;
        }
        Ok(())
    }
}

/// Asks for something with as much room as a word of `grammar::ROOM` says.
fn fits(word: &str, call: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<()> {
    let needed = call(&mut []).unwrap_or(0);
    let room = match word {
        "exact" => needed,
        "less" => needed.saturating_sub(1),
        "more" => needed + 1,
        "byte" => 1,
        "none" => 0,
        _ => 65536,
    };
    if let Ok(len) = call(&mut vec![0; room]) {
        ensure!(
            len <= room || room == 0,
            "{len} bytes in a buffer for {room}"
        );
    }
    Ok(())
}

/// An operation on an open file.
fn on_slot(scene: &Scene<'_>, slot: &Slot, op: &Op) -> Result<()> {
    let fd = &slot.fd;
    match op.kind {
        Kind::Read => data::read(scene, slot, op)?,
        Kind::Map => data::map(scene, slot, op)?,
        Kind::Splice | Kind::Copy => data::pass_on(scene, slot, op)?,
        Kind::Leap => {
            let _ = rustix::fs::seek(fd, SeekFrom::Start(op.value(1).into()));
            if let Ok(dir) = fd.try_clone() {
                let (_, _) = reference::list(dir, 50, names::buffer(op.value(2)));
            }
        }
        Kind::Ioctl => {
            let request = REQUESTS.get(op.value(1) as usize);
            // A digest has this size; and for FS_IOC_FIEMAP, this is from where on, and how far.
            let mut bytes = [0; 1024];
            bytes[2] = 64;
            bytes[12] = 1;
            if let Some(request) = request {
                let _ = sys::ioctl(fd.as_fd(), *request, &mut bytes);
            }
        }
        Kind::Seek => {
            let place = u64::from(op.value(1));
            let whence = match op.value(2) {
                0 => SeekFrom::Data(place),
                1 => SeekFrom::Hole(place),
                2 => SeekFrom::End(-(place as i64)),
                3 => SeekFrom::Current(place as i64),
                _ => SeekFrom::Start(place),
            };
            let found = rustix::fs::seek(fd, whence);
            data::check_seek(scene, slot, op, found)?;
        }
        Kind::Advise => {
            use rustix::fs::Advice;
            let advice = match op.value(3) {
                0 => Advice::WillNeed,
                1 => Advice::DontNeed,
                2 => Advice::Random,
                3 => Advice::Sequential,
                4 => Advice::NoReuse,
                _ => Advice::Normal,
            };
            let len = std::num::NonZeroU64::new(op.value(2).into());
            let _ = rustix::fs::fadvise(fd, op.value(1).into(), len, advice);
        }
        Kind::Flags => {
            // Reads may then fail.
            let mut flags = OFlags::NONBLOCK;
            if op.value(1) & 4 != 0 && slot.special {
                flags |= OFlags::DIRECT;
            }
            if op.value(1) & 8 != 0 {
                flags |= OFlags::NOATIME;
            }
            let _ = rustix::fs::fcntl_setfl(fd, flags);
        }
        Kind::Lock => {
            use rustix::fs::FlockOperation;
            let operation = match op.word(1) {
                "shared" => FlockOperation::NonBlockingLockShared,
                "exclusive" => FlockOperation::NonBlockingLockExclusive,
                _ => FlockOperation::Unlock,
            };
            let _ = rustix::fs::flock(fd, operation);
        }
        Kind::Sync => match op.word(1) {
            "data" => drop(rustix::fs::fdatasync(fd)),
            "fs" => drop(rustix::fs::syncfs(fd)),
            _ => drop(rustix::fs::fsync(fd)),
        },
        _ => {}
    }
    Ok(())
}
