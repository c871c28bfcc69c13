// SPDX-License-Identifier: GPL-2.0

//! Making the list from the pages that the kernel has read since it was started.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::DirEntryExt;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use rustix::fs::major;
use rustix::fs::minor;
use rustix::param::page_size;

use crate::list::List;
use crate::list::Part;
use crate::store::Store;

/// The kernel's event for a page that enters the page cache.
const EVENT: &str = "mm_filemap_add_to_page_cache: ";

/// Parts of the disk with a smaller gap between them are read at once.
const GAP: u64 = 64 << 10;

/// The list of what was read from the store.
///
/// # Errors
///
/// When nothing was traced, or the store cannot be read.
pub fn record(store: &Store, trace: &Path) -> Result<List> {
    // Before the directories are read, which adds pages of its own.
    let text =
        fs::read_to_string(trace).with_context(|| format!("cannot read {}", trace.display()))?;
    let (device, disk) = names(store.device);
    let mut order = Vec::new();
    let mut parts: HashMap<u64, Part> = HashMap::new();
    let mut metadata = Vec::new();
    let page = u64::try_from(page_size())?;
    for pages in text.lines().filter_map(|line| pages(line, page)) {
        if pages.device == device {
            parts
                .entry(pages.inode)
                .and_modify(|part| {
                    part.start = part.start.min(pages.part.start);
                    part.end = part.end.max(pages.part.end);
                })
                .or_insert_with(|| {
                    order.push(pages.inode);
                    pages.part
                });
        } else if pages.inode == disk && pages.device.starts_with("0:") {
            metadata.push(pages.part);
        }
    }
    if order.is_empty() {
        bail!(
            "{} has no event {EVENT}for device {device}: boot with \
             trace_event=filemap:mm_filemap_add_to_page_cache trace_buf_size=16M",
            trace.display()
        );
    }
    let mut objects = objects(store)?;
    let objects = order.iter().filter_map(|inode| {
        let (name, size) = objects.remove(inode)?;
        let part = parts.get(inode)?;
        // Behind the end of the file, the file system has what fs-verity needs.
        let end = part.end.min(size);
        (part.start < end).then_some((
            name,
            Part {
                start: part.start,
                end,
            },
        ))
    });
    Ok(List {
        objects: objects.collect(),
        metadata: joined(metadata),
    })
}

/// How the event names a device, and the inode of the disk itself.
fn names(device: u64) -> (String, u64) {
    let (major, minor) = (major(device), minor(device));
    (
        format!("{major}:{minor}"),
        u64::from(major) << 20 | u64::from(minor),
    )
}

/// Pages that entered the page cache.
#[derive(Debug, PartialEq)]
struct Pages<'a> {
    device: &'a str,
    inode: u64,
    part: Part,
}

/// The pages, each of `page` bytes, in a line of the trace:
/// `dev 254:0 ino 1f pfn=0x1 ofs=4096 order=0`.
fn pages(line: &str, page: u64) -> Option<Pages<'_>> {
    let (_, event) = line.split_once(EVENT)?;
    let mut words = event.split(' ');
    let mut after = |name: &str| -> Option<&str> {
        words.find(|&word| word == name)?;
        words.next()
    };
    let device = after("dev")?;
    let inode = u64::from_str_radix(after("ino")?, 16).ok()?;
    let value = |name: &str| event.split(' ').find_map(|word| word.strip_prefix(name));
    let start: u64 = value("ofs=")?.parse().ok()?;
    let order: u32 = value("order=")?.trim().parse().ok()?;
    let end = start.checked_add(page.checked_shl(order)?)?;
    Some(Pages {
        device,
        inode,
        part: Part { start, end },
    })
}

/// The objects of the store without the images, by their inode: name and size. The size is
/// that of the directory entry's file.
fn objects(store: &Store) -> Result<HashMap<u64, (String, u64)>> {
    let images = store.images();
    let mut objects = HashMap::new();
    let read =
        |path: &Path| fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()));
    for dir in read(&store.objects)? {
        let dir = dir?;
        if !dir.file_type()?.is_dir() {
            continue;
        }
        for entry in read(&dir.path())? {
            let entry = entry?;
            let name = Path::new(&dir.file_name()).join(entry.file_name());
            // An image is read in pieces by the file system that mounts it.
            if images.contains(&name) || !entry.file_type()?.is_file() {
                continue;
            }
            if let Some(name) = name.to_str() {
                let size = entry.metadata()?.len();
                objects.insert(entry.ino(), (name.to_owned(), size));
            }
        }
    }
    Ok(objects)
}

/// The parts in order, with those joined that are near each other.
fn joined(mut parts: Vec<Part>) -> Vec<Part> {
    parts.sort_by_key(|part| part.start);
    let mut joined: Vec<Part> = Vec::new();
    for part in parts {
        match joined.last_mut() {
            Some(last) if part.start <= last.end.saturating_add(GAP) => {
                last.end = last.end.max(part.end);
            }
            _ => joined.push(part),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_line_of_the_trace_is_understood() {
        let line = "  systemd-1 [000] ..... 1.5: mm_filemap_add_to_page_cache: dev 254:0 ino 1f \
                    pfn=0x2a ofs=8192 order=2";
        for page in [4096, 65536] {
            let part = Part {
                start: 8192,
                end: 8192 + 4 * page,
            };
            let expected = Pages {
                device: "254:0",
                inode: 0x1f,
                part,
            };
            assert_eq!(pages(line, page), Some(expected));
        }
        assert_eq!(pages("# a comment", 4096), None);
    }

    #[test]
    fn objects_are_listed_in_the_order_of_first_use() -> Result<()> {
        let top = tempfile::tempdir()?;
        let objects = top.path().join("objects");
        let images = top.path().join("images");
        fs::create_dir_all(objects.join("ab"))?;
        fs::create_dir(&images)?;
        for name in ["1", "2", "3", "image"] {
            fs::write(objects.join("ab").join(name), [0; 5000])?;
        }
        symlink("../objects/ab/image", images.join("image"))?;
        let store = Store::open(&objects)?;
        let (device, disk) = names(store.device);
        let mut trace = tempfile::NamedTempFile::new()?;
        for name in ["3", "image", "1"] {
            let inode = fs::metadata(objects.join("ab").join(name))?.ino();
            for offset in [4096, 65536] {
                writeln!(
                    trace,
                    "x: {EVENT}dev {device} ino {inode:x} pfn=0x1 ofs={offset} order=0"
                )?;
            }
        }
        for offset in [1 << 20, 0, 8192] {
            writeln!(
                trace,
                "x: {EVENT}dev 0:2 ino {disk:x} pfn=0x1 ofs={offset} order=0"
            )?;
        }
        let list = record(&store, trace.path())?;
        let part = Part {
            start: 4096,
            end: 5000,
        };
        assert_eq!(
            list.objects,
            ["ab/3", "ab/1"].map(|name| (name.to_owned(), part))
        );
        assert_eq!(
            list.metadata,
            [(0, 12288), (1 << 20, (1 << 20) + 4096)].map(|(start, end)| Part { start, end })
        );
        let empty = tempfile::NamedTempFile::new()?;
        assert!(record(&store, empty.path()).is_err());
        Ok(())
    }
}
