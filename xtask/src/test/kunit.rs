// SPDX-License-Identifier: GPL-2.0

//! The KUnit tests of fs/composefs/vfs, in a module that has them built in. They
//! run when it is loaded, and the kernel's log has their results. On the debug
//! kernel KASAN looks on.

use std::time::Duration;

use anyhow::Error;
use anyhow::Result;
use clap::ValueEnum;

use super::report::Report;
use super::watch::Program;
use super::watch::watch;
use crate::context::Context;
use crate::kernel::Flavor;
use crate::module;
use crate::module::Lint;
use crate::vm::Job;
use crate::vm::VmConfig;

/// KUnit of the guest's kernel waits to be asked.
const ENABLE: [&str; 3] = ["kunit.enable=1", "kunit.autorun=1", "kunit.stats_enabled=0"];

/// The log from the last run's first line on.
const RESULTS: &str = r#"dmesg --notime | awk '/^KTAP version 1/ { s = "" } { s = s $0 "\n" } END { printf "%s", s }'"#;

/// Runs the suite.
///
/// # Errors
///
/// When the module cannot be built or a guest not be made, or did not end well.
pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    part(context, report, "plain")?;
    part(context, report, "debug")
}

/// Runs it on one of the kernels.
///
/// # Errors
///
/// As [`run`], and when there is no such kernel.
pub fn part(context: &Context, report: &mut Report, flavor: &str) -> Result<()> {
    let flavor = Flavor::from_str(flavor, false).map_err(Error::msg)?;
    let job = Job::Command(vec![RESULTS.to_owned()]);
    let mut config = VmConfig::prepare(context, flavor, false, job)?;
    config.module = Some(module::make(context, &config.kernel, Lint::KUnit)?);
    config.append.extend(ENABLE.map(str::to_owned));
    config.timeout = Some(Duration::from_secs(300));
    config.log_name = "kunit-console".to_owned();
    let program = Program {
        name: "kunit",
        about: &format!("running KUnit on the {} kernel", flavor.name()),
        prefix: "",
        suffix: &format!(" ({} kernel)", flavor.name()),
    };
    watch(context, &config, report, program)
}
