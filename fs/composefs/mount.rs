// SPDX-License-Identifier: GPL-2.0

//! Mounting: from a file system context to a filled super block.

use crate::vfs::{
    context::{
        self,
        FsContext,
        Parameter,
        Parsed, //
    },
    cred,
    inode::InodeRef,
    kernel_file::KernelFile,
    log::Limit,
    passed_file::{
        Locks,
        PassedFile, //
    },
    path::{
        Identity,
        Path,
        PrivateMount,
        PrivateMounts, //
    },
    stacking::Stacking,
    statfs::StatFs,
    super_block::{
        self,
        Attributes,
        NewSuperBlock,
        SuperBlock, //
    },
    FileSystem, //
};
use crate::{
    cache::Cache,
    digest::{
        self,
        Digest, //
    },
    given::{
        Given,
        Name, //
    },
    image::{
        self,
        Image, //
    },
    inode,
    options::{
        Mounted,
        Options,
        Verity, //
    },
    reason::Reason,
    sb,
    sb::{
        Key,
        Mounter,
        SbInfo,
        SharedObjects, //
    },
    signature::Subject,
    Composefs, //
};
use kernel::{
    cred::Credential,
    prelude::*,
    seq_file::SeqFile,
    sync::aref::ARef, //
};

/// `s_magic`, and the type that statfs(2) returns: the number that begins a composefs image.
pub(crate) const MAGIC: c_ulong = 0xd078_629a;

/// `OVERLAYFS_SUPER_MAGIC` of `include/uapi/linux/magic.h`.
const OVERLAYFS_MAGIC: c_ulong = 0x794c_7630;

/// Longest name in bytes, for statfs(2).
const NAME_MAX: c_long = 255;

/// Data of a file system context: `fs_private`.
#[derive(Default)]
pub(crate) struct Context {
    options: Options,
    /// Set by `prepare`, used by `load` and `fill_super`.
    prepared: Option<Prepared>,
}

/// What the options refer to, opened and checked.
struct Prepared {
    image: PreparedImage,
    digest: Option<Digest>,
    image_name: Name,
    /// The basedirs, in order, and their identities, which the key has. Their mounts are cloned
    /// only if no super block can be shared: this takes an RCU grace period to undo.
    paths: KVec<(Path, Identity)>,
    basedirs: PrivateMounts,
    verity: Verity,
    /// `s_stack_depth`: one more than the deepest file system below.
    stack_depth: c_int,
    credential: ARef<Credential>,
}

/// An image that is being mounted.
enum PreparedImage {
    /// Its file is open.
    File(KernelFile),
    /// Its superblock was read.
    Loaded(Image<Cache>),
    /// Reading its superblock has failed.
    Failed,
}

impl context::Operations for Composefs {
    fn parse_param(
        fc: &FsContext<'_>,
        context: &mut Context,
        param: &Parameter<'_>,
    ) -> Result<Parsed> {
        // The VFS refuses it later, without a message.
        if !Self::allows_user_namespaces() && !cred::is_admin() {
            fc.error(fmt!(
                "only root may mount, unless the module is loaded with userns_mount=1"
            ));
            return Err(EPERM);
        }
        context.options.parse(fc, param)
    }

    /// Accepts the options that the mount has: mount(8) passes all of them to change a flag.
    fn reconfigure(fc: &FsContext<'_>, context: &mut Context, sb: &SuperBlock<Self>) -> Result {
        let sbi = sb.data();
        let mounted = Mounted {
            options: &sbi.options,
            verity: sbi.verity,
            image_name: &sbi.image_name,
            image: sbi.image.source().file(),
            digest: sbi.digest.as_ref(),
            basedirs: sbi.basedirs(),
        };
        if let Some(changed) = context.options.changed_from(&mounted) {
            fc.error(fmt!("{changed}: cannot be changed while mounted"));
            return Err(EINVAL);
        }
        let image = Subject {
            fc,
            name: &sbi.image_name,
            file: mounted.image,
            digest: mounted.digest,
            credential: &*cred::current()?,
        };
        let signatures = &context.options.signatures;
        signatures.check_again(&sbi.options.signatures, &image)
    }
}

#[vtable]
impl super_block::Operations for Composefs {
    fn prepare(fc: &FsContext<'_>, context: &mut Context) -> Result<Option<Key>> {
        if !fc.is_own_user_namespace() {
            fc.error(fmt!("fs context was created in a different user namespace"));
            return Err(EPERM);
        }
        let options = &context.options;
        let verity = options.effective_verity(fc)?;
        // Every option must be part of the key.
        let Options {
            image,
            source,
            image_file,
            basedirs: named_basedirs,
            digest: expected,
            verity: _,
            escaped,
            signatures,
        } = options;
        let credential = cred::current()?;
        let (name, path) = match (image, fc.source()) {
            (Some(_), Some(label)) if label.is_empty() => {
                fc.error(fmt!("source: is empty: with image it may be left out"));
                return Err(EINVAL);
            }
            (Some(image), label) => {
                if label.is_none() {
                    fc.set_source(&image.name)?;
                }
                (&*image.name, image.path.as_ref())
            }
            (None, Some(name)) if !name.is_empty() => (name, source.as_ref()),
            (None, _) => {
                fc.error(fmt!("no image was given"));
                return Err(EINVAL);
            }
        };
        let image_name = Name::new(name)?;
        let image_option = image.as_ref().map(|_| Name::new(name)).transpose()?;

        let (file, mut depth) = open_image(fc, &image_name, path, &credential)?;
        let digest = image_digest(fc, &image_name, &file, expected.as_ref())?;
        signatures.check(&Subject {
            fc,
            name: &image_name,
            file: &file,
            digest: digest.as_ref(),
            credential: &credential,
        })?;
        let mut paths = KVec::with_capacity(named_basedirs.len(), GFP_KERNEL_ACCOUNT)?;
        let mut identities = KVec::with_capacity(named_basedirs.len(), GFP_KERNEL_ACCOUNT)?;
        for basedir in named_basedirs {
            let path = find_basedir(fc, basedir, verity)?;
            depth = depth.max(path.stack_depth());
            let identity = path.identity();
            identities.push(identity, GFP_KERNEL_ACCOUNT)?;
            paths.push((path, identity), GFP_KERNEL_ACCOUNT)?;
        }
        let shareable = digest.filter(|_| !fc.has_security_options());
        let key = shareable.map(|image| Key {
            image,
            origin: file.origin(),
            verity,
            image_option,
            image_locks: image_file.as_ref().map_or(Locks::None, PassedFile::locks),
            pinned: options.pinned_by().is_some(),
            escaped: *escaped,
            basedirs: identities,
            mounter: Mounter(credential.clone()),
        });
        context.prepared = Some(Prepared {
            image: PreparedImage::File(file),
            digest,
            image_name,
            paths,
            basedirs: PrivateMounts::default(),
            verity,
            // OVERFLOW: Cannot happen: the depth is at most `FILESYSTEM_MAX_STACK_DEPTH`.
            stack_depth: depth.saturating_add(1),
            credential,
        });
        Ok(key)
    }

    fn load(fc: &FsContext<'_>, context: &mut Context) -> Result {
        let prepared = context.prepared.as_mut().ok_or(EINVAL)?;
        for (given, (path, identity)) in context.options.basedirs.iter().zip(&prepared.paths) {
            let mount = clone_basedir(fc, &given.name, path, &mut prepared.basedirs)?;
            // It was remounted meanwhile.
            if mount.root().identity() != *identity {
                fc.error(fmt!(
                    "basedir {}: its mount has changed meanwhile: try again",
                    &*given.name
                ));
                return Err(EBUSY);
            }
        }
        let image = core::mem::replace(&mut prepared.image, PreparedImage::Failed);
        let PreparedImage::File(file) = image else {
            return Err(EINVAL);
        };
        let image = Image::open(Cache::new(file)?);
        let image = image.map_err(|e| image_error(fc, &prepared.image_name, e))?;
        prepared.image = PreparedImage::Loaded(image);
        Ok(())
    }

    fn fill_super<'a>(
        fc: &FsContext<'a>,
        context: &mut Context,
        sb: NewSuperBlock<'a, Self>,
    ) -> Result<InodeRef<'a, Self>> {
        let Context {
            mut options,
            prepared,
        } = core::mem::take(context);
        let Prepared {
            image,
            digest,
            image_name,
            paths: _,
            basedirs,
            verity,
            stack_depth,
            credential,
        } = prepared.ok_or(EINVAL)?;
        let PreparedImage::Loaded(image) = image else {
            return Err(EINVAL);
        };
        if options.signatures.is_hidden() && options.digest.is_none() {
            options.digest = digest;
        }
        options.drop_paths();

        let superblock = *image.superblock();
        // Writers of images leave the UUID out.
        let uuid = digest
            .and_then(|digest| digest.as_bytes().first_chunk().copied())
            .unwrap_or(superblock.uuid);
        let attributes = Attributes {
            magic: MAGIC,
            block_bits: image::BLOCK_BITS,
            posix_acl: sb::has_acl(&superblock),
            stacking: Some(Stacking::new(stack_depth)),
            uuid,
        };
        // A user namespace can mount any number of images: all of them share one limit.
        let limit = match cred::is_admin() {
            true => Limit::new()?,
            false => Limit::common(),
        };
        let sbi = try_init!(SbInfo {
            image,
            uuid,
            digest,
            image_name,
            basedirs,
            verity,
            options,
            credential,
            shared_objects: SharedObjects::default(),
            limit,
        });
        let sb = sb.init(&attributes, sbi).inspect_err(|_| {
            fc.error(fmt!("too many file systems on top of each other"));
        })?;
        match inode::get(sb, superblock.root_nid, inode::Location::default())? {
            Some(root) if root.is_dir() => Ok(root),
            _ => Err(EFSCORRUPTED),
        }
    }

    fn statfs(sb: &SuperBlock<Self>) -> Result<StatFs> {
        let sbi = sb.data();
        let mut statfs = match sbi.basedirs().first() {
            Some(basedir) => basedir.root().statfs()?,
            None => {
                // Cannot fail: it is 4096.
                let block_size = c_long::try_from(image::BLOCK_SIZE).unwrap_or(c_long::MAX);
                StatFs::full(block_size, sbi.image.superblock().blocks.into())
            }
        };
        let (low, high) = sbi.uuid.split_at(8);
        let half = |bytes: &[u8]| bytes.iter().fold(0, |id, byte| id << 8 | u64::from(*byte));
        let fsid = match half(low) ^ half(high) {
            0 => sb.device().into(),
            fsid => fsid,
        };
        statfs.identify(fsid, MAGIC, NAME_MAX);
        Ok(statfs)
    }

    fn show_options(sb: &SuperBlock<Self>, seq: &SeqFile) -> Result {
        sb.data().options.show(seq)
    }
}

/// Opens the image: what `name` names, unless the mounter passed a file descriptor. Returns also
/// the `s_stack_depth` of its file system.
fn open_image(
    fc: &FsContext<'_>,
    name: &CStr,
    path: Option<&Path>,
    credential: &Credential,
) -> Result<(KernelFile, c_int)> {
    let path = match path {
        Some(path) => path.clone(),
        None => Path::lookup(name).inspect_err(|e| {
            fc.error(fmt!("image {name}: cannot be found: {}", Reason(*e)));
        })?,
    };
    if !path.is_regular() && !path.is_block_device() {
        fc.error(fmt!(
            "image {name}: is neither a regular file nor a block device"
        ));
        return Err(EINVAL);
    }
    let file = KernelFile::open(&path, credential).inspect_err(|e| {
        if *e == EBUSY {
            fc.error(fmt!(
                "image {name}: is busy: mounted by another file system, part of another device, \
                 or open for writing"
            ));
        } else {
            fc.error(fmt!("image {name}: cannot be opened: {}", Reason(*e)));
        }
    })?;
    Ok((file, path.stack_depth()))
}

/// Measures the digest of the image, and compares it with the one of `digest=`. `None` if the image
/// has no digest and none was expected.
fn image_digest(
    fc: &FsContext<'_>,
    name: &CStr,
    file: &KernelFile,
    expected: Option<&Digest>,
) -> Result<Option<Digest>> {
    let measured = file.verity_digest().inspect_err(|e| {
        fc.error(fmt!(
            "image {name}: its digest cannot be read: {}",
            Reason(*e)
        ));
    })?;
    let found = measured.as_ref().and_then(digest::from_verity);
    let Some(expected) = expected else {
        return Ok(found);
    };
    let Some(found) = found else {
        fc.alert(fmt!(
            "image {name}: has no fs-verity digest, so that digest= cannot be checked"
        ));
        return Err(ENODATA);
    };
    if found != *expected {
        fc.alert(fmt!(
            "image {name}: wrong fs-verity digest: expected {expected}, found {found}"
        ));
        return Err(EIO);
    }
    Ok(Some(found))
}

/// Finds a basedir.
fn find_basedir(fc: &FsContext<'_>, basedir: &Given, verity: Verity) -> Result<Path> {
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
    Ok(path)
}

/// Clones the mount of the basedir at `path` into `mounts`, with the basedir as its root.
fn clone_basedir<'a>(
    fc: &FsContext<'_>,
    name: &CStr,
    path: &Path,
    mounts: &'a mut PrivateMounts,
) -> Result<&'a PrivateMount> {
    mounts.add(path).inspect_err(|e| {
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
    })
}

/// Tells the mounter why the image cannot be mounted, and converts the error.
fn image_error(fc: &FsContext<'_>, name: &CStr, error: image::Error<Error>) -> Error {
    match error {
        image::Error::Source(e) => {
            fc.error(fmt!("image {name}: cannot be read: {}", Reason(e)));
            e
        }
        image::Error::Corrupt(corrupt) => {
            fc.error(fmt!(
                "image {name}: {} (at byte {})",
                corrupt.what,
                corrupt.at
            ));
            EFSCORRUPTED
        }
    }
}
