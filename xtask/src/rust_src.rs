// SPDX-License-Identifier: GPL-2.0

//! The sources of Rust's `core`, which the kernel compiles for itself. They
//! must be those of the very compiler in use.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use anyhow::bail;

use crate::apt::PrivateApt;
use crate::context::Context;
use crate::progress::Step;
use crate::toolchain::rustc_sysroot;
use crate::toolchain::rustc_version;

/// Where they are, fetched if need be: from rustup, else from Debian's package.
///
/// # Errors
///
/// When neither has them for this compiler.
pub fn ready(context: &Context) -> Result<PathBuf> {
    let own = rustc_sysroot()?.join("lib/rustlib/src/rust/library");
    if own.join("core/src/lib.rs").exists() {
        return Ok(own);
    }
    let version = rustc_version()?;
    let entry = context.cache.entry("rust-src", &version);
    let library = entry.path().join("library");
    if entry.is_complete() {
        return Ok(library);
    }
    let _lock = context.cache.lock("rust-src")?;
    if entry.is_complete() {
        return Ok(library);
    }
    let step = Step::begin("fetching the Rust sources", &context.cache.log("rust-src"))?;
    if which::which("rustup").is_ok() {
        let added = step.status(Command::new("rustup").args(["component", "add", "rust-src"]))?;
        if added.success() && own.join("core/src/lib.rs").exists() {
            step.done();
            return Ok(own);
        }
    }
    let apt = PrivateApt::open(context, &step)?;
    let found = apt.and_then(|apt| Some((apt.version("rust-src", &version)?, apt)));
    let Some((package, apt)) = found else {
        bail!(
            "no sources of Rust {version}: `rustup component add rust-src` did not bring them \
             and Debian has no rust-src of this version; see {}",
            context.cache.log("rust-src").display()
        );
    };
    entry.start_over()?;
    let unpacked = entry.path().join("package");
    apt.unpack(&step, "rust-src", &package, &unpacked)?;
    std::fs::rename(
        unpacked.join(format!("usr/src/rustc-{version}/library")),
        &library,
    )?;
    std::fs::remove_dir_all(&unpacked)?;
    entry.complete()?;
    step.done();
    Ok(library)
}
