// SPDX-License-Identifier: GPL-2.0

//! Doing what a row means.

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

use super::jobs::Job;
use super::jobs::Operation;
use super::marks::say;
use super::places::Places;
use super::processors::Shared;
use super::processors::Turns;
use crate::caches;
use crate::mounts::Verity;
use crate::mounts::open_dir;
use crate::recipe::Recipe;

/// Works on one of the processors.
pub fn work(
    plan: &Plan,
    row: &Row,
    stack: Option<Stack>,
    places: &Places,
    turns: &mut Turns<'_>,
    number: u32,
) -> Result<()> {
    let job = Job::of(row, places, number, turns.count)?;
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
