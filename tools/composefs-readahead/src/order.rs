// SPDX-License-Identifier: GPL-2.0

//! Writing objects anew, so that they are next to each other on the disk.
//!
//! ext4 puts small files side by side, one after the other as they are written. What fs-verity
//! adds to a file begins 64 KiB or more behind its start, and ext4 takes a file of that size for a
//! large one, with room of its own: then the file, its Merkle tree and the next file are far apart.
//! From which size on a file is large can be set, and this sets it for each object so that its tree
//! is beside its data, and only its descriptor is elsewhere. The descriptor is read alone anyway,
//! when a file is opened.

use std::fs;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use composefs_ioctls::fsverity::fs_ioc_enable_verity;
use composefs_ioctls::fsverity::fs_ioc_measure_verity;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::linkat;
use rustix::fs::openat;

use crate::list::List;
use crate::store::Store;

/// The block size of fs-verity that composefs prescribes, and ext4's.
const BLOCK: u64 = 4096;

/// Where ext4 puts what fs-verity adds: at the next multiple of this behind the content.
const METADATA: u64 = 64 << 10;

/// How an image begins: `COMPOSEFS_MAGIC` of `include/composefs_fs.h`, as of the composefs project.
const COMPOSEFS_MAGIC: u32 = 0xd078_629a;

/// Objects with more blocks than this lie for themselves, as ext4 has it.
const LARGE: u64 = 512;

/// Writes the objects of the list anew, in its order. Returns how many.
///
/// # Errors
///
/// When an object cannot be read or written, or comes out with another digest.
pub fn order(store: &Store, list: &List) -> Result<usize> {
    let limit = Limit::of(store)?;
    // As cfsctl does, so that nobody collects garbage meanwhile.
    let repository = File::open(store.objects.join(".."))?;
    rustix::fs::flock(&repository, FlockOperation::LockShared)?;
    let mut count = 0;
    for (name, _) in &list.objects {
        let path = store.objects.join(name);
        match File::open(&path) {
            // It belonged to an image that was removed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => {
                let file = opened.with_context(|| path.display().to_string())?;
                if must_stay(&file)? {
                    continue;
                }
                rewrite(&file, &path, &limit).with_context(|| path.display().to_string())?;
            }
        }
        count += 1;
    }
    Ok(count)
}

/// Whether an object is to stay the file that it is: an image, which may be mounted, or a file
/// with another name elsewhere, which would be kept twice.
fn must_stay(object: &File) -> Result<bool> {
    if object.metadata()?.nlink() != 1 {
        return Ok(true);
    }
    let mut magic = [0; 4];
    let is_image =
        object.read_exact_at(&mut magic, 0).is_ok() && u32::from_le_bytes(magic) == COMPOSEFS_MAGIC;
    Ok(is_image)
}

/// Replaces an object by a copy.
fn rewrite(old: &File, path: &Path, limit: &Limit) -> Result<()> {
    let digest = Digest::of(old).context("has no fs-verity digest")?;
    let tree = tree_blocks(old.metadata()?.len(), digest.size());
    limit.set(old.metadata()?.len().next_multiple_of(METADATA) / BLOCK + tree)?;

    let dir = path.parent().context("is in no directory")?;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mut new = File::from(openat(CWD, dir, flags, Mode::from(0o644))?);
    io::copy(&mut &*old, &mut new)?;
    if tree == 0 {
        // So that its place is chosen now. The tree is before the data otherwise.
        new.sync_data()?;
    }
    let new_path = format!("/proc/self/fd/{}", new.as_raw_fd());
    let readable = File::open(&new_path)?;
    new.set_permissions(old.metadata()?.permissions())?;
    drop(new);
    fs_ioc_enable_verity(&readable, digest.algorithm(), BLOCK as u32)?;
    if Digest::of(&readable) != Some(digest) {
        bail!("its copy has another fs-verity digest: it has a salt or another block size");
    }
    // Where composefs-store(8) and cfsctl look for what was interrupted, and not for objects.
    let top = dir.parent().context("is in no object directory")?;
    let temporary = top.join(format!(".tmp-object-order-{}", std::process::id()));
    let readable_path = format!("/proc/self/fd/{}", readable.as_raw_fd());
    linkat(
        CWD,
        &readable_path,
        CWD,
        &temporary,
        AtFlags::SYMLINK_FOLLOW,
    )?;
    fs::rename(&temporary, path).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })?;
    Ok(())
}

/// How many blocks the Merkle tree of a file has.
fn tree_blocks(size: u64, digest: u64) -> u64 {
    let digests = BLOCK / digest;
    let mut level = size.div_ceil(BLOCK);
    let mut blocks = 0;
    while level > 1 {
        level = level.div_ceil(digests);
        blocks += level;
    }
    blocks
}

/// An fs-verity digest.
#[derive(Debug, PartialEq, Eq)]
enum Digest {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
}

impl Digest {
    fn of(file: &File) -> Option<Self> {
        fs_ioc_measure_verity(file, 1)
            .map(Self::Sha256)
            .or_else(|_| fs_ioc_measure_verity(file, 2).map(Self::Sha512))
            .ok()
    }

    /// The kernel's number of the algorithm.
    fn algorithm(&self) -> u8 {
        match self {
            Self::Sha256(_) => 1,
            Self::Sha512(_) => 2,
        }
    }

    fn size(&self) -> u64 {
        match self {
            Self::Sha256(_) => 32,
            Self::Sha512(_) => 64,
        }
    }
}

/// From which size on ext4 takes a file for a large one. Dropping this restores it.
struct Limit {
    path: PathBuf,
    before: String,
}

impl Limit {
    fn of(store: &Store) -> Result<Self> {
        let name = store
            .disk_name()
            .context("the object directory is on no disk")?;
        let path = Path::new("/sys/fs/ext4").join(name).join("mb_stream_req");
        let before = fs::read_to_string(&path).with_context(|| {
            format!(
                "{} is not on ext4, which alone needs this: no {}",
                store.objects.display(),
                path.display()
            )
        })?;
        Ok(Self { path, before })
    }

    fn set(&self, blocks: u64) -> Result<()> {
        let value = match blocks {
            ..=LARGE => blocks.to_string(),
            _ => self.before.trim().to_owned(),
        };
        fs::write(&self.path, value).with_context(|| self.path.display().to_string())
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let _ = fs::write(&self.path, self.before.trim());
    }
}

#[cfg(test)]
mod tests {
    use super::tree_blocks;

    #[test]
    fn a_tree_has_a_block_for_each_128_of_the_level_below() {
        for (size, blocks) in [
            (0, 0),
            (1, 0),
            (4096, 0),
            (4097, 1),
            (128 * 4096, 1),
            (128 * 4096 + 1, 3),
        ] {
            assert_eq!(tree_blocks(size, 32), blocks, "{size}");
        }
        assert_eq!(tree_blocks(65 * 4096, 64), 3);
    }
}
