// SPDX-License-Identifier: GPL-2.0

//! Programs of this workspace that run in the guest.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::context::Context;
use crate::crates::Crates;
use crate::cross::Compilers;
use crate::machine::Arch;
use crate::progress::Step;

/// Links statically: the guest's C library may be older than the host's.
const FLAGS: &str = "-Ctarget-feature=+crt-static";

/// Builds the program of a package for the usual guest, as [`build_for`] does.
///
/// # Errors
///
/// As there.
pub fn build(context: &Context, package: &str) -> Result<PathBuf> {
    build_for(context, Arch::default(), package)
}

/// Builds the program of a package, which has the same name, for a processor. Returns its
/// directory.
///
/// # Errors
///
/// When it does not compile, or there is no static C library.
pub fn build_for(context: &Context, arch: Arch, package: &str) -> Result<PathBuf> {
    cargo_build(context, arch, package, "guest-programs", FLAGS)
}

/// Builds the shared library of a package. Returns its directory.
///
/// It is linked with the host's C library on x86-64, as it has to use that of the program that
/// loads it. If the guest's is too old for it, loading it fails and names the version that it
/// needs.
///
/// # Errors
///
/// When it does not compile.
pub fn build_library(context: &Context, arch: Arch, package: &str) -> Result<PathBuf> {
    cargo_build(context, arch, package, "guest-libraries", "")
}

/// Builds a package in a directory of its own: other flags would build all of it again.
fn cargo_build(
    context: &Context,
    arch: Arch,
    package: &str,
    place: &str,
    flags: &str,
) -> Result<PathBuf> {
    let compilers = Compilers::ready(context, arch)?;
    let log = context.cache.log(&format!("guest-program-{package}"));
    let step = Step::begin(format!("building {package}"), &log)?;
    let target = context.cache.of_clone(place, &context.repo)?;
    let crates = Crates::ready(context, place, &target)?;
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(&context.repo)
        .args(["build", "--release", "--package", package])
        // With a target named, cargo builds build scripts and macros, which run on the host,
        // without the flags.
        .args(["--target", arch.triple()])
        .env("CARGO_TARGET_DIR", &target)
        // A static program cannot use the shared library, which is the default.
        .env("OPENSSL_STATIC", "1");
    compilers.apply(&mut cargo, flags);
    step.run(&mut cargo)?;
    drop(step);
    crates.keep();
    Ok(target.join(arch.triple()).join("release"))
}
