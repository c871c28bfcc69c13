// SPDX-License-Identifier: GPL-2.0

//! The compilers: which LLVM and which Rust the kernel is built with.

use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use crate::context::Context;
use crate::named;
use crate::packages::path_with_sbin;
use crate::progress::output;
use crate::rust_src;
use crate::setup;
use crate::tools;

/// The oldest LLVM that Rust for Linux and KASAN are content with.
const OLDEST: u32 = 17;

/// The newest that is looked for by a suffix.
const NEWEST: u32 = 25;

/// An installed LLVM.
#[derive(Clone, Debug)]
pub struct Llvm {
    /// What Debian's programs are called after the name: "-19", or nothing.
    pub suffix: String,
    /// Where its libclang is, which bindgen loads. It must not take another's.
    libclang: PathBuf,
}

impl Llvm {
    /// The plain `clang` if it is new enough, else the newest with a suffix.
    pub fn find() -> Option<Self> {
        let suffixes = (OLDEST..=NEWEST).rev().map(|version| format!("-{version}"));
        std::iter::once(String::new())
            .chain(suffixes)
            .find_map(Self::with_suffix)
    }

    fn with_suffix(suffix: String) -> Option<Self> {
        let tools = [
            "ld.lld",
            "llvm-ar",
            "llvm-nm",
            "llvm-objcopy",
            "llvm-strip",
            "llvm-readelf",
        ];
        let there = |tool: &str| {
            which::which_in(format!("{tool}{suffix}"), Some(path_with_sbin()), "/").is_ok()
        };
        if !there("clang") || !tools.into_iter().all(there) {
            return None;
        }
        let said = output(Command::new(format!("clang{suffix}")).arg("-dumpversion")).ok()?;
        let version: u32 = said.split('.').next()?.trim().parse().ok()?;
        let libclang = libclang_dir(version)?;
        (version >= OLDEST).then_some(Self { suffix, libclang })
    }

    /// The kernel's make variable.
    pub fn make_variable(&self) -> String {
        if self.suffix.is_empty() {
            "LLVM=1".to_owned()
        } else {
            format!("LLVM={}", self.suffix)
        }
    }

    /// The name of one of its programs.
    pub fn program(&self, name: &str) -> String {
        format!("{name}{}", self.suffix)
    }
}

/// The directory of libclang: what `LIBCLANG_PATH` says, Debian's for this
/// version, or the one for all programs.
fn libclang_dir(version: u32) -> Option<PathBuf> {
    if let Some(own) = env::var_os("LIBCLANG_PATH") {
        return Some(PathBuf::from(own));
    }
    [
        format!("/usr/lib/llvm-{version}/lib"),
        format!("/usr/lib64/llvm{version}/lib64"),
        "/usr/lib64".to_owned(),
        "/usr/lib".to_owned(),
    ]
    .into_iter()
    .map(PathBuf::from)
    .find(|dir| {
        fs::read_dir(dir).is_ok_and(|entries| {
            entries.flatten().any(|entry| {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                // Not libclang-cpp, which is another interface.
                name.starts_with("libclang.so") || name.starts_with(&format!("libclang-{version}"))
            })
        })
    })
}

/// Everything that compiles a kernel.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// The C side.
    pub llvm: Llvm,
    /// The sources of Rust's `core`.
    rust_lib_src: PathBuf,
    /// The bindings generator.
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
        setup::require(context, setup::KERNEL)?;
        let llvm = Llvm::find().context("no LLVM; run `cargo xtask setup`")?;
        let bindgen = tools::bindgen(context)?;
        let rust_lib_src = rust_src::ready(context)?;
        let clang = output(Command::new(llvm.program("clang")).arg("--version"))?;
        let rustc = output(Command::new("rustc").args(["--version", "--verbose"]))?;
        let generator = output(Command::new(&bindgen).arg("--version"))?;
        Ok(Self {
            llvm,
            rust_lib_src,
            bindgen,
            identity: format!("{clang}{rustc}{generator}"),
            jobs: jobs()?,
        })
    }

    /// What a build depends on, for its key.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// `make` for a kernel or a module, with these compilers.
    pub fn make(&self) -> Command {
        let mut make = Command::new("make");
        // Variables of the surrounding build are not meant for this one.
        for name in [
            "MAKEFLAGS",
            "MAKELEVEL",
            "MFLAGS",
            "ARCH",
            "CROSS_COMPILE",
            "RUSTFLAGS",
        ] {
            make.env_remove(name);
        }
        // cargo puts its own toolchain's libraries before others.
        make.env_remove("LD_LIBRARY_PATH");
        make.env("RUST_LIB_SRC", &self.rust_lib_src)
            .env("LIBCLANG_PATH", &self.llvm.libclang)
            .env("LC_ALL", "C")
            // The same inputs give the same kernel.
            .env("KBUILD_BUILD_USER", "xtask")
            .env("KBUILD_BUILD_HOST", "composefs")
            .env("PATH", path_with_sbin())
            .arg(self.llvm.make_variable())
            .arg(format!("BINDGEN={}", self.bindgen.display()))
            .arg(format!("-j{}", self.jobs));
        make
    }
}

/// The version of rustc, like "1.95.0".
///
/// # Errors
///
/// When there is no rustc.
pub fn rustc_version() -> Result<String> {
    let said = output(Command::new("rustc").arg("--version"))
        .context("no Rust compiler: install rustup, then `rustup toolchain install stable`")?;
    let version = said
        .split_whitespace()
        .nth(1)
        .context("rustc tells no version")?;
    Ok(version.to_owned())
}

/// The directory of the installed Rust.
///
/// # Errors
///
/// When there is no rustc.
pub fn rustc_sysroot() -> Result<PathBuf> {
    let said = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    Ok(Path::new(said.trim()).to_path_buf())
}

/// How many programs make runs at once.
fn jobs() -> Result<u64> {
    let processors = || thread::available_parallelism().map_or(1, usize::from);
    match named::number("COMPOSEFS_JOBS")? {
        Some(0) => bail!("COMPOSEFS_JOBS=0: make needs one at least"),
        Some(jobs) => Ok(jobs),
        None => Ok(u64::try_from(processors())?),
    }
}
