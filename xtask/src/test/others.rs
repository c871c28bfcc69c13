// SPDX-License-Identifier: GPL-2.0

//! What the tests of others need in the guest besides its packages: the kernel's own selftests,
//! test programs of crates.io, and sources of Debian that have tests.
//!
//! Nothing of it is in this repository.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use anyhow::bail;

use super::headers;
use crate::cache::Key;
use crate::context::Context;
use crate::debian;
use crate::kernel::Kernel;
use crate::packages;
use crate::progress::Step;
use crate::toolchain::Toolchain;
use crate::tools;
use crate::vm::VmConfig;

/// The variable by which the selftests find the directory in the guest.
const VARIABLE: &str = "COMPOSEFS_OTHERS";

/// The kernel's selftests that are about files and mounts. Those of mm need many libraries for few
/// tests of files, those of openat2 and fchmodat2 need a sanitizer, and the plain kernel has no
/// Landlock.
const KERNEL: [&str; 23] = [
    "filesystems",
    "filesystems/overlayfs",
    "filesystems/statmount",
    "filesystems/mount-notify",
    "filesystems/move_mount",
    "filesystems/mount_cycle",
    "filesystems/open_tree_ns",
    "filesystems/umount_propagation",
    "filesystems/fscontext_ns",
    "filesystems/fsmount_ns",
    "filesystems/empty_mntns",
    "filesystems/mntns_unbindable",
    "filesystems/failfs",
    "exec",
    "mincore",
    "cachestat",
    "splice",
    "mount_setattr",
    "move_mount_set_group",
    "mount",
    "filelock",
    "tmpfs",
    "proc",
];

/// Debian's sources with tests that need no build, and the releases that they are from.
const SOURCES: [(&str, &[&str]); 2] = [
    (debian::NEWER, &["composefs", "acl"]),
    (debian::SUITE, &["attr"]),
];

/// Gives it all to the guest. Returns the line of the shell that sets [`VARIABLE`].
///
/// # Errors
///
/// When something cannot be had or does not compile.
pub fn share(
    context: &Context,
    config: &mut VmConfig,
    kernel: &Kernel,
    work: &Path,
) -> Result<String> {
    packages::require(context, &[packages::OTHERS])?;
    let directory = work.join("others");
    fs::create_dir_all(directory.join("bin"))?;
    for program in [tools::pjdfstest(context)?, tools::fsx(context)?] {
        let name = program.file_name().unwrap_or_default();
        fs::copy(&program, directory.join("bin").join(name))?;
    }
    copy(
        &of_kernel(context, kernel, work)?,
        &directory.join("kselftest"),
    )?;
    copy(&sources(context)?, &directory.join("sources"))?;
    config.mounts.push(("others".to_owned(), directory));
    Ok(format!("export {VARIABLE}=/mnt/others\n"))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("cp")
        .args(["-r", "--no-preserve=ownership"])
        .args([from, to])
        .status()?;
    if !copied.success() {
        bail!("cannot copy {}", from.display());
    }
    Ok(())
}

/// The kernel's selftests, built and installed.
fn of_kernel(context: &Context, kernel: &Kernel, work: &Path) -> Result<PathBuf> {
    let source = kernel.tree(context)?;
    let tests = source.join("tools/testing/selftests");
    let mut key = Key::default().with_files(&tests)?;
    for name in KERNEL {
        key = key.with(name, "").with_files(&tests.join(name))?;
    }
    context.cache.made("others-kernel", &key.finish(), |dir| {
        build(context, kernel, &source, work, dir)
    })
}

/// They are linked with the host's libraries, since some of them cannot be linked statically; the
/// guest's are newer.
fn build(
    context: &Context,
    kernel: &Kernel,
    source: &Path,
    work: &Path,
    installed: &Path,
) -> Result<()> {
    let log = context.cache.numbered_log("others-build")?;
    let step = Step::begin("building the kernel's own selftests", &log)?;
    let objects = work.join("others-objects");
    fs::create_dir_all(&objects)?;
    symlink(
        headers::ready(context, kernel, source, &step)?,
        objects.join("usr"),
    )?;
    step.run(
        Toolchain::ready(context)?
            .make(kernel.machine)
            .arg("-C")
            .arg(source.join("tools/testing/selftests"))
            .arg(format!("O={}", objects.display()))
            .arg(format!("KSFT_INSTALL_PATH={}", installed.display()))
            .arg(format!("TARGETS={}", KERNEL.join(" ")))
            // Those that do not compile here are missed by the tests, which count.
            .arg("SKIP_TARGETS=")
            .arg("install"),
    )?;
    step.done();
    Ok(())
}

/// Debian's sources, unpacked side by side. apt checks their signatures.
fn sources(context: &Context) -> Result<PathBuf> {
    let key = SOURCES
        .iter()
        .fold(Key::default(), |key, (release, packages)| {
            key.with(release, packages.join(","))
        });
    let key = key.finish();
    context.cache.made("others-sources", &key, |dir| {
        packages::require(context, &[packages::GUEST])?;
        let log = context.cache.log("others-sources");
        let step = Step::begin("fetching sources from Debian", &log)?;
        for (release, packages) in SOURCES {
            if !debian::sources(&step, release, packages, dir)? {
                let packages = packages.join(" ");
                bail!(
                    "cannot fetch the source of {packages} from Debian; the log: {}",
                    log.display()
                );
            }
        }
        step.done();
        Ok(())
    })
}
