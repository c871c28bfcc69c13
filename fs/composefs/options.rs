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
use crate::given::{
    escape,
    next_name,
    Given,
    Name, //
};
use crate::image::overlay::Escapes;
use crate::signature::Signatures;
use crate::vfs::{
    context::{
        FsContext,
        Parameter,
        Parsed,
        Value, //
    },
    kernel_file::KernelFile,
    passed_file::PassedFile,
    path::{
        Path,
        PrivateMount, //
    },
    super_block, //
};
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

/// The options of a mount that were given so far.
#[derive(Default)]
pub(crate) struct Options {
    /// `image=`: the image. Without it, the source is the image.
    pub(crate) image: Option<Given>,
    /// The image, if the mounter passed a file descriptor as `source`.
    pub(crate) source: Option<Path>,
    /// The open file, if the mounter passed the image as a file descriptor. The super block keeps
    /// it, so that locks on it hold.
    pub(crate) image_file: Option<PassedFile>,
    /// `basedir=`: directories below which objects are looked up, in order.
    pub(crate) basedirs: KVec<Given>,
    /// `digest=`: the digest that the image must have.
    pub(crate) digest: Option<Digest>,
    /// The last one of `verity`, `tryverity` and `noverity`.
    pub(crate) verity: Option<Verity>,
    /// `escaped`: see [`Escapes::Kept`].
    pub(crate) escaped: bool,
    /// `signature=` and `signed`.
    pub(crate) signatures: Signatures,
}

/// What options of a reconfiguration are compared with.
pub(crate) struct Mounted<'a> {
    /// The options of the mount.
    pub(crate) options: &'a Options,
    /// Which objects are verified.
    pub(crate) verity: Verity,
    /// The name of the image.
    pub(crate) image_name: &'a Name,
    /// The image.
    pub(crate) image: &'a KernelFile,
    /// The digest of the image.
    pub(crate) digest: Option<&'a Digest>,
    /// The basedirs, in order.
    pub(crate) basedirs: &'a [PrivateMount],
}

impl Options {
    /// Parses one option.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a value that is wrong, `ENOMEM`. `fc` gets the message.
    pub(crate) fn parse(&mut self, fc: &FsContext<'_>, param: &Parameter<'_>) -> Result<Parsed> {
        match (param.key.to_bytes(), &param.value) {
            (b"source", Value::File(descriptor)) => {
                self.check_no_image(fc, "source")?;
                let path = descriptor.path();
                fc.set_source(&path.name()?).inspect_err(|_| {
                    fc.error(fmt!("source: more than one image"));
                })?;
                self.source = Some(path);
                self.image_file = descriptor.keep();
            }
            (b"image", Value::String(value)) => {
                self.check_no_image(fc, "image")?;
                let (name, _) = next_name(fc, "image", value, value.to_bytes(), None)?;
                self.image = Some(Given { name, path: None });
            }
            (b"image", Value::File(descriptor)) => {
                self.check_no_image(fc, "image")?;
                self.image = Some(Given::by_descriptor(descriptor)?);
                self.image_file = descriptor.keep();
            }
            (b"basedir", Value::String(value)) => {
                let before = self.basedirs.len();
                self.add_basedirs(fc, value).inspect_err(|_| {
                    // An option that is refused changes nothing.
                    self.basedirs.truncate(before);
                })?;
            }
            (b"basedir", Value::File(descriptor)) => {
                self.add_basedir(fc, Given::by_descriptor(descriptor)?)?;
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
            (b"escaped", Value::Flag) => self.escaped = true,
            (b"image" | b"basedir" | b"digest", Value::Flag) => {
                fc.error(fmt!("{}: needs a value", param.key));
                return Err(EINVAL);
            }
            (b"image" | b"basedir", _) => {
                fc.error(fmt!("{}: takes a string or a file descriptor", param.key));
                return Err(EINVAL);
            }
            (b"digest", _) => {
                fc.error(fmt!("digest: takes a string"));
                return Err(EINVAL);
            }
            (b"verity" | b"tryverity" | b"noverity" | b"escaped", _) => {
                fc.error(fmt!("{}: takes no value", param.key));
                return Err(EINVAL);
            }
            _ => return self.signatures.parse(fc, param),
        }
        Ok(Parsed::Taken)
    }

    /// Returns the name of an option that pins the image, if one was given.
    pub(crate) fn pinned_by(&self) -> Option<&'static str> {
        match &self.digest {
            Some(_) => Some("digest"),
            None => self.signatures.given(),
        }
    }

    /// Checks that no image was given, neither with `image=` nor as a file descriptor.
    fn check_no_image(&self, fc: &FsContext<'_>, option: &str) -> Result {
        let other = match (&self.image, &self.source) {
            (Some(_), _) => "image",
            (None, Some(_)) => "source, as a file descriptor",
            (None, None) => return Ok(()),
        };
        fc.error(fmt!(
            "{option}: more than one image: one was given with {other}"
        ));
        Err(EINVAL)
    }

    /// Adds one basedir.
    fn add_basedir(&mut self, fc: &FsContext<'_>, basedir: Given) -> Result {
        if self.basedirs.len() >= BASEDIRS_MAX {
            fc.error(fmt!("basedir: more than {BASEDIRS_MAX} directories"));
            return Err(EINVAL);
        }
        Ok(self.basedirs.push(basedir, GFP_KERNEL_ACCOUNT)?)
    }

    /// Adds the basedirs of one option, which colons separate.
    fn add_basedirs(&mut self, fc: &FsContext<'_>, value: &CStr) -> Result {
        let mut rest = Some(value.to_bytes());
        while let Some(bytes) = rest {
            let (name, after) = next_name(fc, "basedir", value, bytes, Some(b':'))?;
            self.add_basedir(fc, Given { name, path: None })?;
            rest = after;
        }
        Ok(())
    }

    /// Returns how the names of escaped xattrs are shown.
    pub(crate) fn escapes(&self) -> Escapes {
        match self.escaped {
            true => Escapes::Kept,
            false => Escapes::Removed,
        }
    }

    /// Returns the mode that all options together ask for.
    ///
    /// # Errors
    ///
    /// `EINVAL` if they contradict each other.
    pub(crate) fn effective_verity(&self, fc: &FsContext<'_>) -> Result<Verity> {
        match (self.pinned_by(), self.verity) {
            (None, verity) => Ok(verity.unwrap_or_default()),
            (Some(_), None | Some(Verity::Named | Verity::Required)) => Ok(Verity::Required),
            (Some(option), Some(Verity::Try | Verity::Off)) => {
                fc.error(fmt!(
                    "{option}: implies verity, and excludes tryverity and noverity"
                ));
                Err(EINVAL)
            }
        }
    }

    /// Returns the first option that differs from those of a mounted super block. Options that were
    /// not given do not differ.
    pub(crate) fn changed_from(&self, mounted: &Mounted<'_>) -> Option<&'static str> {
        let Self {
            image,
            // mount(8) passes the source again; the VFS ignores it.
            source: _,
            image_file: _,
            basedirs,
            digest,
            verity: wanted,
            escaped,
            // Signatures of an image that is pinned are checked again.
            signatures,
        } = self;
        let is_pinned = mounted.options.pinned_by().is_some();
        let image_is_same = image.as_ref().is_none_or(|given| {
            given.is(mounted.image_name, |path| mounted.image.is_open_on(path))
        });
        let named = &mounted.options.basedirs;
        let basedirs_are_same = named.len() == basedirs.len()
            && basedirs
                .iter()
                .zip(named.iter().zip(mounted.basedirs))
                .all(|(given, (named, mount))| given.is(&named.name, |path| mount.has_root(path)));
        if !image_is_same {
            Some("image")
        } else if !basedirs.is_empty() && !basedirs_are_same {
            Some("basedir")
        } else if digest.is_some() && !(is_pinned && digest.as_ref() == mounted.digest) {
            Some("digest")
        } else if signatures.given().is_some() && !is_pinned {
            signatures.given()
        } else if wanted.is_some_and(|wanted| wanted != mounted.verity) {
            Some("verity, tryverity or noverity")
        } else if *escaped && !mounted.options.escaped {
            Some("escaped")
        } else {
            None
        }
    }

    /// Drops the paths, which would keep their mounts busy.
    pub(crate) fn drop_paths(&mut self) {
        let Self {
            image,
            source,
            // Like the image itself it keeps the mount busy that the image is on.
            image_file: _,
            basedirs,
            digest: _,
            verity: _,
            escaped: _,
            signatures,
        } = self;
        signatures.drop_paths();
        *source = None;
        if let Some(image) = image {
            image.path = None;
        }
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
            image,
            // The VFS shows the source.
            source: _,
            image_file: _,
            basedirs,
            digest,
            verity,
            escaped,
            signatures,
        } = self;
        if let Some(image) = image {
            super_block::show_option(seq, c"image", Some(&escape(&image.name)?));
        }
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
        if *escaped {
            super_block::show_option(seq, c"escaped", None);
        }
        signatures.show(seq)
    }
}
