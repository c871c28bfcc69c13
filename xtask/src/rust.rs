// SPDX-License-Identifier: GPL-2.0

//! The Rust compiler in use, and the source of its `core`, which the kernel compiles
//! for itself. It must be of the same version as the compiler.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use crate::context::Context;
use crate::debian;
use crate::machine::Arch;
use crate::packages;
use crate::progress::Step;
use crate::progress::output;

/// The directory for the kernel's RUST_LIB_SRC: the compiler's own, which rustup adds
/// if it is missing, else that of Debian's package rust-src.
///
/// # Errors
///
/// When neither is available for this compiler.
pub fn library(context: &Context) -> Result<PathBuf> {
    let own = rustc(&["--print", "sysroot"])?;
    let own = PathBuf::from(own.trim()).join("lib/rustlib/src/rust/library");
    let is_there = || own.join("core/src/lib.rs").exists();
    if is_there() {
        return Ok(own);
    }
    let log = context.cache.log("rust-src");
    if which::which("rustup").is_ok() {
        let step = Step::begin("adding the source of Rust's core", &log)?;
        step.status(Command::new("rustup").args(["component", "add", "rust-src"]))?;
        if is_there() {
            step.done();
            return Ok(own);
        }
    }
    let version = version()?;
    let dir = context.cache.made("rust-src", &version, |dir| {
        fetch(context, &version, dir).with_context(|| {
            format!(
                "there is no source of Rust {version}: neither `rustup component add rust-src` nor \
                 Debian's package rust-src provides it. The log: {}",
                log.display()
            )
        })
    })?;
    Ok(dir.join("library"))
}

/// Makes the compiler compile for another target: adds Rust's library of it.
///
/// # Errors
///
/// When it is missing and rustup does not have it.
pub fn add_target(context: &Context, triple: &str) -> Result<()> {
    let dir = rustc(&["--print", "target-libdir", "--target", triple])?;
    if Path::new(dir.trim()).exists() {
        return Ok(());
    }
    let log = context.cache.log("rust-target");
    let step = Step::begin(format!("adding Rust's library for {triple}"), &log)?;
    step.run(Command::new("rustup").args(["target", "add", triple]))
        .with_context(|| format!("there is no Rust library for {triple}; rustup has it"))?;
    step.done();
    Ok(())
}

fn fetch(context: &Context, version: &str, dir: &Path) -> Result<()> {
    let mirror = debian::mirror().context("no Debian mirror is known")?;
    packages::require(context, &[packages::GUEST])?;
    let package = format!("rust-src={version}+*");
    let path = format!("/usr/src/rustc-{version}/library");
    let log = context.cache.log("rust-src");
    let step = Step::begin("fetching the source of Rust's core", &log)?;
    let arch = Arch::default();
    if !debian::extract(&step, Some(&mirror), arch, &package, &path, dir)? {
        bail!("cannot fetch {package}");
    }
    step.done();
    Ok(())
}

/// The compiler's version, like "1.95.0".
///
/// # Errors
///
/// When there is no compiler.
fn version() -> Result<String> {
    let said = rustc(&["--version"])?;
    let version = said.split_whitespace().nth(1);
    Ok(version
        .context("`rustc --version` names no version")?
        .to_owned())
}

/// What the compiler prints.
///
/// # Errors
///
/// When there is no compiler.
pub fn rustc(arguments: &[&str]) -> Result<String> {
    output(Command::new("rustc").args(arguments))
        .context("no Rust compiler: install rustup, then run `rustup toolchain install stable`")
}
