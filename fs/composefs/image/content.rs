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

/// Size in bytes of the largest content that is accepted in the image. The composefs tools store at
/// most 5000 bytes.
pub const INLINE_MAX: u64 = 8192;

/// Where the content of a regular file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// In the image: see [`Image::read`]. At most 8 KiB.
    Inline,
    /// Nowhere: all of it is zero bytes.
    Sparse,
    /// In an object with this digest. [`Image::redirect`] reads its path.
    External(Option<Digest>),
}

impl<S: Source> Image<S> {
    /// Returns where the content of the regular file `layout` is.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if its overlayfs xattrs are invalid, or if it has none and its data is
    /// not in the image or too large.
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
            // Otherwise zero bytes would be taken for verified content.
            (None, Some(_)) => {
                let what = "metacopy xattr has a digest, but there is no redirect xattr";
                Err(Corrupt::new(what, value.pos).into())
            }
        }
    }

    /// Checks a regular file whose content must be in the image.
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

    /// Copies the path of the object with the content of the regular file `layout` to `out`, and
    /// returns its length. The path is relative to a basedir: it does not start with a slash, and
    /// no component is empty, `.` or `..`. `None` if the file has no object.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the path is invalid or longer than `out`.
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
