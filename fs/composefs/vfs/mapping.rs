// SPDX-License-Identifier: GPL-2.0

//! A page cache that only we fill and only we read.
//!
//! A file's own page cache can be written to by others while we read it, so a `&[u8]` over it
//! would be unsound, and a check of its bytes worthless by the time they are used.
//! [`PrivateMapping`] is the page cache of an inode that no name and no file leads to: nobody maps
//! it, splices it or writes to it. A folio is filled once, while it is locked and not up to date,
//! and never again; under memory pressure it is dropped like any other. Who misses a page that
//! another task is filling waits for that task.
//!
//! How much a miss reads depends on how the pages around it are used. Where the caller goes through
//! the bytes in order ([`PrivateMapping::set_sequential`]), it is 256 KiB, which costs a disk
//! hardly more than 4 KiB. Elsewhere it is 16 KiB, until the 256 KiB around the page have been
//! missed in several places, or small pieces are used all the time. If a read of more than one page
//! fails, only the page itself is read, so that an error is never about bytes that nobody asked
//! for. The very first read is of one page: it is that of a mount, and many images are mounted long
//! before they are used.

use super::{
    anon_inode,
    bindings,
    buffer::Buffer,
    folio::{
        Bytes,
        CachedPage, //
    },
    once::OnceFlag,
    shrink::Shrink, //
};
use core::{
    mem::MaybeUninit,
    ptr::NonNull, //
};
use kernel::{
    error::to_result,
    page::PAGE_SHIFT,
    prelude::*,
    sync::atomic::{
        AtomicFlag,
        Relaxed, //
    },
    types::Opaque, //
};

/// Where a [`PrivateMapping`] has its bytes from.
pub trait Reader: Send + Sync + 'static {
    /// Fills `out` with the bytes from `pos` on, wholly unless the source ends before.
    ///
    /// # Errors
    ///
    /// Whatever keeps the bytes from being read. The page cache will ask again.
    fn read(&self, pos: u64, out: &mut Buffer<'_>) -> Result;
}

/// The bytes of a [`Reader`], cached.
///
/// # Invariants
///
/// `inode` is an inode of our own to which we hold a reference; it is not hashed, and its mapping
/// holds only folios that [`Self::read`] put there. Other references are those of walks of all
/// inodes, such as drop_caches, which only drop folios.
pub struct PrivateMapping<R: Reader> {
    inode: NonNull<bindings::inode>,
    reader: R,
    size: u64,
    /// Whether anything has been read yet.
    begun: OnceFlag,
    /// See [`Self::set_sequential`].
    sequential: AtomicFlag,
    recent: RecentFolios,
}

/// The folios that were used last, which are found without a search of the page cache: whoever
/// walks a directory goes to and fro between its names and their inodes. They are kept in memory as
/// long as they are here, half a megabyte at the most, so they are to be freed when memory is
/// short.
///
/// # Invariants
///
/// Each pointer is null, or that of a folio to which we own a reference. Only the C functions that
/// take them all change them, atomically. The order does not change.
#[repr(transparent)]
struct RecentFolios(Opaque<bindings::composefs_recent>);

impl RecentFolios {
    /// None yet, of a mapping whose largest folios are of the order `whole`.
    fn new(whole: c_uint) -> Self {
        // INVARIANT: All pointers are null.
        Self(Opaque::new(bindings::composefs_recent {
            whole,
            ..pin_init::zeroed()
        }))
    }

    fn as_ptr(&self) -> *mut bindings::composefs_recent {
        self.0.get()
    }

    /// The order of the largest folios.
    fn whole(&self) -> c_uint {
        // SAFETY: It does not change.
        unsafe { (*self.0.get()).whole }
    }

    /// Whether smaller folios were found so often that they are worth being read as a whole. Begins
    /// to count anew then.
    fn take_many_finds(&self) -> bool {
        // SAFETY: The number is read and written without order, here and in C.
        unsafe {
            let finds = &raw mut (*self.0.get()).finds;
            if finds.read_volatile() < bindings::FINDS_MAX {
                return false;
            }
            finds.write_volatile(0);
        }
        true
    }
}

// SAFETY: The page cache may be used and given up from any thread; `R` is `Send` and `Sync`.
unsafe impl<R: Reader> Send for PrivateMapping<R> {}

// SAFETY: As above.
unsafe impl<R: Reader> Sync for PrivateMapping<R> {}

impl<R: Reader> PrivateMapping<R> {
    /// Makes an empty page cache over `size` bytes of `reader`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or `EFBIG` if `size` is not a size that a file can have.
    pub fn new(reader: R, size: u64) -> Result<Self> {
        let i_size = i64::try_from(size).map_err(|_| EFBIG)?;
        let inode = anon_inode::new_inode()?;
        // SAFETY: The inode is new, so nobody else looks at its fields. `i_mapping` of a new inode
        // points to its own `i_data`.
        unsafe {
            let raw = inode.as_ptr();
            // `generic_error_remove_folio` takes folios of regular files only.
            (*raw).i_mode = bindings::MODE_REGULAR;
            bindings::set_nlink(raw, 1);
            bindings::i_size_write(raw, i_size);
            bindings::inode_nohighmem(raw);
            bindings::mapping_set_large_folios(&raw mut (*raw).i_data);
        }
        // SAFETY: As above.
        let max = unsafe { bindings::mapping_max_order(&raw mut (*inode.as_ptr()).i_data) };
        let pages = size.div_ceil(1 << PAGE_SHIFT);
        // INVARIANT: `new_inode` gave us a reference and does not hash the inode.
        Ok(Self {
            inode,
            reader,
            size,
            begun: OnceFlag::default(),
            sequential: AtomicFlag::new(false),
            recent: RecentFolios::new(READ_ORDER.min(max).min(pages.max(1).ilog2())),
        })
    }

    /// Says whether what is behind the bytes that are asked for will be asked for next. Callers
    /// with different habits may share a mapping: what was said last counts.
    #[inline]
    pub fn set_sequential(&self, sequential: bool) {
        // The word is read by all processors: it is written only when it changes.
        if self.sequential.load(Relaxed) != sequential {
            self.sequential.store(sequential, Relaxed);
        }
    }

    /// Where the bytes come from.
    pub fn reader(&self) -> &R {
        &self.reader
    }

    /// Number of bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many pages are kept in memory to be at hand, of those that `shrink` is about.
    pub fn pages_at_hand(&self, shrink: &Shrink<'_>) -> usize {
        // SAFETY: `recent` holds folios.
        unsafe { bindings::count_recent_pages(self.recent.as_ptr(), shrink.as_ptr()) }
    }

    /// Keeps those pages no longer at hand, so that they can be reclaimed; returns how many.
    pub fn free_pages_at_hand(&self, shrink: &Shrink<'_>) -> usize {
        // SAFETY: `recent` holds folios of the mapping.
        unsafe {
            bindings::free_recent_pages(self.recent.as_ptr(), self.mapping(), shrink.as_ptr())
        }
    }

    /// Keeps no page at hand.
    fn forget_recent(&self) {
        // SAFETY: `recent` holds folios of the mapping.
        unsafe {
            bindings::free_recent_pages(self.recent.as_ptr(), self.mapping(), core::ptr::null());
        }
    }

    /// The bytes from `pos` to the end of the 4 KiB block that `pos` is in, or to the end of the
    /// source.
    ///
    /// # Errors
    ///
    /// `EIO` if `pos` is not before the end, else what the reader returned.
    pub fn bytes(&self, pos: u64) -> Result<Bytes<'_>> {
        let max = self.size.checked_sub(pos).filter(|n| *n > 0).ok_or(EIO)?;
        let index = c_ulong::try_from(pos >> PAGE_SHIFT).map_err(|_| EFBIG)?;
        let page = match self.find(index) {
            Some(page) => page,
            None => self.read(index)?,
        };
        Ok(page.bytes(pos, max))
    }

    fn mapping(&self) -> *mut bindings::address_space {
        // SAFETY: The inode is valid by the type invariants. This reads nothing.
        unsafe { &raw mut (*self.inode.as_ptr()).i_data }
    }

    /// Returns page `index` if it is in the page cache.
    #[inline]
    fn find(&self, index: c_ulong) -> Option<CachedPage> {
        let mut address = core::ptr::null_mut();
        // SAFETY: The mapping is valid, and `recent` holds folios. A folio of the mapping is in the
        // low memory by `inode_nohighmem`, and by the type invariants nobody writes to it.
        unsafe {
            let recent = self.recent.as_ptr();
            let folio = bindings::find_cache_folio(self.mapping(), recent, index, &raw mut address);
            CachedPage::new(folio, address)
        }
    }

    /// Reads page `index` and what is around it, or waits for who does.
    #[cold]
    fn read(&self, index: c_ulong) -> Result<CachedPage> {
        // It is there, but in small pieces, which cost a search each time.
        if self.recent.take_many_finds() && self.make_room(index, self.recent.whole()) {
            if let Ok(Some(page)) = self.read_order(index, self.recent.whole()) {
                return Ok(page);
            }
        }
        let mut limit = self.order(index);
        let mut has_made_room = false;
        loop {
            // SAFETY: The mapping is valid.
            let waited = unsafe { bindings::wait_cache_page(self.mapping(), index) };
            if waited < 0 {
                return Err(Error::from_errno(waited));
            }
            if let Some(page) = self.find(index) {
                return Ok(page);
            }
            // Who was waited for has failed: do not make the next one wait for as much again.
            if waited > 0 {
                limit = 0;
            }
            match self.read_order(index, limit) {
                Ok(Some(page)) => return Ok(page),
                // The page itself may have been added by another task; if not, a page around it.
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

    /// Decides how much to read for page `index`. Returns the order of the folio.
    fn order(&self, index: c_ulong) -> c_uint {
        if !self.begun.get() {
            self.begun.set();
            return 0;
        }
        let whole = self.recent.whole();
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

    /// Whether any of the `1 << order` pages from `first` on is in the page cache, or being filled.
    fn has_any(&self, first: c_ulong, order: c_uint) -> bool {
        let last = first | !(c_ulong::MAX << order);
        let pos = |index: c_ulong| i64::try_from(index << PAGE_SHIFT).unwrap_or(i64::MAX);
        // SAFETY: The mapping is valid.
        unsafe { bindings::filemap_range_has_page(self.mapping(), pos(first), pos(last)) }
    }

    /// Drops what is in the way of a folio of `1 << order` pages that has page `index`, waiting for
    /// nobody. Returns whether all is gone. Who uses what is dropped keeps it as long as needed.
    fn make_room(&self, index: c_ulong, order: c_uint) -> bool {
        let first = index & (c_ulong::MAX << order);
        let mut pages = first..=first | !(c_ulong::MAX << order);
        // SAFETY: The mapping is valid.
        pages.all(|index| unsafe { bindings::drop_cache_page(self.mapping(), index) })
    }

    /// Adds a folio of `1 << order` pages that has page `index` to the page cache, reads it, and
    /// returns that page. `None` if one of the pages is in the page cache already.
    fn read_order(&self, index: c_ulong, order: c_uint) -> Result<Option<CachedPage>> {
        let start = index & (c_ulong::MAX << order);
        let Some(mut folio) = FillingFolio::add(self.mapping(), start, order)? else {
            return Ok(None);
        };
        self.fill(
            u64::try_from(start).map_err(|_| EFBIG)? << PAGE_SHIFT,
            folio.memory(),
        )?;
        let folio = folio.finish();
        // SAFETY: The folio is up to date and has the page, and the reference is ours. It is in the
        // low memory, and by the type invariants nobody writes to it any more.
        let page = unsafe {
            bindings::set_recent_folio(self.recent.as_ptr(), folio.as_ptr());
            let address = bindings::folio_page_address(folio.as_ptr(), index);
            CachedPage::new(folio.as_ptr(), address)
        };
        page.ok_or(EIO).map(Some)
    }

    /// Fills `out` with the bytes from `pos` on, and with zeros after the end.
    fn fill(&self, pos: u64, out: &mut [MaybeUninit<u8>]) -> Result {
        let want = usize::try_from(self.size.saturating_sub(pos))
            .unwrap_or(usize::MAX)
            .min(out.len());
        let (head, tail) = out.split_at_mut_checked(want).ok_or(EIO)?;
        let mut head = Buffer::new(head);
        self.reader.read(pos, &mut head)?;
        // A source that has become shorter than it was at mount.
        if head.room() != 0 {
            return Err(EIO);
        }
        let zeros = tail.len();
        Buffer::new(tail).push_zeros(zeros);
        Ok(())
    }
}

/// How much is read at once at the most: 256 KiB.
const READ_ORDER: c_uint = bindings::READ_PAGES.ilog2();

/// How much is read at once where little was asked for: 16 KiB, or a page if that is more.
const READ_ORDER_MIN: c_uint = bindings::READ_PAGES_MIN.ilog2();

/// In how many places of 256 KiB there may be pages before all are read.
const PARTS_MAX: usize = 8;

/// A folio in a page cache that is being filled. Dropped without that, it is removed.
///
/// # Invariants
///
/// The folio is in `mapping`, locked, not up to date, and in the low memory. We own a reference to
/// it.
struct FillingFolio {
    mapping: *mut bindings::address_space,
    folio: NonNull<bindings::folio>,
}

impl FillingFolio {
    /// Allocates a folio of `1 << order` pages and adds it to `mapping` as that of page `start` and
    /// those behind it. `None` if one of those pages is there already.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn add(
        mapping: *mut bindings::address_space,
        start: c_ulong,
        order: c_uint,
    ) -> Result<Option<Self>> {
        // SAFETY: The mapping is that of a `PrivateMapping` and allows folios of this order.
        let folio = unsafe { bindings::alloc_cache_folio(mapping, order) };
        let folio = NonNull::new(folio).ok_or(ENOMEM)?;
        // SAFETY: The folio is ours alone, and its order fits `start`.
        let added = to_result(unsafe { bindings::add_cache_folio(mapping, folio.as_ptr(), start) });
        if let Err(e) = added {
            // SAFETY: The folio was not added, and the reference is ours.
            unsafe { bindings::folio_put(folio.as_ptr()) };
            return if e == EEXIST { Ok(None) } else { Err(e) };
        }
        // INVARIANT: It was added, which locks it and takes a reference besides ours.
        Ok(Some(Self { mapping, folio }))
    }

    /// The folio's memory, in which anything may be.
    fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: By the type invariants the folio's memory has an address, and nobody else reads
        // or writes what is locked and not up to date.
        unsafe {
            core::slice::from_raw_parts_mut(
                bindings::folio_address(self.folio.as_ptr()).cast(),
                bindings::folio_size(self.folio.as_ptr()),
            )
        }
    }

    /// Lets others read the folio, all of which has been filled. Returns the reference.
    fn finish(self) -> NonNull<bindings::folio> {
        let folio = core::mem::ManuallyDrop::new(self).folio;
        // SAFETY: The folio is locked and not up to date by the type invariants; this unlocks it.
        unsafe { bindings::folio_end_read(folio.as_ptr(), true) };
        folio
    }
}

impl Drop for FillingFolio {
    fn drop(&mut self) {
        let folio = self.folio.as_ptr();
        // SAFETY: The folio is in the mapping, and locked, by the type invariants. Those who wait
        // for the lock find that it is not there any more. The reference is ours.
        unsafe {
            bindings::generic_error_remove_folio(self.mapping, folio);
            bindings::folio_unlock(folio);
            bindings::folio_put(folio);
        }
    }
}

impl<R: Reader> Drop for PrivateMapping<R> {
    fn drop(&mut self) {
        self.forget_recent();
        // SAFETY: We hold a reference by the type invariants. The inode is not hashed, so that it
        // is evicted with all its folios when the last one is put; nothing in it points to us.
        unsafe { bindings::iput(self.inode.as_ptr()) };
    }
}

#[cfg(CONFIG_COMPOSEFS_FS_KUNIT_TEST)]
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

    /// Places around the bounds of blocks, folios and the size.
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
    fn bytes_are_there_as_long_as_they_are_borrowed() -> Result {
        let mount = Mount::new()?;
        let Some(mapping) = mount.sb().data().mappings.last() else {
            return Err(EINVAL);
        };
        let mut held = KVec::new();
        for pos in (1..mapping.size()).step_by(4096) {
            held.push((pos, mapping.bytes(pos)?), GFP_KERNEL)?;
        }
        // What memory pressure would do.
        mapping.forget_recent();
        // SAFETY: The mapping is valid.
        unsafe { bindings::invalidate_mapping_pages(mapping.mapping(), 0, c_ulong::MAX) };
        for (pos, bytes) in &held {
            ensure!(bytes.iter().zip(*pos..).all(|(b, p)| *b == Pattern::at(p)));
        }
        Ok(())
    }
}
