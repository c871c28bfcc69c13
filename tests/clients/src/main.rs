// SPDX-License-Identifier: GPL-2.0

//! Stores a tree by the composefs crate, and mounts it by composefs-mount.
//!
//! tests/selftests/composefs_rs.py runs it and looks at the mounts.

mod fsmount;

use std::os::fd::AsFd;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use anyhow::Result;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use composefs::fsverity::Algorithm;
use composefs::fsverity::FsVerityHashValue;
use composefs::fsverity::Sha256HashValue;
use composefs::fsverity::Sha512HashValue;
use composefs::mount::VerityRequirement;
use composefs::repository::Repository;
use composefs::repository::RepositoryConfig;
use composefs_mount::Digest;
use composefs_mount::Prefer;
use rustix::fs::CWD;
use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;

/// A program that uses the composefs crate.
#[derive(Parser)]
struct Arguments {
    /// The algorithm of all digests
    #[arg(long, value_enum)]
    algorithm: Hash,
    /// The repository
    repository: PathBuf,
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Copy, ValueEnum)]
enum Hash {
    Sha256,
    Sha512,
}

#[derive(Subcommand)]
enum Action {
    /// Stores a tree in a new repository, and prints the digest of its image
    Store { tree: PathBuf },
    /// Mounts an image
    Mount {
        #[arg(long, value_enum)]
        how: How,
        /// Takes a shared lock on the open image
        #[arg(long)]
        lock: bool,
        /// The digest of the image
        image: String,
        target: PathBuf,
    },
}

/// The crate that mounts.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum How {
    /// The composefs crate
    Crate,
    /// The composefs crate's function as it would be with composefs-mount
    Function,
    /// composefs-mount, which is given the digest
    Digest,
    /// composefs-mount, which is given the digest and asked for a stack
    Stack,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.algorithm {
        Hash::Sha256 => run::<Sha256HashValue>(&arguments, Algorithm::SHA256),
        Hash::Sha512 => run::<Sha512HashValue>(&arguments, Algorithm::SHA512),
    }
}

fn run<Id: FsVerityHashValue>(arguments: &Arguments, algorithm: Algorithm) -> Result<()> {
    let path = &arguments.repository;
    match &arguments.action {
        Action::Store { tree } => {
            let config = RepositoryConfig::new(algorithm);
            let (repository, _) = Repository::<Id>::init_path(CWD, path, config)?;
            println!("{}", store(repository, tree)?);
            Ok(())
        }
        Action::Mount {
            how,
            lock,
            image,
            target,
        } => {
            let repository = Repository::<Id>::open_path(CWD, path)?;
            mount(&repository, *how, *lock, image, target)
        }
    }
}

/// Stores a tree. Returns the digest of its image.
fn store<Id: FsVerityHashValue>(repository: Repository<Id>, tree: &Path) -> Result<String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(tree, flags, Mode::empty())?;
    let repository = Arc::new(repository);
    let read = composefs::fs::read_filesystem(directory, ".".into(), Some(repository.clone()));
    let tree = tokio::runtime::Runtime::new()?.block_on(read)?;
    let digest = tree.commit_image(&repository, None)?;
    repository.sync()?;
    Ok(digest.to_hex())
}

fn mount<Id: FsVerityHashValue>(
    repository: &Repository<Id>,
    how: How,
    lock: bool,
    image: &str,
    target: &Path,
) -> Result<()> {
    if how == How::Crate {
        return repository.mount_at(image, target, &Default::default());
    }
    let (file, _) = repository.open_image(image)?;
    if lock {
        rustix::fs::flock(&file, FlockOperation::LockShared)?;
    }
    let objects = repository.objects_dir()?.as_fd();
    if how == How::Function {
        let options = fsmount::MountOptions::default();
        let verity = VerityRequirement::Required;
        let mounted = fsmount::composefs_fsmount(file, image, &[objects], verity, &options)?;
        return Ok(composefs::mount::mount_at(mounted, CWD, target)?);
    }
    let digest: Digest = image.parse().context("the digest of the image")?;
    let mounted = composefs_mount::MountOptions::new(&file)
        .basedir(objects)
        .digest(digest)
        .source(format!("composefs:{image}"))
        .prefer(match how {
            How::Stack => Prefer::Stack,
            _ => Prefer::Native,
        })
        .mount()?;
    println!("{}", mounted.kind());
    Ok(mounted.attach(target)?)
}
