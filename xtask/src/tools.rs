// SPDX-License-Identifier: GPL-2.0

//! Programs that xtask needs: from crates.io by `cargo install`, or from Debian, into the cache.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use anyhow::bail;

use crate::cache::Key;
use crate::context::Context;
use crate::debian;
use crate::packages;
use crate::progress::Step;

/// A program on crates.io.
struct Tool {
    package: &'static str,
    version: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    rustflags: Option<&'static str>,
}

const BINDGEN: Tool = Tool {
    package: "bindgen-cli",
    version: "0.72.1",
    program: "bindgen",
    arguments: &[],
    rustflags: None,
};

/// Makes images. It runs in the guest too, whose C library is not the host's, so it is
/// linked statically.
const CFSCTL: Tool = Tool {
    package: "composefs-ctl",
    version: "0.9.4",
    program: "cfsctl",
    arguments: &[
        "--no-default-features",
        "--features=pre-6.15",
        // With a target named, build scripts and macros are built without RUSTFLAGS.
        "--target=x86_64-unknown-linux-gnu",
    ],
    rustflags: Some("-C target-feature=+crt-static"),
};

/// The same with `cfsctl oci`, which takes twice as long to build.
const CFSCTL_OCI: Tool = Tool {
    arguments: &[
        "--no-default-features",
        "--features=pre-6.15,oci",
        "--target=x86_64-unknown-linux-gnu",
    ],
    ..CFSCTL
};

/// Makes the root in an initramfs, where no C library may be.
const SETUP_ROOT: Tool = Tool {
    package: "composefs-setup-root",
    version: "0.9.4",
    program: "composefs-setup-root",
    arguments: &["--no-default-features", "--target=x86_64-unknown-linux-gnu"],
    rustflags: Some("-C target-feature=+crt-static"),
};

/// Finds inputs that reach new code.
const CARGO_FUZZ: Tool = Tool {
    package: "cargo-fuzz",
    version: "0.13.2",
    program: "cargo-fuzz",
    arguments: &[],
    rustflags: None,
};

/// The bindings generator that the kernel's build runs. It has one version on all
/// machines, so that they build the same bindings.
///
/// # Errors
///
/// When it cannot be built.
pub fn bindgen(context: &Context) -> Result<PathBuf> {
    install(context, &BINDGEN)
}

/// The program that makes images.
///
/// # Errors
///
/// When it cannot be built.
pub fn cfsctl(context: &Context) -> Result<PathBuf> {
    install(context, &CFSCTL)
}

/// The program that makes images, also from the layers of containers.
///
/// # Errors
///
/// When it cannot be built.
pub fn cfsctl_oci(context: &Context) -> Result<PathBuf> {
    install(context, &CFSCTL_OCI)
}

/// Debian's program that makes and unpacks layers of containers. It runs in the guest.
///
/// # Errors
///
/// When Debian's package cannot be had.
pub fn umoci(context: &Context) -> Result<PathBuf> {
    let dir = context.cache.made("umoci", debian::SUITE, |dir| {
        packages::require(context, &[packages::GUEST])?;
        let log = context.cache.log("umoci");
        let step = Step::begin("fetching umoci from Debian", &log)?;
        let mirror = debian::mirror();
        if !debian::extract(&step, mirror.as_deref(), "umoci", "/usr/bin/umoci", dir)? {
            bail!("cannot fetch umoci from Debian; the log: {}", log.display());
        }
        step.done();
        Ok(())
    })?;
    Ok(dir.join("umoci"))
}

/// The program of the composefs project that makes the root in an initramfs.
///
/// # Errors
///
/// When it cannot be built.
pub fn setup_root(context: &Context) -> Result<PathBuf> {
    install(context, &SETUP_ROOT)
}

/// The subcommand of cargo that fuzzes.
///
/// # Errors
///
/// When it cannot be built.
pub fn cargo_fuzz(context: &Context) -> Result<PathBuf> {
    install(context, &CARGO_FUZZ)
}

fn install(context: &Context, tool: &Tool) -> Result<PathBuf> {
    let key = Key::default()
        .with("version", tool.version)
        .with("arguments", tool.arguments.join(" "))
        .with("flags", tool.rustflags.unwrap_or_default())
        .finish();
    let key = format!("{}-{}-{key}", tool.program, tool.version);
    let dir = context.cache.made("tools", &key, |dir| {
        packages::require(context, &[packages::TOOLS])?;
        let log = context.cache.log(tool.program);
        let step = Step::begin(format!("building {} {}", tool.program, tool.version), &log)?;
        let mut cargo = Command::new("cargo");
        // Not in the clone, whose .cargo/config.toml is for its own programs.
        cargo
            .current_dir(dir)
            .args(["install", "--locked", tool.package])
            .arg(format!("--version={}", tool.version))
            .args(["--root=.", "--target-dir=target"])
            .args(tool.arguments);
        if let Some(flags) = tool.rustflags {
            cargo.env("RUSTFLAGS", flags);
        }
        step.run(&mut cargo)?;
        fs::remove_dir_all(dir.join("target"))?;
        step.done();
        Ok(())
    })?;
    Ok(dir.join("bin").join(tool.program))
}
