// SPDX-License-Identifier: GPL-2.0

//! Programs of this workspace that run in the guest.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::context::Context;
use crate::progress::Step;

/// The guest's target. With a target named, cargo builds build scripts and macros, which
/// run on the host, without [`FLAGS`].
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Links statically: the guest's C library may be older than the host's.
const FLAGS: &str = "-Ctarget-feature=+crt-static";

/// Builds the program of a package, which has the same name. Returns its directory.
///
/// # Errors
///
/// When it does not compile, or the host has no static C library.
pub fn build(context: &Context, package: &str) -> Result<PathBuf> {
    cargo_build(context, package, "guest-programs", FLAGS)
}

/// Builds the shared library of a package. Returns its directory.
///
/// It is linked with the host's C library, as it has to use that of the program that loads it.
/// If the guest's is too old for it, loading it fails and names the version that it needs.
///
/// # Errors
///
/// When it does not compile.
pub fn build_library(context: &Context, package: &str) -> Result<PathBuf> {
    cargo_build(context, package, "guest-libraries", "")
}

/// Builds a package in a directory of its own: other flags would build all of it again.
fn cargo_build(context: &Context, package: &str, place: &str, flags: &str) -> Result<PathBuf> {
    let log = context.cache.log(&format!("guest-program-{package}"));
    let step = Step::begin(format!("building {package}"), &log)?;
    let target = context.cache.of_clone(place, &context.repo)?;
    step.run(
        Command::new("cargo")
            .current_dir(&context.repo)
            .args(["build", "--release", "--package", package])
            .args(["--target", TARGET])
            .env("CARGO_TARGET_DIR", &target)
            .env("RUSTFLAGS", flags)
            // A static program cannot use the host's shared library, which is the default.
            .env("OPENSSL_STATIC", "1")
            .env_remove("CARGO_ENCODED_RUSTFLAGS"),
    )?;
    drop(step);
    Ok(target.join(TARGET).join("release"))
}
