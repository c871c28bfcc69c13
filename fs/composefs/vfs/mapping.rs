// SPDX-License-Identifier: GPL-2.0

//! A page cache that only we fill and only we read.
//!
//! A file's own page cache can be written to by others while we read it, so a `&[u8]` over it
//! would be unsound, and a check of its bytes worthless by the time they are used.
//! [`PrivateMapping`] is the page cache of an inode that no name and no file leads to: nobody maps
//! it, splices it or writes to it. A folio is filled before it is added, and never again; under
//! memory pressure it is dropped like any other.
//!
//! A read brings in what is around the bytes that were asked for as well: metadata that belong
//! together are close to each other in an image, and one read of 256 KiB costs a disk hardly more
//! than one of 4 KiB. If that fails, only the page itself is read, so that an error is never about
//! bytes that nobody asked for. The very first read is of one page: it is that of a mount, and many
//! images are mounted long before they are used.

use super::{
    bindings,
    buffer::Buffer,
    folio::{
        Bytes,
        CachedPage, //
    },
    internal,
    once::Flag, //
};
use core::{
    mem::MaybeUninit,
    ptr::NonNull, //
};
use kernel::{
    error::to_result,
    page::PAGE_SHIFT,
    prelude::*,
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
/// `inode` is an inode of our own to which we hold the only reference; it is not hashed, and its
/// mapping holds only folios that [`Self::read`] put there.
pub struct PrivateMapping<R: Reader> {
    inode: NonNull<bindings::inode>,
    reader: R,
    size: u64,
    /// Whether anything has been read yet.
    begun: Flag,
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
/// take them all change them, atomically.
#[repr(transparent)]
struct RecentFolios(Opaque<[*mut bindings::folio; RECENT_FOLIOS]>);

/// As the C functions expect.
const RECENT_FOLIOS: usize = bindings::RECENT_FOLIOS;

impl RecentFolios {
    fn new() -> Self {
        // INVARIANT: All are null.
        Self(Opaque::new([core::ptr::null_mut(); RECENT_FOLIOS]))
    }

    fn as_ptr(&self) -> *mut *mut bindings::folio {
        self.0.get().cast()
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
        let inode = internal::new_inode()?;
        // SAFETY: The inode is new, so nobody else looks at its fields. `i_mapping` of a new inode
        // points to its own `i_data`.
        unsafe {
            let raw = inode.as_ptr();
            (*raw).i_mode = bindings::MODE_REGULAR;
            bindings::set_nlink(raw, 1);
            bindings::i_size_write(raw, i_size);
            bindings::inode_nohighmem(raw);
            bindings::mapping_set_large_folios(&raw mut (*raw).i_data);
        }
        // INVARIANT: `new_inode` gave us the only reference and does not hash the inode.
        Ok(Self {
            inode,
            reader,
            size,
            begun: Flag::default(),
            recent: RecentFolios::new(),
        })
    }

    /// Where the bytes come from.
    pub fn reader(&self) -> &R {
        &self.reader
    }

    /// Number of bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many pages are kept in memory to be at hand.
    pub fn pages_at_hand(&self) -> usize {
        // SAFETY: `recent` holds folios.
        unsafe { bindings::count_recent_pages(self.recent.as_ptr()) }
    }

    /// Frees the pages that are kept to be at hand; returns how many.
    pub fn free_pages_at_hand(&self) -> usize {
        // SAFETY: `recent` holds folios of the mapping.
        unsafe { bindings::free_recent_pages(self.recent.as_ptr(), self.mapping()) }
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

    /// Reads page `index` and what is around it.
    #[cold]
    fn read(&self, index: c_ulong) -> Result<CachedPage> {
        // SAFETY: The mapping is valid.
        let max = unsafe { bindings::mapping_max_order(self.mapping()) };
        let pages = self.size.div_ceil(1 << PAGE_SHIFT);
        let mut order = match self.begun.get() {
            true => READ_ORDER.min(max).min(pages.max(1).ilog2()),
            false => 0,
        };
        self.begun.set();
        loop {
            match self.read_order(index, order) {
                Ok(page) => return Ok(page),
                Err(e) if order == 0 && e != EEXIST => return Err(e),
                // Another one may have read it meanwhile, or only a part of what is around it.
                Err(e) if e == EEXIST => {
                    if let Some(page) = self.find(index) {
                        return Ok(page);
                    }
                    order = order.saturating_sub(1);
                }
                Err(_) => order = 0,
            }
        }
    }

    /// Reads a folio of `1 << order` pages that has page `index`, adds it to the page cache, and
    /// returns that page.
    fn read_order(&self, index: c_ulong, order: c_uint) -> Result<CachedPage> {
        let start = index & (c_ulong::MAX << order);
        // SAFETY: The mapping is valid and allows folios of this order.
        let folio = unsafe { bindings::alloc_cache_folio(self.mapping(), order) };
        let mut folio = UnsharedFolio(NonNull::new(folio).ok_or(ENOMEM)?);
        self.fill(
            u64::try_from(start).map_err(|_| EFBIG)? << PAGE_SHIFT,
            folio.memory(),
        )?;
        let folio = folio.share();
        let add = || {
            // SAFETY: The folio is ours alone and filled; its order fits `start`. The function adds
            // a reference, so that ours stays.
            to_result(unsafe { bindings::add_cache_folio(self.mapping(), folio.as_ptr(), start) })
        };
        let mut result = add();
        if result == Err(EEXIST) && self.find(index).is_none() {
            let last = start | !(c_ulong::MAX << order);
            // A page around it was read by itself. Who uses that keeps it as long as needed.
            // SAFETY: The mapping is valid.
            unsafe { bindings::invalidate_inode_pages2_range(self.mapping(), start, last) };
            result = add();
        }
        if let Err(e) = result {
            // SAFETY: The folio was not added, and the reference is ours.
            unsafe { bindings::folio_put(folio.as_ptr()) };
            return Err(e);
        }
        // SAFETY: The folio has the page, and the reference is ours. It is in the low memory, and
        // by the type invariants nobody writes to it any more.
        let page = unsafe {
            let address = bindings::folio_page_address(folio.as_ptr(), index);
            CachedPage::new(folio.as_ptr(), address)
        };
        page.ok_or(EIO)
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

/// A folio that is in no page cache yet.
///
/// # Invariants
///
/// We own the only reference to it, and it is in the low memory.
struct UnsharedFolio(NonNull<bindings::folio>);

impl UnsharedFolio {
    /// The folio's memory, in which anything may be.
    fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: By the type invariants the folio's memory has an address and is ours alone.
        unsafe {
            core::slice::from_raw_parts_mut(
                bindings::folio_address(self.0.as_ptr()).cast(),
                bindings::folio_size(self.0.as_ptr()),
            )
        }
    }

    /// Gives up the knowledge that it is ours alone, but not the reference.
    fn share(self) -> NonNull<bindings::folio> {
        core::mem::ManuallyDrop::new(self).0
    }
}

impl Drop for UnsharedFolio {
    fn drop(&mut self) {
        // SAFETY: We own the reference by the type invariants.
        unsafe { bindings::folio_put(self.0.as_ptr()) };
    }
}

impl<R: Reader> Drop for PrivateMapping<R> {
    fn drop(&mut self) {
        self.free_pages_at_hand();
        // SAFETY: By the type invariants we hold the last reference; the inode is not hashed, so
        // it is evicted here with all its folios.
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
        mapping.free_pages_at_hand();
        ensure!(mapping.pages_at_hand() == 0);
        // SAFETY: The mapping is valid.
        unsafe { bindings::invalidate_mapping_pages(mapping.mapping(), 0, c_ulong::MAX) };
        for (pos, bytes) in &held {
            ensure!(bytes.iter().zip(*pos..).all(|(b, p)| *b == Pattern::at(p)));
        }
        Ok(())
    }
}
