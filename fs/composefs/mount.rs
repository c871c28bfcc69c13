// SPDX-License-Identifier: GPL-2.0

//! Mounting: the super block and what belongs to it.

use crate::{
    cache::Cache,
    fault::{
        Hex,
        Reason, //
    },
    image::{
        self,
        Image,
        Superblock, //
    },
    inode,
    options::{
        Basedir,
        Name,
        Options,
        Verity, //
    },
    vfs::{
        context::FsContext,
        cred,
        efscorrupted,
        inode::Inode,
        log::Limit,
        path::{
            Identity,
            Path,
            PrivateMount,
            PrivateMounts, //
        },
        private_file::{
            Origin,
            PrivateFile, //
        },
        shrink::Shrink,
        statfs::StatFs,
        super_block::{
            self,
            Attributes,
            NewSuperBlock,
            SuperBlock, //
        },
        verity, //
    },
    Composefs, //
};
use kernel::{
    cred::Credential,
    prelude::*,
    seq_file::SeqFile,
    str::CString,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        }, //
    }, //
};

/// `s_magic` and what statfs(2) answers as the type: the number that begins a composefs image.
pub(crate) const MAGIC: c_ulong = 0xd078_629a;

/// `OVERLAYFS_SUPER_MAGIC` of `include/uapi/linux/magic.h`.
const OVERLAYFS_MAGIC: c_ulong = 0x794c_7630;

/// Longest name in bytes, for statfs(2).
const NAME_MAX: c_long = 255;

/// What a super block has.
pub(crate) struct Mounted {
    image: Image<Cache>,
    /// What tells the image from others; all zeros if nothing does.
    uuid: [u8; 16],
    /// Name of the image, for messages.
    source: Name,
    /// Mounts of our own, with the object directories at their roots.
    basedirs: PrivateMounts,
    verity: Verity,
    options: Options,
    credential: ARef<Credential>,
    shared: Shared,
    limit: Limit,
}

impl Mounted {
    /// The image.
    #[inline]
    pub(crate) fn image(&self) -> &Image<Cache> {
        &self.image
    }

    /// Whether access control lists count. Version 2 does not say whether it has some, and is
    /// mounted by its own tools with them.
    pub(crate) fn has_acl(&self) -> bool {
        has_acl(self.image.superblock())
    }

    /// Name of the image as the mounter gave it, for messages.
    pub(crate) fn source(&self) -> &CStr {
        &self.source
    }

    /// How often something may be said about it.
    pub(crate) fn limit(&self) -> &Limit {
        &self.limit
    }

    /// The object directories, in the order in which they are searched.
    pub(crate) fn basedirs(&self) -> &[PrivateMount] {
        self.basedirs.all()
    }

    /// The options as they were given.
    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// When digests are checked.
    pub(crate) fn verity(&self) -> Verity {
        self.verity
    }

    /// How many objects are open for all who read them.
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The mounter's credentials, with which objects are found and read.
    pub(crate) fn credential(&self) -> &Credential {
        &self.credential
    }
}

/// How many objects of a mount are open for all who read them.
pub(crate) struct Shared(Atomic<u64>);

impl Default for Shared {
    fn default() -> Self {
        Self(Atomic::new(0))
    }
}

impl Shared {
    /// Counts one more, unless there are as many as there may be.
    pub(crate) fn take(&self) -> bool {
        let max = u64::from(crate::module_parameters::shared_objects.value());
        // Who reads what is not among them asks again and again, and is to write nothing then.
        if self.0.load(Relaxed) >= max {
            return false;
        }
        if self.0.fetch_add(1, Relaxed) >= max {
            self.give_back();
            return false;
        }
        true
    }

    /// Counts one less.
    pub(crate) fn give_back(&self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// What makes a super block the one that a second mount asks for, too: the image by its own digest,
/// for a path or an inode number would be no identity, and all that its files depend on. That is
/// also the file system that the image is read from: a mount is not to fail with a disk that it did
/// not name, where another one has the same image.
///
/// The addresses in it are those of things that the super block holds, so that nothing else has
/// them as long as it can be mounted again.
pub(crate) struct Key {
    image: verity::Digest,
    origin: Origin,
    verity: Verity,
    pinned: bool,
    basedirs: KVec<Identity>,
    credential: ARef<Credential>,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.image == other.image
            && self.origin == other.origin
            && self.verity == other.verity
            && self.pinned == other.pinned
            && *self.basedirs == *other.basedirs
            && cred::same_rights(&self.credential, &other.credential)
    }
}

impl Eq for Key {}

/// An image that has been opened and checked, with what belongs to it.
pub(crate) struct Prepared {
    file: Option<PrivateFile>,
    image: Option<Image<Cache>>,
    digest: Option<verity::Digest>,
    source: Name,
    basedirs: PrivateMounts,
    verity: Verity,
    /// One more than the deepest file system below.
    stack_depth: c_int,
    credential: ARef<Credential>,
}

impl super_block::Operations for Composefs {
    fn prepare(fc: &FsContext<'_>, options: &mut Options) -> Result<Option<Key>> {
        if !fc.is_own_user_namespace() {
            fc.error(fmt!("to be mounted by somebody in the same user namespace"));
            return Err(EPERM);
        }
        let verity = options.effective_verity(fc)?;
        let credential = cred::current()?;
        let Some(source) = fc.source().filter(|source| !source.is_empty()) else {
            fc.error(fmt!("no image was given"));
            return Err(EINVAL);
        };
        let source = Name::new(source)?;

        let (file, mut depth) = open_image(fc, &source, options, &credential)?;
        let digest = image_digest(fc, &source, &file, options)?;
        let mut basedirs = PrivateMounts::default();
        let mut identities = KVec::with_capacity(options.basedirs.len(), GFP_KERNEL_ACCOUNT)?;
        for basedir in &options.basedirs {
            let root = open_basedir(fc, basedir, verity, &mut basedirs)?;
            depth = depth.max(root.stack_depth());
            identities.push(root.identity(), GFP_KERNEL_ACCOUNT)?;
        }
        let shareable = digest.filter(|_| !fc.has_security_options());
        let key = shareable.map(|image| Key {
            image,
            origin: file.origin(),
            verity,
            pinned: options.digest.is_some(),
            basedirs: identities,
            credential: credential.clone(),
        });
        options.prepared = Some(Prepared {
            file: Some(file),
            image: None,
            digest,
            source,
            basedirs,
            verity,
            stack_depth: depth.saturating_add(1),
            credential,
        });
        Ok(key)
    }

    fn load(fc: &FsContext<'_>, options: &mut Options) -> Result {
        let prepared = options.prepared.as_mut().ok_or(EINVAL)?;
        let file = prepared.file.take().ok_or(EINVAL)?;
        let cache = Cache::new(file)?;
        let image = Image::open(cache).map_err(|e| bad_image(fc, &prepared.source, e))?;
        prepared.image = Some(image);
        Ok(())
    }

    fn fill_super<'a>(
        fc: &FsContext<'a>,
        options: &mut Options,
        sb: NewSuperBlock<'a, Self>,
    ) -> Result<ARef<Inode<Self>>> {
        let mut options = core::mem::take(options);
        let Prepared {
            file: _,
            image,
            digest,
            source,
            basedirs,
            verity,
            stack_depth,
            credential,
        } = options.prepared.take().ok_or(EINVAL)?;

        // What they referred to has been opened or cloned: keeping it would keep its mount.
        options.image = None;
        for basedir in &mut options.basedirs {
            basedir.path = None;
        }

        let image = image.ok_or(EINVAL)?;
        let superblock = *image.superblock();
        // Image writers leave the UUID out, but the digest is one if ever there was.
        let uuid = digest
            .and_then(|digest| digest.bytes().first_chunk().copied())
            .unwrap_or(superblock.uuid);
        let attributes = Attributes {
            magic: MAGIC,
            posix_acl: has_acl(&superblock),
            stack_depth,
            uuid,
        };
        let mounted = Mounted {
            image,
            uuid,
            source,
            basedirs,
            verity,
            options,
            credential,
            shared: Shared::default(),
            // Who has a user namespace can mount as many images as they like, each with some lines.
            limit: match cred::is_admin() {
                true => Limit::new()?,
                false => Limit::common(),
            },
        };
        let sb = sb.init(&attributes, mounted).inspect_err(|_| {
            fc.error(fmt!("too many file systems on top of each other"));
        })?;
        match inode::get(sb, superblock.root_nid, inode::Place::default())? {
            Some(root) if root.is_dir() => Ok(root),
            _ => Err(efscorrupted()),
        }
    }

    fn statfs(sb: &SuperBlock<Self>) -> Result<StatFs> {
        let mounted = sb.data();
        let superblock = mounted.image.superblock();
        let mut answer = match mounted.basedirs().first() {
            Some(basedir) => basedir.root().statfs()?,
            None => StatFs::full(4096, superblock.blocks.into()),
        };
        let (low, high) = mounted.uuid.split_at(8);
        let half = |bytes: &[u8]| bytes.iter().fold(0, |id, byte| id << 8 | u64::from(*byte));
        let fsid = match half(low) ^ half(high) {
            0 => sb.device(),
            fsid => fsid,
        };
        answer.identify(fsid, MAGIC, NAME_MAX);
        Ok(answer)
    }

    fn cached_objects(sb: &SuperBlock<Self>, shrink: &Shrink<'_>) -> usize {
        sb.data().image().source().mapping().pages_at_hand(shrink)
    }

    fn free_cached_objects(sb: &SuperBlock<Self>, shrink: &Shrink<'_>) -> usize {
        sb.data()
            .image()
            .source()
            .mapping()
            .free_pages_at_hand(shrink)
    }

    fn show_options(sb: &SuperBlock<Self>, seq: &SeqFile) -> Result {
        let mounted = sb.data();
        for basedir in &mounted.options.basedirs {
            let escaped = escape_basedir(&basedir.name)?;
            super_block::show_option(seq, c"basedir", Some(&escaped));
        }
        if let Some(digest) = &mounted.options.digest {
            let hex = Hex {
                algorithm: digest.algorithm().as_raw(),
                bytes: digest.as_bytes(),
            };
            let text = CString::try_from_fmt(fmt!("{hex}"))?;
            super_block::show_option(seq, c"digest", Some(&text));
        }
        if let Some(option) = mounted.options.verity.and_then(Verity::option) {
            super_block::show_option(seq, option, None);
        }
        Ok(())
    }
}

/// See [`Mounted::has_acl`].
fn has_acl(superblock: &Superblock) -> bool {
    superblock.has_acl || superblock.composefs_version == 2
}

/// Opens the image. Returns it and the depth of its file system in a stack.
fn open_image(
    fc: &FsContext<'_>,
    source: &CStr,
    options: &Options,
    credential: &Credential,
) -> Result<(PrivateFile, c_int)> {
    let path = match &options.image {
        Some(path) => path.clone(),
        None => Path::lookup(source).inspect_err(|e| {
            fc.error(fmt!("image {source}: cannot be found: {}", Reason(*e)));
        })?,
    };
    if !path.is_regular() && !path.is_block_device() {
        fc.error(fmt!(
            "image {source}: is neither a regular file nor a block device"
        ));
        return Err(EINVAL);
    }
    let file = PrivateFile::open(&path, credential).inspect_err(|e| {
        if *e == EBUSY {
            fc.error(fmt!(
                "image {source}: is busy: mounted by another file system, part of another device, \
                 or open for writing"
            ));
        } else {
            fc.error(fmt!("image {source}: cannot be opened: {}", Reason(*e)));
        }
    })?;
    Ok((file, path.stack_depth()))
}

/// Returns the image's own digest, if it has one, and checks it, if one was asked for.
fn image_digest(
    fc: &FsContext<'_>,
    source: &CStr,
    file: &PrivateFile,
    options: &Options,
) -> Result<Option<verity::Digest>> {
    let found = file.verity_digest().inspect_err(|e| {
        fc.error(fmt!(
            "image {source}: its digest cannot be read: {}",
            Reason(*e)
        ));
    })?;
    let Some(expected) = &options.digest else {
        return Ok(found);
    };
    let expected = Hex {
        algorithm: expected.algorithm().as_raw(),
        bytes: expected.as_bytes(),
    };
    let Some(found) = found else {
        fc.error(fmt!(
            "image {source}: has no fs-verity digest, so that digest= cannot be checked"
        ));
        return Err(ENODATA);
    };
    if found.algorithm != expected.algorithm || found.bytes() != expected.bytes {
        let found = Hex {
            algorithm: found.algorithm,
            bytes: found.bytes(),
        };
        fc.error(fmt!(
            "image {source}: wrong fs-verity digest: expected {expected}, found {found}"
        ));
        return Err(EIO);
    }
    Ok(Some(found))
}

/// Makes an object directory one of ours, and returns it as our mount has it.
fn open_basedir(
    fc: &FsContext<'_>,
    basedir: &Basedir,
    verity: Verity,
    ours: &mut PrivateMounts,
) -> Result<Path> {
    let name: &CStr = &basedir.name;
    let path = match &basedir.path {
        Some(path) => path.clone(),
        None => Path::lookup(name).inspect_err(|e| {
            fc.error(fmt!("basedir {name}: cannot be found: {}", Reason(*e)));
        })?,
    };
    if !path.is_directory() {
        fc.error(fmt!("basedir {name}: is not a directory"));
        return Err(ENOTDIR);
    }
    if path.magic() == OVERLAYFS_MAGIC && matches!(verity, Verity::Named | Verity::Required) {
        fc.error(fmt!(
            "basedir {name}: is on overlayfs, where digests cannot be verified (see noverity)"
        ));
        return Err(EINVAL);
    }
    let mount = ours.add(&path).inspect_err(|e| {
        if *e == EINVAL {
            fc.error(fmt!(
                "basedir {name}: its mount cannot be cloned: it is unbindable, not of this mount \
                 namespace, or hides what this user namespace may not uncover"
            ));
        } else {
            fc.error(fmt!(
                "basedir {name}: its mount cannot be cloned: {}",
                Reason(*e)
            ));
        }
    })?;
    Ok(mount.root())
}

/// The error for who mounts an image that cannot be read.
fn bad_image(fc: &FsContext<'_>, source: &CStr, error: image::Error<Error>) -> Error {
    match error {
        image::Error::Source(e) => {
            fc.error(fmt!("image {source}: cannot be read: {}", Reason(e)));
            e
        }
        image::Error::Corrupt(corrupt) => {
            fc.error(fmt!(
                "image {source}: {} (at byte {})",
                corrupt.what,
                corrupt.at
            ));
            efscorrupted()
        }
    }
}

/// The name of an object directory as it has to be written in an option: see
/// [`crate::options`].
fn escape_basedir(name: &CStr) -> Result<CString> {
    let mut escaped = KVec::new();
    for byte in name.to_bytes() {
        if matches!(byte, b':' | b',' | b'\\') {
            escaped.push(b'\\', GFP_KERNEL)?;
        }
        escaped.push(*byte, GFP_KERNEL)?;
    }
    escaped.push(0, GFP_KERNEL)?;
    let escaped = CStr::from_bytes_with_nul(&escaped).map_err(|_| EINVAL)?;
    Ok(CString::try_from(escaped)?)
}
