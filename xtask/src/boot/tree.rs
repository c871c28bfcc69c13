// SPDX-License-Identifier: GPL-2.0

//! The disk with the system's tree: what the images are made from, and what is booted without
//! an image.

use std::path::PathBuf;

use anyhow::Result;

use super::system::System;
use crate::cache::Key;
use crate::context::Context;
use crate::guest::TreeDisk;
use crate::kernel::Kernel;
use crate::progress::Step;

/// Size of this disk, and of the store's, in bytes. They are sparse.
pub const SIZE: u64 = 3 << 30;

/// The disk.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The disk image.
    pub disk: PathBuf,
    /// The system that is on it.
    pub system: System,
    /// A key that changes with it.
    pub key: String,
}

/// Makes the disk unless the cache has it: the system with the modules of a kernel.
///
/// # Errors
///
/// When a tool is missing, or the disk is full.
pub fn make(context: &Context, kernel: &Kernel, system: &System) -> Result<Tree> {
    let modules = &kernel.modules;
    let key = Key::default()
        .with("system", &system.key)
        .with("modules", modules.as_os_str().as_encoded_bytes())
        .with("size", SIZE.to_string())
        .finish();
    let dir = context.cache.made("boot-tree", &key, |dir| {
        let log = context.cache.log("boot-tree");
        let step = Step::begin("unpacking the system to boot", &log)?;
        let disk = TreeDisk {
            tar: &system.tar(),
            modules: Some(modules),
            label: "store",
            size: Some(SIZE),
        };
        disk.write(&step, dir, &dir.join(NAME))?;
        step.done();
        Ok(())
    })?;
    Ok(Tree {
        disk: dir.join(NAME),
        system: system.clone(),
        key,
    })
}

/// The disk image in its cache entry.
const NAME: &str = "disk.img";
