// SPDX-License-Identifier: GPL-2.0

//! A kernel that was built, and its modules.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;

use super::flavor::Flavor;
use crate::cache::Lock;
use crate::context::Context;
use crate::path;
use crate::progress::Step;

/// A built kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Which of the guest's kernels it is.
    pub flavor: Flavor,
    /// The bzImage that QEMU boots.
    pub image: PathBuf,
    /// The directory that becomes the guest's /lib/modules.
    pub modules: PathBuf,
    /// The build directory, for modules out of tree.
    pub build: PathBuf,
    /// The source tree.
    pub source: PathBuf,
    /// The key of this build in the cache.
    pub key: String,
}

/// Takes the lock without which the kernel of this key is not built.
///
/// # Errors
///
/// When the lock file cannot be opened.
pub fn lock(context: &Context, key: &str) -> Result<Lock> {
    context.cache.lock(&format!("kernel-{key}"))
}

/// Installs the modules with `make`, a make command for the build.
///
/// # Errors
///
/// When make fails.
pub fn install_modules(step: &Step, mut make: Command, kernel: &Kernel) -> Result<()> {
    let root = kernel
        .modules
        .parent()
        .and_then(Path::parent)
        .context("the directory for the kernel's modules has no parent")?;
    if root.exists() {
        fs::remove_dir_all(root)?;
    }
    fs::create_dir_all(&kernel.modules)?;
    step.run(
        // depmod is in /sbin.
        make.env("PATH", path::with_sbin())
            .arg(format!("INSTALL_MOD_PATH={}", root.display()))
            .arg("INSTALL_MOD_STRIP=1")
            .arg("modules_install"),
    )
}
