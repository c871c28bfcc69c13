// SPDX-License-Identifier: GPL-2.0

//! The threads that mount one image after another.

use std::process::ExitCode;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Error;
use anyhow::Result;
use anyhow::bail;
use composefs_image_mutate::Base;
use composefs_image_mutate::Mutant;
use composefs_image_mutate::mutant;
use rustix::fs::fstatfs;
use rustix::io::Errno;

use crate::args::Args;
use crate::expected::Expected;
use crate::figures;
use crate::figures::Figures;
use crate::keep::Keeper;
use crate::mount::Mounter;
use crate::operation::Operation;
use crate::operation::perform;
use crate::parser;
use crate::walk::Seen;
use crate::walk::walk;
use crate::watchdog;

/// Number of failed images after which the run stops.
const FAILURES_MAX: u32 = 5;

/// Runs the test and prints KTAP.
///
/// # Errors
///
/// When the test itself cannot run.
pub fn run(args: &Args, bases: &[Base]) -> Result<ExitCode> {
    println!("KTAP version 1\n1..3");
    println!("# seeds {:?}, images made from:", args.seeds);
    for path in &args.images {
        println!("#     {}", path.display());
    }
    watchdog::start(Duration::from_secs(args.timeout));

    let begin = Instant::now();
    let shared = Shared {
        args,
        bases,
        keeper: Keeper::new(args.keep.as_ref())?,
        end: begin + Duration::from_secs(args.seconds),
        next: AtomicU64::new(0),
        failures: AtomicU32::new(0),
    };
    let shared = &shared;
    let mut figures = Figures::new();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..args.threads.into())
            .map(|thread| scope.spawn(move || shared.thread(thread)))
            .collect();
        for thread in threads {
            match thread.join() {
                Ok(result) => figures.merge(&result?),
                Err(_) => bail!("a thread has panicked"),
            }
        }
        Ok(())
    })?;
    figures.print();
    println!("# it took {} seconds", begin.elapsed().as_secs());

    let fits = shared.failures.load(Relaxed) == 0;
    let not = |good| if good { "" } else { "not " };
    println!(
        "{}ok 1 every image is refused, or shown as the parser reads it",
        not(fits)
    );
    // Otherwise the images have too much damage to be mounted, or too little to test.
    let useful =
        figures.mounted() * 2 > figures.tried() && figures.damaged() * 10 > figures.mounted();
    println!(
        "{}ok 2 most images are mounted, and many of these are damaged",
        not(useful)
    );
    let enough = figures.tried() >= args.least;
    println!(
        "{}ok 3 at least {} images were tried",
        not(enough),
        args.least
    );
    Ok(if fits && useful && enough {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The state that all threads share.
struct Shared<'a> {
    args: &'a Args,
    bases: &'a [Base],
    keeper: Keeper,
    end: Instant,
    /// Number of images that were taken.
    next: AtomicU64,
    failures: AtomicU32,
}

impl Shared<'_> {
    /// Mounts one image after another.
    fn thread(&self, number: usize) -> Result<Figures> {
        watchdog::enter(number);
        let mounter = Mounter::new(&self.args.basedirs, number)?;
        let mut figures = Figures::new();
        while let Some((seed, index)) = self.take() {
            let mutant = mutant(self.bases, seed, index);
            watchdog::set_image(index);
            self.keeper.begin(number, seed, index)?;
            match check(&mounter, self.bases, &mutant, index) {
                Ok(seen) => figures.add(&mutant.kinds, seen.as_ref()),
                Err(error) => self.report(seed, index, &mutant, &error)?,
            }
        }
        Ok(figures)
    }

    /// Returns the seed and the number of the next image, or `None` at the end.
    fn take(&self) -> Option<(u64, u64)> {
        if Instant::now() > self.end || self.failures.load(Relaxed) >= FAILURES_MAX {
            return None;
        }
        let number = self.next.fetch_add(1, Relaxed);
        if number >= self.args.count {
            return None;
        }
        let seeds = &self.args.seeds;
        let turn = number / seeds.len() as u64;
        let seed = seeds[(number % seeds.len() as u64) as usize];
        Some((seed, self.args.index.unwrap_or(0).wrapping_add(turn)))
    }

    /// Reports an image that failed, and keeps it.
    fn report(&self, seed: u64, index: u64, mutant: &Mutant, error: &Error) -> Result<()> {
        self.failures.fetch_add(1, Relaxed);
        println!(
            "# seed {seed}, image {index}, made from {}, changed: {}\n#     {error:#}",
            self.args.images[mutant.base].display(),
            figures::names(&mutant.kinds)
        );
        self.keeper.keep(seed, index, &mutant.bytes)
    }
}

/// Mounts an image, compares it with the parser, and unmounts it. Returns `None` if the
/// mount is refused.
fn check(mounter: &Mounter, bases: &[Base], mutant: &Mutant, index: u64) -> Result<Option<Seen>> {
    let wanted = parser::open(&mutant.bytes);
    let mounted = mounter.mount(&mutant.bytes, index);
    let (image, mounted) = match (wanted, mounted) {
        (Ok(image), Ok(mounted)) => (image, mounted),
        (Err(_), Err(Errno::UCLEAN)) => return Ok(None),
        (wanted, mounted) => bail!(
            "mount returns {:?}, the parser {:?}",
            mounted.map(drop),
            wanted.map(drop)
        ),
    };
    let expected = Expected {
        image,
        touched: bases[mutant.base].touched(&mutant.bytes),
        number: index as usize,
    };
    let root = mounted.root();
    let seen = match (root, expected.root()) {
        (Ok(root), _) => {
            perform(Operation::Statfs, || fstatfs(&root)).context("statfs")?;
            walk(root, &expected)?
        }
        (Err(error), Ok(inode)) if expected.may_refuse(&inode, error) => {
            let mut seen = Seen::default();
            seen.fail(error);
            seen
        }
        (Err(error), _) => return Err(error).context("cannot open the root directory"),
    };
    mounted.unmount().context("unmount")?;
    Ok(Some(seen))
}
