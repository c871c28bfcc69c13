// SPDX-License-Identifier: GPL-2.0

//! Programs that xtask needs: from crates.io by `cargo install`, or from Debian, into the cache.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use anyhow::bail;

use crate::cache::Key;
use crate::context::Context;
use crate::cross::Compilers;
use crate::debian;
use crate::machine::Arch;
use crate::packages;
use crate::progress::Step;

/// A program on crates.io.
struct Tool {
    package: &'static str,
    version: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    /// Whether it runs in the guest, too.
    in_guest: bool,
}

const BINDGEN: Tool = Tool {
    package: "bindgen-cli",
    version: "0.72.1",
    program: "bindgen",
    arguments: &[],
    in_guest: false,
};

/// Makes images, also from the layers of containers. It runs in the guest too, whose C library is
/// not the host's, so it is linked statically.
const CFSCTL: Tool = Tool {
    package: "composefs-ctl",
    version: "0.9.4",
    program: "cfsctl",
    arguments: &["--no-default-features", "--features=pre-6.15,oci"],
    in_guest: true,
};

/// Makes the root in an initramfs, where no C library may be.
const SETUP_ROOT: Tool = Tool {
    package: "composefs-setup-root",
    version: "0.9.4",
    program: "composefs-setup-root",
    arguments: &["--no-default-features"],
    in_guest: true,
};

/// Finds inputs that reach new code.
const CARGO_FUZZ: Tool = Tool {
    package: "cargo-fuzz",
    version: "0.13.2",
    program: "cargo-fuzz",
    arguments: &[],
    in_guest: false,
};

/// Does what POSIX says about files, one call after the other. It is linked with the libraries
/// of the machine, since it looks up users.
const PJDFSTEST: Tool = Tool {
    package: "pjdfstest",
    version: "0.2.2",
    program: "pjdfstest",
    arguments: &[],
    in_guest: false,
};

/// Writes and maps a file at random, and compares what it reads.
const FSX: Tool = Tool {
    package: "fsx",
    version: "0.3.2",
    program: "fsx",
    arguments: &[],
    in_guest: false,
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

/// The program that makes images, also from the layers of containers.
///
/// # Errors
///
/// When it cannot be built.
pub fn cfsctl(context: &Context, arch: Arch) -> Result<PathBuf> {
    install_for(context, arch, &CFSCTL)
}

/// Debian's program that makes and unpacks layers of containers. It runs in the guest.
///
/// # Errors
///
/// When Debian's package cannot be had.
pub fn umoci(context: &Context, arch: Arch) -> Result<PathBuf> {
    let key = match arch {
        Arch::X86_64 => debian::SUITE.to_owned(),
        other => format!("{}-{}", debian::SUITE, other.name()),
    };
    let dir = context.cache.made("umoci", &key, |dir| {
        packages::require(context, &[packages::GUEST])?;
        let log = context.cache.log("umoci");
        let step = Step::begin("fetching umoci from Debian", &log)?;
        let mirror = debian::mirror();
        let mirror = mirror.as_deref();
        if !debian::extract(&step, mirror, arch, "umoci", "/usr/bin/umoci", dir)? {
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

/// The program that tries the system calls about files.
///
/// # Errors
///
/// When it cannot be built.
pub fn pjdfstest(context: &Context) -> Result<PathBuf> {
    install(context, &PJDFSTEST)
}

/// The program that writes at random, and compares.
///
/// # Errors
///
/// When it cannot be built.
pub fn fsx(context: &Context) -> Result<PathBuf> {
    install(context, &FSX)
}

/// Makes programs of the guest static: their C library is not the host's.
const STATIC: &str = "-C target-feature=+crt-static";

fn install(context: &Context, tool: &Tool) -> Result<PathBuf> {
    install_for(context, Arch::default(), tool)
}

fn install_for(context: &Context, arch: Arch, tool: &Tool) -> Result<PathBuf> {
    let compilers = Compilers::ready(context, arch)?;
    let mut arguments: Vec<String> = tool.arguments.iter().map(|&word| word.to_owned()).collect();
    let mut flags = "";
    if tool.in_guest {
        // With a target named, build scripts and macros are built without RUSTFLAGS.
        arguments.push(format!("--target={}", arch.triple()));
        flags = STATIC;
    }
    let mut key = Key::default()
        .with("version", tool.version)
        .with("arguments", arguments.join(" "))
        .with("flags", flags);
    if arch != Arch::default() {
        key = key.with("libraries", compilers.identity());
    }
    let key = format!("{}-{}-{}", tool.program, tool.version, key.finish());
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
            .args(&arguments);
        if tool.in_guest {
            compilers.apply(&mut cargo, flags);
        }
        step.run(&mut cargo)?;
        fs::remove_dir_all(dir.join("target"))?;
        step.done();
        Ok(())
    })?;
    Ok(dir.join("bin").join(tool.program))
}
