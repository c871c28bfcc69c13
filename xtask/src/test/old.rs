// SPDX-License-Identifier: GPL-2.0

//! tests/selftests/old_kernels.py on Debian's kernels, which have no composefs: what our tools
//! mount there is erofs and overlayfs.

use std::time::Duration;

use anyhow::Result;

use super::report::Report;
use super::watch::Program;
use super::watch::watch;
use crate::context::Context;
use crate::kernel::Flavor;
use crate::kernel::old;
use crate::vm::Job;
use crate::vm::VmConfig;

/// Runs the suite.
///
/// # Errors
///
/// When a kernel cannot be downloaded, or the guest cannot be made or fails.
pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    for release in old::RELEASES {
        let mut config = VmConfig::prepare(context, Flavor::Debian, false, Job::Shell(None))?;
        let version = old::take(context, &mut config.kernel, release)?;
        config.mounts = vec![("selftests".to_owned(), context.repo.join("tests/selftests"))];
        config.job = Job::Command(vec![
            "cp -r /mnt/selftests /run/selftests && exec /run/selftests/old_kernels.py".to_owned(),
        ]);
        config.timeout = Some(Duration::from_secs(15 * 60));
        config.log_name = format!("old-{release}-console");
        let program = Program {
            name: "old".to_owned(),
            about: format!("running mount.composefs on Linux {version}"),
            prefix: String::new(),
            suffix: format!(" ({version})"),
            may_skip: false,
        };
        watch(context, &config, report, &program)?;
    }
    Ok(())
}
