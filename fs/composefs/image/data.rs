// SPDX-License-Identifier: GPL-2.0

//! Data of an inode: its position, and reads.
//!
//! Directories, symlinks and small regular files have data. The content of all other files is not
//! in the image.

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
pub struct Extent {
    /// Position in bytes.
    pub pos: u64,
    /// Length in bytes, never 0.
    pub len: u64,
}

impl InodeLayout {
    /// Returns the extent with the data from `offset` on. The data of an inode has at most two
    /// extents. The extent is not checked against the size of the image.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] if the data is not in the image, or inline data crosses a block.
    ///
    /// C header: `fs/erofs/data.c`: `erofs_map_blocks()`
    #[inline]
    pub fn extent(&self, offset: u64) -> Result<Extent, Corrupt> {
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
                // The last block is inline, even if it is full.
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

impl InodeLayout {
    /// Whether the data up to the end of `extent`, which is one of this inode, are behind the inode
    /// itself, in its block.
    pub fn is_inline(&self, extent: &Extent) -> bool {
        let Ok(pos) = self.inline_pos() else {
            return false;
        };
        self.data_layout() == Ok(DataLayout::Inline) && block_start(extent.pos) == block_start(pos)
    }

    /// Whether there are data, but not in the image.
    #[inline]
    pub fn is_external(&self) -> bool {
        self.size() != 0 && self.data_layout() == Ok(DataLayout::Chunk)
    }
}

impl<S: Source> Image<S> {
    /// Checks that the extents of `layout` are within the image. Reads nothing.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] if they are not, or if the data is stored in chunks.
    pub(super) fn check_data(&self, layout: &InodeLayout) -> Result<(), Corrupt> {
        if layout.data_layout()? == DataLayout::Chunk {
            return Err(Corrupt::new("data is not in the image", layout.pos()?));
        }
        let mut offset = 0;
        // Runs at most twice: there are two extents, and none is empty.
        while offset < layout.size() {
            let Extent { pos, len } = layout.extent(offset)?;
            self.within(pos, len, "data crosses the end of the image")?;
            offset = offset.saturating_add(len);
        }
        Ok(())
    }

    /// Reads the data of a symlink or of a small regular file, from byte `pos` on. Returns the
    /// number of bytes read, which is less than the length of `out` only at the end of the data.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the data is not in the image.
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
