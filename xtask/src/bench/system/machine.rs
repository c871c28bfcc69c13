// SPDX-License-Identifier: GPL-2.0

//! One boot of the system, with a job.

use std::time::Duration;

use anyhow::Result;

use crate::bench::guest;
use crate::boot::Boot;
use crate::boot::BootArgs;
use crate::boot::Image;
use crate::boot::Stack;
use crate::context::Context;
use crate::kernel::Flavor;
use crate::vm::VmConfig;

/// A boot of the system with a job.
///
/// # Errors
///
/// When a part cannot be made.
pub fn prepare(context: &Context, stack: Stack, image: Image, job: &str) -> Result<Boot> {
    let args = BootArgs {
        // The one that people have.
        flavor: Flavor::Debian,
        stack,
        image,
        command: vec![job.to_owned()],
        timeout: 1200,
        ..BootArgs::default()
    };
    let mut boot = Boot::prepare(context, &args)?;
    // As where instructions are counted.
    boot.config.smp = 1;
    // The machine may be slow, and a unit that fails would not be measured.
    let patience = ["nowatchdog", "systemd.default_timeout_start_sec=900"];
    boot.config.append.extend(patience.map(str::to_owned));
    boot.config.boot_timeout = Duration::from_secs(1800);
    Ok(boot)
}

/// Runs it, and returns what the job has written.
///
/// # Errors
///
/// When the system does not boot, or the job fails.
pub fn run(context: &Context, config: &VmConfig, about: &str) -> Result<String> {
    let job = "the job in the booted system";
    guest::run(context, config, "bench-boot", about, job)
}
