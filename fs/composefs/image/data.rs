// SPDX-License-Identifier: GPL-2.0

//! Where the data of an inode is, and reads of it.
//!
//! This is for directories, symlinks and small regular files. The content of all other files is
//! not in the image.

use super::{
    block_offset,
    block_start,
    inode::DataLayout,
    reader::BlockReader,
    to_u64,
    to_usize,
    Corrupt,
    Error,
    Image,
    InodeLayout,
    Source,
    BLOCK_SIZE, //
};

/// Consecutive bytes of the image.
pub(super) struct Extent {
    /// Where they start, in bytes.
    pub(super) pos: u64,
    /// How many they are; never 0.
    pub(super) len: u64,
}

impl InodeLayout {
    /// Returns where the data is from `offset` on, as far as it is in one piece. A node's data is
    /// in one or two. Whether they are within the image is not checked.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] where the data is not in the image, or inline data crosses a block.
    ///
    /// C header: `fs/erofs/data.c`: `erofs_map_blocks()`
    #[inline]
    pub(super) fn extent(&self, offset: u64) -> Result<Extent, Corrupt> {
        let Some(len @ 1..) = self.size().checked_sub(offset) else {
            return Err(Corrupt::new("read beyond the end of data", self.pos()?));
        };
        let in_blocks = |len| Extent {
            pos: self.start().saturating_add(offset),
            len,
        };
        match self.data_layout()? {
            DataLayout::Plain => Ok(in_blocks(len)),
            DataLayout::Inline => {
                // The last block is inline, also when it is a whole one.
                let tail = block_start(self.size().saturating_sub(1));
                if let Some(len @ 1..) = tail.checked_sub(offset) {
                    return Ok(in_blocks(len));
                }
                let pos = self.inline_pos()?;
                let size = self.size().saturating_sub(tail);
                if block_offset(pos).saturating_add(size) > BLOCK_SIZE {
                    return Err(Corrupt::new("inline data crosses a block", pos));
                }
                let pos = pos.saturating_add(offset.saturating_sub(tail));
                Ok(Extent { pos, len })
            }
            DataLayout::Chunk => Err(Corrupt::new("data is not in the image", self.pos()?)),
        }
    }
}

impl<S: Source> Image<S> {
    /// Checks that all data of `layout` is in the image, by its place alone.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] where it is not, or is not stored flat.
    pub(super) fn check_data(&self, layout: &InodeLayout) -> Result<(), Corrupt> {
        if layout.data_layout()? == DataLayout::Chunk {
            return Err(Corrupt::new("data is not in the image", layout.pos()?));
        }
        let mut offset = 0;
        // Twice at most, and each time less is left.
        while offset < layout.size() {
            let Extent { pos, len } = layout.extent(offset)?;
            self.within(pos, len, "data crosses the end of the image")?;
            offset = offset.saturating_add(len);
        }
        Ok(())
    }

    /// Reads the data of a symlink or of a regular file whose content is inline, from byte `pos`
    /// on, and returns how many bytes it has read: less than asked for only at the end.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] where the data is not in the image.
    pub fn read(
        &self,
        layout: &InodeLayout,
        pos: u64,
        out: &mut [u8],
    ) -> Result<usize, Error<S::Error>> {
        let left = to_usize(layout.size().saturating_sub(pos));
        let mut rest = match out.get_mut(..left) {
            Some(out) => out,
            None => out,
        };
        let total = rest.len();
        let mut pos = pos;
        let mut reader = BlockReader::new(self);
        while !rest.is_empty() {
            let extent = layout.extent(pos)?;
            let len = rest.len().min(to_usize(extent.len));
            let Some((piece, next)) = rest.split_at_mut_checked(len) else {
                break;
            };
            reader.copy(extent.pos, piece)?;
            rest = next;
            pos = pos.saturating_add(to_u64(len));
        }
        Ok(total)
    }
}
