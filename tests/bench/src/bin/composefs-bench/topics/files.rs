// SPDX-License-Identifier: GPL-2.0

//! The memory of many small files that were read, in a memory cgroup of their reader.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use composefs_bench::Image;
use composefs_bench::Stack;
use composefs_bench::columns::STACKS;
use composefs_bench::topics::Plan;

use super::column::Column;
use super::store::EXT4;
use super::store::Store;
use crate::caches;
use crate::memory::Memory;
use crate::mounts::Mounted;
use crate::mounts::Verity;
use crate::small;

/// Number of files.
const FILES: usize = 100_000;

/// How many of them are in a directory.
const IN_DIRECTORY: usize = 200;

/// How many are read at once: the samples of more would have no room.
const PART: usize = 1000;

/// Bytes in a file, which takes one page.
const SIZE: usize = 2000;

/// Measures by stack.
pub fn measure(plan: &Plan) -> Result<()> {
    let store = Store::new(&EXT4, 0)?;
    let image = fill(&store)?;
    for (stack, title) in STACKS.iter().filter(|(stack, _)| plan.has(stack)) {
        let mut column = Column::new(plan, stack, title)?;
        column.repeat(|column| run(&image, *stack, column))?;
        column.report()?;
    }
    Ok(())
}

/// Reads all files twice.
fn run(image: &Image, stack: Stack, column: &mut Column) -> Result<()> {
    let paths = small::all_paths(image, stack)?;
    let mounted = Mounted::new(stack, image, Verity::Required)?;
    // The first pass frees what keeps the rest in memory.
    caches::drop_all()?;
    caches::drop_all()?;
    caches::shrink_slabs()?;
    let group = Group::new()?;
    let open = open_files()?;
    let before = Memory::now()?;
    let mut buffer = vec![0; 64 << 10];
    for _ in 0..2 {
        for some in paths.chunks(PART) {
            let read = || small::read_all(mounted.root(), some, &mut buffer);
            column.time("reading all files twice", read)?;
        }
    }
    let after = Memory::now()?;
    let charged = group.charged()?;
    let open = open_files()?.saturating_sub(open);
    column.time("one reclaim", || group.reclaim())?;
    caches::settle();
    for (row, value) in [
        ("KiB of memory", before.free.saturating_sub(after.free)),
        ("KiB of slabs", after.slab.saturating_sub(before.slab)),
        (
            "KiB of page cache",
            after.page_cache.saturating_sub(before.page_cache),
        ),
        ("KiB charged to the reader's cgroup", charged),
        ("KiB charged after one reclaim", group.charged()?),
        ("files open, of /proc/sys/fs/file-nr", open),
    ] {
        column.note(row, value as f64);
    }
    Ok(())
}

/// The number of open files that the kernel counts.
fn open_files() -> Result<u64> {
    const PATH: &str = "/proc/sys/fs/file-nr";
    let text = fs::read_to_string(PATH).context(PATH)?;
    let first = text
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok());
    first.context("file-nr has no number")
}

/// A memory cgroup with this process, which leaves it and removes it when dropped.
struct Group;

impl Group {
    const ROOT: &str = "/sys/fs/cgroup";
    const PATH: &str = "/sys/fs/cgroup/bench";

    fn new() -> Result<Self> {
        write(Self::ROOT, "cgroup.subtree_control", "+memory")?;
        fs::create_dir(Self::PATH).context(Self::PATH)?;
        let group = Self;
        write(Self::PATH, "cgroup.procs", "0")?;
        Ok(group)
    }

    /// KiB that are charged to it.
    fn charged(&self) -> Result<u64> {
        let path = Path::new(Self::PATH).join("memory.current");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(text.trim().parse::<u64>()? / 1024)
    }

    /// Asks the kernel once to take back all that is charged.
    fn reclaim(&self) -> Result<()> {
        let all = format!("{}K", self.charged()?);
        // It fails with EAGAIN if not all could be taken, as some always is in use.
        let _ = write(Self::PATH, "memory.reclaim", &all);
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let left = write(Self::ROOT, "cgroup.procs", "0")
            .and_then(|()| fs::remove_dir(Self::PATH).context(Self::PATH));
        if let Err(error) = left {
            eprintln!("cannot leave the cgroup: {error:#}");
        }
    }
}

/// Writes to a file of a cgroup.
fn write(group: &str, name: &str, text: &str) -> Result<()> {
    let path = Path::new(group).join(name);
    fs::write(&path, text).with_context(|| path.display().to_string())
}

/// Makes the files, their image and their objects.
fn fill(store: &Store) -> Result<Image> {
    let tree = store.top.join("tree");
    for number in 0..FILES {
        let dir = tree.join(format!("dir-{:03}", number / IN_DIRECTORY));
        if number % IN_DIRECTORY == 0 {
            fs::create_dir_all(&dir)?;
        }
        // No two files are equal.
        let text = format!("{number:0SIZE$}");
        fs::write(dir.join(format!("file-{:03}", number % IN_DIRECTORY)), text)?;
    }
    let image = store.image(&tree, "files")?;
    fs::remove_dir_all(&tree)?;
    rustix::fs::sync();
    Ok(image)
}
