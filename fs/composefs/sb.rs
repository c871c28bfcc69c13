// SPDX-License-Identifier: GPL-2.0

//! What a super block holds.

use crate::vfs::{
    cred,
    kernel_file::Origin, //
    log::Limit,
    passed_file::Locks,
    path::{
        Identity,
        PrivateMount,
        PrivateMounts, //
    },
};
use crate::{
    cache::Cache,
    digest::Digest,
    given::Name,
    image::{
        Image,
        Superblock, //
    },
    options::{
        Options,
        Verity, //
    },
};
use kernel::{
    cred::Credential,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        }, //
    }, //
};

/// Data of a super block: `s_fs_info`.
pub(crate) struct SbInfo {
    /// The image.
    pub(crate) image: Image<Cache>,
    /// The image's digest, or the UUID in it. All zeros if it has neither.
    pub(crate) uuid: [u8; 16],
    /// The image's digest, if it has one.
    pub(crate) digest: Option<Digest>,
    /// Name of the image, for messages.
    pub(crate) image_name: Name,
    /// Private clones of the basedirs' mounts, in the order in which they are searched.
    pub(crate) basedirs: PrivateMounts,
    /// Which objects are verified.
    pub(crate) verity: Verity,
    /// The options as the first mounter wrote them.
    pub(crate) options: Options,
    /// The first mounter's credentials, with which objects are found and opened.
    pub(crate) credential: ARef<Credential>,
    /// Number of objects that are open for all readers.
    pub(crate) shared_objects: SharedObjects,
    /// Rate limit of the messages about this super block.
    pub(crate) limit: Limit,
}

impl SbInfo {
    /// Returns the basedirs in the order in which they are searched.
    pub(crate) fn basedirs(&self) -> &[PrivateMount] {
        self.basedirs.all()
    }

    /// See [`has_acl`].
    pub(crate) fn has_acl(&self) -> bool {
        has_acl(self.image.superblock())
    }
}

/// Whether the mount has access control lists. A version 2 image has no flag for them. Its own
/// tools mount it with ACLs.
pub(crate) fn has_acl(superblock: &Superblock) -> bool {
    superblock.has_acl || superblock.composefs_version == 2
}

/// Number of objects of a mount that are open for all readers.
pub(crate) struct SharedObjects(Atomic<u64>);

impl Default for SharedObjects {
    fn default() -> Self {
        Self(Atomic::new(0))
    }
}

impl SharedObjects {
    /// Counts one more object, unless the limit is reached. Returns whether it did.
    pub(crate) fn take(&self) -> bool {
        let max = u64::from(crate::module_parameters::shared_objects.value());
        // At the limit every read comes here: read the counter first, so that readers on other
        // processors do not write to its cache line.
        if self.0.load(Relaxed) >= max {
            return false;
        }
        if self.0.fetch_add(1, Relaxed) >= max {
            self.give_back();
            return false;
        }
        true
    }

    /// Counts one object less.
    pub(crate) fn give_back(&self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Key under which mounts share a super block.
///
/// It has all that the contents of the mount depend on. The image is identified by its digest: a
/// path or an inode number does not say what the image holds. `origin` is the file system that the
/// image is read from. Without it, a mount could depend on a disk that it did not name.
///
/// The super block holds references to everything whose address is in the key, so no address is
/// reused while the super block can be found.
#[derive(PartialEq, Eq)]
pub(crate) struct Key {
    /// Digest of the image.
    pub(crate) image: Digest,
    /// Where the image is read from.
    pub(crate) origin: Origin,
    /// Which objects are verified.
    pub(crate) verity: Verity,
    /// `image=`, if it was given: `/proc/mounts` shows it.
    pub(crate) image_option: Option<Name>,
    /// Locks on the open file that the image was passed as. The super block keeps the file of its
    /// first mount only, so its locks must do for all.
    pub(crate) image_locks: Locks,
    /// Whether the image is pinned, by `digest=`, `signature=` or `signed`: `/proc/mounts` shows
    /// it. Which one it was says nothing of the image: each mount is checked before it looks for a
    /// super block to share.
    pub(crate) pinned: bool,
    /// Whether escaped xattrs are shown as they are stored.
    pub(crate) escaped: bool,
    /// The basedirs, in order.
    pub(crate) basedirs: KVec<Identity>,
    /// The mounter.
    pub(crate) mounter: Mounter,
}

/// The mounter's credentials. They are equal if they have the same rights.
pub(crate) struct Mounter(pub(crate) ARef<Credential>);

impl PartialEq for Mounter {
    fn eq(&self, other: &Self) -> bool {
        cred::same_rights(&self.0, &other.0)
    }
}

impl Eq for Mounter {}
