// SPDX-License-Identifier: GPL-2.0

//! `remove` and `clean`: what no image needs any more.

use std::collections::HashSet;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use composefs::erofs::format::COMPOSEFS_MAGIC;
use composefs::fsverity::FsVerityHashValue;
use composefs::repository::GcResult;

use crate::in_use;
use crate::store::Store;
use crate::store::names;

/// Removes images, and the objects that no other image needs.
///
/// An image first loses its names, then its objects. If this is interrupted, `clean` goes on.
///
/// # Errors
///
/// When an image is not there or in use: then none is removed.
pub fn remove<Digest: FsVerityHashValue>(store: &Store<Digest>, images: &[String]) -> Result<()> {
    store.lock()?;
    let known = store.images()?;
    let mut digests = HashSet::new();
    for image in images {
        let digest = store.digest_of(image)?;
        let names = known.get(&digest).map_or(&[][..], Vec::as_slice);
        if names.contains(image)
            && let Some(other) = names.iter().find(|name| !images.contains(name))
        {
            bail!(
                "the image {digest} is also named {other}: name that, too, or give the digest. \
                 Nothing is removed"
            );
        }
        if in_use::is_booted(&digest) {
            bail!("the system has been booted from the image {digest}; nothing is removed");
        }
        if in_use::is_open(&store.image(&digest)?)? {
            bail!("the image {digest} is in use; unmount it first. Nothing is removed");
        }
        digests.insert(digest);
    }
    for digest in &digests {
        // A name that leads nowhere would be in the way of the crate: the digest goes last.
        for name in known.get(digest).into_iter().flatten() {
            unlink(&store.path.join("images/refs").join(name))?;
        }
        unlink(&store.path.join("images").join(digest))?;
    }
    // Not even a power failure leaves an image that lacks objects.
    store.repository.sync()?;
    print(&collect(store)?);
    Ok(())
}

/// Removes the objects that no image needs, and what interrupted programs have left.
///
/// # Errors
///
/// When an image cannot be read: then nothing is removed.
pub fn clean<Digest: FsVerityHashValue>(store: &Store<Digest>) -> Result<()> {
    print(&collect(store)?);
    Ok(())
}

fn print(removed: &GcResult) {
    println!(
        "{} objects with {} bytes removed",
        removed.objects_removed, removed.objects_bytes
    );
}

/// Removes the objects that no image needs, once no other program has the store open.
///
/// # Errors
///
/// When an image cannot be read: then nothing is removed.
pub fn collect<Digest: FsVerityHashValue>(store: &Store<Digest>) -> Result<GcResult> {
    store.lock()?;
    name_those_in_use(store)?;
    let images = store.images()?;
    for name in names(&store.path.join("images"))? {
        if Digest::from_hex(&name).is_ok()
            && !images.contains_key(&name)
            && in_use::is_booted(&name)
        {
            bail!("the image {name}, from which the system was booted, is lost: add it again");
        }
    }
    let roots: Vec<&str> = images.keys().map(String::as_str).collect();
    // The crate, and composefs-readahead, write these before they rename them.
    remove_files(&store.path, ".symlink-")?;
    remove_files(&store.path.join("objects"), ".tmp-object-")?;
    // At its end, the crate gives up the lock for a shared one: others may have the store open.
    store.repository.gc(&roots)
}

/// Gives an image that is in use but has no name its digest as a name, so that it is kept.
fn name_those_in_use<Digest: FsVerityHashValue>(store: &Store<Digest>) -> Result<()> {
    let mut needed = HashSet::new();
    for digest in store.images()?.keys() {
        needed.extend(store.needs(digest)?);
        needed.insert(Digest::from_hex(digest)?);
    }
    for object in store.objects()?.difference(&needed) {
        let path = store.object(object);
        if in_use::is_open(&path)? && is_image(&path)? {
            let digest = object.to_hex();
            store.repository.symlink(
                format!("images/{digest}"),
                format!("objects/{}", object.to_object_pathname()),
            )?;
            eprintln!(
                "composefs-store: the image {digest} is in use, but had no name in images/; \
                 it has one again"
            );
        }
    }
    Ok(())
}

/// Whether an object is an image.
fn is_image(path: &Path) -> Result<bool> {
    let mut magic = [0; 4];
    match File::open(path)?.read_exact(&mut magic) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => {
            read.with_context(|| format!("failed to read {}", path.display()))?;
            Ok(u32::from_le_bytes(magic) == COMPOSEFS_MAGIC.get())
        }
    }
}

/// Removes the files of a directory whose names begin so.
fn remove_files(directory: &Path, prefix: &str) -> Result<()> {
    for name in names(directory)? {
        if name.starts_with(prefix) {
            unlink(&directory.join(name))?;
        }
    }
    Ok(())
}

fn unlink(path: &Path) -> Result<()> {
    fs::remove_file(path).with_context(|| format!("failed to remove {}", path.display()))
}
