// SPDX-License-Identifier: GPL-2.0

//! The kernel's headers for programs, with which its selftests are built.

use std::path::Path;
use std::path::PathBuf;

use anyhow::Result;

use crate::context::Context;
use crate::kernel::Kernel;
use crate::progress::Step;
use crate::toolchain::Toolchain;

/// The directory usr with the kernel's headers for programs. It is made where it is missing.
///
/// # Errors
///
/// When it cannot be made.
pub fn ready(context: &Context, kernel: &Kernel, source: &Path, step: &Step) -> Result<PathBuf> {
    let _lock = context.cache.lock("headers")?;
    // Debian's headers for modules have none for programs.
    let build = match kernel.root {
        Some(_) => context.cache.root().join("headers"),
        None => kernel.build.clone(),
    };
    let headers = build.join("usr");
    if !headers.join("include/linux/limits.h").exists() {
        step.run(
            Toolchain::ready(context)?
                .make(kernel.machine)
                .arg("-C")
                .arg(source)
                .arg(format!("O={}", build.display()))
                .arg("headers"),
        )?;
    }
    Ok(headers)
}
