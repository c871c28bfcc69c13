// SPDX-License-Identifier: GPL-2.0

//! tests/selftests in the guest.
//!
//! They are written as a directory of the kernel's tools/testing/selftests, so
//! the kernel's own Makefile builds and installs them: it is given a tree that
//! is the kernel's, by links, and has ours in it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Result;
use anyhow::bail;

use super::boots::Boot;
use super::boots::Programs;
use super::report::Report;
use super::watch::Program;
use super::watch::watch;
use crate::context::Context;
use crate::fixtures;
use crate::kernel::Kernel;
use crate::named;
use crate::packages;
use crate::progress::Step;
use crate::toolchain::Toolchain;
use crate::vm::Job;
use crate::vm::VmConfig;

/// Where the directory is in a kernel tree.
const COLLECTION: &str = "filesystems/composefs";

/// Runs the programs of one boot.
///
/// # Errors
///
/// When the tests cannot be built or the guest not be made.
pub fn run(context: &Context, report: &mut Report, boot: &Boot<'_>) -> Result<()> {
    packages::require(context, &[packages::TEST])?;
    let ours = context.repo.join("tests/selftests");
    if !ours.join("Makefile").exists() {
        bail!("{} has no Makefile", ours.display());
    }
    let disk = fixtures::make(context)?;
    let mut config = VmConfig::prepare(context, boot.flavor, true, Job::Shell(None))?;
    // Each run builds them for itself: another one may be reading its own.
    let work = context.cache.run_dir()?;
    let installed = install(context, &config.kernel, &ours, work.path())?;

    let mut environment = format!("export COMPOSEFS_FIXTURES={}\n", fixtures::MOUNT_POINT);
    config.mounts = vec![("kselftest".to_owned(), installed)];
    if let Some(images) = named::directory_of("COMPOSEFS_IMAGES")? {
        config.mounts.push(("images".to_owned(), images));
        environment.push_str("export COMPOSEFS_IMAGES=/mnt/images\n");
    }
    config.disks = vec![disk];
    config.timeout = Some(boot.timeout);
    config.log_name = format!("{}-console", boot.name);
    config
        .append
        .extend(boot.append.iter().map(|&word| word.to_owned()));
    config.job = Job::Command(vec![format!(
        "set -e\n{}\n{environment}\
         cp -r /mnt/kselftest /run/kselftest\n\
         exec /run/kselftest/run_kselftest.sh --no-error-on-fail{}\n",
        fixtures::mount_command(),
        arguments(boot),
    )]);
    let program = Program {
        name: "selftests",
        about: "running the selftests in the guest",
        // All are of this one collection.
        prefix: &format!("{COLLECTION}: "),
        suffix: "",
    };
    watch(context, &config, report, program)
}

/// What run_kselftest.sh is told.
fn arguments(boot: &Boot<'_>) -> String {
    let (option, names) = match boot.programs {
        Programs::AllBut(names) => ("--skip", names),
        Programs::Only(names) => ("--test", names),
    };
    let mut arguments = String::new();
    for name in names {
        arguments.push_str(&format!(" {option} {COLLECTION}:{name}.py"));
    }
    if let Some(limit) = boot.program_timeout {
        arguments.push_str(&format!(" -o {}", limit.as_secs()));
    }
    arguments
}

/// Builds and installs the tests as the kernel's build does.
fn install(context: &Context, kernel: &Kernel, ours: &Path, work: &Path) -> Result<PathBuf> {
    let tools = Toolchain::ready(context)?;
    let tree = work.join("tree");
    let objects = work.join("objects");
    let installed = work.join("installed");
    let inside = Path::new("tools/testing/selftests").join(COLLECTION);
    graft(&kernel.source, &tree, &inside, ours)?;

    let log = context.cache.numbered_log("selftests-build")?;
    let step = Step::begin("building the selftests", &log)?;
    let _lock = context.cache.lock("headers")?;
    let headers = kernel.build.join("usr");
    if !headers.join("include/linux/limits.h").exists() {
        step.run(tools.make().arg("-C").arg(&kernel.build).arg("headers"))?;
    }
    fs::create_dir_all(&objects)?;
    symlink(headers, objects.join("usr"))?;
    step.run(
        tools
            .make()
            .arg("-C")
            .arg(tree.join("tools/testing/selftests"))
            .arg(format!("O={}", objects.display()))
            .arg(format!("KSFT_INSTALL_PATH={}", installed.display()))
            .arg(format!("TARGETS={COLLECTION}"))
            .args(["SKIP_TARGETS=", "FORCE_TARGETS=1"])
            // The guest's C library may be older than the host's.
            .arg("USERLDFLAGS=-static")
            .arg("install"),
    )?;
    drop(step);
    Ok(installed)
}

/// Makes a tree of links to `source`, with `ours` at `inside`.
fn graft(source: &Path, tree: &Path, inside: &Path, ours: &Path) -> Result<()> {
    fs::create_dir_all(tree)?;
    let mut parts = inside.components();
    let Some(next) = parts.next() else {
        bail!("nothing to graft");
    };
    let below = parts.as_path();
    for entry in fs::read_dir(source)?.flatten() {
        if entry.file_name() != next.as_os_str() {
            symlink(entry.path(), tree.join(entry.file_name()))?;
        }
    }
    if below.as_os_str().is_empty() {
        // As a link, it would look for ../../lib.mk beside our clone.
        let dir = tree.join(next);
        fs::create_dir(&dir)?;
        for entry in fs::read_dir(ours)?.flatten() {
            symlink(entry.path(), dir.join(entry.file_name()))?;
        }
        return Ok(());
    }
    graft(&source.join(next), &tree.join(next), below, ours)
}
