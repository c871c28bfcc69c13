// SPDX-License-Identifier: GPL-2.0

//! What the rows mean for a processor.

use std::ffi::CString;
use std::fs;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use composefs_bench::coherence::Row;

use super::places::Places;

/// The most operations of a processor in a window.
const ROUNDS: usize = 400;

/// The most operations of all processors in a window: with many, each does fewer.
const ALL_ROUNDS: usize = 3200;

/// The most different ones that are done again.
const DIFFERENT: usize = 100;

/// The most mounts of a processor in a window, which take long.
const MOUNTS: usize = 20;

/// The most mounts of all processors in a window.
const ALL_MOUNTS: usize = 160;

/// What a processor does in each round.
pub struct Job {
    /// Before the window.
    pub warm: Vec<Operation>,
    /// Whether dentries are dropped then. This also drops what is in memory of the image, so
    /// the first processor then does these.
    pub cold: Option<Vec<Operation>>,
    /// In the window.
    pub rounds: Vec<Operation>,
}

/// An operation. Paths are relative to the tree.
#[derive(Clone)]
pub enum Operation {
    /// getppid(2).
    Nothing,
    /// Reading zeros to a line of the memory that all share.
    Zeros(u64),
    /// lstat(2).
    Stat(CString),
    /// lstat(2) of what does not exist.
    Absent(CString),
    /// Reading a directory.
    List(CString),
    /// Opening and reading a file.
    Read(CString),
    /// Mounting and unmounting the image.
    Mount,
}

impl Job {
    /// That of a row, for the processor with this number of so many.
    pub fn of(row: &Row, places: &Places, number: u32, count: u32) -> Result<Self> {
        let rounds = ROUNDS.min(ALL_ROUNDS / count as usize).max(1);
        let mounts = MOUNTS.min(ALL_MOUNTS / count as usize).max(1);
        let own: Vec<&String> = places.own(number, count).collect();
        let all: Vec<&String> = places.directories.iter().collect();
        let files = |dirs: &[&String]| files(places, dirs);
        let rotated = |names| rotated(names, number, count);
        let first = || -> Result<CString> {
            let dirs = all.get(..1).context("the tree is empty")?;
            files(dirs)?.pop().context("a directory is empty")
        };
        Ok(match row.name {
            "control" => Self::again(rounds, vec![Operation::Nothing]),
            "same-line" => Self::again(rounds, vec![Operation::Zeros(0)]),
            "own-line" => Self::again(rounds, vec![Operation::Zeros(number.into())]),
            "stat-cold-own" => {
                Self::dropped(places, rounds, operations(files(&own)?, Operation::Stat))?
            }
            "stat-cold-same" => {
                let names = rotated(files(&all)?);
                Self::dropped(places, rounds, operations(names, Operation::Stat))?
            }
            "readdir-own" => {
                Self::dropped(places, rounds, operations(dirs(&own), Operation::List))?
            }
            "readdir-same" => {
                let names = rotated(dirs(&all));
                Self::dropped(places, rounds, operations(names, Operation::List))?
            }
            "stat-own" => Self::again(rounds, operations(files(&own)?, Operation::Stat)),
            "stat-same" => Self::again(rounds, vec![Operation::Stat(first()?)]),
            "absent-own" => Self {
                warm: operations(dirs(&own), Operation::Stat),
                cold: None,
                rounds: own
                    .iter()
                    .cycle()
                    .zip(0..rounds)
                    .map(|(dir, round)| path(&[dir, &format!("absent-{number}-{round}")]))
                    .map(Operation::Absent)
                    .collect(),
            },
            "absent-same" => {
                let dir = all.first().context("the tree is empty")?;
                Self::again(rounds, vec![Operation::Absent(path(&[dir, "absent"]))])
            }
            "read-own" | "inline-own" => {
                let mut names = files(&own)?;
                if names.is_empty() {
                    // More processors than directories: each has files of its own.
                    names = files(&all)?;
                    let each = names.len() / count as usize;
                    ensure!(each > 0, "there are fewer files than processors");
                    names = names.split_off(number as usize * each);
                    names.truncate(each);
                }
                Self::again(rounds, operations(names, Operation::Read))
            }
            "read-same" | "inline-same" => Self::again(rounds, vec![Operation::Read(first()?)]),
            "mount" => Self {
                warm: vec![Operation::Mount; 2],
                cold: None,
                rounds: vec![Operation::Mount; mounts],
            },
            other => bail!("nobody knows what to do for the row \"{other}\""),
        })
    }

    /// Does operations again that were done before: twice, as the second use of a page makes it
    /// active.
    fn again(rounds: usize, mut operations: Vec<Operation>) -> Self {
        operations.truncate(DIFFERENT.min(rounds));
        let times = |times| operations.iter().cycle().take(times).cloned().collect();
        Self {
            warm: times(2 * operations.len()),
            cold: None,
            rounds: times(rounds),
        }
    }

    /// Does each once, without dentries and inodes, but with the image in memory: walking what
    /// is left over brings it back.
    fn dropped(places: &Places, rounds: usize, mut operations: Vec<Operation>) -> Result<Self> {
        operations.truncate(rounds);
        let spare: Vec<&String> = places.spare.iter().collect();
        let mut walk: Vec<Operation> = dirs(&spare).into_iter().map(Operation::List).collect();
        walk.extend(files(places, &spare)?.into_iter().map(Operation::Stat));
        Ok(Self {
            warm: operations.clone(),
            cold: Some(walk),
            rounds: operations,
        })
    }
}

fn operations(names: Vec<CString>, make: fn(CString) -> Operation) -> Vec<Operation> {
    names.into_iter().map(make).collect()
}

/// The paths of directories.
fn dirs(names: &[&String]) -> Vec<CString> {
    names.iter().map(|name| path(&[name])).collect()
}

/// The paths of the files in directories.
fn files(places: &Places, dirs: &[&String]) -> Result<Vec<CString>> {
    let mut files = Vec::new();
    for dir in dirs {
        let top = places.top.join(dir);
        for entry in fs::read_dir(&top).with_context(|| top.display().to_string())? {
            let name = entry?.file_name();
            files.push(path(&[dir, &name.to_string_lossy()]));
        }
    }
    files.sort();
    Ok(files)
}

/// Has each processor begin with another name: a round of all has as many names as there are
/// processors, and each is the first one to use one.
fn rotated(mut names: Vec<CString>, number: u32, count: u32) -> Vec<CString> {
    for names in names.chunks_mut(count as usize) {
        let by = number as usize % names.len();
        names.rotate_left(by);
    }
    names
}

fn path(parts: &[&str]) -> CString {
    // A file's name has no zero.
    CString::new(parts.join("/")).unwrap_or_default()
}
