// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Why an image could not be mounted.

use rustix::io::Errno;
use thiserror::Error;

use crate::digest::Digest;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A text that is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("digest: expected 64 or 128 hexadecimal digits, not '{0}'")]
pub struct InvalidDigest(pub String);

/// Why an image could not be mounted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The digest cannot be parsed.
    #[error(transparent)]
    InvalidDigest(#[from] InvalidDigest),
    /// The image cannot be opened.
    #[error("image {image}: cannot be opened: {errno}")]
    Image {
        /// The image.
        image: String,
        /// Why.
        errno: Errno,
    },
    /// A base directory, or an upper or work directory, cannot be opened.
    #[error("{what} {name}: cannot be opened: {errno}")]
    Directory {
        /// The option that named it.
        what: &'static str,
        /// The directory.
        name: String,
        /// Why.
        errno: Errno,
    },
    /// The file with the signature cannot be opened.
    #[error("signature {name}: cannot be opened: {errno}")]
    Signature {
        /// The file.
        name: String,
        /// Why.
        errno: Errno,
    },
    /// The image has no fs-verity digest, and one was expected.
    #[error("image {image}: has no fs-verity digest")]
    NoVerity {
        /// The image.
        image: String,
    },
    /// The image has another fs-verity digest than the expected one.
    #[error("image {image}: wrong fs-verity digest: expected {expected}, found {found}")]
    WrongVerity {
        /// The image.
        image: String,
        /// The digest that was expected.
        expected: Box<Digest>,
        /// The digest that the image has.
        found: Box<Digest>,
    },
    /// The options contradict each other, or what they ask for needs another option.
    #[error("{0}")]
    Options(&'static str),
    /// An option that [`MountOptions::common_option`](crate::MountOptions::common_option) refuses.
    #[error("option {0}: cannot be passed to every file system")]
    NotCommon(String),
    /// A file system has refused the mount.
    #[error("{doing}: {errno}{}", reasons(.messages))]
    FileSystem {
        /// What was being done.
        doing: String,
        /// The error number.
        errno: Errno,
        /// What the file system said, in order. Empty if it said nothing.
        messages: Vec<String>,
    },
    /// The mount was made, but cannot be attached.
    #[error("mount point {target}: {errno}")]
    Target {
        /// The mount point.
        target: String,
        /// Why.
        errno: Errno,
    },
}

impl Error {
    /// The error number that a system call would return, for callers that return one.
    ///
    /// [`NoVerity`](Self::NoVerity) is `ENOTTY` and [`WrongVerity`](Self::WrongVerity) is `EILSEQ`,
    /// as in libcomposefs.
    pub fn errno(&self) -> Errno {
        match self {
            Self::InvalidDigest(_) | Self::Options(_) | Self::NotCommon(_) => Errno::INVAL,
            Self::Image { errno, .. }
            | Self::Directory { errno, .. }
            | Self::Signature { errno, .. }
            | Self::FileSystem { errno, .. }
            | Self::Target { errno, .. } => *errno,
            Self::NoVerity { .. } => Errno::NOTTY,
            Self::WrongVerity { .. } => Errno::ILSEQ,
        }
    }

    /// What the kernel said beside the error number, in order.
    pub fn messages(&self) -> &[String] {
        match self {
            Self::FileSystem { messages, .. } => messages,
            _ => &[],
        }
    }
}

/// For callers whose errors are those of the standard library. The error is inside.
impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        let kind = Self::from(error.errno()).kind();
        Self::new(kind, error)
    }
}

/// The messages of a file system as the end of a sentence.
fn reasons(messages: &[String]) -> String {
    match messages {
        [] => String::new(),
        _ => format!(" ({})", messages.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_standard_library_says_the_same() {
        let error = Error::FileSystem {
            doing: "composefs: mounting".to_owned(),
            errno: Errno::ACCESS,
            messages: vec!["not you".to_owned(), "not now".to_owned()],
        };
        let text = error.to_string();
        assert!(text.ends_with(" (not you; not now)"), "{text}");
        let error = std::io::Error::from(error);
        assert_eq!(error.to_string(), text);
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    }
}
