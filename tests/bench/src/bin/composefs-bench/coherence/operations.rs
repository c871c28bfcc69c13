// SPDX-License-Identifier: GPL-2.0

//! The operations of the rows.

use std::ffi::CString;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use composefs_bench::Stack;
use composefs_bench::coherence::Mark;
use composefs_bench::coherence::Plan;
use composefs_bench::coherence::Row;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RawDir;
use rustix::fs::openat;
use rustix::fs::statat;
use rustix::io::Errno;
use rustix::io::read;

use super::marks::say;
use super::path;
use super::places::Places;
use super::processors::Shared;
use super::processors::Turns;
use crate::caches;
use crate::mounts::Verity;
use crate::mounts::open_dir;
use crate::recipe::Recipe;

/// The most operations of a processor in a window.
const ROUNDS: usize = 400;

/// The most mounts of a processor in a window, which take long.
const MOUNTS: usize = 20;

/// What a processor does in each round.
struct Job {
    /// Before the window.
    warm: Vec<Operation>,
    /// Whether dentries are dropped then. This also drops what is in memory of the image, so
    /// the first processor then does these.
    cold: Option<Vec<Operation>>,
    /// In the window.
    rounds: Vec<Operation>,
}

/// An operation.
enum Operation {
    Nothing,
    Zeros(u64),
    Stat(CString),
    Absent(CString),
    List(CString),
    Read(CString),
    Mount,
}

/// Works on one of the processors.
pub fn work(
    plan: &Plan,
    row: &Row,
    stack: Option<Stack>,
    places: &Places,
    turns: &mut Turns<'_>,
    number: u32,
) -> Result<()> {
    let job = job(row, places, number, turns)?;
    let mut tools = Tools::new(plan, row, stack, places, turns)?;
    for operation in &job.warm {
        turns.take(|| tools.do_it(operation))?;
    }
    if let Some(operations) = &job.cold {
        turns.take(|| {
            if number != 0 {
                return Ok(());
            }
            caches::drop_names()?;
            let mut operations = operations.iter();
            operations.try_for_each(|operation| tools.do_it(operation))
        })?;
    }
    turns.take(|| {
        if number == 0 {
            say(Mark::WindowBegins);
        }
        Ok(())
    })?;
    for operation in &job.rounds {
        turns.take(|| {
            say(Mark::OperationBegins);
            let done = tools.do_it(operation);
            say(Mark::OperationEnds);
            done
        })?;
    }
    let last = turns.count - 1;
    turns.take(|| {
        if number == last {
            say(Mark::WindowEnds);
        }
        Ok(())
    })
}

/// What a row means for a processor.
fn job(row: &Row, places: &Places, number: u32, turns: &Turns<'_>) -> Result<Job> {
    let count = turns.count;
    let (who, all) = (number as usize, count as usize);
    let own: Vec<&String> = places.own(number, count).collect();
    let files = |dirs: &[&String]| -> Result<Vec<CString>> {
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
    };
    let everywhere: Vec<&String> = places.directories.iter().collect();
    let first = || -> Result<CString> {
        let dirs = everywhere.get(..1).context("the tree is empty")?;
        files(dirs)?.pop().context("a directory is empty")
    };
    let dirs = |names: &[&String]| names.iter().map(|name| path(&[name])).collect::<Vec<_>>();
    // The image is in memory, but its inodes are not.
    let spare: Vec<&String> = places.spare.iter().collect();
    let spare = (dirs(&spare), files(&spare)?);
    let walk = || {
        let (dirs, files) = (spare.0.iter().cloned(), spare.1.iter().cloned());
        let lists = dirs.map(Operation::List);
        lists.chain(files.map(Operation::Stat)).collect()
    };
    let dropped = |names: Vec<CString>, make: fn(CString) -> Operation| {
        let use_them = || names.iter().take(ROUNDS).cloned().map(make).collect();
        Job {
            warm: use_them(),
            cold: Some(walk()),
            rounds: use_them(),
        }
    };
    // A round of all has as many names as processors, and each is the first to use one.
    let rotated = |mut names: Vec<CString>| -> Vec<CString> {
        for names in names.chunks_mut(all) {
            let by = who % names.len();
            names.rotate_left(by);
        }
        names
    };
    let times = |times: usize, make: &dyn Fn(usize) -> Operation| (0..times).map(make).collect();
    // Twice before, as the second use of a page makes it active.
    let again = |names: Vec<CString>, make: fn(CString) -> Operation| {
        let use_them = |times| -> Vec<Operation> {
            names
                .iter()
                .cycle()
                .take(times)
                .cloned()
                .map(make)
                .collect()
        };
        Job {
            warm: use_them(2 * names.len().min(ROUNDS)),
            cold: None,
            rounds: use_them(ROUNDS),
        }
    };
    let some = |mut names: Vec<CString>| {
        names.truncate(100);
        names
    };
    Ok(match row.name {
        "control" => again(vec![c"".to_owned()], |_| Operation::Nothing),
        "same-line" => again(vec![c"".to_owned()], |_| Operation::Zeros(0)),
        "own-line" => Job {
            warm: vec![Operation::Zeros(number.into())],
            cold: None,
            rounds: times(ROUNDS, &|_| Operation::Zeros(number.into())),
        },
        "stat-cold-own" => dropped(files(&own)?, Operation::Stat),
        "stat-cold-same" => dropped(rotated(files(&everywhere)?), Operation::Stat),
        "readdir-own" => dropped(dirs(&own), Operation::List),
        "readdir-same" => dropped(rotated(dirs(&everywhere)), Operation::List),
        "stat-own" => again(some(files(&own)?), Operation::Stat),
        "stat-same" => again(vec![first()?], Operation::Stat),
        "absent-own" => {
            let name = |number: usize| {
                let dir = own.get(number % own.len().max(1));
                let dir = dir.map_or("", |dir| dir);
                Operation::Absent(path(&[dir, &format!("absent-{who}-{number}")]))
            };
            Job {
                warm: dirs(&own).into_iter().map(Operation::Stat).collect(),
                cold: None,
                rounds: times(ROUNDS, &name),
            }
        }
        "absent-same" => {
            let dir = places.directories.first().context("the tree is empty")?;
            again(vec![path(&[dir, "absent"])], Operation::Absent)
        }
        "read-own" | "inline-own" => again(some(files(&own)?), Operation::Read),
        "read-same" | "inline-same" => again(vec![first()?], Operation::Read),
        "mount" => Job {
            warm: times(2, &|_| Operation::Mount),
            cold: None,
            rounds: times(MOUNTS, &|_| Operation::Mount),
        },
        other => bail!("nobody knows what to do for the row \"{other}\""),
    })
}

/// What operations need.
struct Tools<'a> {
    root: OwnedFd,
    zero: OwnedFd,
    shared: &'a Shared,
    buffer: Vec<u8>,
    entries: Vec<MaybeUninit<u8>>,
    mount: Option<Recipe>,
}

impl<'a> Tools<'a> {
    fn new(
        plan: &Plan,
        row: &Row,
        stack: Option<Stack>,
        places: &Places,
        turns: &Turns<'a>,
    ) -> Result<Self> {
        let number = turns.number;
        let root = if stack.is_some() {
            places.top.as_path()
        } else {
            std::path::Path::new("/")
        };
        let mut part = 0;
        let mount = match stack {
            Some(stack) if row.name == "mount" => Some(Recipe::new(
                stack,
                &plan.stored_content,
                Verity::Required,
                || {
                    part += 1;
                    format!("own-{number}-{part}")
                },
            )?),
            _ => None,
        };
        Ok(Self {
            root: open_dir(root)?,
            zero: openat(CWD, "/dev/zero", OFlags::RDONLY, Mode::empty())?,
            shared: turns.shared,
            buffer: vec![1; 64 << 10],
            entries: vec![MaybeUninit::new(1); 32 << 10],
            mount,
        })
    }

    fn do_it(&mut self, operation: &Operation) -> Result<()> {
        match operation {
            Operation::Nothing => {
                let _ = rustix::process::getppid();
            }
            Operation::Zeros(line) => self.shared.fill(&self.zero, *line)?,
            Operation::Stat(path) => {
                statat(&self.root, path, AtFlags::SYMLINK_NOFOLLOW)
                    .with_context(|| format!("lstat of {path:?}"))?;
            }
            Operation::Absent(path) => match statat(&self.root, path, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {}
                other => bail!("lstat of {path:?}: {other:?}"),
            },
            Operation::List(path) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                let dir = openat(&self.root, path, flags, Mode::empty())?;
                let mut entries = RawDir::new(&dir, &mut self.entries);
                while let Some(entry) = entries.next() {
                    entry?;
                }
            }
            Operation::Read(path) => {
                let file = openat(&self.root, path, OFlags::RDONLY, Mode::empty())?;
                if read(&file, &mut *self.buffer)? == 0 {
                    bail!("{path:?} is empty");
                }
            }
            Operation::Mount => {
                let recipe = self.mount.as_ref().context("nothing to mount")?;
                recipe.mount()?;
                recipe.unmount()?;
            }
        }
        Ok(())
    }
}
