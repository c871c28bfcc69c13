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

/// The largest value that composefs may have in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// This value for a tree of [`Goal::ENTRIES`], and in proportion for other trees.
    Tree(u64),
    /// This value.
    Most(u64),
    /// This multiple of the value of another stack.
    Part(f64, Stack),
}

impl Goal {
    /// Entries of the tree that the goals were set for.
    pub const ENTRIES: u64 = 64_246;

    /// The goal as a value: `entries` are those of the walked tree, and `other` returns
    /// the value of another stack.
    pub fn of(self, entries: Option<u64>, other: impl Fn(Stack) -> Option<u64>) -> Option<u64> {
        Some(match self {
            Self::Tree(most) => most * entries? / Self::ENTRIES,
            Self::Most(most) => most,
            Self::Part(part, stack) => (other(stack)? as f64 * part) as u64,
        })
    }
}

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
    /// The largest value that composefs may have.
    pub goal: Option<Goal>,
    /// When it is measured.
    pub set: Set,
}

impl Row {
    /// The row of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ROWS.iter().find(|row| row.name == name)
    }
}

const METADATA: &[Stack] = &[Stack::Composefs, Stack::Erofs, Stack::Overlay];
const CONTENT: &[Stack] = &[Stack::Composefs, Stack::Overlay, Stack::Ext4];
/// overlayfs decodes file handles only with `nfs_export=on`.
const HANDLES: &[Stack] = &[Stack::Composefs, Stack::Erofs];
const MILLION: u64 = 1_000_000;

/// A row that walks or searches the tree.
const fn tree(name: &'static str, title: &'static str, unit: Unit, goal: u64) -> Row {
    Row {
        name,
        title,
        unit,
        stacks: METADATA,
        goal: Some(Goal::Tree(goal)),
        set: Set::Quick,
    }
}

/// A row about the 2000 small files.
const fn small(name: &'static str, title: &'static str, goal: u64) -> Row {
    Row {
        name,
        title,
        unit: Unit::Instructions,
        stacks: CONTENT,
        goal: Some(Goal::Most(goal)),
        set: Set::Quick,
    }
}

/// A row whose goal is the value of erofs + overlayfs.
const fn more(name: &'static str, title: &'static str, stacks: &'static [Stack]) -> Row {
    Row {
        name,
        title,
        unit: Unit::Instructions,
        stacks,
        goal: Some(Goal::Part(1.0, Stack::Overlay)),
        set: Set::Usual,
    }
}

/// A row about reading a large file: at least 0.99 times as fast as ext4, which reads
/// the object itself.
const fn large(name: &'static str, title: &'static str) -> Row {
    Row {
        goal: Some(Goal::Part(1.0 / 0.99, Stack::Ext4)),
        ..more(name, title, CONTENT)
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
        400 * MILLION,
    ),
    tree("warm-walk", "warm walk", Unit::Instructions, 180 * MILLION),
    tree(
        "readdir",
        "readdir only, dentries dropped",
        Unit::Instructions,
        70 * MILLION,
    ),
    Row {
        goal: Some(Goal::Most(20 * MILLION)),
        ..tree(
            "cold-stat",
            "stat of 2000 random files, cold",
            Unit::Instructions,
            0,
        )
    },
    small(
        "open-read",
        "open, read, close of 2000 small files, warm",
        27_500_000,
    ),
    small("open", "open, close of 2000 small files, warm", 6 * MILLION),
    tree("slab", "slab after the cold walk", Unit::KiB, 48_000),
    tree(
        "page-cache",
        "page cache after the cold walk",
        Unit::KiB,
        11_000,
    ),
    tree(
        "free-memory",
        "memory taken by the cold walk",
        Unit::KiB,
        62_000,
    ),
    tree(
        "requests",
        "read requests to the disk, cold walk",
        Unit::Requests,
        40,
    ),
    Row {
        unit: Unit::KiB,
        goal: Some(Goal::Part(3.0, Stack::Overlay)),
        ..more(
            "sparse-read",
            "read from the disk for 1 % of the names",
            METADATA,
        )
    },
    Row {
        unit: Unit::KiB,
        goal: Some(Goal::Part(3.0, Stack::Overlay)),
        ..more("herd-read", "the same by 32 threads at once", METADATA)
    },
    more("ls", "ls -lR, cold", METADATA),
    more("find", "find -type f, cold", METADATA),
    more("xattrs", "two xattrs of each file, warm", METADATA),
    large("read", "read of 64 MiB in order"),
    large("random-read", "16384 random reads of 4 KiB"),
    large("io-uring", "16384 random reads by io_uring"),
    more("mmap", "faulting in 64 MiB by mmap", CONTENT),
    more("exec", "exec of fio --version, 60 libraries", CONTENT),
    more(
        "absent",
        "10,000 absent names in a large directory",
        METADATA,
    ),
    more("wide-readdir", "readdir of 100,000 entries, cold", METADATA),
    Row {
        goal: Some(Goal::Part(1.5, Stack::Erofs)),
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
