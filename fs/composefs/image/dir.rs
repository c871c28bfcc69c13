// SPDX-License-Identifier: GPL-2.0

//! Directories: lookup and iteration.
//!
//! A directory is a sequence of blocks. A block has an array of entries, then their names. The
//! entries of a block are sorted by name, and so are the blocks.

use core::{
    cmp::Ordering,
    ops::ControlFlow, //
};

use zerocopy::{
    little_endian::{
        U16,
        U64, //
    },
    FromBytes as _, //
};
use zerocopy_derive::{
    FromBytes,
    Immutable,
    KnownLayout,
    Unaligned, //
};

use super::{
    block_offset,
    block_start,
    name,
    reader::BlockReader,
    to_u64,
    to_usize,
    Corrupt,
    Error,
    FileType,
    Image,
    InodeLayout,
    Source,
    BLOCK_SIZE,
    NAME_LEN, //
};

/// Size of an entry without its name, in bytes.
const DIRENT_SIZE: u64 = 12;

/// An entry without its name.
///
/// C header: `fs/erofs/erofs_fs.h`: `struct erofs_dirent`
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawDirent {
    nid: U64,
    nameoff: U16,
    file_type: u8,
    _reserved: u8,
}

const _: () = assert!(size_of::<RawDirent>() == 12);

/// Number of entries that [`Image::block_leads_to`] compares at once.
const GROUP: usize = 8;

impl RawDirent {
    /// Whether it is an entry of the inode `nid`.
    #[inline]
    fn is(&self, nid: u64) -> bool {
        self.nid.get() == nid
    }

    /// Returns the offset of the name in its block.
    #[inline]
    fn start(&self) -> usize {
        usize::from(self.nameoff.get())
    }
}

/// An entry of a directory.
#[derive(Clone, Copy, Debug)]
pub struct Dirent<'a> {
    /// The name: 1 to 255 bytes without NUL and slash. `.` and `..` are entries too.
    pub name: &'a [u8],
    /// Inode number, as stored.
    pub nid: u64,
    /// Type of the file in the entry. The inode may have another type.
    pub file_type: FileType,
    /// Cookie of this entry: its byte offset in the directory.
    pub pos: u64,
}

/// The result of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Inode number, as stored.
    pub nid: u64,
    /// Type of the file in the entry. The inode may have another type.
    pub file_type: FileType,
    /// Number of the directory's block that the entry is in.
    pub block: u64,
}

/// What earlier lookups in a directory have learned: see [`Image::lookup_with_hint`].
#[derive(Clone, Copy, Debug, Default)]
pub struct LookupHint {
    /// Cookie of the position behind the entry that was found last, 0 if there is none. Any other
    /// value is safe: it only makes the lookup slower.
    pub next: u64,
    /// Number of blocks at the start of the directory that were checked to be in order, within and
    /// among them. [`Self::UNORDERED`] if a block was found to be out of order. A value that no
    /// lookup has stored makes lookups miss names.
    pub ordered: u32,
}

impl LookupHint {
    /// Value of [`Self::ordered`] for a directory that is not in order.
    pub const UNORDERED: u32 = u32::MAX;

    /// Returns the number of blocks that are known to be in order.
    #[inline]
    fn known(&self) -> u64 {
        match self.ordered {
            Self::UNORDERED => 0,
            blocks => u64::from(blocks),
        }
    }
}

/// A block of a directory. The array of entries was checked to be within the block; the entries
/// themselves were not checked.
struct Block<'b> {
    /// Position in the image, for messages.
    pos: u64,
    bytes: &'b [u8],
    dirents: &'b [RawDirent],
    /// Offset of the end of the entries, where the names start.
    names: usize,
}

impl<'b> Block<'b> {
    /// `bytes` is the block, up to the end of the directory.
    fn new(bytes: &'b [u8], pos: u64) -> Result<Self, Corrupt> {
        let corrupt = || Corrupt::new("dirent: first nameoff is invalid", pos);
        let (first, _) = RawDirent::ref_from_prefix(bytes).map_err(|_| corrupt())?;
        let names = usize::from(first.nameoff.get());
        let dirents = bytes.get(..names).ok_or_else(corrupt)?;
        let dirents = <[RawDirent]>::ref_from_bytes(dirents).map_err(|_| corrupt())?;
        if dirents.is_empty() {
            return Err(corrupt());
        }
        Ok(Self {
            pos,
            bytes,
            dirents,
            names,
        })
    }

    /// Returns the name of `dirent`, which is entry `index`: 1 to 255 bytes of any value.
    #[inline]
    fn name(&self, index: usize, dirent: &RawDirent) -> Result<&'b [u8], Corrupt> {
        let end = match self.dirents.get(index.saturating_add(1)) {
            Some(next) => next.start(),
            None => self.last_end(dirent),
        };
        self.name_at(dirent.start(), end)
    }

    /// Returns the name from `start` to `end`, if these are valid.
    #[inline]
    fn name_at(&self, start: usize, end: usize) -> Result<&'b [u8], Corrupt> {
        match self.bytes.get(start..end) {
            Some(name) if (1..=NAME_LEN).contains(&name.len()) && start >= self.names => Ok(name),
            _ => Err(self.bad_name()),
        }
    }

    /// As [`Self::name_at`], but the name must have neither a NUL nor a slash.
    #[cold]
    fn clean_name_at(&self, start: usize, end: usize) -> Result<&'b [u8], Corrupt> {
        let name = self.name_at(start, end)?;
        if !name::is_clean(name) {
            return Err(Corrupt::new("dirent: name has a NUL or a slash", self.pos));
        }
        Ok(name)
    }

    #[cold]
    fn bad_name(&self) -> Corrupt {
        Corrupt::new("dirent: nameoff is invalid", self.pos)
    }

    /// Returns the end of the name of `last`, the last entry. Only this name may be followed by
    /// padding.
    fn last_end(&self, last: &RawDirent) -> usize {
        let rest = self.bytes.get(last.start()..).unwrap_or_default();
        // One byte more than a name may have is enough to see that it is too long.
        let name = name::until_nul(rest.get(..=NAME_LEN).unwrap_or(rest));
        last.start().saturating_add(name.len())
    }

    /// Returns entry `index` and its number, if it exists and its name is `name`.
    fn at(&self, name: &[u8], index: usize) -> Result<Option<(&RawDirent, usize)>, Corrupt> {
        match self.dirents.get(index) {
            Some(dirent) if name::compare(name, self.name(index, dirent)?).is_eq() => {
                Ok(Some((dirent, index)))
            }
            _ => Ok(None),
        }
    }

    /// Compares `name` with that of entry `index`, which must exist.
    fn compare(&self, name: &[u8], index: usize) -> Result<Ordering, Corrupt> {
        match self.dirents.get(index) {
            Some(dirent) => Ok(name::compare(name, self.name(index, dirent)?)),
            None => Ok(Ordering::Less),
        }
    }

    /// Returns the cookie of the position behind entry `index`. `number` is the number of this
    /// block.
    fn next(&self, number: u64, index: usize) -> u64 {
        let start = number.saturating_mul(BLOCK_SIZE);
        match index.saturating_add(1) {
            next if next < self.dirents.len() => {
                start.saturating_add(to_u64(next).saturating_mul(DIRENT_SIZE))
            }
            _ => start.saturating_add(BLOCK_SIZE),
        }
    }

    /// Compares `name` with the first and last entry: is it before, in or after this block?
    fn side(&self, name: &[u8]) -> Result<Ordering, Corrupt> {
        if self.compare(name, 0)? == Ordering::Less {
            Ok(Ordering::Less)
        } else if self.compare(name, self.dirents.len().saturating_sub(1))? == Ordering::Greater {
            Ok(Ordering::Greater)
        } else {
            Ok(Ordering::Equal)
        }
    }

    /// Searches the block for `name`. Returns the entry and its number.
    fn search(&self, name: &[u8]) -> Result<Option<(&RawDirent, usize)>, Corrupt> {
        let mut range = 0..self.dirents.len();
        // Each step removes half of the entries from the range, and at least one.
        while !range.is_empty() {
            let middle = usize::midpoint(range.start, range.end);
            let Some(dirent) = self.dirents.get(middle) else {
                break;
            };
            match name::compare(name, self.name(middle, dirent)?) {
                Ordering::Less => range.end = middle,
                Ordering::Greater => range.start = middle.saturating_add(1),
                Ordering::Equal => return Ok(Some((dirent, middle))),
            }
        }
        Ok(None)
    }

    /// Whether each name is greater than the one before it. `before` is the last name of the block
    /// before this one.
    fn is_ordered(&self, before: &[u8]) -> Result<bool, Corrupt> {
        let mut before = before;
        for (index, dirent) in self.dirents.iter().enumerate() {
            let name = self.name(index, dirent)?;
            if name::compare(before, name).is_ge() {
                return Ok(false);
            }
            before = name;
        }
        Ok(true)
    }

    /// Returns the last name.
    fn last_name(&self) -> Result<&'b [u8], Corrupt> {
        match self.dirents.last() {
            Some(last) => self.name_at(last.start(), self.last_end(last)),
            None => Err(self.bad_name()),
        }
    }
}

/// Names of a block, checked in one go to have neither a NUL nor a slash. In a valid block they are
/// adjacent. Checking each name by itself takes three times as long.
struct CleanNames<'b> {
    /// The block up to the end of the last name. Empty if a name is not clean.
    bytes: &'b [u8],
    /// Offset of the end of the last name.
    end: usize,
}

impl<'b> CleanNames<'b> {
    /// Checks the names of `dirents`, which must be the last entries of the block.
    fn new(block: &Block<'b>, dirents: &[RawDirent]) -> Self {
        let (Some(first), Some(last)) = (dirents.first(), dirents.last()) else {
            return Self { bytes: &[], end: 0 };
        };
        let is_clean = |bytes: &[u8]| {
            let names = bytes.get(first.start()..).unwrap_or(&[0]);
            first.start() >= block.names && name::is_clean(names)
        };
        // Without padding, the last name ends with the block.
        if block.bytes.last() != Some(&0) && is_clean(block.bytes) {
            return Self {
                bytes: block.bytes,
                end: block.bytes.len(),
            };
        }
        let end = block.last_end(last);
        let bytes = block.bytes.get(..end).filter(|bytes| is_clean(bytes));
        Self {
            bytes: bytes.unwrap_or_default(),
            end,
        }
    }

    /// Returns the name from `start` to `end`, if it was checked. `start` must be the start of the
    /// first name or the end of another one.
    #[inline]
    fn name(&self, start: usize, end: usize) -> Option<&'b [u8]> {
        let name = self.bytes.get(start..end);
        name.filter(|name| (1..=NAME_LEN).contains(&name.len()))
    }
}

impl<S: Source> Image<S> {
    /// Returns position, bytes and length of block `number` of a directory. There may be more bytes
    /// than the length.
    fn dir_block(
        &self,
        dir: &InodeLayout,
        number: u64,
    ) -> Result<(u64, S::Run<'_>, usize), Error<S::Error>> {
        let offset = number.saturating_mul(BLOCK_SIZE);
        let extent = dir.extent(offset)?;
        let len = to_usize(extent.len.min(BLOCK_SIZE));
        let run = self.run(extent.pos)?;
        Ok((extent.pos, run, len))
    }

    /// Searches the directory `dir` for `name`. Whiteouts are found as well: see
    /// [`super::DiskInode::is_whiteout`].
    ///
    /// In a directory whose entries are out of order, the search may miss a name. It gives the same
    /// result each time.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if an entry that the search reads is invalid.
    ///
    /// C header: `fs/erofs/namei.c`: `erofs_namei()`
    pub fn lookup(&self, dir: &InodeLayout, name: &[u8]) -> Result<Option<Found>, Error<S::Error>> {
        self.lookup_with_hint(dir, name, &mut LookupHint::default())
    }

    /// As [`Self::lookup`], with the same result, but starts from what earlier lookups have
    /// learned. If names are looked up in the order in which [`Self::read_dir`] returns them, each
    /// is found by one comparison.
    ///
    /// In a directory that is out of order, a search from the last position may find a name that
    /// [`Self::lookup`] misses. So a search starts at the last position only if all blocks are
    /// known to be in order. Each lookup of the name behind the last one checks one more block, so
    /// that a program that stops early does not cause the whole directory to be read.
    ///
    /// # Errors
    ///
    /// As [`Self::lookup`].
    pub fn lookup_with_hint(
        &self,
        dir: &InodeLayout,
        name: &[u8],
        hint: &mut LookupHint,
    ) -> Result<Option<Found>, Error<S::Error>> {
        let blocks = dir.size().div_ceil(BLOCK_SIZE);
        let known = hint.known();
        let next = (
            hint.next / BLOCK_SIZE,
            to_usize(block_offset(hint.next) / DIRENT_SIZE),
        );
        let mut range = 0..blocks;
        let mut first = (known >= blocks && next.0 < blocks).then_some(next.0);
        // Each step removes at least one block from the range, and all but the first remove half.
        while !range.is_empty() {
            let middle = match first.take() {
                Some(number) => number,
                None => u64::midpoint(range.start, range.end),
            };
            let (pos, run, len) = self.dir_block(dir, middle)?;
            let block = Block::new(slice(&run, len, pos)?, pos)?;
            // In a block that is in order, any way of finding the entry gives the same result.
            let found = if middle == next.0 && middle < known {
                block.at(name, next.1)?
            } else {
                None
            };
            // The last block of the range is searched without comparing its ends first.
            let found = match found {
                Some(_) => found,
                None if range.end.saturating_sub(range.start) == 1 => block.search(name)?,
                None => match block.side(name)? {
                    Ordering::Less => {
                        range.end = middle;
                        continue;
                    }
                    Ordering::Greater => {
                        range.start = middle.saturating_add(1);
                        continue;
                    }
                    Ordering::Equal => block.search(name)?,
                },
            };
            let Some((dirent, index)) = found else {
                return Ok(None);
            };
            let found = Found {
                nid: dirent.nid.get(),
                file_type: FileType::of_raw(dirent.file_type),
                block: middle,
            };
            let is_next = hint.next != 0 && (middle, index) == next;
            hint.next = block.next(middle, index);
            if is_next && known < blocks {
                self.learn(dir, hint);
            }
            return Ok(Some(found));
        }
        Ok(None)
    }

    /// Checks whether one more block is in order.
    #[cold]
    fn learn(&self, dir: &InodeLayout, hint: &mut LookupHint) {
        if hint.ordered == LookupHint::UNORDERED {
            return;
        }
        match self.is_ordered(dir, hint.known()) {
            Ok(true) => hint.ordered = hint.ordered.saturating_add(1),
            Ok(false) | Err(Error::Corrupt(_)) => hint.ordered = LookupHint::UNORDERED,
            // The lookup itself has succeeded.
            Err(Error::Source(_)) => (),
        }
    }

    /// Whether the entries of block `number` are in order, and greater than those of the block
    /// before it.
    fn is_ordered(&self, dir: &InodeLayout, number: u64) -> Result<bool, Error<S::Error>> {
        let (pos, run, len) = self.dir_block(dir, number)?;
        let block = Block::new(slice(&run, len, pos)?, pos)?;
        let Some(number) = number.checked_sub(1) else {
            return Ok(block.is_ordered(&[])?);
        };
        let (pos, run, len) = self.dir_block(dir, number)?;
        let before = Block::new(slice(&run, len, pos)?, pos)?;
        Ok(block.is_ordered(before.last_name()?)?)
    }

    /// Whether an entry of block `number` of the directory `dir`, except `.` and `..`, has the
    /// inode
    /// `nid`. Reads no other block.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the block does not exist or is invalid.
    pub fn block_leads_to(
        &self,
        dir: &InodeLayout,
        number: u64,
        nid: u64,
    ) -> Result<bool, Error<S::Error>> {
        let (pos, run, len) = self.dir_block(dir, number)?;
        let block = Block::new(slice(&run, len, pos)?, pos)?;
        // Whole groups take fewer branches than single entries, and most have no such entry.
        let groups = block.dirents.chunks_exact(GROUP);
        let is_in = |group: &&[RawDirent]| group.iter().fold(false, |any, at| any | at.is(nid));
        let without = groups.take_while(|group| !is_in(group)).count();
        let first = without.saturating_mul(GROUP);
        // A block has 341 entries at most.
        for (index, dirent) in block.dirents.iter().enumerate().skip(first) {
            if !dirent.is(nid) {
                continue;
            }
            let name = block.name(index, dirent)?;
            if !matches!(name, b"." | b"..") && name::is_clean(name) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Calls `emit` for each entry of the directory `dir` from the cookie `pos` on, until it
    /// returns `Break`. `pos` may be any number and is rounded up to an entry. Whiteouts are
    /// skipped.
    ///
    /// On return `pos` is the cookie to continue from: of the entry for which `emit` returned
    /// `Break`, of the entry or block with an error, or the size of the directory at its end.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if an entry is invalid. The entries before it were emitted.
    ///
    /// C header: `fs/erofs/dir.c`: `erofs_readdir()`
    pub fn read_dir(
        &self,
        dir: &InodeLayout,
        pos: &mut u64,
        mut emit: impl FnMut(Dirent<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error<S::Error>> {
        let mut inodes = BlockReader::new(self);
        while *pos < dir.size() {
            let start = block_start(*pos);
            let (at, run, len) = self.dir_block(dir, start / BLOCK_SIZE)?;
            let block = Block::new(slice(&run, len, at)?, at)?;
            let index = block_offset(*pos).div_ceil(DIRENT_SIZE);
            *pos = start.saturating_add(index.saturating_mul(DIRENT_SIZE));
            let mut rest = block.dirents.get(to_usize(index)..).unwrap_or_default();
            let clean = CleanNames::new(&block, rest);
            let mut name_start = rest.first().map_or(0, RawDirent::start);
            // A block has at most 341 entries.
            while let Some((dirent, behind)) = rest.split_first() {
                let start = name_start;
                let end = behind.first().map_or(clean.end, RawDirent::start);
                let name = match clean.name(start, end) {
                    Some(name) => name,
                    None => block.clean_name_at(start, end)?,
                };
                let nid = dirent.nid.get();
                let file_type = FileType::of_raw(dirent.file_type);
                // Only a character device can be a whiteout: only these need a look at the inode.
                if file_type != FileType::CharDevice || !Self::is_whiteout(&mut inodes, nid)? {
                    let entry = Dirent {
                        name,
                        nid,
                        file_type,
                        pos: *pos,
                    };
                    if emit(entry).is_break() {
                        return Ok(());
                    }
                }
                rest = behind;
                // Names are not empty, so the next one starts behind this one.
                name_start = end;
                // OVERFLOW: Cannot happen: the sum is within the directory.
                *pos = pos.wrapping_add(DIRENT_SIZE);
            }
            *pos = start.saturating_add(to_u64(len));
        }
        Ok(())
    }

    /// Returns the inode number of the parent of the directory `dir`.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the directory has no valid entry `..`.
    pub fn parent(&self, dir: &InodeLayout) -> Result<u64, Error<S::Error>> {
        match self.lookup(dir, b"..")? {
            Some(found) => Ok(found.nid),
            None => Err(Corrupt::new("directory has no entry '..'", dir.pos()?).into()),
        }
    }
}

/// Returns the first `len` bytes of `run`, which is at `pos`.
fn slice(run: &[u8], len: usize, pos: u64) -> Result<&[u8], Corrupt> {
    run.get(..len)
        .ok_or(Corrupt::new("directory crosses the end of the image", pos))
}
