// SPDX-License-Identifier: GPL-2.0

//! A kernel that was built outside of xtask: `COMPOSEFS_KERNEL_BUILD`.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::Context as _;
use anyhow::Result;

use super::built::Kernel;
use super::built::install_modules;
use super::built::lock;
use super::target::Target;
use crate::cache::Key;
use crate::context::Context;
use crate::progress::Step;
use crate::toolchain::Toolchain;

/// Uses the build directory `build`, an absolute path, as the kernel `target`. Only
/// its modules are installed, into the cache.
///
/// # Errors
///
/// When there is no kernel image in it, or its modules cannot be installed.
pub fn take(context: &Context, target: Target, build: &Path) -> Result<Kernel> {
    let name = build.display();
    let (_, inside) = target.machine.image();
    let image = build.join(inside);
    let modified = fs::metadata(&image)
        .and_then(|data| data.modified())
        .with_context(|| format!("COMPOSEFS_KERNEL_BUILD: {name} has no {inside}"))?;
    let source = build
        .join("source")
        .canonicalize()
        .unwrap_or_else(|_| build.to_path_buf());
    let key = Key::default()
        .with("build", build.as_os_str().as_encoded_bytes())
        .with("age", format!("{:?}", modified.duration_since(UNIX_EPOCH)))
        .finish();
    let key = format!("own-{key}");
    let entry = context.cache.entry("kernel", &key);
    let kernel = Kernel {
        flavor: target.flavor,
        machine: target.machine,
        image,
        initramfs: None,
        modules: entry.path().join("root/lib/modules"),
        build: build.to_path_buf(),
        source: Some(source),
        key,
        root: None,
    };
    if !entry.is_complete() {
        let _lock = lock(context, &kernel.key)?;
        entry.start_over()?;
        let step = Step::begin(
            "installing the kernel's modules",
            &context.cache.log("modules"),
        )?;
        let mut make = Toolchain::ready(context)?.make(target.machine);
        make.arg("-C").arg(build);
        install_modules(&step, make, &kernel)?;
        entry.complete()?;
        step.done();
    }
    Ok(kernel)
}
