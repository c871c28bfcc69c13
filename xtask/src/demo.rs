// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask demo`: scripts/demo in the guest, which mounts a real image.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use crate::context::Context;
use crate::fixtures;
use crate::kernel::Flavor;
use crate::vm;
use crate::vm::Job;
use crate::vm::VmConfig;

/// Runs the demonstration, and then a shell in the guest if `shell` says so.
///
/// # Errors
///
/// When a part of it cannot be made.
pub fn run(context: &Context, shell: bool) -> Result<ExitCode> {
    let disk = fixtures::make(context, Flavor::Plain)?;
    let show = format!("/mnt/scripts/demo {}", vm::FIXTURES);
    let job = if shell {
        Job::Shell(Some(show))
    } else {
        Job::Command(vec![show])
    };
    let mut config = VmConfig::prepare(context, Flavor::Plain, true, job)?;
    config.fixtures = Some(disk);
    config.mounts = vec![("scripts".to_owned(), context.repo.join("scripts"))];
    config.timeout = (!shell).then_some(Duration::from_secs(600));
    config.log_name = "demo-console".to_owned();
    if shell {
        eprintln!("xtask: a shell in the guest follows; `exit` ends it");
    }
    let outcome = vm::run(context, &config, &mut vm::pass_on)?;
    Ok(ExitCode::from(outcome.report()))
}
