// SPDX-License-Identifier: GPL-2.0

//! Small files that are read for the first time, from a disk.

use std::ffi::CStr;
use std::ffi::CString;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use composefs_bench::Image;
use composefs_bench::Stack;
use composefs_bench::ways::Plan;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::openat;
use rustix::io::read;

use super::report;
use super::store::KINDS;
use super::store::Kind;
use super::store::Store;
use crate::caches;
use crate::clock;
use crate::mounts::Mounted;
use crate::mounts::Verity;
use crate::programs::run;
use crate::small;

/// Number of files.
const FILES: usize = 500;

/// Of so many, with nothing in memory, the first byte is read.
const FIRST: usize = 10;

/// What files cost, each.
#[derive(Clone, Copy)]
struct Cost {
    /// Nanoseconds from open(2) to the first byte, with nothing in memory.
    first: f64,
    /// Nanoseconds to open and read one after another.
    each: f64,
    requests: f64,
    kib: f64,
}

/// Measures by file system.
pub fn measure(plan: &Plan) -> Result<()> {
    for (number, kind) in KINDS.iter().enumerate() {
        let store = Store::new(kind, number)?;
        let image = fill(plan, &store, kind)?;
        for stack in [Stack::Composefs, Stack::Overlay, Stack::Ext4] {
            let mut paths = small::paths(&image, stack)?;
            paths.truncate(FILES);
            let way = match stack {
                Stack::Ext4 => "no image".to_owned(),
                other => other.to_string(),
            };
            let mut costs = Vec::new();
            for _ in 0..plan.repeat {
                costs.push(cost(&image, stack, kind, &store, &paths)?);
            }
            for (title, value) in [
                (
                    "requests a file",
                    &(|cost: &Cost| cost.requests) as &dyn Fn(&Cost) -> f64,
                ),
                ("KiB read a file", &|cost| cost.kib),
                ("µs to the first byte", &|cost| cost.first / 1000.0),
                ("µs a file, of many", &|cost| cost.each / 1000.0),
            ] {
                let least = costs.iter().map(value).fold(f64::INFINITY, f64::min);
                report(&format!("{}: {title}", kind.name), &way, least)?;
            }
        }
    }
    Ok(())
}

/// Copies the image and the objects of the small files.
fn fill(plan: &Plan, store: &Store, kind: &Kind) -> Result<Image> {
    let image = Image {
        path: store.top.join("content.cfs"),
        objects: store.top.join("objects"),
    };
    fs::copy(&plan.content.path, &image.path)?;
    for object in small::paths(&plan.content, Stack::Ext4)? {
        let object = Path::new(OsStr::from_bytes(object.to_bytes()));
        let copy = image.objects.join(object);
        fs::create_dir_all(copy.parent().unwrap_or(&copy))?;
        fs::copy(plan.content.objects.join(object), &copy)?;
        if kind.verity {
            run(Command::new("fsverity").arg("enable").arg(&copy))?;
        }
    }
    Ok(image)
}

fn cost(
    image: &Image,
    stack: Stack,
    kind: &Kind,
    store: &Store,
    paths: &[CString],
) -> Result<Cost> {
    let verity = if kind.verity {
        Verity::Required
    } else {
        Verity::Without
    };
    let mounted = Mounted::new(stack, image, verity)?;
    let root = mounted.root();
    let mut buffer = vec![0; 64 << 10];
    let mut first = 0;
    for path in paths.iter().take(FIRST) {
        caches::drop_buffers()?;
        let before = clock::now();
        content(root, path, &mut buffer[..1])?;
        first += clock::now() - before;
    }
    let disk = store.disk()?;
    caches::drop_buffers()?;
    let (reads, kib, before) = (disk.reads()?, disk.kib_read()?, clock::now());
    for path in paths {
        content(root, path, &mut buffer)?;
    }
    let after = clock::now();
    let each = |total: u64| total as f64 / paths.len() as f64;
    Ok(Cost {
        first: first as f64 / FIRST as f64,
        each: each(after - before),
        requests: each(disk.reads()? - reads),
        kib: each(disk.kib_read()? - kib),
    })
}

fn content(root: impl AsFd, path: &CStr, buffer: &mut [u8]) -> Result<()> {
    let file = openat(root, path, OFlags::RDONLY, Mode::empty())?;
    read(&file, buffer)?;
    Ok(())
}
