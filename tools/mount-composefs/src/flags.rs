// SPDX-License-Identifier: GPL-2.0

//! The flags that every mount has: read-only, nodev and so on.

use composefs_mount::MountAttrFlags;
use composefs_mount::MountFlags;

/// Which flag an option sets, and which flags it clears.
struct Word {
    name: &'static str,
    sets: MountFlags,
    clears: MountFlags,
}

/// What is said about access times: one of these.
const ATIME: MountFlags = MountFlags::NOATIME
    .union(MountFlags::RELATIME)
    .union(MountFlags::STRICTATIME);

/// What `owner` and `group` imply, unless a later option says otherwise.
const OWNER: MountFlags = MountFlags::NODEV.union(MountFlags::NOSUID);

/// What `user` and `users` imply.
const USER: MountFlags = OWNER.union(MountFlags::NOEXEC);

const fn sets(name: &'static str, sets: MountFlags) -> Word {
    Word {
        name,
        sets,
        clears: MountFlags::empty(),
    }
}

const fn clears(name: &'static str, clears: MountFlags) -> Word {
    Word {
        name,
        sets: MountFlags::empty(),
        clears,
    }
}

const fn atime(name: &'static str, sets: MountFlags) -> Word {
    Word {
        name,
        sets,
        clears: ATIME,
    }
}

const WORDS: [Word; 29] = [
    sets("ro", MountFlags::RDONLY),
    clears("rw", MountFlags::RDONLY),
    sets("nodev", MountFlags::NODEV),
    clears("dev", MountFlags::NODEV),
    sets("noexec", MountFlags::NOEXEC),
    clears("exec", MountFlags::NOEXEC),
    sets("nosuid", MountFlags::NOSUID),
    clears("suid", MountFlags::NOSUID),
    sets("nosymfollow", MountFlags::NOSYMFOLLOW),
    clears("symfollow", MountFlags::NOSYMFOLLOW),
    atime("noatime", MountFlags::NOATIME),
    // The kernel's default.
    atime("atime", MountFlags::RELATIME),
    atime("relatime", MountFlags::RELATIME),
    clears("norelatime", MountFlags::RELATIME),
    atime("strictatime", MountFlags::STRICTATIME),
    clears("nostrictatime", MountFlags::STRICTATIME),
    sets("nodiratime", MountFlags::NODIRATIME),
    clears("diratime", MountFlags::NODIRATIME),
    sets("sync", MountFlags::SYNCHRONOUS),
    clears("async", MountFlags::SYNCHRONOUS),
    sets("dirsync", MountFlags::DIRSYNC),
    sets("lazytime", MountFlags::LAZYTIME),
    clears("nolazytime", MountFlags::LAZYTIME),
    sets("silent", MountFlags::SILENT),
    clears("loud", MountFlags::SILENT),
    sets("user", USER),
    sets("users", USER),
    sets("owner", OWNER),
    sets("group", OWNER),
];

/// The attributes of a mount, by flag.
const ATTRIBUTES: [(MountFlags, MountAttrFlags); 8] = [
    (MountFlags::RDONLY, MountAttrFlags::MOUNT_ATTR_RDONLY),
    (MountFlags::NODEV, MountAttrFlags::MOUNT_ATTR_NODEV),
    (MountFlags::NOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
    (MountFlags::NOSUID, MountAttrFlags::MOUNT_ATTR_NOSUID),
    (
        MountFlags::NOSYMFOLLOW,
        MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW,
    ),
    (MountFlags::NOATIME, MountAttrFlags::MOUNT_ATTR_NOATIME),
    (
        MountFlags::STRICTATIME,
        MountAttrFlags::MOUNT_ATTR_STRICTATIME,
    ),
    (
        MountFlags::NODIRATIME,
        MountAttrFlags::MOUNT_ATTR_NODIRATIME,
    ),
];

/// The flags of the file system itself, by name.
const OF_FILE_SYSTEM: [(MountFlags, &str); 3] = [
    (MountFlags::SYNCHRONOUS, "sync"),
    (MountFlags::DIRSYNC, "dirsync"),
    (MountFlags::LAZYTIME, "lazytime"),
];

/// The flags that options ask for. Of two that contradict each other the last one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flags(MountFlags);

impl Default for Flags {
    fn default() -> Self {
        Self(MountFlags::empty())
    }
}

impl Flags {
    /// Applies an option. Returns whether it is one of these.
    pub(crate) fn apply(&mut self, name: &[u8]) -> bool {
        let word = WORDS.iter().find(|word| word.name.as_bytes() == name);
        if let Some(word) = word {
            self.0.remove(word.clears);
            self.0.insert(word.sets);
        }
        word.is_some()
    }

    /// The flags as mount(2) takes them.
    pub(crate) fn for_remount(self) -> MountFlags {
        self.0
    }

    /// The flags of the mount.
    pub(crate) fn attributes(self) -> MountAttrFlags {
        let set = ATTRIBUTES.iter().filter(|(flag, _)| self.0.contains(*flag));
        set.map(|(_, attribute)| *attribute).collect()
    }

    /// The flags of the file system, by name.
    pub(crate) fn of_file_system(self) -> impl Iterator<Item = &'static str> {
        let set = OF_FILE_SYSTEM.iter();
        let set = set.filter(move |(flag, _)| self.0.contains(*flag));
        set.map(|(_, name)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(names: &str) -> MountFlags {
        let mut flags = Flags::default();
        for name in names.split(',') {
            assert!(flags.apply(name.as_bytes()), "{name}");
        }
        flags.for_remount()
    }

    #[test]
    fn the_last_one_counts() {
        assert_eq!(flags("ro,rw"), MountFlags::empty());
        assert_eq!(flags("rw,ro,nodev,dev"), MountFlags::RDONLY);
        assert_eq!(flags("user,exec"), MountFlags::NODEV | MountFlags::NOSUID);
        assert_eq!(flags("noatime,relatime"), MountFlags::RELATIME);
        assert_eq!(flags("strictatime,noatime"), MountFlags::NOATIME);
    }

    #[test]
    fn access_times_are_one_attribute() {
        let mut flags = Flags::default();
        flags.apply(b"noatime");
        flags.apply(b"strictatime");
        flags.apply(b"nodiratime");
        let expected =
            MountAttrFlags::MOUNT_ATTR_STRICTATIME | MountAttrFlags::MOUNT_ATTR_NODIRATIME;
        assert_eq!(flags.attributes(), expected);
    }

    #[test]
    fn others_are_refused() {
        let mut flags = Flags::default();
        assert!(!flags.apply(b"nonsense"));
        assert!(!flags.apply(b""));
        assert_eq!(flags, Flags::default());
    }

    #[test]
    fn those_of_the_file_system_have_names() {
        let mut flags = Flags::default();
        flags.apply(b"sync");
        flags.apply(b"lazytime");
        let names: Vec<_> = flags.of_file_system().collect();
        assert_eq!(names, ["sync", "lazytime"]);
    }
}
