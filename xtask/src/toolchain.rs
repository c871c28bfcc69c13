// SPDX-License-Identifier: GPL-2.0

//! Everything that compiles a kernel, and `make` with it.

use std::path::PathBuf;
use std::process::Command;
use std::thread;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use crate::context::Context;
use crate::llvm::Llvm;
use crate::machine::Machine;
use crate::named;
use crate::packages;
use crate::path;
use crate::progress::output;
use crate::rust;
use crate::tools;

/// Variables of a surrounding build, which are not meant for the kernel's.
const FOREIGN: [&str; 7] = [
    "MAKEFLAGS",
    "MAKELEVEL",
    "MFLAGS",
    "ARCH",
    "CROSS_COMPILE",
    "RUSTFLAGS",
    // cargo puts the libraries of its own toolchain before others.
    "LD_LIBRARY_PATH",
];

/// Everything that compiles a kernel.
#[derive(Clone, Debug)]
pub struct Toolchain {
    llvm: Llvm,
    /// The source of Rust's `core`.
    library: PathBuf,
    bindgen: PathBuf,
    identity: String,
    /// How many programs make runs at once.
    jobs: u64,
}

impl Toolchain {
    /// Finds the compilers and installs what is missing.
    ///
    /// # Errors
    ///
    /// When something is missing and cannot be installed.
    pub fn ready(context: &Context) -> Result<Self> {
        packages::require(context, &[packages::KERNEL])?;
        let llvm = Llvm::find().context("no LLVM; run `cargo xtask setup`")?;
        let bindgen = tools::bindgen(context)?;
        let library = rust::library(context)?;
        let clang = output(Command::new(llvm.program("clang")).arg("--version"))?;
        let rustc = rust::rustc(&["--version", "--verbose"])?;
        let generator = output(Command::new(&bindgen).arg("--version"))?;
        Ok(Self {
            llvm,
            library,
            bindgen,
            identity: format!("{clang}{rustc}{generator}"),
            jobs: jobs()?,
        })
    }

    /// The versions of all compilers, on which a build depends.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// `make` for a kernel or a module of a machine.
    pub fn make(&self, machine: Machine) -> Command {
        let mut make = Command::new("make");
        for name in FOREIGN {
            make.env_remove(name);
        }
        if let Some(dir) = &self.llvm.libclang {
            make.env("LIBCLANG_PATH", dir);
        }
        make.env("RUST_LIB_SRC", &self.library)
            .env("LC_ALL", "C")
            // The same source gives the same kernel, whoever builds it.
            .env("KBUILD_BUILD_USER", "xtask")
            .env("KBUILD_BUILD_HOST", "composefs")
            .env("PATH", path::with_sbin())
            .args(machine.make_variables())
            .arg(format!("LLVM={}", self.llvm.make_variable()))
            .arg(format!("BINDGEN={}", self.bindgen.display()))
            .arg(format!("-j{}", self.jobs));
        make
    }
}

/// How many programs make runs at once.
///
/// # Errors
///
/// When `COMPOSEFS_JOBS` is no number, or 0.
pub fn jobs() -> Result<u64> {
    let processors = || thread::available_parallelism().map_or(1, usize::from);
    match named::number("COMPOSEFS_JOBS")? {
        Some(0) => bail!("COMPOSEFS_JOBS=0: make needs at least one job"),
        Some(jobs) => Ok(jobs),
        None => Ok(u64::try_from(processors())?),
    }
}
