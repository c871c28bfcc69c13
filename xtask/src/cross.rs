// SPDX-License-Identifier: GPL-2.0

//! What compiles programs for the guest's processor.
//!
//! For another processor than x86-64, clang compiles and links, with the headers and libraries
//! of that processor's Debian, which are only unpacked.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use crate::cache::Key;
use crate::chroot;
use crate::context::Context;
use crate::debian;
use crate::llvm::Llvm;
use crate::machine::Arch;
use crate::packages;
use crate::progress::Step;
use crate::rust;

/// Debian's packages with the headers and libraries.
const PACKAGES: [&str; 5] = [
    "libc6-dev",
    "libgcc-14-dev",
    "libssl-dev",
    "libzstd-dev",
    "zlib1g-dev",
];

/// What the static libcrypto needs. The names are those of static libraries: there are others.
const COMPRESSION: &str = "-Clink-arg=-l:libz.a -Clink-arg=-l:libzstd.a";

/// The compilers for a processor.
pub struct Compilers {
    arch: Arch,
    /// LLVM, and the directory with the headers and libraries. `None` for those of the host.
    foreign: Option<(Llvm, PathBuf)>,
}

impl Compilers {
    /// Finds them, and fetches what is missing.
    ///
    /// # Errors
    ///
    /// When something cannot be had.
    pub fn ready(context: &Context, arch: Arch) -> Result<Self> {
        let foreign = match arch {
            // xtask runs on x86-64.
            Arch::X86_64 => None,
            Arch::Arm64 => {
                packages::require(context, &[packages::KERNEL])?;
                let llvm = Llvm::find().context("no LLVM; run `cargo xtask setup`")?;
                rust::add_target(context, arch.triple())?;
                Some((llvm, libraries(context, arch)?))
            }
        };
        Ok(Self { arch, foreign })
    }

    /// What a cache key has to say about them.
    pub fn identity(&self) -> String {
        match &self.foreign {
            None => String::new(),
            Some((_, dir)) => dir.display().to_string(),
        }
    }

    /// Tells cargo to build for the processor, with these flags for rustc besides those that
    /// are needed.
    pub fn apply(&self, cargo: &mut Command, flags: &str) {
        cargo.env_remove("CARGO_ENCODED_RUSTFLAGS");
        let Some((llvm, dir)) = &self.foreign else {
            cargo.env("RUSTFLAGS", flags);
            return;
        };
        let triple = self.arch.triple();
        let lower = triple.replace('-', "_");
        let upper = lower.to_uppercase();
        let gnu = format!("{}-linux-gnu", self.arch.rust());
        let root = dir.display();
        let clang = llvm.program("clang");
        cargo
            .env(
                "RUSTFLAGS",
                format!(
                    "{flags} -Clink-arg=--target={gnu} -Clink-arg=--sysroot={root} \
                     -Clink-arg=-fuse-ld=lld {COMPRESSION}"
                ),
            )
            .env(format!("CARGO_TARGET_{upper}_LINKER"), &clang)
            // For crates with parts in C.
            .env(format!("CC_{lower}"), &clang)
            .env(format!("AR_{lower}"), llvm.program("llvm-ar"))
            .env(
                format!("CFLAGS_{lower}"),
                format!("--target={gnu} --sysroot={root}"),
            )
            .env("OPENSSL_STATIC", "1")
            .env(
                format!("{upper}_OPENSSL_LIB_DIR"),
                dir.join("usr/lib").join(&gnu),
            )
            .env(
                format!("{upper}_OPENSSL_INCLUDE_DIR"),
                dir.join("usr/include"),
            );
    }
}

/// The directory with the headers and libraries of a processor.
fn libraries(context: &Context, arch: Arch) -> Result<PathBuf> {
    let key = Key::default()
        .with("suite", debian::SUITE)
        .with("packages", PACKAGES.join(","))
        .finish();
    let kind = format!("libraries-{}", arch.name());
    let dir = context.cache.made(&kind, &key, |dir| {
        packages::require(context, &[packages::GUEST])?;
        let log = context.cache.log(&kind);
        let step = Step::begin(format!("fetching the C library of {}", arch.name()), &log)?;
        let root = dir.join(ROOT);
        fs::create_dir(&root)?;
        let mut mmdebstrap = debian::mmdebstrap("extract", "tar");
        mmdebstrap
            .arg(format!("--architectures={}", arch.debian()))
            .arg(format!("--include={}", PACKAGES.join(",")))
            .args([debian::SUITE, "-"])
            .args(debian::mirror());
        if !chroot::unpack(&step, &mmdebstrap, &root)? {
            bail!(
                "Debian's C library of {} cannot be had; the log: {}",
                arch.name(),
                log.display()
            );
        }
        // libc.so names files below /lib, which no package makes.
        symlink("usr/lib", root.join("lib"))?;
        step.done();
        Ok(())
    })?;
    Ok(dir.join(ROOT))
}

/// The directory in its cache entry.
const ROOT: &str = "root";
