// SPDX-License-Identifier: GPL-2.0

//! Entries of a directory.

use zerocopy::FromBytes as _;

use crate::error::Error;
use crate::image::Area;
use crate::image::FileType;
use crate::image::to_u64;
use crate::raw;

const COUNT_SIZE: usize = 4;
const DIRENT_SIZE: usize = size_of::<raw::Dirent>();

/// The entries of a directory.
#[derive(Clone, Copy)]
pub(crate) struct Entries<'a> {
    /// Position of the first entry, in bytes.
    at: u64,
    table: &'a [raw::Dirent],
    names: &'a [u8],
}

/// An entry of a directory.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// Position, in bytes.
    pub(crate) at: u64,
    pub(crate) inode: u32,
    pub(crate) file_type: FileType,
    pub(crate) name: &'a [u8],
}

impl<'a> Entries<'a> {
    /// Finds the entries in the data of a directory. An empty directory has no data.
    ///
    /// # Errors
    ///
    /// That the data is too short for them.
    pub(crate) fn new(data: Area<'a>) -> Result<Self, Error> {
        let at = data.at.saturating_add(to_u64(COUNT_SIZE));
        if data.bytes.is_empty() {
            return Ok(Self {
                at,
                table: &[],
                names: &[],
            });
        }
        let short = || Error::damaged(data.at, "directory: it ends before its last entry");
        let (count, rest) = data
            .bytes
            .split_first_chunk::<COUNT_SIZE>()
            .ok_or_else(short)?;
        let count = usize::try_from(u32::from_le_bytes(*count)).map_err(|_| short())?;
        let (table, names) =
            <[raw::Dirent]>::ref_from_prefix_with_elems(rest, count).map_err(|_| short())?;
        Ok(Self { at, table, names })
    }

    /// The entry at a place, `None` behind the last one.
    ///
    /// # Errors
    ///
    /// What of it is wrong.
    pub(crate) fn get(&self, index: u32) -> Result<Option<Entry<'a>>, Error> {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let Some(raw) = self.table.get(index) else {
            return Ok(None);
        };
        let at = to_u64(index).saturating_mul(to_u64(DIRENT_SIZE));
        let at = self.at.saturating_add(at);
        let wrong = |what: &'static str| Err(Error::damaged(at, what));
        let Some(file_type) = FileType::of_dirent(raw.file_type) else {
            return wrong("directory entry: its type is not known");
        };
        let start = usize::try_from(raw.name_offset.get()).unwrap_or(usize::MAX);
        let end = start.saturating_add(usize::from(raw.name_length));
        let Some(name) = self.names.get(start..end) else {
            return wrong("directory entry: its name is not in the directory");
        };
        match name {
            b"" => return wrong("directory entry: its name is empty"),
            b"." | b".." => return wrong("directory entry: its name is . or .."),
            _ if name.contains(&b'/') || name.contains(&0) => {
                return wrong("directory entry: its name has a slash or a NUL in it");
            }
            _ => {}
        }
        Ok(Some(Entry {
            at,
            inode: raw.inode.get(),
            file_type,
            name,
        }))
    }
}
