// SPDX-License-Identifier: GPL-2.0

//! Reading what is in a list.
//!
//! Objects that are next to each other on the disk are read with one request, although they are
//! different files: the kernel collects the requests of one call of madvise(2) before it sends
//! them. So many objects are mapped side by side.

#![allow(unsafe_code, reason = "mapping files next to each other")]

use std::ffi::c_void;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::ptr;

use anyhow::Context as _;
use anyhow::Result;
use rustix::fs::Advice;
use rustix::fs::fadvise;
use rustix::mm;
use rustix::mm::MapFlags;
use rustix::mm::ProtFlags;
use rustix::param::page_size;

use crate::list::List;
use crate::list::Part;
use crate::store::Store;

/// The address space for the objects of one call.
const WINDOW: usize = 64 << 20;

/// How many objects one call is for, far fewer than a process may have mappings.
const OBJECTS: usize = 1024;

/// Reads what is in the list. An object that is not there any more, or whose metadata is damaged,
/// is left out: who needs it will notice.
///
/// # Errors
///
/// When there is no address space.
pub fn run(store: &Store, list: &List) -> Result<()> {
    if let Some(disk) = store.disk() {
        for part in &list.metadata {
            // This is advice: nothing depends on it.
            let _ = fadvise(
                &disk,
                part.start,
                std::num::NonZeroU64::new(part.length()),
                Advice::WillNeed,
            );
        }
    }
    let mut window = Window::new()?;
    for (name, part) in &list.objects {
        if let Ok(file) = File::open(store.objects.join(name)) {
            window.add(&file, *part);
        }
    }
    window.read();
    Ok(())
}

/// Objects that are mapped side by side.
struct Window {
    /// The size of a page.
    page: u64,
    start: *mut c_void,
    used: usize,
    objects: usize,
}

impl Window {
    fn new() -> Result<Self> {
        // SAFETY: The kernel chooses the address, so no other mapping is replaced.
        let start = unsafe {
            mm::mmap_anonymous(
                ptr::null_mut(),
                WINDOW,
                ProtFlags::empty(),
                MapFlags::PRIVATE,
            )
        };
        Ok(Self {
            page: u64::try_from(page_size())?,
            start: start.context("no address space for the objects")?,
            used: 0,
            objects: 0,
        })
    }

    /// Adds a part of a file.
    fn add(&mut self, file: &File, part: Part) {
        let size = file.metadata().map_or(0, |data| data.size());
        let Some((start, length)) = pages(part, size, self.page) else {
            return;
        };
        if self.used + length > WINDOW || self.objects == OBJECTS {
            self.read();
        }
        // SAFETY: The address and the length lie in the address space that `new` has reserved,
        // and nothing refers to it.
        let mapped = unsafe {
            mm::mmap(
                self.start.byte_add(self.used),
                length,
                ProtFlags::READ,
                MapFlags::SHARED | MapFlags::FIXED,
                file,
                start,
            )
        };
        if mapped.is_ok() {
            self.used += length;
            self.objects += 1;
        }
    }

    /// Starts to read what was added, and forgets it.
    fn read(&mut self) {
        if self.used == 0 {
            return;
        }
        // SAFETY: As in `add`. WillNeed changes no content, and what was mapped is never read by
        // this process.
        unsafe {
            let _ = mm::madvise(self.start, self.used, mm::Advice::WillNeed);
            let _ = mm::mmap_anonymous(
                self.start,
                WINDOW,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::FIXED,
            );
        }
        self.used = 0;
        self.objects = 0;
    }
}

/// The whole pages of a part of a file of `size` bytes, where they are in the file and how long
/// they are. `None` if the part begins at the end of the file or behind it, or is longer than
/// the window.
fn pages(part: Part, size: u64, page: u64) -> Option<(u64, usize)> {
    let end = part.end.min(size);
    let start = part.start / page * page;
    let length = end.checked_sub(start)?.next_multiple_of(page);
    let length = usize::try_from(length).ok()?;
    (1..=WINDOW).contains(&length).then_some((start, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mapped_is_whole_pages_of_the_machine() {
        let part = Part {
            start: 20480,
            end: 24576,
        };
        assert_eq!(pages(part, 70000, 4096), Some((20480, 4096)));
        // mmap(2) accepts no other offset there.
        assert_eq!(pages(part, 70000, 65536), Some((0, 65536)));
        assert_eq!(pages(part, 20480, 4096), None);
    }
}
