// SPDX-License-Identifier: GPL-2.0

//! The module: fs/composefs, built out of tree for the guest's kernel.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use anyhow::bail;

use crate::context::Context;
use crate::kernel::Kernel;
use crate::progress::Step;

/// The make variable that adds the KUnit tests.
const KUNIT: &str = "CONFIG_RUST_VFS_KUNIT_TEST=y";

/// The make variable that lets the kernel note which code runs.
const COVERAGE: &str = "COMPOSEFS_KCOV=y";

/// The make variable that adds to the module where its code is in the source.
const LINES: &str = "COMPOSEFS_LINES=y";

/// How the module is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lint {
    /// As a user builds it.
    Usual,
    /// With clippy.
    Clippy,
    /// With clippy and the KUnit tests, and any warning is an error.
    Deny,
    /// With the KUnit tests.
    KUnit,
    /// So that the kernel notes which code runs, on a kernel with KCOV.
    Coverage,
    /// So that it is known which line an address of the code belongs to.
    Lines,
}

impl Lint {
    /// The choice of `--clippy`.
    pub fn from_flag(clippy: bool) -> Self {
        if clippy { Self::Clippy } else { Self::Usual }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Usual => "module",
            Self::Clippy => "module-clippy",
            Self::Deny => "module-deny",
            Self::KUnit => "module-kunit",
            Self::Coverage => "module-coverage",
            Self::Lines => "module-lines",
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Usual => &[],
            Self::Clippy => &["CLIPPY=1"],
            Self::Deny => &["CLIPPY=1", "W=e", KUNIT],
            Self::KUnit => &[KUNIT],
            Self::Coverage => &[COVERAGE],
            Self::Lines => &[LINES],
        }
    }
}

/// The directory for the objects of a build.
///
/// # Errors
///
/// When it cannot be made.
pub fn output_dir(context: &Context, kernel: &Kernel, lint: Lint) -> Result<PathBuf> {
    let modules = context.cache.of_clone("module", &context.repo)?;
    Ok(modules.join(&kernel.key).join(lint.name()))
}

/// Builds composefs.ko with make, which does nothing if nothing has changed.
///
/// # Errors
///
/// When it does not compile.
pub fn make(context: &Context, kernel: &Kernel, lint: Lint) -> Result<PathBuf> {
    let source = context.module_dir();
    if !source.join("Kbuild").exists() {
        bail!(
            "{} has no Kbuild: this clone is incomplete",
            source.display()
        );
    }
    if !kernel.flavor.takes_module() {
        bail!(
            "composefs is built into the {} kernel",
            kernel.flavor.name()
        );
    }
    let objects = output_dir(context, kernel, lint)?;
    let mut make: Command = kernel.make(context)?;
    if kernel.root.is_some() && matches!(lint, Lint::Clippy) {
        bail!("there is no clippy beside the compiler of Debian's kernel: use --flavor plain");
    }
    let _lock = context.cache.lock(&format!("module-{}", kernel.key))?;
    std::fs::create_dir_all(&objects)?;
    let name = kernel.target().name();
    let log = context.cache.log(&format!("{}-{name}", lint.name()));
    let step = Step::begin(format!("building composefs.ko ({name})"), &log)?;
    make.arg("-C")
        .arg(&kernel.build)
        .arg(format!("M={}", source.display()))
        .arg(format!("MO={}", objects.display()))
        .args(lint.arguments())
        .arg("modules");
    step.run(&mut make)?;
    step.done();
    Ok(objects.join("composefs.ko"))
}
