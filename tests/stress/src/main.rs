// SPDX-License-Identifier: GPL-2.0

//! The stressor: runs in the guest, as root, on the disk of
//! scripts/make-fixtures, and prints KTAP.
//!
//! A first pass notes what two mounted images hold. Then many threads look at
//! them again, each its own way, while caches are dropped, memory is short,
//! objects vanish and come back, and the same images are mounted and unmounted.
//! What they find must be what the first pass found. Another round does that
//! while the module is loaded and unloaded. At the end nothing may be left.

mod board;
mod catalogue;
mod child;
mod churn;
mod fixtures;
mod flicker;
mod ktap;
mod module;
mod mount;
mod pressure;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use clap::Parser;

use board::Board;
use catalogue::Catalogue;
use catalogue::Limits;
use child::Mapper;
use fixtures::Fixtures;
use ktap::Ktap;
use module::Module;
use mount::Mounted;

/// Uses mounts of composefs from many threads
#[derive(Parser, Debug)]
pub struct Arguments {
    /// The mounted disk of scripts/make-fixtures; it is unmounted at the end
    #[arg(long)]
    fixtures: PathBuf,
    /// Its block device, which must be free then
    #[arg(long)]
    device: PathBuf,
    /// The loaded module, to unload and load
    #[arg(long)]
    module: PathBuf,
    /// tests/selftests, whose Python library the mapping child uses
    #[arg(long)]
    selftests: PathBuf,
    /// How long to go on
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Threads that look at files
    #[arg(long, default_value_t = 16)]
    threads: usize,
    /// Where chance starts from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Memory that all of it together may have, in MiB
    #[arg(long, default_value_t = 64)]
    memory: u64,
    /// Most inodes of an image that are looked at
    #[arg(long, default_value_t = 6000)]
    inodes: usize,
    /// Most content of an image that is looked at, in MiB
    #[arg(long, default_value_t = 64)]
    content: u64,
    /// Seconds after which an operation is one that hangs
    #[arg(long, default_value_t = 120)]
    patience: u64,
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

    let board = crowd(arguments, &fixtures, &mounts, &catalogues)?;
    ktap.figures(&board, "operations", arguments.threads);
    ktap.figure("memory limit hit", &group.times_at_limit().to_string());
    ktap.test("many threads find what one found", board.verdict());
    drop(catalogues);

    let sentence = "all is there when the objects are";
    ktap.test(sentence, flicker::settled(&fixtures));
    drop(mounts);

    let module = Module::find(&arguments.module)?;
    let board = reloading(arguments, &fixtures, &module)?;
    ktap.figures(&board, "operations while reloading", arguments.threads);
    ktap.test("mounts while the module comes and goes", board.verdict());

    let sentence = "nothing is left: no mount, no inode, no open object";
    ktap.test(sentence, module.leave(arguments));
    drop(group);
    Ok(())
}

/// All threads at once on images that stay mounted.
fn crowd(
    arguments: &Arguments,
    fixtures: &Fixtures,
    mounts: &[Mounted],
    catalogues: &[Catalogue],
) -> Result<Board> {
    let flickering = flicker::Store::take(fixtures)?;
    let mappers = mounts
        .iter()
        .map(|mounted| Mapper::start(mounted.path(), &arguments.selftests, arguments.seed))
        .collect::<Result<Vec<_>>>()?;
    let board = Board::new(Duration::from_secs(arguments.patience));
    let length = Duration::from_secs(arguments.seconds * 3 / 4);
    board.run(length, |crew| {
        for number in 0..arguments.threads {
            let random = fastrand::Rng::with_seed(arguments.seed.wrapping_add(number as u64));
            crew.add(move |desk| worker::work(desk, random, catalogues));
        }
        for mapper in mappers {
            crew.add(move |desk| mapper.work(desk));
        }
        let mut random = fastrand::Rng::with_seed(arguments.seed.wrapping_mul(3));
        let own = random.fork();
        crew.add(move |desk| pressure::drop_caches(desk, own));
        for _ in 0..2 {
            let own = random.fork();
            crew.add(move |desk| churn::work(desk, own, fixtures, mounts));
        }
        let (own, store) = (random.fork(), &flickering);
        crew.add(move |desk| flicker::move_objects(desk, own, store));
        for _ in 0..3 {
            let own = random.fork();
            crew.add(move |desk| flicker::read(desk, own, store));
        }
    });
    flickering.restore().context("putting objects back")?;
    Ok(board)
}

/// Threads that mount, and one that takes the module away from them.
fn reloading(arguments: &Arguments, fixtures: &Fixtures, module: &Module) -> Result<Board> {
    let board = Board::new(Duration::from_secs(arguments.patience));
    let length = Duration::from_secs(arguments.seconds.div_ceil(4));
    let mut random = fastrand::Rng::with_seed(arguments.seed.wrapping_mul(5));
    board.run(length, |crew| {
        crew.add(|desk| module.reload(desk));
        for _ in 0..arguments.threads.div_ceil(4) {
            let own = random.fork();
            crew.add(move |desk| churn::while_reloading(desk, own, fixtures));
        }
    });
    Ok(board)
}
