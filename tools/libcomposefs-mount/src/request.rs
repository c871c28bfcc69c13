// SPDX-License-Identifier: GPL-2.0 OR MIT

//! What a caller asks for, and doing it.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::path::Path;

use composefs_mount::Digest;
use composefs_mount::Error;
use composefs_mount::Location;
use composefs_mount::MountAttrFlags;
use composefs_mount::MountOptions;
use composefs_mount::Verity;
use rustix::fs::CWD;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::abi;
use crate::abi::Options;

/// The source of the mount, as libcomposefs sets it. Programs may look for it.
const SOURCE: &str = "composefs";

/// `ENOVERITY` and `EWRONGVERITY` of `lcfs-mount.h`.
const NO_VERITY: Errno = Errno::NOTTY;
const WRONG_VERITY: Errno = Errno::ILSEQ;

/// Options that have been read and checked.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    objdirs: Vec<&'a Path>,
    /// The upper and the work directory.
    upper: Option<(&'a Path, &'a Path)>,
    digest: Option<Digest>,
    flags: u32,
    idmap: Option<BorrowedFd<'a>>,
    image_mountdir: Option<&'a Path>,
}

impl<'a> Request<'a> {
    /// Reads and checks the options. libcomposefs does that before it opens the image.
    ///
    /// # Safety
    ///
    /// `options` is null or points to [`Options`] whose pointers are null or as in `lcfs-mount.h`.
    /// All that they point to, and the file descriptor in them, stays valid for `'a`.
    pub(crate) unsafe fn read(options: *const Options) -> Result<Self, Errno> {
        // SAFETY: by the caller's promise.
        let options = unsafe { options.as_ref() }.ok_or(Errno::INVAL)?;
        if options.flags & !abi::MASK != 0 || options.n_objdirs == 0 {
            return Err(Errno::INVAL);
        }
        // SAFETY: by the caller's promise.
        let objdirs = unsafe { abi::paths(options.objdirs, options.n_objdirs) };
        // SAFETY: by the caller's promise.
        let pair = unsafe { (abi::path(options.upperdir), abi::path(options.workdir)) };
        let upper = match pair {
            (Some(upper), Some(work)) => Some((upper, work)),
            (None, None) => None,
            _ => return Err(Errno::INVAL),
        };
        // SAFETY: by the caller's promise.
        let digest = match unsafe { abi::path(options.expected_fsverity_digest) } {
            Some(text) => Some(digest(text)?),
            None => None,
        };
        let idmap = if options.flags & abi::IDMAP == 0 {
            None
        } else {
            // SAFETY: by the caller's promise.
            Some(unsafe { abi::descriptor(options.idmap_fd) }.ok_or(Errno::INVAL)?)
        };
        Ok(Self {
            objdirs: objdirs.ok_or(Errno::INVAL)?,
            upper,
            digest,
            flags: options.flags,
            idmap,
            // SAFETY: by the caller's promise.
            image_mountdir: unsafe { abi::path(options.image_mountdir) },
        })
    }

    /// Mounts an image.
    pub(crate) fn mount(&self, image: Location<'_>, mountpoint: &Path) -> Result<(), Errno> {
        let opened;
        let image = match image {
            Location::Path(path) => {
                // O_NONBLOCK: an open of a FIFO would wait for a writer.
                let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
                opened = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
                opened.as_fd()
            }
            Location::Fd(fd) => fd,
        };
        let mut options = MountOptions::new(image).source(SOURCE);
        for objdir in &self.objdirs {
            options = options.basedir(*objdir);
        }
        options = match (self.flag(abi::REQUIRE_VERITY), self.digest) {
            (true, Some(digest)) => options.digest(digest),
            (true, None) => options.verity(Verity::Required),
            (false, digest) => {
                // The digest says something about the image only, not about its objects.
                if let Some(digest) = digest {
                    compare(image, digest)?;
                }
                options.verity(match self.flag(abi::TRY_VERITY) {
                    true => Verity::Try,
                    false => Verity::Off,
                })
            }
        };
        if let Some((upper, work)) = self.upper {
            options = options.upper(upper, work);
        }
        if let Some(namespace) = self.idmap {
            options = options.idmap(namespace);
        }
        if self.flag(abi::READONLY) {
            options = options.attributes(MountAttrFlags::MOUNT_ATTR_RDONLY);
        }
        if let Some(directory) = self.image_mountdir {
            options = options.temporary_mount_point(directory);
        }
        let mounted = options.mount().and_then(|mount| mount.attach(mountpoint));
        mounted.map_err(|error: Error| error.errno())
    }

    fn flag(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

fn digest(text: &Path) -> Result<Digest, Errno> {
    let text = text.to_str().ok_or(Errno::INVAL)?;
    text.parse().map_err(|_| Errno::INVAL)
}

/// Compares the digest of an image. The file cannot change afterwards.
fn compare(image: BorrowedFd<'_>, expected: Digest) -> Result<(), Errno> {
    match Digest::of_file(image)? {
        Some(found) if found == expected => Ok(()),
        Some(_) => Err(WRONG_VERITY),
        None => Err(NO_VERITY),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::c_char;
    use std::ptr::null;
    use std::ptr::null_mut;

    use super::*;

    const DIGEST: &std::ffi::CStr =
        c"000102030405060708090a0b0c0d0e0f000102030405060708090A0B0C0D0E0F";

    type Change = fn(&mut Options);

    /// Reads options with one object directory, after a change.
    fn read(change: impl FnOnce(&mut Options)) -> Result<Request<'static>, Errno> {
        let list: &'static [*const c_char] = Box::leak(Box::new([c"/objects".as_ptr()]));
        let mut options = Options {
            objdirs: list.as_ptr(),
            n_objdirs: list.len(),
            workdir: null(),
            upperdir: null(),
            expected_fsverity_digest: null(),
            flags: 0,
            idmap_fd: -1,
            image_mountdir: null(),
            reserved: [0; 4],
            reserved2: [null_mut(); 4],
        };
        change(&mut options);
        // SAFETY: the pointers are null or to strings and a list that stay.
        unsafe { Request::read(&options) }
    }

    #[test]
    fn what_libcomposefs_refuses_is_refused() {
        // SAFETY: null.
        assert_eq!(unsafe { Request::read(null()) }.err(), Some(Errno::INVAL));
        let wrong: [(&str, Change); 7] = [
            ("a flag", |o| o.flags = 1 << 5),
            ("no directory", |o| o.n_objdirs = 0),
            ("no list", |o| o.objdirs = null()),
            ("no work directory", |o| o.upperdir = c"/u".as_ptr()),
            ("no upper directory", |o| o.workdir = c"/w".as_ptr()),
            ("no digits", |o| o.expected_fsverity_digest = c"x".as_ptr()),
            ("no namespace", |o| o.flags = abi::IDMAP),
        ];
        for (what, change) in wrong {
            assert_eq!(read(change).err(), Some(Errno::INVAL), "{what}");
        }
    }

    #[test]
    fn a_digest_has_the_length_of_one() {
        let digest = |text: &'static std::ffi::CStr| {
            read(|options| options.expected_fsverity_digest = text.as_ptr())
        };
        assert!(digest(DIGEST).is_ok_and(|request| request.digest.is_some()));
        for text in [c"", c"00", c"sha256:00", c"\xff"] {
            assert_eq!(digest(text).err(), Some(Errno::INVAL), "{text:?}");
        }
    }

    #[test]
    fn other_options_are_taken_over() {
        let request = read(|options| {
            options.flags = abi::MASK & !abi::IDMAP;
            options.idmap_fd = -1;
            options.upperdir = c"/u".as_ptr();
            options.workdir = c"/w".as_ptr();
            options.image_mountdir = c"/m".as_ptr();
        })
        .unwrap();
        assert_eq!(request.objdirs, [Path::new("/objects")]);
        assert_eq!(request.upper, Some((Path::new("/u"), Path::new("/w"))));
        assert_eq!(request.image_mountdir, Some(Path::new("/m")));
        assert!(request.idmap.is_none() && request.digest.is_none());
    }

    #[test]
    fn an_image_without_fs_verity_is_not_the_expected_one() {
        let file = tempfile::tempfile().unwrap();
        let digest = DIGEST.to_str().unwrap().parse().unwrap();
        assert_eq!(compare(file.as_fd(), digest), Err(NO_VERITY));
    }
}
