// SPDX-License-Identifier: GPL-2.0

//! The kinds of changes.

use crate::draft::Draft;
use crate::{dirent, inode, relocate, shape, superblock, xattr};

/// Makes a change. Returns false if there was nothing to change.
type Change = fn(&mut Draft<'_>) -> bool;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident, $name:literal, $change:expr;)*) => {
        /// A kind of change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// Returns the name, for the figures.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            pub(crate) fn change(self) -> Change {
                match self {
                    $(Self::$kind => $change,)*
                }
            }
        }
    };
}

kinds! {
    /// A field of the composefs header.
    Header, "header", superblock::header;
    /// A field of the superblock.
    Superblock, "superblock", superblock::superblock;
    /// The format and data layout of an inode.
    InodeFormat, "inode format", inode::format;
    /// The size of a file, a symlink or a directory.
    InodeSize, "inode size", inode::size;
    /// The type or permissions of an inode.
    InodeMode, "inode mode", inode::mode;
    /// The number of links of an inode.
    InodeLinks, "inode links", inode::links;
    /// The owner, group or time of an inode.
    InodeOwner, "inode owner", inode::owner;
    /// The place of the data, or the device number.
    InodeStart, "inode start", inode::start;
    /// The size of the xattr area.
    InodeXattrs, "inode xattrs", inode::xattr_count;
    /// An inode that crosses the end of a block or of the image.
    InodeMoved, "inode moved", relocate::moved;
    /// The nid of an entry.
    DirentNid, "dirent nid", dirent::nid;
    /// The nameoff of an entry, or the number of entries in a block.
    DirentOffset, "dirent offset", dirent::offset;
    /// The file_type of an entry.
    DirentType, "dirent type", dirent::file_type;
    /// The name of an entry.
    DirentName, "dirent name", dirent::name;
    /// The order of entries or of blocks.
    DirentOrder, "dirent order", dirent::order;
    /// The xattr filter, or the number of shared xattrs.
    XattrHeader, "xattr header", xattr::header;
    /// The id of a shared xattr.
    XattrShared, "xattr shared", xattr::shared;
    /// The lengths or the prefix of an xattr.
    XattrEntry, "xattr entry", xattr::entry;
    /// The name of an xattr.
    XattrName, "xattr name", xattr::name;
    /// The value of an xattr.
    XattrValue, "xattr value", xattr::value;
    /// A new xattr area for an inode.
    XattrForged, "xattr forged", relocate::forged;
    /// The value of the metacopy xattr.
    Metacopy, "metacopy", xattr::metacopy;
    /// The value of the redirect xattr.
    Redirect, "redirect", xattr::redirect;
    /// The content of a symlink or an inline file.
    Data, "data", shape::data;
    /// A shorter image.
    Truncated, "truncated", shape::truncated;
    /// A longer image.
    Extended, "extended", shape::extended;
    /// A part copied from another image, or from this one.
    Spliced, "spliced", shape::spliced;
    /// Random bytes anywhere.
    Noise, "noise", shape::noise;
}
