// SPDX-License-Identifier: GPL-2.0

//! Directories.
//!
//! A directory is a sequence of blocks, each an array of entries sorted by name and then the
//! names. Blocks are sorted too.

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

impl RawDirent {
    /// Where in its block the name starts.
    #[inline]
    fn start(&self) -> usize {
        usize::from(self.nameoff.get())
    }
}

/// An entry of a directory.
#[derive(Clone, Copy, Debug)]
pub struct Dirent<'a> {
    /// The name: 1 to 255 bytes, none of them NUL or a slash. `.` and `..` are entries too.
    pub name: &'a [u8],
    /// DiskInode number, as stored.
    pub nid: u64,
    /// Type of the file, as the entry says; the inode may differ.
    pub file_type: FileType,
    /// Cookie to start from at this entry: byte offset of the entry in the directory's data.
    pub pos: u64,
}

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// DiskInode number, as stored.
    pub nid: u64,
    /// Type of the file, as the entry says; the inode may differ.
    pub file_type: FileType,
    /// Number of the directory's block that the entry is in.
    pub block: u64,
}

/// What lookups in a directory have learned for those that follow: see [`Image::lookup_with_hint`].
#[derive(Clone, Copy, Debug, Default)]
pub struct LookupHint {
    /// Cookie of the entry behind the one that was found last, or of where one would be. 0 if none
    /// was. May be any number.
    pub next: u64,
    /// How many of the directory's blocks, from the first one on, were seen to be in order, names
    /// and all. [`Self::UNORDERED`] if one was seen not to be. Another number than one that was
    /// learned makes lookups miss names.
    pub ordered: u32,
}

impl LookupHint {
    /// What [`Self::ordered`] is of a directory that is not in order.
    pub const UNORDERED: u32 = u32::MAX;

    /// Says how many blocks are known to be in order.
    #[inline]
    fn known(&self) -> u64 {
        match self.ordered {
            Self::UNORDERED => 0,
            blocks => u64::from(blocks),
        }
    }
}

/// A directory's block, of which no more than the number of entries is known to be right.
struct Block<'b> {
    /// Position in the image, for messages.
    pos: u64,
    bytes: &'b [u8],
    dirents: &'b [RawDirent],
    /// Where the entries end and the names start.
    names: usize,
}

impl<'b> Block<'b> {
    /// `bytes` ends at the end of the block or of the directory.
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

    /// Returns the name of entry `index`, which is `dirent`: 1 to 255 bytes, of any value.
    #[inline]
    fn name(&self, index: usize, dirent: &RawDirent) -> Result<&'b [u8], Corrupt> {
        let end = match self.dirents.get(index.saturating_add(1)) {
            Some(next) => next.start(),
            None => self.last_end(dirent),
        };
        self.name_at(dirent.start(), end)
    }

    /// Returns the name from `start` to `end`, if that is one.
    #[inline]
    fn name_at(&self, start: usize, end: usize) -> Result<&'b [u8], Corrupt> {
        match self.bytes.get(start..end) {
            Some(name) if (1..=NAME_LEN).contains(&name.len()) && start >= self.names => Ok(name),
            _ => Err(self.bad_name()),
        }
    }

    /// As [`Self::name_at`], of a name that must have neither a NUL nor a slash.
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

    /// Returns where the name of `last`, the last entry, ends. It is the only one that may be
    /// followed by padding.
    fn last_end(&self, last: &RawDirent) -> usize {
        let rest = self.bytes.get(last.start()..).unwrap_or_default();
        // One byte more than a name may have is enough to see that it is none.
        let name = name::until_nul(rest.get(..=NAME_LEN).unwrap_or(rest));
        last.start().saturating_add(name.len())
    }

    /// Returns entry `index` and its number, if there is one and its name is `name`.
    fn at(&self, name: &[u8], index: usize) -> Result<Option<(&RawDirent, usize)>, Corrupt> {
        match self.dirents.get(index) {
            Some(dirent) if name::compare(name, self.name(index, dirent)?).is_eq() => {
                Ok(Some((dirent, index)))
            }
            _ => Ok(None),
        }
    }

    /// Compares `name` with that of entry `index`. There is such an entry, or the result is
    /// arbitrary.
    fn compare(&self, name: &[u8], index: usize) -> Result<Ordering, Corrupt> {
        match self.dirents.get(index) {
            Some(dirent) => Ok(name::compare(name, self.name(index, dirent)?)),
            None => Ok(Ordering::Less),
        }
    }

    /// Returns the cookie of what follows entry `index`, if this is the directory's block `number`.
    fn next(&self, number: u64, index: usize) -> u64 {
        let start = number.saturating_mul(BLOCK_SIZE);
        match index.saturating_add(1) {
            next if next < self.dirents.len() => {
                start.saturating_add(to_u64(next).saturating_mul(DIRENT_SIZE))
            }
            _ => start.saturating_add(BLOCK_SIZE),
        }
    }

    /// Says whether `name` is before, in or after this block, by its first and last entry.
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
        // Each step takes half of the entries from the range, and at least one.
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

    /// Says whether each name is behind the one before it. `before` is the last one of the block
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

/// The names of a block that were found to have neither a NUL nor a slash, all at once. Those of a
/// block that is right are one behind the other, and to look at each takes three times as long.
struct CleanNames<'b> {
    /// The block up to the end of the last one; nothing if one is not as it must be.
    bytes: &'b [u8],
    /// Where the last one ends.
    end: usize,
}

impl<'b> CleanNames<'b> {
    /// Looks at the names of `dirents`, which are the last ones of the block.
    fn new(block: &Block<'b>, dirents: &[RawDirent]) -> Self {
        let (Some(first), Some(last)) = (dirents.first(), dirents.last()) else {
            return Self { bytes: &[], end: 0 };
        };
        let is_clean = |bytes: &[u8]| {
            let names = bytes.get(first.start()..).unwrap_or(&[0]);
            first.start() >= block.names && name::is_clean(names)
        };
        // Where there is no padding, the last one ends with the block.
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

    /// Returns the name from `start` to `end`, if it is one of these. `start` is where the first
    /// one starts, or where a name before it ends.
    #[inline]
    fn name(&self, start: usize, end: usize) -> Option<&'b [u8]> {
        let name = self.bytes.get(start..end);
        name.filter(|name| (1..=NAME_LEN).contains(&name.len()))
    }
}

impl<S: Source> Image<S> {
    /// Returns position, bytes and length of a directory's block `number`. The bytes are at least
    /// as many as the length.
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

    /// Searches the directory `dir` for `name`. One whose inode is a whiteout is found: see
    /// [`super::DiskInode::is_whiteout`].
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] where the entries that are looked at are not as they must be. `None` is
    /// no guess where entries are in their order; where they are not, a name may be found or not,
    /// as the search goes. It always goes the same way.
    ///
    /// C header: `fs/erofs/namei.c`: `erofs_namei()`
    pub fn lookup(&self, dir: &InodeLayout, name: &[u8]) -> Result<Option<Found>, Error<S::Error>> {
        self.lookup_with_hint(dir, name, &mut LookupHint::default())
    }

    /// As [`Self::lookup`], and with the same result, but learns from one lookup for the next. Who
    /// looks up one name after the other, in the order in which [`Self::read_dir`] gives them,
    /// finds each with one comparison.
    ///
    /// In a directory that is out of order, a name that is found where the last lookup has ended
    /// is not found by one that begins elsewhere. So a search begins there only once all blocks
    /// are known to be in order. Each lookup of a name behind the last one looks at one block
    /// more: who stops soon has not caused much to be read.
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
        // Each step takes at least one block from the range, and all but the first one half.
        while !range.is_empty() {
            let middle = match first.take() {
                Some(number) => number,
                None => u64::midpoint(range.start, range.end),
            };
            let (pos, run, len) = self.dir_block(dir, middle)?;
            let block = Block::new(slice(&run, len, pos)?, pos)?;
            // Where this block is in order, it does not matter how the entry is found.
            let found = if middle == next.0 && middle < known {
                block.at(name, next.1)?
            } else {
                None
            };
            // The last block that is left needs no more questions.
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

    /// Finds out whether one block more is in order.
    #[cold]
    fn learn(&self, dir: &InodeLayout, hint: &mut LookupHint) {
        if hint.ordered == LookupHint::UNORDERED {
            return;
        }
        match self.is_ordered(dir, hint.known()) {
            Ok(true) => hint.ordered = hint.ordered.saturating_add(1),
            Ok(false) | Err(Error::Corrupt(_)) => hint.ordered = LookupHint::UNORDERED,
            // The lookup itself went well.
            Err(Error::Source(_)) => (),
        }
    }

    /// Says whether the entries of block `number` are in order, and behind those of the block
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

    /// Says whether a name in block `number` of the directory `dir` leads to the inode `nid`. `.`
    /// and `..` do not count. It does not matter what the other blocks hold.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] where there is no such block, or it is not as it must be.
    pub fn block_leads_to(
        &self,
        dir: &InodeLayout,
        number: u64,
        nid: u64,
    ) -> Result<bool, Error<S::Error>> {
        let (pos, run, len) = self.dir_block(dir, number)?;
        let block = Block::new(slice(&run, len, pos)?, pos)?;
        // A block has 341 entries at most.
        for (index, dirent) in block.dirents.iter().enumerate() {
            if dirent.nid.get() != nid {
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
    /// returns `Break`. `pos` may be any number; it is rounded up to an entry. Whiteouts are left
    /// out.
    ///
    /// On return `pos` is the cookie to continue from: that of the entry that was not accepted,
    /// that of the entry or block that an error was met at, or at the end the directory's size.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] where an entry is not as it must be. Those before it have been emitted.
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
            // Each step takes the next entry, and a block has 341 at most.
            while let Some((dirent, behind)) = rest.split_first() {
                let start = name_start;
                let end = behind.first().map_or(clean.end, RawDirent::start);
                let name = match clean.name(start, end) {
                    Some(name) => name,
                    None => block.clean_name_at(start, end)?,
                };
                let nid = dirent.nid.get();
                let file_type = FileType::of_raw(dirent.file_type);
                // Only a character device may be one, and only those cost a look at the inode.
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
                // A name is not empty, so the next one starts behind this one.
                name_start = end;
                // Within the block, and so within the directory.
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
    /// [`Error::Corrupt`] where the directory does not say.
    pub fn parent(&self, dir: &InodeLayout) -> Result<u64, Error<S::Error>> {
        match self.lookup(dir, b"..")? {
            Some(found) => Ok(found.nid),
            None => Err(Corrupt::new("directory has no entry '..'", dir.pos()?).into()),
        }
    }
}

/// Returns the first `len` bytes at `pos`, of which the run has as many.
fn slice(run: &[u8], len: usize, pos: u64) -> Result<&[u8], Corrupt> {
    run.get(..len)
        .ok_or(Corrupt::new("directory crosses the end of the image", pos))
}
