// SPDX-License-Identifier: GPL-2.0

//! A kernel for the guest, and its modules.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;

use super::flavor::Flavor;
use super::target::Target;
use crate::build_root::BuildRoot;
use crate::cache::Lock;
use crate::context::Context;
use crate::machine::Machine;
use crate::path;
use crate::progress::Step;
use crate::source::Source;
use crate::toolchain;
use crate::toolchain::Toolchain;

/// A kernel that the guest can boot.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Which of the guest's kernels it is.
    pub flavor: Flavor,
    /// The machine that it is for.
    pub machine: Machine,
    /// The image that QEMU boots.
    pub image: PathBuf,
    /// The initramfs, if drivers of the guest's disks are modules.
    pub initramfs: Option<PathBuf>,
    /// The directory that becomes the guest's /lib/modules.
    pub modules: PathBuf,
    /// The build directory, for modules out of tree.
    pub build: PathBuf,
    /// The source tree, if the kernel was built here.
    pub source: Option<PathBuf>,
    /// The key of this build in the cache.
    pub key: String,
    /// The Debian whose compilers built the kernel, if this machine's did not.
    pub root: Option<BuildRoot>,
}

impl Kernel {
    /// What it is built for.
    pub fn target(&self) -> Target {
        Target {
            flavor: self.flavor,
            machine: self.machine,
        }
    }

    /// The source tree, or one of another Linux 7.3 if the kernel was not built here.
    ///
    /// # Errors
    ///
    /// When it cannot be fetched.
    pub fn tree(&self, context: &Context) -> Result<PathBuf> {
        match &self.source {
            Some(source) => Ok(source.clone()),
            None => Ok(Source::ready(context, None)?.dir),
        }
    }

    /// `make` with the compilers that build a module for this kernel.
    ///
    /// # Errors
    ///
    /// When they are missing and cannot be installed.
    pub fn make(&self, context: &Context) -> Result<Command> {
        match &self.root {
            Some(root) => {
                let mut make = root.command(context, "make");
                make.arg(format!("-j{}", toolchain::jobs()?));
                Ok(make)
            }
            None => Ok(Toolchain::ready(context)?.make(self.machine)),
        }
    }
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
