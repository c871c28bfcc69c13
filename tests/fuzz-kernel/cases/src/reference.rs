// SPDX-License-Identifier: GPL-2.0

//! What erofs + overlayfs show of a good image: composefs has to show the same.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::ffi::CString;
use std::fs;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RawDir;
use rustix::fs::StatxFlags;
use rustix::fs::openat;
use rustix::io::Errno;
use rustix::mount::FsMountFlags;
use rustix::mount::FsOpenFlags;
use rustix::mount::MountAttrFlags;
use rustix::mount::MoveMountFlags;
use rustix::mount::UnmountFlags;
use rustix::mount::fsconfig_create;
use rustix::mount::fsconfig_set_string;
use rustix::mount::fsmount;
use rustix::mount::fsopen;
use rustix::mount::move_mount;
use rustix::mount::unmount;

/// The attributes that both have to show. Those of blocks and devices differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    mode: u16,
    nlink: u32,
    owner: (u32, u32),
    /// Bytes; 0 for a directory.
    pub size: u64,
    mtime: (i64, u32),
    device: (u32, u32),
}

impl Facts {
    /// Whether it is a regular file.
    pub fn is_regular(&self) -> bool {
        FileType::from_raw_mode(self.mode.into()) == FileType::RegularFile
    }
}

/// A file.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its attributes.
    pub facts: Facts,
    /// Its xattrs.
    pub xattrs: BTreeMap<CString, Vec<u8>>,
    /// The content of a regular file, or the target of a symbolic link.
    pub content: Option<Vec<u8>>,
    /// The names in a directory, sorted.
    pub names: Vec<CString>,
}

/// The files of an image by their paths, which begin with a slash.
pub type Tree = BTreeMap<String, Entry>;

/// Mounts an image by erofs and overlayfs at two directories, and reads all of it.
///
/// # Errors
///
/// When it cannot be mounted or read.
pub fn read(image: &Path, store: &Path, erofs: &Path, overlay: &Path) -> Result<Tree> {
    for dir in [erofs, overlay] {
        fs::create_dir_all(dir)?;
    }
    let whole = image.with_extension("whole");
    whole_pages(image, &whole)?;
    let mounted = mount("erofs", &[("source", &whole)], &[("ro", "")], erofs).context("erofs");
    // The mount has it open.
    fs::remove_file(&whole)?;
    mounted?;
    let layers = [("lowerdir+", erofs), ("datadir+", store)];
    let options = [("metacopy", "on"), ("redirect_dir", "on")];
    let tree = mount("overlay", &layers, &options, overlay)
        .context("overlayfs")
        .and_then(|()| {
            let root = openat(
                rustix::fs::CWD,
                overlay,
                OFlags::PATH | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            let mut tree = Tree::new();
            walk(&root, "", &mut tree)?;
            drop(root);
            unmount(overlay, UnmountFlags::empty())?;
            Ok(tree)
        });
    unmount(erofs, UnmountFlags::empty())?;
    tree
}

/// Copies an image, with zeros behind it up to the end of a page: erofs returns EIO for the last
/// page of a file that has only a part of it.
fn whole_pages(image: &Path, copy: &Path) -> Result<()> {
    let mut bytes = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    bytes.resize(bytes.len().next_multiple_of(rustix::param::page_size()), 0);
    fs::write(copy, bytes).with_context(|| format!("cannot write {}", copy.display()))
}

fn mount(
    kind: &str,
    paths: &[(&str, &Path)],
    options: &[(&str, &str)],
    target: &Path,
) -> Result<(), Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (name, path) in paths {
        fsconfig_set_string(&context, *name, *path)?;
    }
    for (name, value) in options.iter().filter(|(name, _)| *name != "ro") {
        fsconfig_set_string(&context, *name, *value)?;
    }
    fsconfig_create(&context)?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    let made = fsmount(&context, flags, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&made, "", rustix::fs::CWD, target, flags)
}

fn walk(root: &OwnedFd, path: &str, tree: &mut Tree) -> Result<()> {
    let shown = if path.is_empty() { "/" } else { path };
    let entry = entry(root, shown).with_context(|| format!("reading {shown}"))?;
    for name in &entry.names {
        walk(root, &format!("{path}/{}", name.to_str()?), tree)?;
    }
    tree.insert(shown.to_owned(), entry);
    Ok(())
}

fn entry(root: &OwnedFd, path: &str) -> Result<Entry> {
    let path = relative(path)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(root, &path, flags, Mode::empty())?;
    let stat = rustix::fs::statx(&file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    let kind = FileType::from_raw_mode(stat.stx_mode.into());
    let open = |flags: OFlags| openat(root, &path, flags | OFlags::CLOEXEC, Mode::empty());
    let mut found = Entry {
        facts: facts(&stat),
        xattrs: xattrs(&file)?,
        content: None,
        names: Vec::new(),
    };
    match kind {
        FileType::Directory => {
            let (names, end) = list(open(OFlags::DIRECTORY)?, usize::MAX, 8192);
            end?;
            let names = names.into_iter().map(|name| name.name);
            found.names = names
                .filter(|name| !matches!(name.to_bytes(), b"." | b".."))
                .collect();
            found.names.sort();
        }
        FileType::RegularFile => found.content = Some(read_all(&open(OFlags::RDONLY)?)?),
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(&file, c"", Vec::new())?;
            found.content = Some(target.into_bytes());
        }
        _ => {}
    }
    Ok(found)
}

/// The path from the root of a mount.
pub fn relative(path: &str) -> Result<CString> {
    let rest = path.strip_prefix('/').unwrap_or(path);
    Ok(CString::new(if rest.is_empty() { "." } else { rest })?)
}

/// Those attributes of a file that both have to show.
pub fn facts(stat: &rustix::fs::Statx) -> Facts {
    let kind = FileType::from_raw_mode(stat.stx_mode.into());
    Facts {
        mode: stat.stx_mode,
        nlink: stat.stx_nlink,
        owner: (stat.stx_uid, stat.stx_gid),
        size: if kind == FileType::Directory {
            0
        } else {
            stat.stx_size
        },
        mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        device: (stat.stx_rdev_major, stat.stx_rdev_minor),
    }
}

/// The xattrs of a file that is opened with O_PATH.
pub fn xattrs(file: &OwnedFd) -> Result<BTreeMap<CString, Vec<u8>>, Errno> {
    let path = magic(file);
    let mut names = vec![0; 4096];
    let len = rustix::fs::listxattr(path.as_c_str(), &mut names[..])?;
    names.truncate(len);
    let mut found = BTreeMap::new();
    for name in names.split_inclusive(|byte| *byte == 0) {
        let name = CStr::from_bytes_with_nul(name).map_err(|_| Errno::ILSEQ)?;
        let mut value = vec![0; 4096];
        let len = rustix::fs::getxattr(path.as_c_str(), name, &mut value[..])?;
        value.truncate(len);
        found.insert(name.to_owned(), value);
    }
    Ok(found)
}

/// A path that leads to an open file, also if it is a symbolic link.
pub fn magic(file: impl AsFd) -> CString {
    use std::os::fd::AsRawFd as _;
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    CString::new(path).unwrap_or_default()
}

/// The content of a file.
///
/// # Errors
///
/// Those of pread(2).
pub fn read_all(file: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let mut all = Vec::new();
    let mut room = vec![0; 65536];
    loop {
        match rustix::io::pread(file, &mut room, all.len() as u64)? {
            0 => return Ok(all),
            len => all.extend_from_slice(room.get(..len).unwrap_or_default()),
        }
        // A hostile image may claim any size.
        if all.len() > 1 << 20 {
            return Ok(all);
        }
    }
}

/// An entry of a directory, as getdents64(2) gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Its name.
    pub name: CString,
    /// The number of its inode.
    pub ino: u64,
    /// Its type.
    pub kind: FileType,
    /// Where to seek to, to read what follows.
    pub next: u64,
}

/// At most so many entries of a directory from its position on, with a buffer of so many bytes.
/// Then the error that ended it, if one did.
pub fn list(dir: OwnedFd, most: usize, buffer: usize) -> (Vec<Name>, Result<(), Errno>) {
    let mut room = Vec::with_capacity(buffer);
    let mut names = Vec::new();
    let mut entries = RawDir::new(dir, room.spare_capacity_mut());
    while names.len() < most {
        match entries.next() {
            None => break,
            Some(Err(error)) => return (names, Err(error)),
            Some(Ok(entry)) => names.push(Name {
                name: entry.file_name().to_owned(),
                ino: entry.ino(),
                kind: entry.file_type(),
                next: entry.next_entry_cookie(),
            }),
        }
    }
    (names, Ok(()))
}
