// SPDX-License-Identifier: GPL-2.0

//! A Debian in a directory, with Debian's kernel and the compilers that built it. Commands run in
//! it as if it were the machine.
//!
//! A module can be built for Debian's kernel only with the same rustc, and that needs the C
//! library of the same release.

use std::error::Error;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use crate::cache::Key;
use crate::chroot;
use crate::context::Context;
use crate::debian;
use crate::packages;
use crate::progress::Step;

/// The packages, besides those of the kernel. The kernel's source has to be of the same version.
const PACKAGES: [&str; 15] = [
    // What Kbuild runs.
    "make",
    "bc",
    "bison",
    "flex",
    "libc6-dev",
    "perl",
    "xz-utils",
    // The compilers. Their versions are those of the release, with which its kernel is built.
    "bindgen",
    "gcc-14",
    "rust-src",
    "rustc",
    // For the initramfs.
    "busybox-static",
    "cpio",
    "kmod",
    SOURCE,
];

/// Debian's package of the kernel's source. There is one version of it, while there may be
/// several of the kernel.
const SOURCE: &str = "linux-source-7.3";

/// Options of dpkg that leave out files which nothing reads. The last one that matches counts.
const EXCLUDED: [&str; 7] = [
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/lib/llvm-*/lib/*.a",
    // 45 MB of 410 are the source of Rust's own crates.
    "path-exclude=/usr/src/rustc-*/*",
    "path-include=/usr/src/rustc-*/library/*",
];

/// Installs the kernel of the source's version: its image, its modules and its headers. The
/// package linux-image would also make an initramfs.
const INSTALL_KERNEL: &str = r#"
set -e
version=$(chroot "$1" dpkg-query --showformat '${source:Upstream-Version}' --show SOURCE)
release=$version+deb13-amd64
chroot "$1" apt-get install --yes --no-install-recommends \
    "linux-binary-$release" "linux-modules-$release" "linux-headers-$release"
chroot "$1" depmod "$release"
echo "$release" >"$1/etc/kernel-release"
"#;

/// The directory.
#[derive(Clone, Debug)]
pub struct BuildRoot {
    dir: PathBuf,
    /// The release of Debian's kernel, like "7.3.4+deb13-amd64".
    pub release: String,
    /// A key that changes with what is in the directory.
    pub key: String,
}

/// Debian's kernel or its compilers cannot be downloaded.
#[derive(Debug)]
pub struct Unavailable {
    mirror: String,
    /// What apt says.
    why: String,
    log: PathBuf,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Debian's kernel and its compilers cannot be had from {}: {} (the log: {})",
            self.mirror,
            self.why,
            self.log.display()
        )
    }
}

impl Error for Unavailable {}

impl BuildRoot {
    /// Makes it unless the cache has it.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when a package cannot be had. Others when tools are missing or the disk is
    /// full.
    pub fn ready(context: &Context) -> Result<Self> {
        let install = INSTALL_KERNEL.replace("SOURCE", SOURCE);
        let key = Key::default()
            .with("suite", debian::SUITE)
            .with("packages", PACKAGES.join(","))
            .with("excluded", EXCLUDED.join(","))
            .with("hook", &install)
            .finish();
        let entry = context.cache.made("debian", &key, |entry| {
            packages::require(context, &[packages::GUEST])?;
            let log = context.cache.log("debian");
            let step = Step::begin("fetching Debian's kernel and its compilers", &log)?;
            let root = entry.join(ROOT);
            fs::create_dir(&root)?;
            if !chroot::unpack(&step, &mmdebstrap(&install), &root)? {
                let said = fs::read_to_string(&log)?;
                if said.contains(NO_SPACE) {
                    bail!(
                        "the disk of {} is full (the log: {})",
                        root.display(),
                        log.display()
                    );
                }
                let why = why(&said);
                let mirror = debian::mirror().unwrap_or_else(|| "Debian's mirror".to_owned());
                return Err(Unavailable { mirror, why, log }.into());
            }
            step.done();
            Ok(())
        })?;
        let dir = entry.join(ROOT);
        let release = dir.join("etc/kernel-release");
        let release = fs::read_to_string(&release)
            .with_context(|| format!("cannot read {}", release.display()))?
            .trim()
            .to_owned();
        let key = Key::default()
            .with("root", key)
            .with("release", &release)
            .finish();
        Ok(Self { dir, release, key })
    }

    /// The kernel's modules: /lib/modules.
    pub fn modules(&self) -> PathBuf {
        self.dir.join("usr/lib/modules")
    }

    /// A command that runs in it. It sees the cache and the clone at their own paths, and no
    /// environment of this machine.
    pub fn command(&self, context: &Context, program: &str) -> Command {
        chroot::command(&self.dir, &[context.cache.root(), &context.repo], program)
    }
}

/// What programs say when the disk is full.
const NO_SPACE: &str = "No space left on device";

/// The directory in its cache entry.
const ROOT: &str = "root";

fn mmdebstrap(install: &str) -> Command {
    // With apt in it, which installs what the source's version decides.
    let mut command = debian::mmdebstrap("apt", "tar");
    command.arg(format!("--include={}", PACKAGES.join(",")));
    for option in EXCLUDED {
        command.arg(format!("--dpkgopt={option}"));
    }
    let backports = format!("{}-backports", debian::SUITE);
    debian::add_release(&mut command, debian::SUITE, &backports);
    command
        .arg(format!("--customize-hook={install}"))
        .args([debian::SUITE, "-"])
        // If no mirror is known, mmdebstrap takes its own default.
        .args(debian::mirror());
    command
}

/// The first error of apt in a log of mmdebstrap.
fn why(log: &str) -> String {
    let mut errors = log.lines().filter_map(|line| line.strip_prefix("E: "));
    let why = errors.next().unwrap_or("mmdebstrap failed");
    why.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::why;

    #[test]
    fn the_reason_is_apt_s_first_error() {
        let log = "+ \"mmdebstrap\"\nI: running apt-get update...\nIgn:1 http://mirror.test\n\
                   E: Unable to locate package linux-source-7.3\nE: apt-get failed: E: x\n";
        assert_eq!(why(log), "Unable to locate package linux-source-7.3");
        assert_eq!(why("nothing\n"), "mmdebstrap failed");
    }
}
