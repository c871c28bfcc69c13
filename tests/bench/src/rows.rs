// SPDX-License-Identifier: GPL-2.0

//! The rows of the table.

use std::fmt;

use crate::Stack;

/// The unit of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Instructions of the guest, in the kernel and in the program.
    Instructions,
    /// KiB of memory, or KiB read from a disk.
    KiB,
    /// Read requests to a disk.
    Requests,
    /// Nanoseconds.
    Time,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Instructions => "M instr",
            Self::KiB => "KiB",
            Self::Requests => "requests",
            Self::Time => "ms",
        })
    }
}

/// The largest ratio that the cost of composefs may have to that of another stack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    /// The other stack, measured in the same boot.
    pub stack: Stack,
    /// The ratio.
    pub most: f64,
}

/// The goals of most rows: three quarters of what users have today, no more than metadata cost
/// with erofs alone, and hardly more than content costs without an image.
const GOALS: &[Goal] = &[
    Goal {
        stack: Stack::Erofs,
        most: 1.0,
    },
    Goal {
        stack: Stack::Overlay,
        most: 0.75,
    },
    Goal {
        stack: Stack::Ext4,
        most: 1.02,
    },
];

/// For what is read from a disk: one large request is better than many small ones.
const READ_GOALS: &[Goal] = &[Goal {
    stack: Stack::Overlay,
    most: 3.0,
}];

/// For files that were read: the object's inode is needed beside the file's own.
const READ_MEMORY_GOALS: &[Goal] = &[Goal {
    stack: Stack::Overlay,
    most: 0.65,
}];

/// For file handles, which name their directory, too: erofs does not check that.
const HANDLE_GOALS: &[Goal] = &[Goal {
    stack: Stack::Erofs,
    most: 1.2,
}];

/// When a row is measured, unless it is named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// Always.
    Quick,
    /// Without `--quick`.
    Usual,
    /// With `--large`: it takes minutes.
    Large,
    /// With `--wall`: in a second guest, with several processors.
    Wall,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Name on the command line.
    pub name: &'static str,
    /// Title in the table.
    pub title: &'static str,
    /// Unit of the values.
    pub unit: Unit,
    /// The stacks that it is measured on.
    pub stacks: &'static [Stack],
    /// Goals, of which only those for [`Self::stacks`] count.
    pub goals: &'static [Goal],
    /// When it is measured.
    pub set: Set,
}

impl Row {
    /// The row of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ROWS.iter().find(|row| row.name == name)
    }

    /// The largest ratio that composefs may have to `stack`.
    pub fn goal(&self, stack: Stack) -> Option<f64> {
        let goal = self.goals.iter().find(|goal| goal.stack == stack)?;
        Some(goal.most)
    }
}

const METADATA: &[Stack] = &[Stack::Composefs, Stack::Erofs, Stack::Overlay];
const CONTENT: &[Stack] = &[Stack::Composefs, Stack::Overlay, Stack::Ext4];
/// overlayfs decodes file handles only with `nfs_export=on`.
const HANDLES: &[Stack] = &[Stack::Composefs, Stack::Erofs];

/// A row that walks or searches the tree.
const fn tree(name: &'static str, title: &'static str, unit: Unit) -> Row {
    Row {
        unit,
        set: Set::Quick,
        ..more(name, title, METADATA)
    }
}

/// A row about the 2000 small files.
const fn small(name: &'static str, title: &'static str) -> Row {
    Row {
        set: Set::Quick,
        ..more(name, title, CONTENT)
    }
}

/// A row that only a complete run measures.
const fn more(name: &'static str, title: &'static str, stacks: &'static [Stack]) -> Row {
    Row {
        name,
        title,
        unit: Unit::Instructions,
        stacks,
        goals: GOALS,
        set: Set::Usual,
    }
}

/// A row that measures time.
const fn time(name: &'static str, title: &'static str) -> Row {
    Row {
        unit: Unit::Time,
        set: Set::Wall,
        ..more(name, title, METADATA)
    }
}

/// All rows, in the order of the table.
pub const ROWS: &[Row] = &[
    tree(
        "cold-walk",
        "cold walk (readdir, lstat of all)",
        Unit::Instructions,
    ),
    tree("warm-walk", "warm walk", Unit::Instructions),
    tree(
        "readdir",
        "readdir only, dentries dropped",
        Unit::Instructions,
    ),
    tree(
        "cold-stat",
        "stat of 2000 random files, cold",
        Unit::Instructions,
    ),
    small("open-read", "open, read, close of 2000 small files, warm"),
    small("open", "open, close of 2000 small files, warm"),
    Row {
        unit: Unit::KiB,
        goals: READ_MEMORY_GOALS,
        ..small("read-memory", "memory after two reads of these files")
    },
    Row {
        unit: Unit::KiB,
        goals: READ_MEMORY_GOALS,
        ..small("read-slab", "slab after two reads of these files")
    },
    tree("slab", "slab after the cold walk", Unit::KiB),
    tree("page-cache", "page cache after the cold walk", Unit::KiB),
    tree("free-memory", "memory taken by the cold walk", Unit::KiB),
    tree(
        "requests",
        "read requests to the disk, cold walk",
        Unit::Requests,
    ),
    Row {
        unit: Unit::KiB,
        goals: READ_GOALS,
        ..more(
            "sparse-read",
            "read from the disk for 1 % of the names",
            METADATA,
        )
    },
    Row {
        unit: Unit::KiB,
        goals: READ_GOALS,
        ..more("herd-read", "the same by 32 threads at once", METADATA)
    },
    more("ls", "ls -lR, cold", METADATA),
    more("find", "find -type f, cold", METADATA),
    more("xattrs", "two xattrs of each file, warm", METADATA),
    more("read", "read of 64 MiB in order", CONTENT),
    more("random-read", "16384 random reads of 4 KiB", CONTENT),
    more("io-uring", "16384 random reads by io_uring", CONTENT),
    more("mmap", "faulting in 64 MiB by mmap", CONTENT),
    more("exec", "exec of fio --version, 60 libraries", CONTENT),
    more("imports", "Python that imports 500 modules", CONTENT),
    more("ldconfig", "ldconfig, which changes nothing", CONTENT),
    more("50-starts", "50 containers, one after the other", CONTENT),
    Row {
        unit: Unit::KiB,
        ..more("50-at-once", "memory of 50 containers at once", CONTENT)
    },
    more(
        "absent",
        "10,000 absent names in a large directory",
        METADATA,
    ),
    more("wide-readdir", "readdir of 100,000 entries, cold", METADATA),
    Row {
        goals: HANDLE_GOALS,
        ..more(
            "handles",
            "open of 20,000 handles, large directory",
            HANDLES,
        )
    },
    more("20-mounts", "20 more mounts of a mounted image", METADATA),
    Row {
        unit: Unit::KiB,
        ..more(
            "20-mounts-memory",
            "memory taken by walks of 20 mounts",
            METADATA,
        )
    },
    more("mount-small", "mounting an image of 2,000 files", METADATA),
    more("mount-middle", "mounting the tree", METADATA),
    more(
        "mount-large",
        "mounting an image of 110,000 files",
        METADATA,
    ),
    Row {
        set: Set::Large,
        ..more(
            "per-file-10k",
            "cold walk of 10,000 files, for 1000",
            METADATA,
        )
    },
    Row {
        set: Set::Large,
        ..more(
            "per-file-1m",
            "cold walk of 1,000,000 files, for 1000",
            METADATA,
        )
    },
    time("cold-walk-time", "cold walk, from a disk"),
    time("warm-walk-time", "warm walk"),
    time("4-warm-walks-time", "four threads, each a warm walk"),
    time("4-cold-walks-time", "four threads, each a cold walk"),
];
