// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask demo`: scripts/demo in the guest, which mounts a real image, or
//! scripts/demo-layers, which makes one of layers and signs it.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;

use crate::build_root::Unavailable;
use crate::cache::Key;
use crate::context::Context;
use crate::guest_disk;
use crate::guest_disk::Recipe;
use crate::kernel;
use crate::kernel::Flavor;
use crate::machine::Arch;
use crate::tools;
use crate::vm;
use crate::vm::Disk;
use crate::vm::Job;
use crate::vm::VmConfig;

/// Runs the demonstration, that of layers if `layers` says so. Then, if `shell` says so, a shell
/// in the guest.
///
/// # Errors
///
/// When a part of it cannot be made.
pub fn run(
    context: &Context,
    flavor: Option<Flavor>,
    layers: bool,
    shell: bool,
) -> Result<ExitCode> {
    let flavor = match flavor {
        Some(flavor) => flavor,
        None => choose(context)?,
    };
    let (show, mounts, fixtures) = if layers {
        of_layers(context)?
    } else {
        of_debian(context, flavor)?
    };
    let job = if shell {
        Job::Shell(Some(show))
    } else {
        Job::Command(vec![show])
    };
    let mut config = VmConfig::prepare(context, flavor, true, job)?;
    config.fixtures = fixtures;
    config.mounts = mounts;
    config
        .mounts
        .push(("scripts".to_owned(), context.repo.join("scripts")));
    config.timeout = (!shell).then_some(Duration::from_secs(600));
    config.log_name = "demo-console".to_owned();
    if shell {
        eprintln!("xtask: a shell in the guest follows; `exit` ends it");
    }
    let outcome = vm::run(context, &config, &mut vm::pass_on)?;
    Ok(ExitCode::from(outcome.report()))
}

/// The command in the guest, what is mounted there, and the disk.
type Show = (String, Vec<(String, PathBuf)>, Option<Disk>);

/// Shows an image of a whole Debian.
fn of_debian(context: &Context, flavor: Flavor) -> Result<Show> {
    let show = format!("/mnt/scripts/demo {}", vm::FIXTURES);
    Ok((show, Vec::new(), Some(image(context, flavor)?)))
}

/// Shows an image of layers, which is made in the guest.
fn of_layers(context: &Context) -> Result<Show> {
    let mut mounts = Vec::new();
    let arch = Arch::default();
    for program in [tools::cfsctl(context, arch)?, tools::umoci(context, arch)?] {
        let name = program.file_name().context("a tool has no name")?;
        let directory = program.parent().context("a tool is in no directory")?;
        mounts.push((name.to_string_lossy().into_owned(), directory.to_path_buf()));
    }
    let show = "/mnt/scripts/demo-layers /scratch /mnt/cfsctl /mnt/umoci".to_owned();
    Ok((show, mounts, None))
}

/// Debian's kernel, which need not be built, unless the user has named another one.
fn choose(context: &Context) -> Result<Flavor> {
    let named = ["COMPOSEFS_KERNEL_BUILD", "COMPOSEFS_KERNEL_SOURCE"];
    if named
        .into_iter()
        .any(|name| env::var_os(name).is_some_and(|value| !value.is_empty()))
    {
        return Ok(Flavor::Plain);
    }
    match kernel::make(context, Flavor::Debian, None) {
        Ok(_) => Ok(Flavor::Debian),
        Err(error) if error.is::<Unavailable>() => {
            eprintln!("xtask: {error}, so Linux is built here, as with --flavor plain");
            Ok(Flavor::Plain)
        }
        Err(error) => Err(error),
    }
}

/// The disk with an image of the guest and its objects.
fn image(context: &Context, flavor: Flavor) -> Result<Disk> {
    let scripts = context.repo.join("scripts");
    guest_disk::make(
        context,
        flavor,
        Recipe {
            kind: "demo",
            about: "making an image of the guest, in the guest",
            size: 2 << 30,
            command: "/mnt/scripts/make-demo-image \"$DISK\"".to_owned(),
            cfsctl: false,
            disks: Vec::new(),
            key: Key::default().with("script", fs::read(scripts.join("make-demo-image"))?),
            mounts: vec![("scripts".to_owned(), scripts)],
            timeout: Duration::from_secs(1800),
        },
    )
}
