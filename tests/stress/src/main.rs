// SPDX-License-Identifier: GPL-2.0

//! The stress test. It runs in the guest, as root, on the disk of
//! scripts/make-fixtures, and prints KTAP.
//!
//! A first pass notes what two mounted images hold. Then many threads use these
//! mounts, and must find the same. Meanwhile, caches are dropped, memory is short,
//! objects are moved away and back, and the same images are mounted and unmounted. A
//! second round mounts images while the module is unloaded and loaded. At the end, no
//! mount, inode or open object may be left.

mod catalogue;
mod child;
mod churn;
mod fixtures;
mod ktap;
mod missing;
mod module;
mod mount;
mod pressure;
mod round;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use clap::Parser;

use catalogue::Catalogue;
use catalogue::Limits;
use child::Mapper;
use fixtures::Fixtures;
use ktap::Ktap;
use module::Module;
use mount::Mounted;
use round::Round;

/// Uses mounts of composefs from many threads at the same time
#[derive(Parser, Debug)]
pub struct Arguments {
    /// Mount point of the disk of scripts/make-fixtures; it is unmounted at the end
    #[arg(long)]
    fixtures: PathBuf,
    /// Block device of that disk; nothing may use it at the end
    #[arg(long)]
    device: PathBuf,
    /// File of the module, which is loaded already
    #[arg(long)]
    module: PathBuf,
    /// The directory tests/selftests, for its Python library
    #[arg(long)]
    selftests: PathBuf,
    /// How long the threads run
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Number of threads that check files
    #[arg(long, default_value_t = 16)]
    threads: usize,
    /// Seed of all random choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Memory limit of the whole test, in MiB
    #[arg(long, default_value_t = 64)]
    memory: u64,
    /// Largest number of inodes to check in an image
    #[arg(long, default_value_t = 6000)]
    inodes: usize,
    /// Largest amount of content to check in an image, in MiB
    #[arg(long, default_value_t = 64)]
    content: u64,
    /// Seconds after which an operation counts as hanging
    #[arg(long, default_value_t = 120)]
    timeout: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut ktap = Ktap::begin(4);
    ktap.note(&format!(
        "seed {}, {} threads, {} seconds",
        arguments.seed, arguments.threads, arguments.seconds
    ));
    if let Err(error) = stress(&arguments, &mut ktap) {
        ktap.bail_out(&format!("{error:#}"));
    }
    ktap.end()
}

fn stress(arguments: &Arguments, ktap: &mut Ktap) -> Result<()> {
    let fixtures = Fixtures::read(&arguments.fixtures)?;
    let group = pressure::Group::enter(arguments.memory)?;
    let limits = Limits {
        inodes: arguments.inodes,
        content: arguments.content << 20,
    };
    let mounts = ["special-v0", "debian-v0"]
        .into_iter()
        .map(|name| Mounted::attach(fixtures.image(name)?, name))
        .collect::<Result<Vec<_>>>()?;
    let catalogues = mounts
        .iter()
        .map(|mounted| Catalogue::of(mounted.path(), &limits))
        .collect::<Result<Vec<_>>>()?;
    for (mounted, catalogue) in mounts.iter().zip(&catalogues) {
        ktap.note(&format!("{}: {catalogue}", mounted.path().display()));
    }

    let round = many_threads(arguments, &fixtures, &mounts, &catalogues)?;
    ktap.figures(&round, "operations", arguments.threads);
    ktap.figure("memory limit hit", &group.times_at_limit().to_string());
    ktap.test(
        "many threads find what the first pass found",
        round.verdict(),
    );
    drop(catalogues);

    let name = "a new mount finds all objects again";
    ktap.test(name, missing::check_new_mount(&fixtures));
    drop(mounts);

    let module = Module::find(&arguments.module)?;
    let round = reload_module(arguments, &fixtures, &module)?;
    ktap.figures(&round, "operations while reloading", arguments.threads);
    ktap.test(
        "images are mounted while the module is unloaded and loaded",
        round.verdict(),
    );

    let name = "no mount, inode or open object is left";
    ktap.test(name, module.check_nothing_left(arguments));
    drop(group);
    Ok(())
}

/// Runs all kinds of threads at the same time, on images that stay mounted.
fn many_threads(
    arguments: &Arguments,
    fixtures: &Fixtures,
    mounts: &[Mounted],
    catalogues: &[Catalogue],
) -> Result<Round> {
    let store = missing::Store::mount(fixtures)?;
    let mappers = mounts
        .iter()
        .map(|mounted| Mapper::start(mounted.path(), &arguments.selftests, arguments.seed))
        .collect::<Result<Vec<_>>>()?;
    let round = Round::new(Duration::from_secs(arguments.timeout));
    let length = Duration::from_secs(arguments.seconds * 3 / 4);
    round.run(length, |tasks| {
        for number in 0..arguments.threads {
            let random = fastrand::Rng::with_seed(arguments.seed.wrapping_add(number as u64));
            tasks.add(move |task| worker::work(task, random, catalogues));
        }
        for mapper in mappers {
            tasks.add(move |task| mapper.work(task));
        }
        let mut random = fastrand::Rng::with_seed(arguments.seed.wrapping_mul(3));
        let own = random.fork();
        tasks.add(move |task| pressure::drop_caches(task, own));
        for _ in 0..2 {
            let own = random.fork();
            tasks.add(move |task| churn::work(task, own, fixtures, mounts));
        }
        let (own, store) = (random.fork(), &store);
        tasks.add(move |task| missing::move_objects(task, own, store));
        for _ in 0..3 {
            let own = random.fork();
            tasks.add(move |task| missing::read(task, own, store));
        }
    });
    store.restore().context("cannot put the objects back")?;
    Ok(round)
}

/// Runs threads that mount images, and a thread that unloads and loads the module.
fn reload_module(arguments: &Arguments, fixtures: &Fixtures, module: &Module) -> Result<Round> {
    let round = Round::new(Duration::from_secs(arguments.timeout));
    let length = Duration::from_secs(arguments.seconds.div_ceil(4));
    let mut random = fastrand::Rng::with_seed(arguments.seed.wrapping_mul(5));
    round.run(length, |tasks| {
        tasks.add(|task| module.reload(task));
        for _ in 0..arguments.threads.div_ceil(4) {
            let own = random.fork();
            tasks.add(move |task| churn::while_reloading(task, own, fixtures));
        }
    });
    Ok(round)
}
