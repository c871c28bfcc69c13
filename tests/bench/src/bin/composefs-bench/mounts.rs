// SPDX-License-Identifier: GPL-2.0

//! Mounting an image with each of the stacks.

use std::fs;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use composefs_bench::Image;
use composefs_bench::Stack;
use rustix::fs::CWD;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::openat;
use rustix::io::Errno;
use rustix::mount::FsMountFlags;
use rustix::mount::FsOpenFlags;
use rustix::mount::MountAttrFlags;
use rustix::mount::MoveMountFlags;
use rustix::mount::UnmountFlags;
use rustix::mount::fsconfig_create;
use rustix::mount::fsconfig_set_flag;
use rustix::mount::fsconfig_set_string;
use rustix::mount::fsmount;
use rustix::mount::fsopen;
use rustix::mount::move_mount;
use rustix::mount::unmount;

/// Directory of the mount points.
const TOP: &str = "/run/bench/mnt";

/// Whether the digests of objects are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verity {
    /// They are not: no content is read.
    Off,
    /// They are required: `verity`, or `verity=require` of overlayfs.
    Required,
}

/// A mounted image, unmounted when dropped.
pub struct Mounted {
    root: Option<OwnedFd>,
    points: Vec<PathBuf>,
}

impl Mounted {
    /// Mounts an image.
    pub fn new(stack: Stack, image: &Image, verity: Verity) -> Result<Self> {
        let mut mounted = Self {
            root: None,
            points: Vec::new(),
        };
        let top = mounted.mount(stack, image, verity)?;
        mounted.root = Some(open_dir(&top)?);
        Ok(mounted)
    }

    /// The root directory, to look names up in.
    pub fn root(&self) -> &OwnedFd {
        self.root.as_ref().expect("kept until dropped")
    }

    /// Path of the root directory.
    pub fn path(&self) -> &Path {
        self.points.last().map_or(Path::new("/"), PathBuf::as_path)
    }

    fn mount(&mut self, stack: Stack, image: &Image, verity: Verity) -> Result<PathBuf> {
        let required = verity == Verity::Required;
        let source = text(&image.path)?;
        let objects = text(&image.objects)?;
        match stack {
            Stack::Composefs => {
                let mut options = vec![("source", source), ("basedir", objects)];
                if required {
                    options.push(("verity", ""));
                }
                self.attach("composefs", &options)
            }
            Stack::Erofs => {
                let mut options = vec![("source", source), ("ro", "")];
                // libcomposefs does so for an image that has no ACLs.
                if !has_acl(&image.path)? {
                    options.push(("noacl", ""));
                }
                self.attach("erofs", &options)
            }
            Stack::Overlay => {
                let lower = self.mount(Stack::Erofs, image, verity)?;
                let mut options = vec![
                    ("source", "composefs"),
                    ("metacopy", "on"),
                    ("redirect_dir", "on"),
                    ("ro", ""),
                ];
                if required {
                    options.push(("verity", "require"));
                }
                options.push(("lowerdir+", text(&lower)?));
                options.push(("datadir+", objects));
                self.attach("overlay", &options)
            }
            // The objects are read where they are: nothing is mounted, and nothing calls
            // `path()`.
            Stack::Ext4 => Ok(image.objects.clone()),
        }
    }

    /// Mounts a file system. An option with an empty value is a flag.
    fn attach(&mut self, kind: &str, options: &[(&str, &str)]) -> Result<PathBuf> {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        let configured = options
            .iter()
            .try_for_each(|(key, value)| match *value {
                "" => fsconfig_set_flag(&context, *key),
                value => fsconfig_set_string(&context, *key, value),
            })
            .and_then(|()| fsconfig_create(&context));
        if let Err(error) = configured {
            bail!(
                "cannot mount {kind} with {options:?}: {error} ({})",
                messages(context)
            );
        }
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        let mount = fsmount(&context, flags, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
        // Each mount has a mount point of its own: several images may be mounted at once.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let point = Path::new(TOP).join(number.to_string());
        fs::create_dir_all(&point)?;
        let from_fd = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&mount, "", CWD, &point, from_fd)?;
        self.points.push(point.clone());
        Ok(point)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.root = None;
        for point in self.points.iter().rev() {
            if let Err(error) = unmount(point, UnmountFlags::empty()) {
                eprintln!(
                    "composefs-bench: cannot unmount {}: {error}",
                    point.display()
                );
            }
        }
    }
}

/// Opens a directory to look names up in.
pub fn open_dir(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).with_context(|| path.display().to_string())
}

/// The messages of an fs context.
fn messages(context: OwnedFd) -> String {
    let mut messages = Vec::new();
    let mut file = File::from(context);
    let mut buffer = [0; 512];
    while let Ok(length) = file.read(&mut buffer) {
        messages.push(String::from_utf8_lossy(&buffer[..length]).trim().to_owned());
    }
    messages.join("; ")
}

/// Whether the header of a composefs image says that it has ACLs.
fn has_acl(image: &Path) -> Result<bool> {
    let mut header = [0; 16];
    File::open(image)
        .and_then(|mut file| file.read_exact(&mut header))
        .with_context(|| image.display().to_string())?;
    Ok(header[8] & 1 != 0)
}

fn text(path: &Path) -> Result<&str> {
    Ok(path.to_str().ok_or(Errno::ILSEQ)?)
}
