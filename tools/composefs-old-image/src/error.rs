// SPDX-License-Identifier: GPL-2.0

//! What can be wrong, and what to do then.

use std::io;

use thiserror::Error;

/// Why an image cannot be turned into a dump.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// It begins as no composefs image ever did.
    #[error("at byte 0: it is not a composefs image")]
    NotAnImage,
    /// It is an image of today's format.
    #[error("at byte 0: it is a composefs image of today's format")]
    Todays,
    /// It has the right magic number, and another version.
    #[error("at byte 0: version {0} of the format is not known, only version 1 is")]
    Version(u32),
    /// Something in it is wrong.
    #[error("at byte {at}: {}{what}", of_inode(.inode))]
    Damaged {
        /// Position in the image, in bytes.
        at: u64,
        /// Number of the inode that it belongs to.
        inode: Option<u32>,
        /// What is wrong.
        what: &'static str,
    },
    /// The dump is longer than it may be.
    #[error("the dump is longer than {0} bytes, which is much for an image of this size")]
    TooLong(u64),
    /// The dump cannot be written.
    #[error("the dump cannot be written: {0}")]
    Output(#[from] io::Error),
}

impl Error {
    /// What a user can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NotAnImage => "name an image that mkcomposefs 0.1.1 or the kernel patches made",
            Self::Todays => "mount it as it is: mount -t composefs IMAGE MOUNTPOINT",
            Self::Version(_) => "make the image again from the files that it was made from",
            Self::Damaged { .. } => {
                "the image is damaged: restore it from a copy, \
                 or make it again from the files that it was made from"
            }
            Self::TooLong(_) => "if you trust the image, repeat with --no-limit",
            Self::Output(_) => "nothing is wrong with the image: look at where the dump goes",
        }
    }

    /// Something wrong at a position.
    pub(crate) fn damaged(at: u64, what: &'static str) -> Self {
        Self::Damaged {
            at,
            inode: None,
            what,
        }
    }

    /// The same error, of an inode.
    pub(crate) fn of(self, number: u32) -> Self {
        match self {
            Self::Damaged {
                at,
                inode: None,
                what,
            } => Self::Damaged {
                at,
                inode: Some(number),
                what,
            },
            other => other,
        }
    }
}

fn of_inode(inode: &Option<u32>) -> String {
    match inode {
        Some(number) => format!("inode {number}: "),
        None => String::new(),
    }
}
