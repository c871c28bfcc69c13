// SPDX-License-Identifier: GPL-2.0

//! Where the content of a regular file is.

use super::{
    inode::DataLayout,
    overlay,
    reader::BlockReader,
    Corrupt,
    Digest,
    Error,
    Image,
    InodeLayout,
    Source, //
};

/// Largest content in bytes that is accepted in the image. The tools put up to 5000 bytes there.
pub const INLINE_MAX: u64 = 8192;

/// Where the content of a regular file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// In the image: see [`Image::read`]. At most 8 KiB.
    Inline,
    /// Nowhere: all of it is zero bytes.
    Sparse,
    /// In an object, whose path is [`Image::redirect`] and whose digest is this one.
    External(Option<Digest>),
}

impl<S: Source> Image<S> {
    /// Returns where the content of the regular file `layout` is.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] where the xattrs that say so are not as they must be, or the content
    /// that should be in the image is not, or is too large.
    pub fn content(&self, layout: &InodeLayout) -> Result<Content, Error<S::Error>> {
        let Some(value) = self.find_xattr(layout, overlay::INDEX_TRUSTED, overlay::METACOPY)?
        else {
            self.check_inline(layout)?;
            return Ok(Content::Inline);
        };
        let mut buffer = [0; overlay::METACOPY_MAX];
        let Some(bytes) = buffer.get_mut(..value.len) else {
            return Err(Corrupt::new("metacopy xattr is too long", value.pos).into());
        };
        self.read_xattr(value, bytes)?;
        let digest = overlay::metacopy(bytes).map_err(|what| Corrupt::new(what, value.pos))?;
        let redirect = self.find_xattr(layout, overlay::INDEX_TRUSTED, overlay::REDIRECT)?;
        match (redirect, digest) {
            (Some(_), digest) => Ok(Content::External(digest)),
            (None, None) => Ok(Content::Sparse),
            // Zero bytes would pass for content that has been verified.
            (None, Some(_)) => {
                let what = "metacopy xattr has a digest, but there is no redirect xattr";
                Err(Corrupt::new(what, value.pos).into())
            }
        }
    }

    /// Checks a regular file whose content has to be in the image.
    fn check_inline(&self, layout: &InodeLayout) -> Result<(), Corrupt> {
        if layout.data_layout()? == DataLayout::Chunk {
            let what = "regular file in chunks has no metacopy xattr";
            return Err(Corrupt::new(what, layout.pos()?));
        }
        if layout.size() > INLINE_MAX {
            return Err(Corrupt::new("inline file is too large", layout.pos()?));
        }
        self.check_data(layout)
    }

    /// Fills the front of `out` with the path of the object that has the content of the regular
    /// file `layout`, and returns its length. The path is relative to an object directory: it does
    /// not start with a slash, and has no component that is empty, `.` or `..`. `None` if the
    /// file names no object.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] where the path is anything else, or longer than `out`.
    pub fn redirect(
        &self,
        layout: &InodeLayout,
        out: &mut [u8],
    ) -> Result<Option<usize>, Error<S::Error>> {
        let name = overlay::REDIRECT;
        let Some(value) = self.find_xattr(layout, overlay::INDEX_TRUSTED, name)? else {
            return Ok(None);
        };
        let corrupt = |what| Corrupt::new(what, value.pos);
        let mut reader = BlockReader::new(self);
        // A value of no bytes has no slash either.
        let Some(len) = value.len.checked_sub(1) else {
            return Err(corrupt("redirect xattr is empty").into());
        };
        if !reader.holds(value.pos, b"/")? {
            return Err(corrupt("redirect xattr does not start with a slash").into());
        }
        let Some(path) = out.get_mut(..len) else {
            return Err(corrupt("redirect xattr is too long").into());
        };
        reader.copy(value.pos.saturating_add(1), path)?;
        overlay::check_path(path).map_err(corrupt)?;
        Ok(Some(len))
    }
}
