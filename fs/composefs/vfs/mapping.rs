// SPDX-License-Identifier: GPL-2.0

//! A page cache that is private to a file system.
//!
//! The page cache of a file can be written to at any time. A `&[u8]` over it would be unsound, and
//! bytes that were checked could change before they are used. [`PrivateMapping`] is the page cache
//! of an inode without a name and without open files, so it is not mapped, spliced or written to.
//! A folio is filled once, while it is locked and not up to date. Under memory pressure it is
//! dropped like any other folio. A task that misses a page waits for the task that is filling it.
//!
//! How much a miss reads depends on how the pages around it are used. If the caller reads in order
//! ([`PrivateMapping::set_sequential`]), it is 256 KiB, which takes a disk hardly longer than
//! 4 KiB. Otherwise it is 16 KiB, until several places of the 256 KiB around the page were missed,
//! or small folios are looked up again and again. If a read of more than one page fails, only the
//! page itself is read, so that an error is about bytes that were asked for. The first read is of
//! one page: mounting an image needs no more, and the image may be used much later.

use super::{
    anon_inode, bindings,
    buffer::Buffer,
    folio::{
        Bytes,
        CachedPage, //
    },
    kept_folios::KeptFolios,
    once::OnceFlag,
    page_cache::{
        self,
        FillingFolio, //
    },
};
use core::{
    mem::MaybeUninit,
    ptr::NonNull, //
};
use kernel::{
    page::PAGE_SHIFT,
    prelude::*,
    sync::atomic::{
        AtomicFlag,
        Relaxed, //
    }, //
};

/// The source of the bytes of a [`PrivateMapping`].
pub trait Reader: Send + Sync + 'static {
    /// Fills `out` with the bytes from `pos` on, or a part of it at the end of the source.
    ///
    /// # Errors
    ///
    /// The error of reading them. It is not remembered: the next miss reads again.
    fn read(&self, pos: u64, out: &mut Buffer<'_>) -> Result;
}

/// A page cache over the bytes of a [`Reader`], which are borrowed in blocks of `BLOCK_SIZE`
/// bytes: a power of two that is at most the page size.
///
/// # Invariants
///
/// Owns a reference to `inode`, which is not hashed. Its mapping holds only folios that
/// [`Self::read`] has added. Other references are those of walks of all inodes, such as
/// drop_caches, which only drop folios.
pub struct PrivateMapping<R: Reader, const BLOCK_SIZE: u64> {
    inode: NonNull<bindings::inode>,
    reader: R,
    size: u64,
    /// Set by the first read.
    begun: OnceFlag,
    /// See [`Self::set_sequential`].
    sequential: AtomicFlag,
    kept: KeptFolios,
}

// SAFETY: The page cache may be used and dropped by any thread. `R` is `Send` and `Sync`.
unsafe impl<R: Reader, const BLOCK_SIZE: u64> Send for PrivateMapping<R, BLOCK_SIZE> {}

// SAFETY: As above.
unsafe impl<R: Reader, const BLOCK_SIZE: u64> Sync for PrivateMapping<R, BLOCK_SIZE> {}

impl<R: Reader, const BLOCK_SIZE: u64> PrivateMapping<R, BLOCK_SIZE> {
    /// Creates an empty page cache over `size` bytes of `reader`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or `EFBIG` if `size` is larger than a file can be.
    pub fn new(reader: R, size: u64) -> Result<Self> {
        let i_size = i64::try_from(size).map_err(|_| EFBIG)?;
        let pages = c_ulong::try_from(size.div_ceil(1 << PAGE_SHIFT)).map_err(|_| EFBIG)?;
        let inode = anon_inode::new_inode()?;
        // SAFETY: The inode is new, so nothing else accesses it. `i_mapping` of a new inode points
        // to its `i_data`.
        unsafe {
            let raw = inode.as_ptr();
            // `generic_error_remove_folio()` accepts folios of regular files only.
            (*raw).i_mode = bindings::MODE_REGULAR;
            bindings::set_nlink(raw, 1);
            bindings::i_size_write(raw, i_size);
            bindings::inode_nohighmem(raw);
            bindings::mapping_set_large_folios(&raw mut (*raw).i_data);
        }
        // SAFETY: As above.
        let max = unsafe { bindings::mapping_max_order(&raw mut (*inode.as_ptr()).i_data) };
        let whole = READ_ORDER.min(max).min(pages.max(1).ilog2());
        // SAFETY: As above. `drop` calls `free`. Without memory, nothing uses the inode again.
        let kept = unsafe {
            KeptFolios::new(&raw mut (*inode.as_ptr()).i_data, pages, whole)
                .inspect_err(|_| bindings::iput(inode.as_ptr()))?
        };
        // INVARIANT: `new_inode` has returned a reference to an inode that is not hashed.
        Ok(Self {
            inode,
            reader,
            size,
            begun: OnceFlag::default(),
            sequential: AtomicFlag::new(false),
            kept,
        })
    }

    /// Sets whether the caller reads in order. If several callers share a mapping, the last call
    /// counts.
    #[inline]
    pub fn set_sequential(&self, sequential: bool) {
        // All processors read this word, so write it only if it changes.
        if self.sequential.load(Relaxed) != sequential {
            self.sequential.store(sequential, Relaxed);
        }
    }

    /// Returns the source of the bytes.
    pub fn reader(&self) -> &R {
        &self.reader
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the bytes from `pos` to the end of its block or of the source, whichever comes
    /// first.
    ///
    /// # Errors
    ///
    /// `EIO` if `pos` is at or beyond the end, else the error of the reader.
    pub fn bytes(&self, pos: u64) -> Result<Bytes<'_>> {
        let max = self.size.checked_sub(pos).filter(|n| *n > 0).ok_or(EIO)?;
        let index = c_ulong::try_from(pos >> PAGE_SHIFT).map_err(|_| EFBIG)?;
        let page = match self.find(index) {
            Some(page) => page,
            None => self.read(index)?,
        };
        Ok(page.bytes::<BLOCK_SIZE>(pos, max))
    }

    fn mapping(&self) -> *mut bindings::address_space {
        // SAFETY: By the type invariants the inode is valid.
        unsafe { &raw mut (*self.inode.as_ptr()).i_data }
    }

    /// Returns page `index` if it is in the page cache.
    #[inline]
    fn find(&self, index: c_ulong) -> Option<CachedPage> {
        // SAFETY: The mapping is valid, and `kept` holds only folios of it. They are in low
        // memory because of `inode_nohighmem()`, and by the type invariants are not written to.
        unsafe { self.kept.find(self.mapping(), index) }
    }

    /// Reads page `index` and pages around it, or waits for another task that does.
    #[cold]
    fn read(&self, index: c_ulong) -> Result<CachedPage> {
        // The page is cached, but in a small folio, and these are searched for too often.
        if self.kept.take_many_finds() && self.make_room(index, self.kept.whole()) {
            if let Ok(Some(page)) = self.read_order(index, self.kept.whole()) {
                return Ok(page);
            }
        }
        let mut limit = self.order(index);
        let mut has_made_room = false;
        loop {
            // SAFETY: The mapping is valid.
            let has_waited = unsafe { page_cache::wait_for_page(self.mapping(), index) }?;
            if let Some(page) = self.find(index) {
                return Ok(page);
            }
            // The other task has failed: read less, so that the next waiter waits for less.
            if has_waited {
                limit = 0;
            }
            match self.read_order(index, limit) {
                Ok(Some(page)) => return Ok(page),
                // Another task has added the page or one of those around it.
                Ok(None) if has_made_room => limit = limit.saturating_sub(1),
                Ok(None) => {
                    has_made_room = true;
                    if !self.make_room(index, limit) {
                        limit = limit.saturating_sub(1);
                    }
                }
                Err(e) if limit == 0 => return Err(e),
                Err(_) => limit = 0,
            }
        }
    }

    /// Returns the order of the folio to read for page `index`.
    fn order(&self, index: c_ulong) -> c_uint {
        if !self.begun.get() {
            self.begun.set();
            return 0;
        }
        let whole = self.kept.whole();
        let part = READ_ORDER_MIN.min(whole);
        if self.sequential.load(Relaxed) {
            return whole;
        }
        let start = index & (c_ulong::MAX << whole);
        let parts = (start..=start | !(c_ulong::MAX << whole)).step_by(1 << part);
        match parts.filter(|first| self.has_any(*first, part)).count() {
            PARTS_MAX.. => whole,
            _ => part,
        }
    }

    /// Whether one of the `1 << order` pages from `first` on is in the page cache or being filled.
    fn has_any(&self, first: c_ulong, order: c_uint) -> bool {
        let last = first | !(c_ulong::MAX << order);
        // A `c_ulong` of 32 bits has no room for the position.
        let pos = |index: c_ulong| i64::try_from(index).map_or(i64::MAX, |at| at << PAGE_SHIFT);
        // SAFETY: The mapping is valid.
        unsafe { bindings::filemap_range_has_page(self.mapping(), pos(first), pos(last)) }
    }

    /// Removes smaller folios from the place of a folio of `1 << order` pages with page `index`,
    /// without sleeping on a lock. Returns whether all are removed. References to them stay valid.
    fn make_room(&self, index: c_ulong, order: c_uint) -> bool {
        let first = index & (c_ulong::MAX << order);
        let mut pages = first..=first | !(c_ulong::MAX << order);
        // SAFETY: The mapping is valid.
        pages.all(|index| unsafe { page_cache::remove_page(self.mapping(), index) })
    }

    /// Adds a folio of `1 << order` pages with page `index` to the page cache and reads it. Returns
    /// the page, or `None` if one of the pages is in the page cache already.
    fn read_order(&self, index: c_ulong, order: c_uint) -> Result<Option<CachedPage>> {
        let start = index & (c_ulong::MAX << order);
        // SAFETY: The mapping is valid, has large folios of up to this order, and has no folios in
        // high memory.
        let Some(mut folio) = (unsafe { FillingFolio::add(self.mapping(), start, order) })? else {
            return Ok(None);
        };
        self.fill(
            u64::try_from(start).map_err(|_| EFBIG)? << PAGE_SHIFT,
            folio.memory(),
        )?;
        // OVERFLOW: Cannot happen: the page is in the folio.
        let offset = index.wrapping_sub(start) << PAGE_SHIFT;
        // SAFETY: `fill` has initialised all of the memory.
        let folio = unsafe { folio.finish() };
        // SAFETY: The folio is up to date, in low memory, and has the page at `offset`. By the type
        // invariants it is not written to again.
        let page = unsafe { self.kept.add(folio, offset) };
        page.ok_or(EIO).map(Some)
    }

    /// Fills `out` with the bytes from `pos` on, and with zeros behind the end.
    fn fill(&self, pos: u64, out: &mut [MaybeUninit<u8>]) -> Result {
        let want = usize::try_from(self.size.saturating_sub(pos))
            .unwrap_or(usize::MAX)
            .min(out.len());
        let (head, tail) = out.split_at_mut_checked(want).ok_or(EIO)?;
        let mut head = Buffer::new(head);
        self.reader.read(pos, &mut head)?;
        // The source is shorter than it was at mount.
        if head.room() != 0 {
            return Err(EIO);
        }
        let zeros = tail.len();
        Buffer::new(tail).push_zeros(zeros);
        Ok(())
    }
}

/// Largest order of a read: 256 KiB.
const READ_ORDER: c_uint = bindings::READ_PAGES.ilog2();

/// Order of a read that is not sequential: 16 KiB, or a page if that is larger.
const READ_ORDER_MIN: c_uint = bindings::READ_PAGES_MIN.ilog2();

/// Number of such reads in the place of a 256 KiB folio after which the next miss reads all of it:
/// one half.
const PARTS_MAX: usize = 1 << (READ_ORDER - READ_ORDER_MIN) >> 1;

impl<R: Reader, const BLOCK_SIZE: u64> Drop for PrivateMapping<R, BLOCK_SIZE> {
    fn drop(&mut self) {
        let mapping = self.mapping();
        // SAFETY: Pages that were found borrow `self`, so none is left. By the type invariants the
        // reference is owned. Nothing in the inode points to this object after `free`, so a walk of
        // all inodes may have a reference for longer.
        unsafe {
            self.kept.free(mapping);
            bindings::iput(self.inode.as_ptr());
        }
    }
}

#[cfg(CONFIG_RUST_VFS_KUNIT_TEST)]
#[allow(clippy::arithmetic_side_effects)]
#[kunit_tests(composefs_vfs_mapping)]
mod tests {
    use super::*;
    use crate::vfs::kunit::{
        ensure,
        Mount,
        Pattern,
        SIZES, //
    };

    /// Positions around the ends of blocks, folios and the source.
    fn places(size: u64) -> impl Iterator<Item = u64> {
        let around = |at: u64| at.saturating_sub(2)..=at.saturating_add(2);
        [0, 4096, 65536, 262_144, size, i64::MAX as u64, u64::MAX]
            .into_iter()
            .flat_map(around)
    }

    #[test]
    fn bytes_are_those_of_their_place() -> Result {
        let mount = Mount::new()?;
        for (mapping, size) in mount.sb().data().mappings.iter().zip(SIZES) {
            ensure!(mapping.size() == size);
            for pos in places(size) {
                if pos >= size {
                    ensure!(mapping.bytes(pos).err() == Some(EIO));
                    continue;
                }
                let bytes = mapping.bytes(pos)?;
                let end = size.min((pos / 4096 + 1) * 4096);
                ensure!(u64::try_from(bytes.len())? == end - pos);
                ensure!(bytes.iter().zip(pos..).all(|(b, p)| *b == Pattern::at(p)));
            }
        }
        Ok(())
    }

    #[test]
    fn a_failed_read_is_not_kept() -> Result {
        let mount = Mount::new()?;
        for (mapping, size) in mount.sb().data().mappings.iter().zip(SIZES) {
            mapping.reader().set_broken(true);
            for pos in (0..size).step_by(4096) {
                ensure!(mapping.bytes(pos).err() == Some(EIO));
            }
            mapping.reader().set_broken(false);
            for pos in (0..size).step_by(4096) {
                ensure!(mapping.bytes(pos)?.first() == Some(&Pattern::at(pos)));
            }
        }
        Ok(())
    }

    #[test]
    fn half_of_a_large_folio_is_read_before_all_of_it() -> Result {
        let mount = Mount::new()?;
        let Some(mapping) = mount.sb().data().mappings.last() else {
            return Err(EINVAL);
        };
        // A read that is not sequential.
        let step = 16384.max(1 << PAGE_SHIFT);
        let places: u64 = 262_144 / step;
        for pos in (0..262_144).step_by(usize::try_from(step)?) {
            ensure!(mapping.bytes(pos)?.first() == Some(&Pattern::at(pos)));
        }
        ensure!(i64::from(mapping.reader().reads()) == i64::try_from(places / 2 + 1)?);
        Ok(())
    }

    #[test]
    fn folios_far_apart_share_a_place() -> Result {
        const SIZE: u64 = 1 << 36;
        let mapping = PrivateMapping::<Pattern, 4096>::new(Pattern::new(SIZE), SIZE)?;
        mapping.set_sequential(true);
        // The folios of the first quarter and those of the second have the same places.
        for pos in (0..64).map(|i| i % 3 * (SIZE / 4) + i * 4096) {
            let bytes = mapping.bytes(pos)?;
            let other = mapping.bytes(pos + SIZE / 4)?;
            ensure!(bytes.iter().zip(pos..).all(|(b, p)| *b == Pattern::at(p)));
            ensure!(other.first() == Some(&Pattern::at(pos + SIZE / 4)));
        }
        Ok(())
    }

    #[test]
    fn bytes_are_there_as_long_as_they_are_borrowed() -> Result {
        let mount = Mount::new()?;
        let Some(mapping) = mount.sb().data().mappings.last() else {
            return Err(EINVAL);
        };
        let mut held = KVec::new();
        for pos in (1..mapping.size()).step_by(4096) {
            held.push((pos, mapping.bytes(pos)?), GFP_KERNEL)?;
        }
        // As drop_caches does.
        // SAFETY: The mapping is valid.
        unsafe { bindings::invalidate_mapping_pages(mapping.mapping(), 0, c_ulong::MAX) };
        for (pos, bytes) in &held {
            ensure!(bytes.iter().zip(*pos..).all(|(b, p)| *b == Pattern::at(p)));
        }
        Ok(())
    }
}
