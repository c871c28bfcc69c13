// SPDX-License-Identifier: GPL-2.0

//! `add`: an image of a tree.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use composefs::fs::read_filesystem;
use composefs::fsverity::FsVerityHashValue;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use tokio::runtime::Runtime;

use crate::inline;
use crate::remove;
use crate::store::Sizes;
use crate::store::Store;

/// Adds an image of a tree. Files of up to `inline` bytes are in the image itself.
///
/// If this is interrupted, the store has more objects, and no new image: the objects are on the disk
/// before the image gets a name. `clean` removes them.
///
/// # Errors
///
/// When the tree cannot be read or the store cannot be written.
pub fn add<Digest: FsVerityHashValue>(
    store: &Store<Digest>,
    tree: &Path,
    name: Option<&str>,
    inline: Option<u64>,
) -> Result<()> {
    if let Some(name) = name {
        check_name::<Digest>(name)?;
    }
    let before = store.objects()?;
    let top = rustix::fs::open(
        tree,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .with_context(|| format!("failed to open the tree {}", tree.display()))?;
    let repository = Arc::clone(&store.repository);
    let read = read_filesystem(top, PathBuf::from("."), Some(repository));
    let mut files = Runtime::new()?
        .block_on(read)
        .with_context(|| format!("failed to store the files of {}", tree.display()))?;
    if let Some(limit) = inline {
        inline::small_files(store, &mut files, limit)?;
    }
    store.repository.sync()?;
    let image = files.commit_image(&store.repository, name)?;
    store.repository.sync()?;

    let digest = image.to_hex();
    let mut needed = store.needs(&digest)?;
    for object in needed.intersection(&before) {
        // Opening measures it. The crate looks only at the size of what is there already.
        store.repository.open_object(object).with_context(|| {
            format!(
                "the image {digest} cannot be used: its object {} was in the store and is damaged",
                object.to_hex()
            )
        })?;
    }
    needed.insert(image);
    let mut sizes = Sizes::new(store);
    let all = sizes.count(&needed);
    let new = sizes.count(needed.difference(&before));
    println!("{digest}");
    eprintln!(
        "{} objects with {} bytes, {} of them new with {} bytes",
        all.objects, all.bytes, new.objects, new.bytes
    );
    if inline.is_some() {
        // The content of small files came into the store as objects. The image is there and whole,
        // whatever becomes of them.
        if let Err(error) = remove::collect(store) {
            eprintln!(
                "composefs-store: objects that no image needs are left ({error:#}); remove them \
                 with \"composefs-store clean\" later"
            );
        }
    }
    Ok(())
}

/// Checks that a name can be the name of an image: a path in `images/refs/`, and no digest.
fn check_name<Digest: FsVerityHashValue>(name: &str) -> Result<()> {
    let is_path = name.split('/').all(|part| !["", ".", ".."].contains(&part));
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control();
    if !is_path || !name.chars().all(is_plain) || Digest::from_hex(name).is_ok() {
        bail!("\"{name}\" is no name for an image: it may have no blanks, no .., and be no digest");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use composefs::fsverity::Sha256HashValue;

    use super::check_name;

    #[test]
    fn names_do_not_leave_their_directory() {
        for good in ["debian", "debian:13", "os/13.2"] {
            assert!(check_name::<Sha256HashValue>(good).is_ok(), "{good}");
        }
        let digest = "0a".repeat(32);
        for wrong in ["", "../x", "a//b", "a/.", "a b", "a\n", &digest] {
            assert!(check_name::<Sha256HashValue>(wrong).is_err(), "{wrong}");
        }
    }
}
