// SPDX-License-Identifier: GPL-2.0

//! The options of a mount.
//!
//! They come one by one, from anybody who may call fsopen(2): nothing is looked up here, nothing
//! logged, and what is kept is bounded.

use crate::{
    image::{
        Algorithm,
        Digest, //
    },
    mount::Prepared,
    vfs::{
        context::{
            self,
            FsContext,
            Parameter,
            Parsed,
            Value, //
        },
        cred,
        path::Path,
        super_block::SuperBlock,
        FileSystem, //
    },
    Composefs, //
};
use core::ops::Deref;
use kernel::prelude::*;

/// Most object directories of a mount; overlayfs has the same limit for its layers.
const BASEDIRS_MAX: usize = 500;

/// When the content of a file has to have the digest that the image names.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Verity {
    /// Where the image names one.
    #[default]
    Named,
    /// Always: a file without one cannot be read, unless its content is in the image. Option
    /// `verity`, also set by `digest=`.
    Required,
    /// Where the image names one, unless the object directory's file system has no fs-verity.
    /// Option `tryverity`.
    Try,
    /// Never. Option `noverity`.
    Off,
}

impl Verity {
    /// The option that asks for it.
    pub(crate) fn option(self) -> Option<&'static CStr> {
        match self {
            Self::Named => None,
            Self::Required => Some(c"verity"),
            Self::Try => Some(c"tryverity"),
            Self::Off => Some(c"noverity"),
        }
    }
}

/// A string that a mounter has given, and that is kept: charged to the mounter's memory cgroup,
/// which a [`CString`](kernel::str::CString) is not.
///
/// # Invariants
///
/// The last byte is a NUL, and no other one is.
pub(crate) struct Name(KVec<u8>);

impl Name {
    /// Copies `name`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(name: &CStr) -> Result<Self> {
        let bytes = name.to_bytes_with_nul();
        let mut copy = KVec::with_capacity(bytes.len(), GFP_KERNEL_ACCOUNT)?;
        copy.extend_from_slice(bytes, GFP_KERNEL_ACCOUNT)?;
        // INVARIANT: As a `CStr` has it.
        Ok(Self(copy))
    }
}

impl Deref for Name {
    type Target = CStr;

    fn deref(&self) -> &CStr {
        // By the type invariants it is one.
        CStr::from_bytes_with_nul(&self.0).unwrap_or_default()
    }
}

/// An object directory, as it was given.
pub(crate) struct Basedir {
    /// Its name, for messages and `/proc/mounts`.
    pub(crate) name: Name,
    /// What the file descriptor referred to that it was given as, if it was.
    pub(crate) path: Option<Path>,
}

/// The options of a mount, as far as they have been given.
#[derive(Default)]
pub(crate) struct Options {
    /// What the file descriptor referred to that the image was given as, if it was.
    pub(crate) image: Option<Path>,
    /// Object directories, in the order in which they are searched.
    pub(crate) basedirs: KVec<Basedir>,
    /// The digest that the image itself must have.
    pub(crate) digest: Option<Digest>,
    /// What was asked for by `verity`, `tryverity` or `noverity`; the last one counts.
    pub(crate) verity: Option<Verity>,
    /// What [`crate::mount`] has made of them.
    pub(crate) prepared: Option<Prepared>,
}

impl context::Operations for Composefs {
    fn parse_param(
        fc: &FsContext<'_>,
        options: &mut Options,
        param: &Parameter<'_>,
    ) -> Result<Parsed> {
        // The VFS would refuse it as well, without a word.
        if !Self::allows_user_namespaces() && !cred::is_admin() {
            fc.error(fmt!(
                "only root may mount, unless the module is loaded with userns_mount=1"
            ));
            return Err(EPERM);
        }
        match (param.key.to_bytes(), &param.value) {
            (b"source", Value::Path(path)) => {
                fc.set_source(path.name()?).inspect_err(|_| {
                    fc.error(fmt!("source: more than one image"));
                })?;
                options.image = Some(path.clone());
            }
            (b"basedir", Value::String(value)) => {
                let before = options.basedirs.len();
                add_basedirs(fc, options, value).inspect_err(|_| {
                    // An option that is refused changes nothing.
                    options.basedirs.truncate(before);
                })?;
            }
            (b"basedir", Value::Path(path)) => {
                let name = Name::new(&path.name()?)?;
                let path = Some(path.clone());
                add_basedir(fc, options, Basedir { name, path })?;
            }
            (b"digest", Value::String(value)) => {
                let Some(digest) = parse_digest(value.to_bytes()) else {
                    fc.error(fmt!(
                        "digest: expected 64 or 128 hexadecimal digits, not '{value}'"
                    ));
                    return Err(EINVAL);
                };
                options.digest = Some(digest);
            }
            (b"verity", Value::Flag) => options.verity = Some(Verity::Required),
            (b"tryverity", Value::Flag) => options.verity = Some(Verity::Try),
            (b"noverity", Value::Flag) => options.verity = Some(Verity::Off),
            (b"basedir" | b"digest", _) => {
                fc.error(fmt!("{}: needs a value", param.key));
                return Err(EINVAL);
            }
            (b"verity" | b"tryverity" | b"noverity", _) => {
                fc.error(fmt!("{}: takes no value", param.key));
                return Err(EINVAL);
            }
            _ => return Ok(Parsed::Unknown),
        }
        Ok(Parsed::Taken)
    }

    /// Accepts the options that the mount has: mount(8) gives them all when it changes a flag.
    fn reconfigure(fc: &FsContext<'_>, options: &mut Options, sb: &SuperBlock<Self>) -> Result {
        let has = sb.data().options();
        let changed = if !options.basedirs.is_empty() && !options.same_basedirs(has) {
            "basedir"
        } else if options.digest.is_some() && options.digest != has.digest {
            "digest"
        } else if options
            .verity
            .is_some_and(|verity| verity != sb.data().verity())
        {
            "verity, tryverity or noverity"
        } else {
            return Ok(());
        };
        fc.error(fmt!("{changed}: cannot be changed while mounted"));
        Err(EINVAL)
    }
}

impl Options {
    /// Whether the object directories have the same names in the same order.
    fn same_basedirs(&self, other: &Self) -> bool {
        self.basedirs.len() == other.basedirs.len()
            && self
                .basedirs
                .iter()
                .zip(&other.basedirs)
                .all(|(a, b)| a.name.to_bytes() == b.name.to_bytes())
    }

    /// When digests are checked, all options considered.
    ///
    /// # Errors
    ///
    /// `EINVAL` if they contradict each other.
    pub(crate) fn effective_verity(&self, fc: &FsContext<'_>) -> Result<Verity> {
        match (&self.digest, self.verity) {
            (None, verity) => Ok(verity.unwrap_or_default()),
            (Some(_), None | Some(Verity::Named | Verity::Required)) => Ok(Verity::Required),
            (Some(_), Some(Verity::Try | Verity::Off)) => {
                fc.error(fmt!(
                    "digest: implies verity, and excludes tryverity and noverity"
                ));
                Err(EINVAL)
            }
        }
    }
}

/// Adds an object directory.
fn add_basedir(fc: &FsContext<'_>, options: &mut Options, basedir: Basedir) -> Result {
    if options.basedirs.len() >= BASEDIRS_MAX {
        fc.error(fmt!("basedir: more than {BASEDIRS_MAX} directories"));
        return Err(EINVAL);
    }
    Ok(options.basedirs.push(basedir, GFP_KERNEL_ACCOUNT)?)
}

/// Adds the directories of one `basedir=`: separated by colons, with `\` before a colon or
/// backslash that is part of a name.
fn add_basedirs(fc: &FsContext<'_>, options: &mut Options, value: &CStr) -> Result {
    let mut rest = value.to_bytes().iter().copied();
    loop {
        let mut name = KVec::new();
        let more = loop {
            match rest.next() {
                None => break false,
                Some(b':') => break true,
                Some(b'\\') => match rest.next() {
                    Some(byte) => name.push(byte, GFP_KERNEL)?,
                    None => {
                        fc.error(fmt!("basedir: '{value}' ends in a backslash"));
                        return Err(EINVAL);
                    }
                },
                Some(byte) => name.push(byte, GFP_KERNEL)?,
            }
        };
        if name.is_empty() {
            fc.error(fmt!("basedir: '{value}' has a directory without a name"));
            return Err(EINVAL);
        }
        name.push(0, GFP_KERNEL)?;
        let name = CStr::from_bytes_with_nul(&name).map_err(|_| EINVAL)?;
        let name = Name::new(name)?;
        add_basedir(fc, options, Basedir { name, path: None })?;
        if !more {
            return Ok(());
        }
    }
}

/// Reads a digest: hexadecimal digits, maybe with `sha256:` or `sha512:` before them.
fn parse_digest(text: &[u8]) -> Option<Digest> {
    let (wanted, digits) = if let Some(digits) = text.strip_prefix(b"sha256:") {
        (Some(Algorithm::Sha256), digits)
    } else if let Some(digits) = text.strip_prefix(b"sha512:") {
        (Some(Algorithm::Sha512), digits)
    } else {
        (None, text)
    };
    let algorithm = [Algorithm::Sha256, Algorithm::Sha512]
        .into_iter()
        .find(|algorithm| algorithm.digest_len().checked_mul(2) == Some(digits.len()))?;
    if wanted.is_some_and(|wanted| wanted != algorithm) {
        return None;
    }
    let mut bytes = [0; Digest::MAX];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = hex_digit(*high)? << 4 | hex_digit(*low)?;
    }
    Digest::new(algorithm, bytes.get(..algorithm.digest_len())?)
}

/// The value of one hexadecimal digit.
fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}
