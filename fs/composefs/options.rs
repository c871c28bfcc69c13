// SPDX-License-Identifier: GPL-2.0

//! Mount options: parsing, comparing and showing them.
//!
//! Any task that may call fsopen(2) can pass options. Parsing them looks nothing up and writes
//! nothing to the kernel log, and what is kept of them is bounded.
//!
//! To add an option, add a field to [`Options`] and parse it in [`Options::parse`]. The functions
//! that must know every option ([`Options::changed_from`] for a reconfiguration, [`Options::show`]
//! for `/proc/mounts`, [`Options::drop_paths`] for a mounted super block) and `mount::prepare`,
//! which makes the key under which mounts share a super block, destructure it, and do not compile
//! until they handle the new field.

use crate::digest::{
    self,
    Digest, //
};
use crate::vfs::{
    context::{
        FsContext,
        Parameter,
        Parsed,
        Value, //
    },
    path::Path,
    super_block, //
};
use core::ops::Deref;
use kernel::{
    prelude::*,
    seq_file::SeqFile,
    str::CString, //
};

/// Largest number of basedirs of a mount. overlayfs has the same limit, `OVL_MAX_STACK`.
const BASEDIRS_MAX: usize = 500;

/// Which objects must have the digest that the image names.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Verity {
    /// Every object for which the image names a digest.
    #[default]
    Named,
    /// Every object, and the image must name a digest for each. Option `verity`, which `digest=`
    /// implies. Files whose content is in the image need no digest.
    Required,
    /// As [`Self::Named`], except for objects on a file system without fs-verity. Option
    /// `tryverity`.
    Try,
    /// None. Option `noverity`.
    Off,
}

impl Verity {
    /// Returns the name of the option.
    pub(crate) fn option(self) -> Option<&'static CStr> {
        match self {
            Self::Named => None,
            Self::Required => Some(c"verity"),
            Self::Try => Some(c"tryverity"),
            Self::Off => Some(c"noverity"),
        }
    }
}

/// A string from the mounter, charged to the mounter's memory cgroup. A
/// [`CString`](kernel::str::CString) is not charged.
///
/// # Invariants
///
/// The last byte is a NUL, and there is no other NUL.
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
        // INVARIANT: The bytes are those of a `CStr`.
        Ok(Self(copy))
    }
}

impl Deref for Name {
    type Target = CStr;

    fn deref(&self) -> &CStr {
        // Cannot fail, by the type invariants.
        CStr::from_bytes_with_nul(&self.0).unwrap_or_default()
    }
}

/// One `basedir=`: a directory below which objects are looked up.
pub(crate) struct Basedir {
    /// The path as the mounter wrote it, for messages and `/proc/mounts`.
    pub(crate) name: Name,
    /// The directory itself, if the mounter passed a file descriptor.
    pub(crate) path: Option<Path>,
}

/// The options of a mount that were given so far.
#[derive(Default)]
pub(crate) struct Options {
    /// The image, if the mounter passed a file descriptor as `source`.
    pub(crate) image: Option<Path>,
    /// Basedirs in the order in which they are searched.
    pub(crate) basedirs: KVec<Basedir>,
    /// `digest=`: the digest that the image must have.
    pub(crate) digest: Option<Digest>,
    /// The last one of `verity`, `tryverity` and `noverity`.
    pub(crate) verity: Option<Verity>,
}

impl Options {
    /// Parses one option.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a value that is wrong, `ENOMEM`. `fc` gets the message.
    pub(crate) fn parse(&mut self, fc: &FsContext<'_>, param: &Parameter<'_>) -> Result<Parsed> {
        match (param.key.to_bytes(), &param.value) {
            (b"source", Value::Path(path)) => {
                fc.set_source(path.name()?).inspect_err(|_| {
                    fc.error(fmt!("source: more than one image"));
                })?;
                self.image = Some(path.clone());
            }
            (b"basedir", Value::String(value)) => {
                let before = self.basedirs.len();
                self.add_basedirs(fc, value).inspect_err(|_| {
                    // An option that is refused changes nothing.
                    self.basedirs.truncate(before);
                })?;
            }
            (b"basedir", Value::Path(path)) => {
                let name = Name::new(&path.name()?)?;
                let path = Some(path.clone());
                self.add_basedir(fc, Basedir { name, path })?;
            }
            (b"digest", Value::String(value)) => {
                let Some(digest) = digest::parse(value.to_bytes()) else {
                    fc.error(fmt!(
                        "digest: expected 64 or 128 hexadecimal digits, not '{value}'"
                    ));
                    return Err(EINVAL);
                };
                self.digest = Some(digest);
            }
            (b"verity", Value::Flag) => self.verity = Some(Verity::Required),
            (b"tryverity", Value::Flag) => self.verity = Some(Verity::Try),
            (b"noverity", Value::Flag) => self.verity = Some(Verity::Off),
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

    /// Adds one basedir.
    fn add_basedir(&mut self, fc: &FsContext<'_>, basedir: Basedir) -> Result {
        if self.basedirs.len() >= BASEDIRS_MAX {
            fc.error(fmt!("basedir: more than {BASEDIRS_MAX} directories"));
            return Err(EINVAL);
        }
        Ok(self.basedirs.push(basedir, GFP_KERNEL_ACCOUNT)?)
    }

    /// Adds the basedirs of one option, which colons separate. A backslash makes the next byte
    /// part of a name. [`escape`] is the inverse.
    fn add_basedirs(&mut self, fc: &FsContext<'_>, value: &CStr) -> Result {
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
            self.add_basedir(fc, Basedir { name, path: None })?;
            if !more {
                return Ok(());
            }
        }
    }

    /// Returns the mode that all options together ask for.
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

    /// Returns the first option that differs from those of a mounted super block, `mounted`, whose
    /// effective mode is `verity`. Options that were not given do not differ.
    pub(crate) fn changed_from(&self, mounted: &Self, verity: Verity) -> Option<&'static str> {
        let Self {
            // mount(8) passes the source again; the VFS ignores it.
            image: _,
            basedirs,
            digest,
            verity: wanted,
        } = self;
        if !basedirs.is_empty() && !same_names(basedirs, &mounted.basedirs) {
            Some("basedir")
        } else if digest.is_some() && *digest != mounted.digest {
            Some("digest")
        } else if wanted.is_some_and(|wanted| wanted != verity) {
            Some("verity, tryverity or noverity")
        } else {
            None
        }
    }

    /// Drops the paths, which would keep their mounts busy.
    pub(crate) fn drop_paths(&mut self) {
        let Self {
            image,
            basedirs,
            digest: _,
            verity: _,
        } = self;
        *image = None;
        for basedir in basedirs {
            basedir.path = None;
        }
    }

    /// Shows the options in `/proc/mounts`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn show(&self, seq: &SeqFile) -> Result {
        let Self {
            // The VFS shows the source.
            image: _,
            basedirs,
            digest,
            verity,
        } = self;
        for basedir in basedirs {
            super_block::show_option(seq, c"basedir", Some(&escape(&basedir.name)?));
        }
        if let Some(digest) = digest {
            let text = CString::try_from_fmt(fmt!("{digest}"))?;
            super_block::show_option(seq, c"digest", Some(&text));
        }
        if let Some(option) = verity.and_then(Verity::option) {
            super_block::show_option(seq, option, None);
        }
        Ok(())
    }
}

/// Whether two lists have the same names in the same order.
fn same_names(a: &[Basedir], b: &[Basedir]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| a.name.to_bytes() == b.name.to_bytes())
}

/// Escapes the name of a basedir for an option. A comma separates options.
fn escape(name: &CStr) -> Result<CString> {
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
