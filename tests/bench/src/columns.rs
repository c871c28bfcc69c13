// SPDX-License-Identifier: GPL-2.0

//! The columns of the topics' tables. Each has a name for the command line, and a shorter title.

use std::fmt;

use crate::Stack;

/// The stacks that show content, and the titles of their columns.
pub const STACKS: [(Stack, &str); 3] = [
    (Stack::Composefs, "composefs"),
    (Stack::Overlay, OVERLAY),
    (Stack::Ext4, "no image"),
];

/// The title of erofs + overlayfs.
const OVERLAY: &str = "er.+ovl.";

/// A way in which the files of an image come to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The image, mounted by composefs.
    Composefs,
    /// The image as erofs, with overlayfs.
    Overlay,
    /// Each layer as erofs, with one overlayfs, for each container anew: so podman does.
    Layers,
    /// An erofs that has the content, and shares its page cache with others.
    Share,
    /// The image, served by FUSE.
    Fuse,
    /// Files that are unpacked.
    Unpacked,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Composefs,
        Self::Overlay,
        Self::Layers,
        Self::Share,
        Self::Fuse,
        Self::Unpacked,
    ];

    /// The title of its column.
    pub fn title(self) -> &'static str {
        match self {
            Self::Composefs => "composefs",
            Self::Overlay => OVERLAY,
            Self::Layers => "layers",
            Self::Share => "share",
            Self::Fuse => "FUSE",
            Self::Unpacked => "unpacked",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Composefs => "composefs",
            Self::Overlay => "erofs+overlayfs",
            Self::Layers => "layers",
            Self::Share => "share",
            Self::Fuse => "fuse",
            Self::Unpacked => "unpacked",
        })
    }
}
