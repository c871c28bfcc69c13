// SPDX-License-Identifier: GPL-2.0

//! Extended attributes, as stored.
//!
//! The xattr area of an inode is right behind it: a header, the ids of shared entries, then the
//! inode's own entries. Shared entries are in one area for all inodes. Every entry starts at a
//! multiple of 4 bytes, so only names and values can cross a block.

use core::ops::ControlFlow;

use zerocopy::{
    little_endian::{
        U16,
        U32, //
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
    reader::BlockReader,
    to_u64,
    to_usize,
    Corrupt,
    Error,
    Image,
    InodeLayout,
    Source,
    NAME_LEN, //
};

/// C header: `fs/erofs/erofs_fs.h`: `EROFS_XATTR_FILTER_SEED`
const FILTER_SEED: u32 = 0x25bb_e08f;

/// C header: `fs/erofs/erofs_fs.h`: `EROFS_XATTR_FILTER_BITS`
const FILTER_BITS: u32 = 32;

const HEADER_SIZE: u64 = 12;
const ID_SIZE: u64 = 4;
const ENTRY_SIZE: u64 = 4;

/// The head of an inode's xattr area.
///
/// C header: `fs/erofs/erofs_fs.h`: `struct erofs_xattr_ibody_header`
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    h_name_filter: U32,
    h_shared_count: u8,
    _h_reserved: [u8; 7],
}

/// The head of an entry; name and value follow.
///
/// C header: `fs/erofs/erofs_fs.h`: `struct erofs_xattr_entry`
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawEntry {
    e_name_len: u8,
    e_name_index: u8,
    e_value_size: U16,
}

const _: () = assert!(size_of::<RawHeader>() == 12);
const _: () = assert!(size_of::<RawEntry>() == 4);

/// Name of an xattr, as stored. [`super::overlay::visible`] converts it to what users see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XattrName<'a> {
    /// Number of the prefix of the name. C header: `fs/erofs/erofs_fs.h`: `EROFS_XATTR_INDEX_USER`
    /// and others
    pub index: u8,
    /// The name behind the prefix: 0 to 255 bytes without NUL.
    pub name: &'a [u8],
}

/// An entry. Its name and value are within the image.
#[derive(Clone, Copy)]
struct Entry {
    /// Whether the entry is in the shared area.
    shared: bool,
    index: u8,
    name_pos: u64,
    name_len: usize,
    value: XattrValue,
}

/// Position of a value in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XattrValue {
    /// Position in bytes.
    pub(super) pos: u64,
    /// Length in bytes, at most 65535.
    pub len: usize,
}

/// A Bloom filter for the xattr names of an inode. A hash maps each name to one of 32 bits. A bit
/// that is set means that the inode has no xattr with that hash. The default, 0, rules out none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XattrFilter(pub u32);

impl XattrFilter {
    /// The filter of an inode without xattrs.
    const ALL: Self = Self(u32::MAX);

    /// Whether the filter rules out the xattr that is stored under `index` and `name`.
    pub fn lacks<S: Source>(self, index: u8, name: &[u8]) -> bool {
        let seed = FILTER_SEED.wrapping_add(u32::from(index));
        let bit = S::xxh32(name, seed) % FILTER_BITS;
        self.0.wrapping_shr(bit) & 1 != 0
    }
}

/// An iteration over the xattrs of an inode: its own entries, then the shared ones.
struct Entries<'i, S: Source> {
    image: &'i Image<S>,
    /// The inode's area.
    area: BlockReader<'i, S>,
    /// Position of the next own entry, and the end of own entries, in bytes.
    own: (u64, u64),
    /// Position of the next id of a shared entry, and the end of ids, in bytes.
    ids: (u64, u64),
    /// The shared area.
    shared: BlockReader<'i, S>,
    filter: XattrFilter,
}

impl<'i, S: Source> Entries<'i, S> {
    /// Starts an iteration. `None` if the inode has no xattrs.
    fn new(image: &'i Image<S>, layout: &InodeLayout) -> Result<Option<Self>, Error<S::Error>> {
        let (pos, len) = layout.xattr_area()?;
        if len == 0 {
            return Ok(None);
        }
        image.within(pos, len, "xattr area crosses the end of the image")?;
        let mut area = BlockReader::new(image);
        let Ok((header, _)) = RawHeader::ref_from_prefix(area.at(pos)?) else {
            return Err(Corrupt::new("xattr header crosses the end of the image", pos).into());
        };
        let filter = if image.superblock().xattr_filter {
            XattrFilter(header.h_name_filter.get())
        } else {
            XattrFilter::default()
        };
        let end = pos.saturating_add(len);
        let ids = pos.saturating_add(HEADER_SIZE);
        let own = ids.saturating_add(u64::from(header.h_shared_count).saturating_mul(ID_SIZE));
        if own > end {
            return Err(Corrupt::new("xattr header: h_shared_count is too large", pos).into());
        }
        Ok(Some(Self {
            image,
            area,
            own: (own, end),
            ids: (ids, own),
            shared: BlockReader::new(image),
            filter,
        }))
    }

    /// Returns the next entry.
    fn next(&mut self) -> Result<Option<Entry>, Error<S::Error>> {
        let (pos, end) = self.own;
        if pos < end {
            let what = "xattr entry crosses the end of its area";
            let (entry, next) = entry(&mut self.area, pos, end, what)?;
            // An entry is at least 4 bytes long, so this loop ends.
            self.own.0 = next;
            return Ok(Some(entry));
        }
        let (pos, end) = self.ids;
        if pos < end {
            let Ok((id, _)) = U32::ref_from_prefix(self.area.at(pos)?) else {
                let what = "shared xattr id crosses the end of the image";
                return Err(Corrupt::new(what, pos).into());
            };
            let offset = u64::from(id.get()).saturating_mul(ID_SIZE);
            self.ids.0 = pos.saturating_add(ID_SIZE);
            let pos = self.image.superblock().xattr_pos.saturating_add(offset);
            let end = self.image.source().size();
            let what = "shared xattr crosses the end of the image";
            let (entry, _) = entry(&mut self.shared, pos, end, what)?;
            return Ok(Some(Entry {
                shared: true,
                ..entry
            }));
        }
        Ok(None)
    }

    /// Returns the reader of the area that `entry` is in.
    fn reader(&mut self, entry: &Entry) -> &mut BlockReader<'i, S> {
        if entry.shared {
            &mut self.shared
        } else {
            &mut self.area
        }
    }
}

/// Reads the entry at `pos`, which must end at or before `end`. Returns also the position of the
/// next entry. Padding may put that one beyond `end`.
fn entry<S: Source>(
    reader: &mut BlockReader<'_, S>,
    pos: u64,
    end: u64,
    what: &'static str,
) -> Result<(Entry, u64), Error<S::Error>> {
    let Ok((raw, _)) = RawEntry::ref_from_prefix(reader.at(pos)?) else {
        return Err(Corrupt::new(what, pos).into());
    };
    let name_len = u64::from(raw.e_name_len);
    let value_len = u64::from(raw.e_value_size.get());
    let index = raw.e_name_index;
    let name_pos = pos.saturating_add(ENTRY_SIZE);
    let value_pos = name_pos.saturating_add(name_len);
    let value_end = value_pos.saturating_add(value_len);
    if value_end > end {
        return Err(Corrupt::new(what, pos).into());
    }
    let entry = Entry {
        shared: false,
        index,
        name_pos,
        name_len: to_usize(name_len),
        value: XattrValue {
            pos: value_pos,
            len: to_usize(value_len),
        },
    };
    // Entries are padded to a multiple of 4.
    Ok((entry, value_end.saturating_add(3) & !3))
}

impl<S: Source> Image<S> {
    /// Reads the xattr name filter of an inode.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the header of the xattr area is invalid.
    pub fn xattr_filter(&self, layout: &InodeLayout) -> Result<XattrFilter, Error<S::Error>> {
        // Without valid filters there is no need to read the header.
        if layout.has_xattrs() && !self.superblock().xattr_filter {
            return Ok(XattrFilter::default());
        }
        let entries = Entries::new(self, layout)?;
        Ok(entries.map_or(XattrFilter::ALL, |entries| entries.filter))
    }

    /// Finds the value of the xattr that is stored under `index` and `name`.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if an entry that the search reads is invalid.
    ///
    /// C header: `fs/erofs/xattr.c`: `erofs_getxattr()`
    pub fn find_xattr(
        &self,
        layout: &InodeLayout,
        index: u8,
        name: &[u8],
    ) -> Result<Option<XattrValue>, Error<S::Error>> {
        let Some(mut entries) = Entries::new(self, layout)? else {
            return Ok(None);
        };
        if entries.filter.lacks::<S>(index, name) {
            return Ok(None);
        }
        while let Some(entry) = entries.next()? {
            if entry.index == index
                && entry.name_len == name.len()
                && entries.reader(&entry).holds(entry.name_pos, name)?
            {
                return Ok(Some(entry.value));
            }
        }
        Ok(None)
    }

    /// Copies a value to `out`, as far as `out` has room.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the image ends before the value.
    pub fn read_xattr(&self, value: XattrValue, out: &mut [u8]) -> Result<(), Error<S::Error>> {
        let len = out.len().min(value.len);
        let out = out.get_mut(..len).unwrap_or_default();
        BlockReader::new(self).copy(value.pos, out)
    }

    /// Calls `each` for each xattr of an inode until it returns `Break`: first for the inode's own
    /// xattrs, then for the shared ones.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if an entry is invalid.
    ///
    /// C header: `fs/erofs/xattr.c`: `erofs_listxattr()`
    pub fn xattrs(
        &self,
        layout: &InodeLayout,
        mut each: impl FnMut(XattrName<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error<S::Error>> {
        let Some(mut entries) = Entries::new(self, layout)? else {
            return Ok(());
        };
        let mut buffer = [0; NAME_LEN];
        while let Some(entry) = entries.next()? {
            let name = entries.reader(&entry).name(&entry, &mut buffer)?;
            if name.contains(&0) {
                return Err(Corrupt::new("xattr name has a NUL", entry.name_pos).into());
            }
            let index = entry.index;
            if each(XattrName { index, name }).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl<S: Source> BlockReader<'_, S> {
    /// Returns the name of `entry`. A name that crosses a block is copied to `buffer`.
    fn name<'a>(
        &'a mut self,
        entry: &Entry,
        buffer: &'a mut [u8; NAME_LEN],
    ) -> Result<&'a [u8], Error<S::Error>> {
        let (pos, len) = (entry.name_pos, entry.name_len);
        if len == 0 {
            return Ok(&[]);
        }
        if to_u64(self.at(pos)?.len()) >= to_u64(len) {
            let name = self.at(pos)?.get(..len);
            return name.ok_or(Corrupt::new("xattr name crosses the image", pos).into());
        }
        match buffer.get_mut(..len) {
            Some(out) => {
                self.copy(pos, out)?;
                Ok(out)
            }
            None => Err(Corrupt::new("xattr name is too long", pos).into()),
        }
    }
}
