// SPDX-License-Identifier: GPL-2.0

//! Containers by different ways: the first one, with all from the disk, and many.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use composefs_bench::Random;
use composefs_bench::columns::Way;
use composefs_bench::topics::Plan;

use super::column::Column;
use super::compiler;
use super::running::Images;
use super::running::Running;
use super::store::EXT4;
use super::store::Store;
use crate::caches;
use crate::containers::CONTAINERS;
use crate::memory::Memory;
use crate::prepare;
use crate::prepare::IMPORTS;
use crate::prepare::PYTHON;
use crate::prepare::SMALL_DIR;
use crate::prepare::TRUE;
use crate::programs::chroot;
use crate::programs::run;

/// Number of layers with small files, besides those with programs.
const SMALL_LAYERS: usize = 4;

/// Measures by way.
pub fn measure(plan: &Plan) -> Result<()> {
    let store = Store::new(&EXT4, 0)?;
    let (images, compile) = fill(plan, &store)?;
    let words: Vec<&str> = compile.iter().map(String::as_str).collect();
    for way in Way::ALL.into_iter().filter(|way| plan.has(way)) {
        let mut column = Column::new(plan, &way, way.title())?;
        column.repeat(|column| {
            first(&images, way, &store, &words, column)?;
            many(&images, way, column)
        })?;
        column.report()?;
    }
    Ok(())
}

/// Drops the caches, and then runs the guest's own programs that are needed: the clock jumps while
/// the guest waits for the host's disks. The first pass frees what keeps the rest in memory.
fn cool_down() -> Result<()> {
    caches::drop_all()?;
    caches::drop_all()?;
    chroot(Path::new("/"), &[&format!("/{TRUE}")])
}

/// A container of an image of which nothing is in memory.
fn first(
    images: &Images,
    way: Way,
    store: &Store,
    compile: &[&str],
    column: &mut Column,
) -> Result<()> {
    let disk = store.disk()?;
    cool_down()?;
    caches::shrink_slabs()?;
    let memory = Memory::now()?;
    let (reads, kib) = (disk.reads()?, disk.kib_read()?);
    let (container, time) = column.time("first, cold", || {
        let container = Running::new(images, way, 0)?;
        container.run()?;
        Ok(container)
    })?;
    let used = memory.free.saturating_sub(Memory::now()?.free);
    column.note("first, cold: ms", time as f64 / 1e6);
    column.note("first, cold: requests", (disk.reads()? - reads) as f64);
    column.note("first, cold: KiB read", (disk.kib_read()? - kib) as f64);
    column.note("first, cold: KiB of memory", used as f64);

    let root = container.root()?;
    let python = [&format!("/{PYTHON}"), "-I", "-S", "-B", IMPORTS];
    for (words, program) in [
        (&python[..], "Python, 500 modules"),
        (compile, "cc1, 2000 headers"),
    ] {
        cool_down()?;
        for (state, unit) in [("cold", "ms"), ("warm", "M instr")] {
            let row = format!("{program}, {state}");
            let ((), time) = column.time(&row, || chroot(root, words))?;
            column.note(format!("{row}: {unit}"), time as f64 / 1e6);
        }
    }
    Ok(())
}

/// Many containers, while one runs.
fn many(images: &Images, way: Way, column: &mut Column) -> Result<()> {
    let first = Running::new(images, way, CONTAINERS)?;
    first.run()?;
    let ((), time) = column.time("50 in turn, warm", || {
        (0..CONTAINERS).try_for_each(|number| Running::new(images, way, number)?.run())
    })?;
    column.note("50 in turn, warm: M instr", time as f64 / 1e6);
    caches::drop_names()?;
    caches::shrink_slabs()?;
    first.run()?;
    let before = Memory::now()?;
    let all = (0..CONTAINERS)
        .map(|number| Running::new(images, way, number))
        .collect::<Result<Vec<_>>>()?;
    all.iter().try_for_each(Running::run)?;
    let used = before.free.saturating_sub(Memory::now()?.free);
    column.note("50 at once: KiB of memory", used as f64);
    Ok(())
}

/// Makes all images and objects. Returns them, and the words that compile a program.
fn fill(plan: &Plan, store: &Store) -> Result<(Images, Vec<String>)> {
    let tree = store.top.join("tree");
    // All programs are of this guest: those of the other one have other libraries.
    prepare::small_files(&tree, &mut Random::new(1))?;
    prepare::programs(&tree, &[PYTHON, TRUE])?;
    let compile = compiler::add(&tree)?;
    let mut layers = Vec::new();
    for (number, paths) in divide(&tree)?.iter().enumerate() {
        let name = format!("layer-{number}");
        let layer = store.top.join(&name);
        fs::create_dir(&layer)?;
        // Links, not copies.
        run(Command::new("cp")
            .current_dir(&tree)
            .args(["-al", "--parents"])
            .args(paths)
            .arg(&layer))?;
        // The uppermost comes first.
        layers.insert(0, store.image(&layer, &name)?);
        fs::remove_dir_all(&layer)?;
    }
    let erofs = store.top.join("erofs");
    run(Command::new("mkfs.erofs")
        .args(["--quiet", "--xattr-inode-digest=user.digest"])
        .args([&erofs, &tree]))?;
    let images = Images {
        whole: store.image(&tree, "whole")?,
        layers,
        erofs,
        tree,
        fuse: plan.fuse.clone().context("the plan has no FUSE server")?,
    };
    rustix::fs::sync();
    Ok((images, compile))
}

/// The paths of each layer, the lowest first: libraries and programs, Python, its modules, headers,
/// and the small files.
fn divide(tree: &Path) -> Result<Vec<Vec<String>>> {
    let mut layers = vec![Vec::new(); 4 + SMALL_LAYERS];
    let modules = IMPORTS.split('/').nth(1).unwrap_or_default();
    let inside = |dir: &str| -> Result<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        for entry in fs::read_dir(tree.join(dir))? {
            let name = entry?.file_name();
            names.push(Path::new(dir).join(name).display().to_string());
        }
        names.sort();
        Ok(names)
    };
    for path in inside("")? {
        let number = match path.as_str() {
            path if path == modules => 2,
            compiler::TOP => 3,
            // Divided below.
            SMALL_DIR | "usr" => continue,
            _ => 0,
        };
        layers[number].push(path);
    }
    for path in inside("usr")? {
        match path.as_str() {
            "usr/lib" => continue,
            _ => layers[0].push(path),
        }
    }
    for path in inside("usr/lib")? {
        layers[usize::from(path.contains("python3"))].push(path);
    }
    for (number, path) in inside(SMALL_DIR)?.into_iter().enumerate() {
        layers[4 + number % SMALL_LAYERS].push(path);
    }
    Ok(layers)
}
