// SPDX-License-Identifier: GPL-2.0

//! The KUnit tests of fs/composefs/vfs, which are built into a module of their own. They
//! run when it is loaded, and print their results to the kernel's log.

use std::time::Duration;

use anyhow::Result;

use super::report::Report;
use super::watch::Program;
use super::watch::watch;
use crate::context::Context;
use crate::kernel::Flavor;
use crate::kernel::Target;
use crate::module;
use crate::module::Lint;
use crate::vm::Job;
use crate::vm::VmConfig;

/// KUnit is off in the guest's kernel unless the command line asks for it.
const ENABLE: [&str; 3] = ["kunit.enable=1", "kunit.autorun=1", "kunit.stats_enabled=0"];

/// Prints the log from the first line of the last run on.
const RESULTS: &str = r#"dmesg --notime | awk '/^KTAP version 1/ { s = "" } { s = s $0 "\n" } END { printf "%s", s }'"#;

/// Runs the suite on one of the kernels of the usual machine.
///
/// # Errors
///
/// As [`run_on`].
pub fn run(context: &Context, report: &mut Report, flavor: Flavor) -> Result<()> {
    run_on(context, report, flavor.into())
}

/// Runs the suite on a kernel.
///
/// # Errors
///
/// When the module cannot be built, or the guest cannot be made or fails.
pub fn run_on(context: &Context, report: &mut Report, target: Target) -> Result<()> {
    let job = Job::Command(vec![RESULTS.to_owned()]);
    let mut config = VmConfig::prepare(context, target, false, job)?;
    config.module = Some(module::make(context, &config.kernel, Lint::KUnit)?);
    config.append.extend(ENABLE.map(str::to_owned));
    config.timeout = Some(Duration::from_secs(300));
    config.log_name = format!("kunit-{}-console", target.name());
    let program = Program::on(target, "kunit", "running KUnit");
    watch(context, &config, report, &program)
}
