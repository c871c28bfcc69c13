// SPDX-License-Identifier: GPL-2.0

//! The trees that a stack shows.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use composefs_bench::Stack;
use composefs_bench::coherence::Plan;
use composefs_bench::coherence::Row;

use super::directories;
use crate::mounts::Mounted;
use crate::mounts::Verity;
use crate::prepare::SMALL_DIR;

/// Where ext4 has a copy of the image of files that are in the image.
const COPY: &str = "/scratch/coherence";

/// The trees.
#[derive(Default)]
pub struct Places {
    /// A directory of directories of files.
    pub top: PathBuf,
    /// The directories in it, of which every second one is left over.
    pub directories: Vec<String>,
    /// The others. What is used in them brings the image back into memory.
    pub spare: Vec<String>,
    _mounted: Option<Mounted>,
}

impl Places {
    /// Mounts what a row needs.
    pub fn new(plan: &Plan, stack: Stack, row: &Row) -> Result<Self> {
        let content = matches!(row.name, "read-own" | "read-same");
        let (top, mounted) = match (content, stack, row.name) {
            (_, _, "mount") => {
                let mounted = Mounted::new(stack, &plan.stored_content, Verity::Required)?;
                (mounted.path().to_path_buf(), Some(mounted))
            }
            (true, Stack::Ext4, _) => (plan.unpacked.join(SMALL_DIR), None),
            (true, _, _) => {
                let mounted = Mounted::new(stack, &plan.content, Verity::Required)?;
                (mounted.path().join(SMALL_DIR), Some(mounted))
            }
            (false, Stack::Ext4, _) => (copy(plan)?, None),
            (false, _, _) => {
                let mounted = Mounted::new(stack, &plan.inline, Verity::Off)?;
                (mounted.path().to_path_buf(), Some(mounted))
            }
        };
        let (mut used, mut spare) = (Vec::new(), Vec::new());
        for (number, name) in directories(&top)?.into_iter().enumerate() {
            match content || number % 2 == 0 {
                true => used.push(name),
                false => spare.push(name),
            }
        }
        Ok(Self {
            directories: used,
            spare,
            top,
            _mounted: mounted,
        })
    }

    /// The directories that belong to one of several processors: all have as many, and each its
    /// own part of the tree.
    pub fn own(&self, number: u32, count: u32) -> impl Iterator<Item = &String> {
        let (number, count) = (number as usize, count as usize);
        let each = self.directories.len() / count;
        self.directories.iter().skip(number * each).take(each)
    }
}

/// Copies the files that are in the image to ext4, once.
fn copy(plan: &Plan) -> Result<PathBuf> {
    let copy = Path::new(COPY);
    if copy.exists() {
        return Ok(copy.to_path_buf());
    }
    let mounted = Mounted::new(Stack::Erofs, &plan.inline, Verity::Off)?;
    for name in directories(mounted.path())? {
        let (from, to) = (mounted.path().join(&name), copy.join(&name));
        fs::create_dir_all(&to).with_context(|| to.display().to_string())?;
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            fs::write(to.join(entry.file_name()), fs::read(entry.path())?)?;
        }
    }
    rustix::fs::sync();
    Ok(copy.to_path_buf())
}
