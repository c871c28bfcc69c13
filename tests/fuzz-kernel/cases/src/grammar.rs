// SPDX-License-Identifier: GPL-2.0

//! The grammar of operations: what each is called, and which arguments it has.

use std::fmt;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use composefs_image_mutate::Random;
use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use serde::Deserialize;
use serde::Serialize;

use crate::seeds;

/// Number of files that may be open at once.
pub const SLOTS: u32 = 4;

/// Positions that are at a limit of something.
const PLACES: [u32; 18] = [
    0, 1, 2, 3, 11, 12, 13, 63, 100, 4095, 4096, 4097, 5000, 8192, 19999, 20000, 299_008, 300_000,
];

/// What the values of an argument are.
#[derive(Clone, Copy, Debug)]
pub enum Domain {
    /// The number of an open file, or of one before it.
    Slot,
    /// A path below the mount.
    Path,
    /// A position or length in bytes.
    Place,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A number below this one.
    Below(u32),
    /// Some of these bits.
    Bits(u32),
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $name:literal [$($domain:expr),*];)*) => {
        /// A kind of operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// What it is called.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// Its arguments.
            pub fn domains(self) -> &'static [Domain] {
                match self {
                    $(Self::$kind => &[$($domain),*],)*
                }
            }
        }
    };
}

use Domain::Below;
use Domain::Bits;
use Domain::Path;
use Domain::Place;
use Domain::Slot;
use Domain::Word;

/// Where the image is.
pub const IMAGES: &[&str] = &["memfd", "file", "verity"];
/// What has to be verified.
pub const VERITY: &[&str] = &["named", "verity", "tryverity", "noverity", "digest"];
/// Where the objects are.
pub const BASEDIRS: &[&str] = &["store", "none", "empty", "both", "file"];
/// Other options.
pub const EXTRAS: &[&str] = &["usual", "escaped", "signature", "signed", "wrong", "source"];
/// Options of a remount.
pub const REMOUNTS: &[&str] = &[
    "same", "noverity", "verity", "basedir", "digest", "wrong", "escaped", "rw",
];
/// Xattrs that are asked for: all that listxattr(2) names, or one.
pub const XATTRS: &[&str] = &[
    "listed",
    "user.a",
    "user.none",
    "security.selinux",
    "security.capability",
    "system.posix_acl_access",
    "system.posix_acl_default",
    "trusted.overlay.metacopy",
    "trusted.overlay.redirect",
    "trusted.overlay.opaque",
    "trusted.a",
    "user.overlay.opaque",
    "none.a",
];
/// How much room there is for a value: as much as it needs, or one byte less.
pub const ROOM: &[&str] = &["exact", "less", "more", "byte", "none", "large"];
/// What is done to an object.
pub const HARMS: &[&str] = &[
    "away",
    "back",
    "other",
    "forged",
    "unsigned",
    "symlink",
    "directory",
    "fifo",
    "longer",
    "unlink",
];
/// How a handle is changed before it is used.
pub const HANDLES: &[&str] = &[
    "good",
    "cold",
    "connectable",
    "fid",
    "short",
    "flipped",
    "other-type",
];
/// How a file is mapped.
pub const MAPS: &[&str] = &[
    "shared",
    "private",
    "writable",
    "exec",
    "populate",
    "read-write",
];
/// Which changes are tried.
pub const WRITES: &[&str] = &[
    "chmod",
    "chown",
    "unlink",
    "rmdir",
    "mkdir",
    "create",
    "rename",
    "link",
    "symlink",
    "setxattr",
    "removexattr",
    "truncate",
    "utimes",
    "write",
    "append",
    "exchange",
];

kinds! {
    /// Mounts the image.
    Mount "mount" [Word(IMAGES), Word(VERITY), Word(BASEDIRS), Word(EXTRAS),
        Word(&["attached", "detached"])];
    /// Mounts overlayfs on top of a mount.
    Upper "upper" [Word(&["plain", "metacopy", "nfs-export", "xino"])];
    /// Uses another mount from now on.
    Use "use" [Below(3)];
    /// Changes the options of the mount.
    Remount "remount" [Word(REMOUNTS)];
    /// Unmounts the mount, as soon as nothing uses it.
    Unmount "unmount" [];
    /// open(2). The bits are those of `OPEN_FLAGS`.
    Open "open" [Slot, Path, Bits(10)];
    /// openat2(2). The bits are those of RESOLVE_.
    Openat2 "openat2" [Slot, Path, Bits(6)];
    /// close(2)
    Close "close" [Slot];
    /// preadv2(2). The bits are those of RWF_.
    Read "read" [Slot, Place, Place, Bits(8)];
    /// mmap(2), and the use of some pages.
    Map "map" [Slot, Place, Place, Word(MAPS)];
    /// lseek(2) and getdents64(2): behind this entry, so many entries, with such a buffer.
    List "list" [Path, Below(400), Below(400), Below(4)];
    /// lseek(2) to any place in a directory, and getdents64(2).
    Leap "leap" [Slot, Place, Below(4)];
    /// statx(2)
    Stat "stat" [Path, Word(&["usual", "sync", "no-sync", "empty"])];
    /// statfs(2)
    Statfs "statfs" [Path];
    /// Reads the table of mounts, with their options.
    Shown "shown" [];
    /// readlink(2)
    Link "link" [Path];
    /// listxattr(2)
    Names "listxattr" [Path, Word(ROOM)];
    /// getxattr(2)
    Xattr "getxattr" [Path, Word(XATTRS), Word(ROOM)];
    /// name_to_handle_at(2) and open_by_handle_at(2)
    Handle "handle" [Path, Word(HANDLES), Below(128)];
    /// ioctl(2), by the number in `sys::REQUESTS`.
    Ioctl "ioctl" [Slot, Below(14)];
    /// lseek(2)
    Seek "seek" [Slot, Place, Below(7)];
    /// splice(2) to a pipe.
    Splice "splice" [Slot, Place, Place];
    /// sendfile(2), or copy_file_range(2).
    Copy "copy" [Slot, Place, Place, Word(&["sendfile", "range"])];
    /// posix_fadvise(2)
    Advise "advise" [Slot, Place, Place, Below(6)];
    /// fcntl(2) with F_SETFL. The bits are those of `OPEN_FLAGS`.
    Flags "setfl" [Slot, Bits(10)];
    /// flock(2)
    Lock "lock" [Slot, Word(&["shared", "exclusive", "unlock"])];
    /// fsync(2) or syncfs(2)
    Sync "sync" [Slot, Word(&["file", "data", "fs"])];
    /// Tries to change something.
    Write "write" [Path, Word(WRITES)];
    /// Changes a byte of the image.
    Poke "poke" [Place, Below(256)];
    /// Makes the image shorter or longer.
    Cut "cut" [Place];
    /// Does something to an object.
    Harm "harm" [Below(4), Word(HARMS)];
    /// Drops caches.
    Drop "drop" [Below(3)];
}

impl Kind {
    /// The kind of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

impl Domain {
    /// A random value.
    pub fn draw(self, random: &mut Random) -> u32 {
        match self {
            Self::Slot => random.random_range(0..SLOTS),
            // The files with content.
            Self::Path if random.random_ratio(1, 2) => random.random_range(1..7),
            Self::Path => random.random_range(0..seeds::paths().len() as u32),
            Self::Place if random.random_ratio(1, 8) => random.random(),
            Self::Place if random.random_ratio(1, 4) => random.random_range(0..65536),
            Self::Place => PLACES.choose(random).copied().unwrap_or(0),
            // The first word is the usual one.
            Self::Word(_) if random.random_ratio(1, 4) => 0,
            Self::Word(words) => random.random_range(0..words.len() as u32),
            Self::Below(end) => random.random_range(0..end),
            // Few at once: several often exclude each other.
            Self::Bits(_) if random.random_ratio(2, 5) => 0,
            Self::Bits(bits) => {
                let mut value = 1 << random.random_range(0..bits);
                if random.random_ratio(1, 3) {
                    value |= 1 << random.random_range(0..bits);
                }
                value
            }
        }
    }

    fn parse(self, word: &str) -> Result<u32> {
        let number = || word.parse::<u32>().context("not a number");
        match self {
            Self::Path => {
                let known = seeds::paths().iter().position(|path| path == word);
                Ok(known.with_context(|| format!("there is no path \"{word}\""))? as u32)
            }
            Self::Word(words) => {
                let known = words.iter().position(|known| *known == word);
                Ok(known.with_context(|| format!("none of {}", words.join(" ")))? as u32)
            }
            _ => number(),
        }
    }

    fn show(self, value: u32, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = value as usize;
        match self {
            Self::Path => f.write_str(seeds::paths().get(at).map_or("?", String::as_str)),
            Self::Word(words) => f.write_str(words.get(at).unwrap_or(&"?")),
            _ => write!(f, "{value}"),
        }
    }
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Op {
    /// Its kind.
    pub kind: Kind,
    /// The values of its arguments, one for each domain of the kind.
    pub values: Vec<u32>,
}

impl Op {
    /// A random operation.
    pub fn draw(random: &mut Random) -> Self {
        let kind = Kind::ALL.choose(random).copied().unwrap_or(Kind::Mount);
        Self::draw_kind(kind, random)
    }

    /// A random one of a kind.
    pub fn draw_kind(kind: Kind, random: &mut Random) -> Self {
        let values = kind.domains().iter().map(|domain| domain.draw(random));
        Self {
            kind,
            values: values.collect(),
        }
    }

    /// Sets the value of an argument, if there is one.
    pub fn set(&mut self, at: usize, value: u32) {
        if let Some(place) = self.values.get_mut(at) {
            *place = value;
        }
    }

    /// Sets an argument to a word that it may be.
    pub fn set_word(&mut self, at: usize, word: &str) {
        if let Some(Domain::Word(words)) = self.kind.domains().get(at) {
            let known = words.iter().position(|known| *known == word);
            self.set(at, known.unwrap_or(0) as u32);
        }
    }

    /// Changes an argument. Returns false if the operation has none.
    pub fn disturb(&mut self, random: &mut Random) -> bool {
        let domains = self.kind.domains();
        if domains.is_empty() {
            return false;
        }
        let at = random.random_range(0..domains.len());
        match (domains.get(at), self.values.get_mut(at)) {
            (Some(domain), Some(value)) => {
                *value = domain.draw(random);
                true
            }
            _ => false,
        }
    }

    /// The value of an argument.
    pub fn value(&self, at: usize) -> u32 {
        self.values.get(at).copied().unwrap_or(0)
    }

    /// The word that an argument is.
    pub fn word(&self, at: usize) -> &'static str {
        match self.kind.domains().get(at) {
            Some(Domain::Word(words)) => words.get(self.value(at) as usize).unwrap_or(&""),
            _ => "",
        }
    }

    /// Reads the arguments.
    ///
    /// # Errors
    ///
    /// When there are more or fewer than the kind has, or one is wrong.
    pub fn parse(kind: Kind, words: &[&str]) -> Result<Self> {
        let domains = kind.domains();
        ensure!(
            words.len() == domains.len(),
            "{} takes {} words",
            kind.name(),
            domains.len()
        );
        let values = domains
            .iter()
            .zip(words)
            .map(|(domain, word)| domain.parse(word));
        Ok(Self {
            kind,
            values: values.collect::<Result<_>>()?,
        })
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        for (domain, value) in self.kind.domains().iter().zip(&self.values) {
            f.write_str(" ")?;
            domain.show(*value, f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn every_operation_can_be_read_again() -> Result<()> {
        let mut random = Random::seed_from_u64(1);
        for _ in 0..5000 {
            let mut op = Op::draw(&mut random);
            op.disturb(&mut random);
            let text = op.to_string();
            let words: Vec<&str> = text.split(' ').skip(1).collect();
            assert_eq!(Op::parse(op.kind, &words)?, op, "{text}");
            assert_eq!(Kind::by_name(op.kind.name()), Some(op.kind));
        }
        Ok(())
    }

    #[test]
    fn a_wrong_argument_is_refused() {
        for words in [
            &["0", "/small"][..],
            &["0", "/none", "0"],
            &["x", "/small", "0"],
        ] {
            assert!(Op::parse(Kind::Open, words).is_err(), "{words:?}");
        }
    }
}
