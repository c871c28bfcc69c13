// SPDX-License-Identifier: GPL-2.0

//! `add`: an image of a tree.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use anyhow::Result;
use composefs::fs::read_filesystem;
use composefs::fsverity::FsVerityHashValue;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use tokio::runtime::Runtime;

use crate::store::Sizes;
use crate::store::Store;

/// Adds an image of a tree.
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
) -> Result<()> {
    let before = store.objects()?;
    let top = rustix::fs::open(
        tree,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .with_context(|| format!("failed to open the tree {}", tree.display()))?;
    let repository = Arc::clone(&store.repository);
    let read = read_filesystem(top, PathBuf::from("."), Some(repository));
    let files = Runtime::new()?
        .block_on(read)
        .with_context(|| format!("failed to store the files of {}", tree.display()))?;
    store.repository.sync()?;
    let image = files.commit_image(&store.repository, name)?;
    store.repository.sync()?;

    let digest = image.to_hex();
    let mut needed = store.needs(&digest)?;
    needed.insert(image);
    let mut sizes = Sizes::new(store);
    let all = sizes.count(&needed);
    let new = sizes.count(needed.difference(&before));
    println!("{digest}");
    eprintln!(
        "{} objects with {} bytes, {} of them new with {} bytes",
        all.objects, all.bytes, new.objects, new.bytes
    );
    Ok(())
}
