// SPDX-License-Identifier: GPL-2.0 OR MIT

//! What the options refer to, opened and checked before any file system is asked.

use std::os::fd::AsFd;

use rustix::fs::FileType;
use rustix::fs::fstat;
use rustix::io::Errno;

use crate::digest::Digest;
use crate::error::Error;
use crate::error::Result;
use crate::header::Header;
use crate::location::Location;
use crate::location::Opened;
use crate::options::MountOptions;
use crate::options::Verity;

/// Options whose files are open.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    pub(crate) options: &'a MountOptions<'a>,
    /// What the options ask for, together.
    pub(crate) verity: Verity,
    pub(crate) image: Opened<'a>,
    pub(crate) signature: Option<Opened<'a>>,
    pub(crate) header: Header,
    pub(crate) basedirs: Vec<Directory<'a>>,
    /// The upper and the work directory.
    pub(crate) upper: Option<(Directory<'a>, Directory<'a>)>,
}

/// An open directory, and how the caller named it.
#[derive(Debug)]
pub(crate) struct Directory<'a> {
    pub(crate) file: Opened<'a>,
    pub(crate) location: Location<'a>,
}

impl<'a> Prepared<'a> {
    /// Opens what the options refer to, compares the digest of the image and reads its header.
    ///
    /// A file system compares it again, on the file that it reads, if it can.
    ///
    /// # Errors
    ///
    /// What cannot be opened, that the digest is another one, or that it is no image.
    pub(crate) fn new(options: &'a MountOptions<'a>) -> Result<Self> {
        let verity = effective_verity(options)?;
        let image = options.open_image()?;
        if is_directory(&image) {
            return Err(Error::Image {
                image: options.image.name(),
                errno: Errno::ISDIR,
            });
        }
        if let Some(expected) = options.digest {
            compare_digest(options, &image, expected)?;
        }
        let signature = options.open_signature()?;
        let header = Header::read(&options.image.name(), &image)?;
        let basedirs = options.basedirs.iter();
        let basedirs = basedirs.map(|dir| Directory::open("basedir", dir));
        let basedirs = basedirs.collect::<Result<_>>()?;
        let upper = match &options.upper {
            Some((upper, work)) => Some((
                Directory::open("upperdir", upper)?,
                Directory::open("workdir", work)?,
            )),
            None => None,
        };
        Ok(Self {
            options,
            verity,
            image,
            signature,
            header,
            basedirs,
            upper,
        })
    }
}

impl<'a> MountOptions<'a> {
    /// Opens the image.
    pub(crate) fn open_image(&self) -> Result<Opened<'a>> {
        self.image.open_file().map_err(|errno| Error::Image {
            image: self.image.name(),
            errno,
        })
    }
}

impl<'a> MountOptions<'a> {
    /// Opens the file with the signature, if there is one.
    pub(crate) fn open_signature(&self) -> Result<Option<Opened<'a>>> {
        let Some(location) = &self.signature else {
            return Ok(None);
        };
        let opened = location.open_file().map_err(|errno| Error::Signature {
            name: location.name(),
            errno,
        });
        opened.map(Some)
    }
}

impl<'a> Directory<'a> {
    pub(crate) fn open(what: &'static str, location: &Location<'a>) -> Result<Self> {
        let file = location
            .open_directory()
            .map_err(|errno| Error::Directory {
                what,
                name: location.name(),
                errno,
            })?;
        Ok(Self {
            file,
            location: location.clone(),
        })
    }
}

/// Whether a file is a directory, which every file system refuses in its own words.
fn is_directory(file: &Opened<'_>) -> bool {
    fstat(file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir())
}

fn effective_verity(options: &MountOptions<'_>) -> Result<Verity> {
    match (options.pinned_by(), options.verity) {
        (None, verity) => Ok(verity),
        (Some("digest"), Verity::Off) => Err(Error::Options(
            "digest: cannot be combined with noverity: a digest implies verity",
        )),
        (Some(_), Verity::Off) => Err(Error::Options(
            "signature: cannot be combined with noverity: a signature implies verity",
        )),
        (Some(_), _) => Ok(Verity::Required),
    }
}

fn compare_digest(options: &MountOptions<'_>, image: &Opened<'_>, expected: Digest) -> Result<()> {
    let found = Digest::of_file(image.as_fd()).map_err(|errno| Error::FileSystem {
        doing: format!("image {}: measuring its digest", options.image.name()),
        errno,
        messages: Vec::new(),
    })?;
    match found {
        None => Err(Error::NoVerity {
            image: options.image.name(),
        }),
        Some(found) if found != expected => Err(Error::WrongVerity {
            image: options.image.name(),
            expected: Box::new(expected),
            found: Box::new(found),
        }),
        Some(_) => Ok(()),
    }
}
