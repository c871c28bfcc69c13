// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The header with which every image begins.

use std::os::fd::AsFd;

use rustix::io::Errno;

use crate::error::Error;
use crate::error::Result;

/// `LCFS_EROFS_MAGIC`, and the size of the header that it begins.
const MAGIC: u32 = 0xd078_629a;
const SIZE: usize = 32;

/// Second number of images of early 2023, whose format is another one.
const OLD_MAGIC: u32 = 0xc078_629a;

/// Bit of the flags: the image has access control lists.
const HAS_ACL: u32 = 1;

/// The first format whose flags do not tell about access control lists.
const FORMAT_WITHOUT_FLAG: u32 = 2;

/// What the header of an image says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Whether the image may have access control lists.
    pub(crate) has_acl: bool,
}

impl Header {
    /// Reads the header of an image.
    ///
    /// # Errors
    ///
    /// That the file cannot be read, or is no image.
    pub(crate) fn read(name: &str, image: impl AsFd) -> Result<Self> {
        let mut bytes = [0; SIZE];
        let failed = |errno, messages| Error::FileSystem {
            doing: format!("image {name}: reading"),
            errno,
            messages,
        };
        let size = rustix::io::pread(image, &mut bytes, 0);
        let size = size.map_err(|errno| failed(errno, Vec::new()))?;
        let bytes = bytes.get(..size).unwrap_or_default();
        Self::parse(bytes).ok_or_else(|| {
            let what = match is_old(bytes) {
                true => {
                    "has the format of early 2023: composefs-old-image(1) turns it into today's"
                }
                false => "is not a composefs image",
            };
            failed(Errno::INVAL, vec![format!("image {name}: {what}")])
        })
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut words = bytes.get(..SIZE)?.chunks_exact(4);
        let mut next = || {
            let word = words.next()?.try_into().ok()?;
            Some(u32::from_le_bytes(word))
        };
        let (magic, _version, flags, format) = (next()?, next()?, next()?, next()?);
        (magic == MAGIC).then_some(Self {
            has_acl: flags & HAS_ACL != 0 || format >= FORMAT_WITHOUT_FLAG,
        })
    }
}

/// Whether an image of early 2023 begins with these bytes.
fn is_old(bytes: &[u8]) -> bool {
    bytes.get(4..8) == Some(&OLD_MAGIC.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with these flags, of this format.
    fn header(flags: u32, format: u32) -> Vec<u8> {
        let words = [MAGIC, 1, flags, format, 0, 0, 0, 0];
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn access_control_lists_are_told() {
        for (flags, format, has_acl) in [(0, 0, false), (1, 0, true), (2, 1, false), (0, 2, true)] {
            let found = Header::parse(&header(flags, format));
            assert_eq!(found, Some(Header { has_acl }), "{flags} {format}");
        }
    }

    #[test]
    fn what_is_cut_or_something_else_is_no_image() {
        let mut bytes = header(0, 0);
        assert_eq!(Header::parse(&bytes[..SIZE - 1]), None);
        bytes[0] += 1;
        assert_eq!(Header::parse(&bytes), None);
    }

    #[test]
    fn an_image_of_early_2023_is_told() {
        let mut file = tempfile::tempfile().unwrap();
        let words = [1, OLD_MAGIC, 1504, 0];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        std::io::Write::write_all(&mut file, &bytes).unwrap();
        let error = Header::read("the name", file).unwrap_err();
        assert_eq!(error.errno(), Errno::INVAL);
        let [message] = error.messages() else {
            panic!("{error}");
        };
        assert!(message.starts_with("image the name: has the format of early 2023"));
        assert!(message.contains("composefs-old-image"), "{message}");
    }

    #[test]
    fn errors_name_the_image() {
        let read = |path: &str| {
            let file = std::fs::File::open(path).unwrap();
            Header::read("the name", file).unwrap_err()
        };
        let error = read("/dev/null");
        assert_eq!(error.errno(), Errno::INVAL);
        assert_eq!(
            error.messages(),
            ["image the name: is not a composefs image"]
        );
        let error = read("/");
        assert_eq!(error.errno(), Errno::ISDIR);
        assert!(error.to_string().starts_with("image the name: reading: "));
    }
}
