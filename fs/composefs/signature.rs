// SPDX-License-Identifier: GPL-2.0

//! The signature of an image: the options `signature=` and `signed`.
//!
//! A signature is a PKCS#7 message in DER, without content, over the image's digest in the form
//! that fs-verity signs: `struct fsverity_formatted_digest`. It says that the image is one of the
//! signer's, so it pins the image as `digest=` does, which says that it is this one.

use crate::digest::Digest;
use crate::given::{
    escape,
    next_name,
    Given, //
};
use crate::module_parameters::{
    platform_keyring,
    require_signatures,
    secondary_keyring, //
};
use crate::reason::Reason;
use crate::refusal::Refusal;
use crate::vfs::{
    context::{
        FsContext,
        Parameter,
        Parsed,
        Value, //
    },
    cred,
    kernel_file::KernelFile,
    keyring::{
        self,
        Keyring,
        Keys, //
    },
    path::Path,
    super_block,
    verity, //
};
use kernel::{
    cred::Credential,
    prelude::*,
    seq_file::SeqFile, //
};

/// The keyring whose keys are trusted. Root fills and closes it.
pub(crate) const KEYRING: &CStr = c".composefs";

/// Longest signature in bytes. `FS_VERITY_MAX_SIGNATURE_SIZE` of `include/linux/fsverity.h` is the
/// same.
const SIGNATURE_MAX: usize = 16128;

/// Where a signature is.
enum Source {
    /// In a file.
    File {
        given: Given,
        /// What was read, if it was: see [`Source::in_file`].
        read: Option<Result<KVec<u8>, Unread>>,
    },
    /// The mounter has passed the signature itself.
    Bytes(KVec<u8>),
}

impl Source {
    /// A signature in a file. At a remount, the file is read now: later, `s_umount` is held, and
    /// while a read does not end, sync(2) would wait. That it cannot be read is told only if it
    /// has to be.
    fn in_file(fc: &FsContext<'_>, given: Given) -> Result<Self> {
        let read = match fc.is_remount() {
            true => Some(read(&given, &*cred::current()?)),
            false => None,
        };
        Ok(Self::File { given, read })
    }
}

/// The options about signatures that were given.
#[derive(Default)]
pub(crate) struct Signatures {
    /// `signature=`: a signature that is not in the image's file system.
    detached: Option<Source>,
    /// `signed`: the file of the image must have an fs-verity signature of its own.
    built_in: bool,
}

impl Signatures {
    /// Parses one option.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a value that is wrong, `EFBIG` for a signature that is too long, `EOPNOTSUPP`
    /// if the kernel cannot verify what is asked for, the error of the lookup of a path, `ENOMEM`.
    /// `fc` gets the message.
    pub(crate) fn parse(&mut self, fc: &FsContext<'_>, param: &Parameter<'_>) -> Result<Parsed> {
        match (param.key.to_bytes(), &param.value) {
            (b"signature", Value::Flag | Value::Other) => {
                fc.error(fmt!("signature: needs a value"));
                return Err(EINVAL);
            }
            (b"signature", _) if fc.keyring().is_none() => {
                fc.error(fmt!(
                    "signature: this kernel cannot verify signatures: it was built without \
                     CONFIG_SYSTEM_DATA_VERIFICATION"
                ));
                return Err(EOPNOTSUPP);
            }
            (b"signature", Value::String(value)) => {
                let (name, _) = next_name(fc, "signature", value, value.to_bytes(), None)?;
                self.detached = Some(Source::in_file(fc, Given { name, path: None })?);
            }
            (b"signature", Value::File(descriptor)) => {
                let given = Given::by_descriptor(descriptor)?;
                self.detached = Some(Source::in_file(fc, given)?);
            }
            (b"signature", Value::Path(path)) => {
                let given = Given::by_path(path.lookup(fc)?)?;
                self.detached = Some(Source::in_file(fc, given)?);
            }
            (b"signature", Value::Bytes(value)) => {
                if value.len() > SIGNATURE_MAX {
                    fc.error(fmt!("signature: is longer than {SIGNATURE_MAX} bytes"));
                    return Err(EFBIG);
                }
                let mut bytes = KVec::new();
                bytes.extend_from_slice(value, GFP_KERNEL_ACCOUNT)?;
                self.detached = Some(Source::Bytes(bytes));
            }
            (b"signed", Value::Flag) if !verity::CHECKS_SIGNATURES => {
                fc.error(fmt!(
                    "signed: this kernel ignores signatures of fs-verity: it was built without \
                     CONFIG_FS_VERITY_BUILTIN_SIGNATURES"
                ));
                return Err(EOPNOTSUPP);
            }
            (b"signed", Value::Flag) => self.built_in = true,
            (b"signed", _) => {
                fc.error(fmt!("signed: takes no value"));
                return Err(EINVAL);
            }
            _ => return Ok(Parsed::Unknown),
        }
        Ok(Parsed::Taken)
    }

    /// Returns the name of an option that was given, if one was.
    pub(crate) fn given(&self) -> Option<&'static str> {
        match (&self.detached, self.built_in) {
            (Some(_), _) => Some("signature"),
            (None, true) => Some("signed"),
            (None, false) => None,
        }
    }

    /// Whether `/proc/mounts` shows neither of the options, although a signature was given. It
    /// then shows the digest that was signed.
    pub(crate) fn is_hidden(&self) -> bool {
        matches!(
            (&self.detached, self.built_in),
            (Some(Source::Bytes(_)), false)
        )
    }

    /// Drops what only the check needs: a path, which would keep its mount busy, and the bytes.
    pub(crate) fn drop_paths(&mut self) {
        match &mut self.detached {
            Some(Source::File { given, read }) => {
                given.path = None;
                *read = None;
            }
            Some(Source::Bytes(_)) => self.detached = None,
            None => (),
        }
    }

    /// Shows the options in `/proc/mounts`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn show(&self, seq: &SeqFile) -> Result {
        if let Some(Source::File { given, .. }) = &self.detached {
            super_block::show_option(seq, c"signature", Some(&escape(&given.name)?));
        }
        if self.built_in {
            super_block::show_option(seq, c"signed", None);
        }
        Ok(())
    }

    /// Checks an image at a remount. A file of the name that `mounted` has was checked then, and
    /// may be gone now: that of an initramfs, for example. Any other signature is checked.
    ///
    /// # Errors
    ///
    /// As [`Self::check`].
    pub(crate) fn check_again(&self, mounted: &Self, image: &Subject<'_>) -> Result {
        let is_same = match (&self.detached, &mounted.detached) {
            (Some(Source::File { given, .. }), Some(Source::File { given: known, .. })) => {
                given.is(&known.name, |_| false)
            }
            (detached, _) => detached.is_none(),
        };
        if !is_same {
            image.check_detached(self.detached.as_ref())?;
        }
        if self.built_in && !mounted.built_in {
            image.check_built_in()?;
        }
        Ok(())
    }

    /// Checks that an image has the signatures that the options and the module's parameters ask
    /// for. Every mount is checked, also one that shares the super block of another.
    ///
    /// # Errors
    ///
    /// `EPERM` if a signature is required and none was named, `ENODATA` if the image has no digest
    /// or no signature of its own, else the error of [`keyring::verify_detached`] or of reading
    /// the signature. `fc` gets the message.
    pub(crate) fn check(&self, image: &Subject<'_>) -> Result {
        if require_signatures.value() && self.given().is_none() {
            image.fc.alert(fmt!(
                "image {}: is not signed: the module has require_signatures=1, so signature= or \
                 signed must be given",
                image.name
            ));
            return Err(EPERM);
        }
        image.check_detached(self.detached.as_ref())?;
        if self.built_in {
            image.check_built_in()?;
        }
        Ok(())
    }
}

/// An image whose signature is checked.
pub(crate) struct Subject<'a> {
    /// Gets the messages.
    pub(crate) fc: &'a FsContext<'a>,
    /// The name of the image.
    pub(crate) name: &'a CStr,
    /// The file of the image.
    pub(crate) file: &'a KernelFile,
    /// The digest that was measured.
    pub(crate) digest: Option<&'a Digest>,
    /// The mounter's credentials, with which a file with the signature is read.
    pub(crate) credential: &'a Credential,
}

impl Subject<'_> {
    /// Checks the signature of the option `signature=`, if it was given.
    fn check_detached(&self, source: Option<&Source>) -> Result {
        let Some(source) = source else {
            return Ok(());
        };
        let digest = self.digest_for("signature=")?;
        let read_now;
        let signature = match source {
            Source::Bytes(bytes)
            | Source::File {
                read: Some(Ok(bytes)),
                ..
            } => bytes,
            Source::File {
                given,
                read: Some(Err(unread)),
            } => return Err(unread.tell(self.fc, &given.name)),
            Source::File { given, read: None } => {
                read_now = read(given, self.credential)
                    .map_err(|unread| unread.tell(self.fc, &given.name))?;
                &read_now
            }
        };
        let signed = formatted(digest)?;
        verify(self.fc.keyring().ok_or(EOPNOTSUPP)?, &signed, signature).inspect_err(|e| {
            self.fc.alert(fmt!(
                "image {}: signature: {}",
                self.name,
                Refusal {
                    error: *e,
                    digest,
                    signature,
                    keyring: KEYRING,
                }
            ));
        })
    }

    /// Checks that the file of the image has a signature of its own. fs-verity has checked it when
    /// the file was opened, by the keys in the keyring `.fs-verity`.
    fn check_built_in(&self) -> Result {
        self.digest_for("signed")?;
        match self.file.has_verity_signature() {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.fc.alert(fmt!(
                    "image {}: signed: it was given no signature when its fs-verity was enabled",
                    self.name
                ));
                Err(ENODATA)
            }
            Err(e) => {
                self.fc.alert(fmt!(
                    "image {}: signed: its signature cannot be read: {}",
                    self.name,
                    Reason(e)
                ));
                Err(e)
            }
        }
    }

    /// Returns the digest of the image, which the option `option` needs.
    fn digest_for(&self, option: &str) -> Result<&Digest> {
        self.digest.ok_or(ENODATA).inspect_err(|_| {
            self.fc.alert(fmt!(
                "image {}: has no fs-verity digest, so that {option} cannot be checked",
                self.name
            ));
        })
    }
}

/// Why a file with a signature was not read.
#[derive(Clone, Copy)]
enum Unread {
    NotFound(Error),
    NotRegular,
    Failed(Error),
}

impl Unread {
    /// Says so. Returns the error number.
    fn tell(self, fc: &FsContext<'_>, name: &CStr) -> Error {
        match self {
            Self::NotFound(e) => {
                fc.error(fmt!("signature {name}: cannot be found: {}", Reason(e)));
                e
            }
            Self::NotRegular => {
                fc.error(fmt!("signature {name}: is not a regular file"));
                EINVAL
            }
            Self::Failed(EFBIG) => {
                fc.error(fmt!(
                    "signature {name}: is longer than {SIGNATURE_MAX} bytes"
                ));
                EFBIG
            }
            Self::Failed(e) => {
                fc.error(fmt!("signature {name}: cannot be read: {}", Reason(e)));
                e
            }
        }
    }
}

/// Reads a signature from a file.
fn read(given: &Given, credential: &Credential) -> Result<KVec<u8>, Unread> {
    let path = match &given.path {
        Some(path) => path.clone(),
        None => Path::lookup(&given.name).map_err(Unread::NotFound)?,
    };
    if !path.is_regular() {
        return Err(Unread::NotRegular);
    }
    KernelFile::open(&path, credential)
        .and_then(|file| file.read_all(SIGNATURE_MAX))
        .map_err(Unread::Failed)
}

/// What fs-verity signs of a file with the digest `digest`.
///
/// C header: `include/uapi/linux/fsverity.h`: `struct fsverity_formatted_digest`
fn formatted(digest: &Digest) -> Result<KVec<u8>> {
    let bytes = digest.as_bytes();
    let algorithm = u16::from(digest.algorithm().as_raw());
    let len = u16::try_from(bytes.len())?;
    let mut signed = KVec::new();
    signed.extend_from_slice(b"FSVerity", GFP_KERNEL)?;
    signed.extend_from_slice(&algorithm.to_le_bytes(), GFP_KERNEL)?;
    signed.extend_from_slice(&len.to_le_bytes(), GFP_KERNEL)?;
    signed.extend_from_slice(bytes, GFP_KERNEL)?;
    Ok(signed)
}

/// Verifies a signature by the keys that the module's parameters allow. Without a trusted keyring,
/// `verify_pkcs7_signature()` is not called, so that no parser in C gets the signature.
fn verify(own: &Keyring, data: &[u8], signature: &[u8]) -> Result {
    let trusted = [
        (!own.is_empty()).then_some(Keys::In(own)),
        secondary_keyring.value().then_some(Keys::Secondary),
        platform_keyring.value().then_some(Keys::Platform),
    ];
    let mut result = Err(ENOKEY);
    for keys in trusted.iter().flatten() {
        match keyring::verify_detached(data, signature, keys) {
            Ok(()) => return Ok(()),
            // What another keyring says of its key says more.
            Err(ENOKEY) => (),
            Err(e) => result = Err(e),
        }
    }
    result
}
