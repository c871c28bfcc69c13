// SPDX-License-Identifier: GPL-2.0

//! All that is done to images.

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
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// Returns its name, for figures.
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
    /// Form or layout of an inode.
    InodeFormat, "inode format", inode::format;
    /// Size of a file, a link or a directory.
    InodeSize, "inode size", inode::size;
    /// Type or permissions.
    InodeMode, "inode mode", inode::mode;
    /// Number of links.
    InodeLinks, "inode links", inode::links;
    /// Owners and times.
    InodeOwner, "inode owner", inode::owner;
    /// Where data are, or the device's number.
    InodeStart, "inode start", inode::start;
    /// Size of the xattrs.
    InodeXattrs, "inode xattrs", inode::xattr_count;
    /// An inode that crosses a block or the end.
    InodeMoved, "inode moved", relocate::moved;
    /// Where an entry leads.
    DirentNid, "dirent nid", dirent::nid;
    /// Where a name is, and how many entries there are.
    DirentOffset, "dirent offset", dirent::offset;
    /// What an entry says of the inode.
    DirentType, "dirent type", dirent::file_type;
    /// A name.
    DirentName, "dirent name", dirent::name;
    /// The order of entries and blocks.
    DirentOrder, "dirent order", dirent::order;
    /// The filter, and the number of shared xattrs.
    XattrHeader, "xattr header", xattr::header;
    /// Which shared xattrs an inode has.
    XattrShared, "xattr shared", xattr::shared;
    /// Lengths and prefix of an xattr.
    XattrEntry, "xattr entry", xattr::entry;
    /// Its name.
    XattrName, "xattr name", xattr::name;
    /// Its value.
    XattrValue, "xattr value", xattr::value;
    /// Xattrs of our own making.
    XattrForged, "xattr forged", relocate::forged;
    /// The digest of an object.
    Metacopy, "metacopy", xattr::metacopy;
    /// The path of an object.
    Redirect, "redirect", xattr::redirect;
    /// What a link or small file holds.
    Data, "data", shape::data;
    /// The image ends too soon.
    Truncated, "truncated", shape::truncated;
    /// The image goes on.
    Extended, "extended", shape::extended;
    /// A part of another image.
    Spliced, "spliced", shape::spliced;
    /// Some bytes, anywhere.
    Noise, "noise", shape::noise;
}
