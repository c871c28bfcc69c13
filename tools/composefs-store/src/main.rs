// SPDX-License-Identifier: GPL-2.0

//! `composefs-store`: adds, lists and removes the images of a store while systems run from it.
//!
//! A store is a repository of the composefs crate, which does most of the work. What is added here:
//! every image in `images/` is kept until it is removed by name, an image that is in use is kept
//! even if it has no name any more, and what an update costs is counted.
//!
//! `man/composefs-store.8` describes it.

mod add;
mod in_use;
mod inline;
mod list;
mod remove;
mod store;

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use anyhow::Result;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use composefs::fsverity::Algorithm;
use composefs::fsverity::FsVerityHashValue;
use composefs::fsverity::Sha256HashValue;
use composefs::fsverity::Sha512HashValue;
use composefs::repository::Repository;
use composefs::repository::RepositoryConfig;
use composefs::repository::read_repo_algorithm;
use rustix::fs::CWD;

use crate::store::Store;

/// Cares for a store of composefs images while systems run from it.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The store: the directory that has images/ and objects/
    #[arg(long, value_name = "DIR", default_value = "/sysroot/composefs")]
    #[arg(global = true)]
    store: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make an empty store, unless it is there already
    Init {
        /// The hash of all its digests
        #[arg(long, value_enum, default_value_t = Hash::Sha256)]
        hash: Hash,
    },
    /// Make an image of a tree, store the objects that are not there yet, and print its digest
    Add {
        /// The tree
        tree: PathBuf,
        /// A name for the image, besides its digest
        name: Option<String>,
        /// Put files of up to so many bytes into the image, instead of into objects
        #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..=2048))]
        inline: Option<u64>,
    },
    /// List the images: what they need, and whether they are in use
    List,
    /// Remove images that are not in use, and the objects that no other image needs
    Remove {
        /// Names or digests
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// Remove the objects that no image needs
    Clean,
}

#[derive(Clone, Copy, ValueEnum)]
enum Hash {
    Sha256,
    Sha512,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("composefs-store: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    match arguments.command {
        Command::Init { hash: Hash::Sha256 } => {
            return init::<Sha256HashValue>(&arguments.store, Algorithm::SHA256);
        }
        Command::Init { hash: Hash::Sha512 } => {
            return init::<Sha512HashValue>(&arguments.store, Algorithm::SHA512);
        }
        _ => (),
    }
    match algorithm(&arguments.store)? {
        Algorithm::Sha256 { .. } => run_with::<Sha256HashValue>(arguments),
        Algorithm::Sha512 { .. } => run_with::<Sha512HashValue>(arguments),
    }
}

/// Makes a store. Without fs-verity this fails.
fn init<Digest: FsVerityHashValue>(store: &Path, algorithm: Algorithm) -> Result<()> {
    Repository::<Digest>::init_path(CWD, store, RepositoryConfig::new(algorithm))?;
    Ok(())
}

/// The hash of the digests in a store.
fn algorithm(store: &Path) -> Result<Algorithm> {
    let directory =
        std::fs::File::open(store).with_context(|| format!("no store {}", store.display()))?;
    read_repo_algorithm(&directory)?.with_context(|| {
        format!(
            "{} is no store: it has no meta.json; \"composefs-store init\" makes one",
            store.display()
        )
    })
}

fn run_with<Digest: FsVerityHashValue>(arguments: &Arguments) -> Result<()> {
    let store = Store::<Digest>::open(&arguments.store)?;
    match &arguments.command {
        // Done before: there was no store.
        Command::Init { .. } => Ok(()),
        Command::Add { tree, name, inline } => add::add(&store, tree, name.as_deref(), *inline),
        Command::List => list::list(&store),
        Command::Remove { images } => remove::remove(&store, images),
        Command::Clean => remove::clean(&store),
    }
}
