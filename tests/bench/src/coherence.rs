// SPDX-License-Identifier: GPL-2.0

//! What `cargo xtask bench coherence` has to agree on: with the program in the guest, with the
//! plugin of QEMU, and the rows.

use serde::Deserialize;
use serde::Serialize;

use crate::Image;
use crate::Stack;

/// What the program in the guest says to the plugin: it executes an instruction that does
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Mark {
    /// From now on, accesses are followed.
    WindowBegins = 1,
    /// What was counted is reported.
    WindowEnds = 2,
    /// From now on, the misses of this processor count.
    OperationBegins = 3,
    /// They do not any more.
    OperationEnds = 4,
}

impl Mark {
    /// The displacement of the instructions, to which the number of the mark is added.
    pub const BASE: u32 = 0x6366_7300;

    const ALL: [Self; 4] = [
        Self::WindowBegins,
        Self::WindowEnds,
        Self::OperationBegins,
        Self::OperationEnds,
    ];

    /// The mark of this number.
    pub fn numbered(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|mark| *mark as u64 == number)
    }

    /// The mark that an instruction is: `nop dword ptr [rax + displacement]`.
    pub fn of(instruction: &[u8]) -> Option<Self> {
        let displacement = instruction.strip_prefix(&[0x0f, 0x1f, 0x80])?;
        let displacement = u32::from_le_bytes(displacement.try_into().ok()?);
        Self::numbered(displacement.checked_sub(Self::BASE)?.into())
    }
}

/// What the plugin counted in a window.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Window {
    /// How many operations ended.
    pub operations: u64,
    /// The misses by instruction, by what caused them, and by callers.
    pub misses: Vec<Misses>,
    /// How many lines of data were missed.
    pub distinct: u64,
    /// Those that were missed most often.
    pub lines: Vec<LineMisses>,
}

impl Window {
    /// All misses.
    pub fn total(&self) -> u64 {
        self.misses.iter().map(Misses::count).sum()
    }
}

/// Misses of an instruction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Misses {
    /// Its address.
    pub at: u64,
    /// The address of the instruction by which another processor has touched the line before.
    pub cause: u64,
    /// The calls that led to it, the innermost first.
    pub callers: Vec<u64>,
    /// How many reads missed.
    pub reads: u64,
    /// How many writes missed.
    pub writes: u64,
}

impl Misses {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.reads + self.writes
    }
}

/// Misses of a line of data.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LineMisses {
    /// Its virtual address.
    pub address: u64,
    /// How many reads missed.
    pub reads: u64,
    /// How many writes missed.
    pub writes: u64,
}

/// What the program in the guest is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Names of the rows.
    pub rows: Vec<String>,
    /// How many processors take part.
    pub processors: u32,
    /// An image of 2000 small files and its objects on a disk. The image is in memory.
    pub content: Image,
    /// The same image on the disk, with fs-verity.
    pub stored_content: Image,
    /// The files that it was made from, on the same disk.
    pub unpacked: std::path::PathBuf,
    /// An image of small files that are in the image itself.
    pub inline: Image,
}

/// A line of its output.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// The address of a module's code.
    Module(String, u64),
    /// A window was opened and closed: these are its row, its stack, and an address whose line
    /// is of interest.
    Window(String, Option<Stack>, u64),
}

/// A row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Name on the command line.
    pub name: &'static str,
    /// What one operation is.
    pub title: &'static str,
    /// The stacks on which it is done. Without any, no file system takes part.
    pub stacks: &'static [Stack],
}

impl Row {
    /// The row of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ROWS.iter().find(|row| row.name == name)
    }
}

const METADATA: &[Stack] = &Stack::ALL;
const CONTENT: &[Stack] = &[Stack::Composefs, Stack::Overlay, Stack::Ext4];
const IMAGES: &[Stack] = &[Stack::Composefs, Stack::Erofs, Stack::Overlay];

const fn row(name: &'static str, title: &'static str, stacks: &'static [Stack]) -> Row {
    Row {
        name,
        title,
        stacks,
    }
}

/// All rows.
pub const ROWS: &[Row] = &[
    row("control", "getppid", &[]),
    row("same-line", "zeros read to one line by all", &[]),
    row("own-line", "zeros read to a line of one's own", &[]),
    row(
        "stat-cold-own",
        "lstat of a name in a directory of one's own, dentries dropped",
        METADATA,
    ),
    row(
        "stat-cold-same",
        "lstat of a name in directories of all, dentries dropped",
        METADATA,
    ),
    row(
        "readdir-own",
        "open, readdir, close of a directory of one's own, dentries dropped",
        METADATA,
    ),
    row(
        "readdir-same",
        "open, readdir, close of a directory that all read, dentries dropped",
        METADATA,
    ),
    row("stat-own", "lstat of a name of one's own, again", METADATA),
    row("stat-same", "lstat of one name by all, again", METADATA),
    row(
        "absent-own",
        "lstat of a name that does not exist, always another",
        METADATA,
    ),
    row(
        "absent-same",
        "lstat of one name that does not exist, again",
        METADATA,
    ),
    row(
        "read-own",
        "open, read, close of a file of one's own, again",
        CONTENT,
    ),
    row(
        "read-same",
        "open, read, close of one file by all, again",
        CONTENT,
    ),
    row(
        "inline-own",
        "the same of a file in the image, of one's own",
        METADATA,
    ),
    row(
        "inline-same",
        "the same of one file in the image by all",
        METADATA,
    ),
    row(
        "mount",
        "mount of an image that all have mounted, and unmount",
        IMAGES,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_an_instruction() {
        let instruction = [0x0f, 0x1f, 0x80, 0x03, 0x73, 0x66, 0x63];
        assert_eq!(Mark::of(&instruction), Some(Mark::OperationBegins));
        assert_eq!(Mark::of(&[0x0f, 0x1f, 0x80, 0, 0, 0, 0]), None);
        assert_eq!(Mark::of(&[0x0f, 0x1f, 0x80, 5, 0x73, 0x66, 0x63]), None);
        assert_eq!(Mark::of(&instruction[..6]), None);
    }
}
