// SPDX-License-Identifier: GPL-2.0

//! The memory of many small files that were read, in a memory cgroup of their reader.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use composefs_bench::Image;
use composefs_bench::Stack;
use composefs_bench::ways::Plan;

use super::report;
use super::store::KINDS;
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

/// Bytes in a file: one page, as most small files have.
const SIZE: usize = 2000;

/// Measures by stack.
pub fn measure(plan: &Plan) -> Result<()> {
    let store = Store::new(&KINDS[0], 0)?;
    let image = fill(&store)?;
    for stack in [Stack::Composefs, Stack::Overlay, Stack::Ext4] {
        let way = match stack {
            Stack::Ext4 => "no image".to_owned(),
            other => other.to_string(),
        };
        let mut runs = Vec::new();
        for _ in 0..plan.repeat {
            runs.push(run(&image, stack)?);
        }
        for (number, title) in TITLES.iter().enumerate() {
            let least = runs.iter().filter_map(|run| run.get(number)).min();
            report(title, &way, *least.context("no run")? as f64)?;
        }
    }
    Ok(())
}

/// What [`run`] returns.
const TITLES: [&str; 6] = [
    "KiB of memory",
    "KiB of slabs",
    "KiB of page cache",
    "KiB charged to the reader's cgroup",
    "KiB charged after one reclaim",
    "files open, of /proc/sys/fs/file-nr",
];

/// Reads all files twice.
fn run(image: &Image, stack: Stack) -> Result<[u64; TITLES.len()]> {
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
        small::read_all(mounted.root(), &paths, &mut buffer)?;
    }
    let after = Memory::now()?;
    let charged = group.charged()?;
    let open = open_files()?.saturating_sub(open);
    group.reclaim()?;
    Ok([
        before.free.saturating_sub(after.free),
        after.slab.saturating_sub(before.slab),
        after.page_cache.saturating_sub(before.page_cache),
        charged,
        group.charged()?,
        open,
    ])
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
        let root = Path::new(Self::ROOT);
        fs::write(root.join("cgroup.subtree_control"), "+memory").context("no memory cgroups")?;
        fs::create_dir(Self::PATH).context(Self::PATH)?;
        let group = Self;
        fs::write(Path::new(Self::PATH).join("cgroup.procs"), "0")?;
        Ok(group)
    }

    /// KiB that are charged to it.
    fn charged(&self) -> Result<u64> {
        let text = fs::read_to_string(Path::new(Self::PATH).join("memory.current"))?;
        Ok(text.trim().parse::<u64>()? / 1024)
    }

    /// Asks the kernel once to take back all that is charged.
    fn reclaim(&self) -> Result<()> {
        let all = format!("{}K", self.charged()?);
        // It fails with EAGAIN if not all could be taken, as some always is in use.
        let _ = fs::write(Path::new(Self::PATH).join("memory.reclaim"), all);
        caches::settle();
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let left = fs::write(Path::new(Self::ROOT).join("cgroup.procs"), "0")
            .and_then(|()| fs::remove_dir(Self::PATH));
        if let Err(error) = left {
            eprintln!("cannot remove {}: {error}", Self::PATH);
        }
    }
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
    let image = Image {
        path: store.top.join("files.cfs"),
        objects: store.top.join("objects"),
    };
    crate::programs::run(
        Command::new("mkcomposefs")
            .arg(format!("--digest-store={}", image.objects.display()))
            .args([&tree, &image.path]),
    )?;
    fs::remove_dir_all(&tree)?;
    rustix::fs::sync();
    Ok(image)
}
