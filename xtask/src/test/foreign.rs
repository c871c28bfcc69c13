// SPDX-License-Identifier: GPL-2.0

//! The tests of the parser on other machines: a big-endian one, and one of 32 bits.
//!
//! Debian's compilers build them, and QEMU runs them program by program. Miri needs a nightly
//! toolchain, and takes a thousand times longer.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use anyhow::bail;

use super::cargo_test;
use super::report::Report;
use super::selftests;
use crate::cache::Key;
use crate::chroot;
use crate::context::Context;
use crate::debian;
use crate::named;
use crate::packages;
use crate::progress::Step;
use crate::progress::tail;

/// A machine that is not the host's kind.
struct Machine {
    /// What it differs in.
    about: &'static str,
    /// What Debian calls it.
    debian: &'static str,
    /// What Rust calls it.
    target: &'static str,
    /// What gcc calls it.
    gcc: &'static str,
    /// The program that runs its programs.
    qemu: &'static str,
}

const MACHINES: [Machine; 2] = [
    Machine {
        about: "s390x, big-endian",
        debian: "s390x",
        target: "s390x-unknown-linux-gnu",
        gcc: "s390x-linux-gnu",
        qemu: "qemu-s390x",
    },
    Machine {
        about: "i686, 32 bits",
        debian: "i386",
        target: "i686-unknown-linux-gnu",
        gcc: "i686-linux-gnu",
        qemu: "qemu-i386",
    },
];

/// Debian's packages, besides those of each machine.
const PACKAGES: [&str; 5] = ["cargo", "gcc", "libc6-dev", "qemu-user", "rustc"];

/// The crates whose tests run there: they have no part in C.
const CRATES: [&str; 3] = [
    "composefs-image",
    "composefs-image-mutate",
    "composefs-old-image",
];

/// Rust's library of each machine. Its package depends on others of that machine, which
/// nothing here runs, so it is only unpacked.
const LIBRARIES: &str = r#"
set -e
cd "$1"
APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get download WORDS
for package in *.deb; do
	dpkg-deb --extract "$package" .
	rm "$package"
done
"#;

/// Runs the suite.
///
/// # Errors
///
/// When the compilers or the crates cannot be had.
pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    let root = root(context)?;
    let work = context.cache.run_dir()?;
    let crates = work.path().join("crates");
    let log = context.cache.log("foreign-crates");
    let step = Step::begin("collecting the crates for other machines", &log)?;
    step.run(
        Command::new("cargo")
            .current_dir(&context.repo)
            .args(["vendor", "--locked", "--versioned-dirs"])
            .arg(&crates),
    )?;
    drop(step);
    for machine in &MACHINES {
        machine.test(context, report, &root, &crates)?;
    }
    Ok(())
}

impl Machine {
    fn test(
        &self,
        context: &Context,
        report: &mut Report,
        root: &Path,
        crates: &Path,
    ) -> Result<()> {
        let target = context.cache.of_clone("foreign-programs", &context.repo)?;
        let images = named::directory_of(selftests::IMAGES)?;
        let mut seen = vec![context.cache.root(), &context.repo];
        seen.extend(images.as_deref());
        let mut cargo = chroot::command(root, &seen, "env");
        let upper = self.target.replace('-', "_").to_uppercase();
        cargo
            .arg("-C")
            .arg(&context.repo)
            .arg(format!("CARGO_TARGET_DIR={}", target.display()))
            .arg(format!("CARGO_TARGET_{upper}_LINKER={}-gcc", self.gcc))
            .arg(format!(
                "CARGO_TARGET_{upper}_RUNNER={} -L /usr/{}",
                self.qemu, self.gcc
            ))
            // All checks stay, and the tests take a fifth of the time.
            .arg("CARGO_PROFILE_DEV_OPT_LEVEL=2")
            .arg("CARGO_TERM_COLOR=never");
        if let Some(images) = &images {
            cargo.arg(format!("{}={}", selftests::IMAGES, images.display()));
        }
        cargo
            .args(["cargo", "test", "--offline", "--locked", "--no-fail-fast"])
            .args(["--target", self.target])
            .args(CRATES.map(|name| format!("--package={name}")))
            .args(["--config", "source.crates-io.replace-with='here'"])
            .arg("--config")
            .arg(format!("source.here.directory='{}'", crates.display()));
        cargo_test::run(context, report, "foreign", &mut cargo, self.about)
    }
}

/// The compilers, in a directory.
fn root(context: &Context) -> Result<PathBuf> {
    let mut names: Vec<String> = PACKAGES.map(str::to_owned).to_vec();
    let mut libraries = Vec::new();
    let mut architectures = vec!["amd64"];
    for machine in &MACHINES {
        names.push(format!("gcc-{}", machine.gcc.replace('_', "-")));
        names.push(format!("libc6-dev-{}-cross", machine.debian));
        libraries.push(format!("libstd-rust-dev:{}", machine.debian));
        architectures.push(machine.debian);
    }
    let hook = LIBRARIES.replace("WORDS", &libraries.join(" "));
    let key = Key::default()
        .with("suite", debian::SUITE)
        .with("packages", names.join(","))
        .with("hook", &hook)
        .finish();
    let entry = context.cache.made("foreign", &key, |entry| {
        packages::require(context, &[packages::GUEST])?;
        let log = context.cache.log("foreign");
        let step = Step::begin("fetching compilers for other machines", &log)?;
        let root = entry.join("root");
        fs::create_dir(&root)?;
        let mut mmdebstrap = debian::mmdebstrap("apt", "tar");
        mmdebstrap
            .arg(format!("--architectures={}", architectures.join(",")))
            .arg(format!("--include={}", names.join(",")))
            .args(
                ["doc", "info", "locale", "man"]
                    .map(|dir| format!("--dpkgopt=path-exclude=/usr/share/{dir}/*")),
            )
            .arg(format!("--customize-hook={hook}"))
            .args([debian::SUITE, "-"])
            .args(debian::mirror());
        if !chroot::unpack(&step, &mmdebstrap, &root)? {
            bail!(
                "Debian's compilers cannot be had:\n{}\nThe log: {}",
                tail(&log, 10),
                log.display()
            );
        }
        step.done();
        Ok(())
    })?;
    Ok(entry.join("root"))
}
