// SPDX-License-Identifier: GPL-2.0

//! What must be installed on this machine: scripts/host-packages.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use console::Term;

use crate::context::Context;
use crate::llvm::Llvm;
use crate::machine::Arch;
use crate::path;
use crate::progress::Step;
use crate::progress::output;

const LIST: &str = include_str!("../../scripts/host-packages");

/// To build the kernel, the module and Rust programs.
pub const KERNEL: &str = "kernel";
/// To build programs of crates.io.
pub const TOOLS: &str = "tools";
/// To make the guest's disks.
pub const GUEST: &str = "guest";
/// To run the guest.
pub const VM: &str = "vm";
/// To run a guest that is an arm64.
pub const VM_ARM64: &str = "vm-arm64";
/// To run programs of arm64 without a guest.
pub const ARM64: &str = "arm64";
/// To make what `cargo xtask boot` boots.
pub const BOOT: &str = "boot";
/// To build and check the tests.
pub const TEST: &str = "test";
/// To build tests of others.
pub const OTHERS: &str = "others";
/// To fuzz on the host.
pub const FUZZ: &str = "fuzz";
/// To make Debian packages.
pub const DEB: &str = "deb";

/// To run a guest with this processor.
pub fn vm(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => VM,
        Arch::Arm64 => VM_ARM64,
    }
}

/// The versions of LLVM to install, the first one that the distribution has.
const LLVM_VERSIONS: [u32; 6] = [19, 20, 21, 22, 18, 17];

/// A line of the list.
#[derive(Clone, Copy, Debug)]
struct Need {
    /// One of the constants above.
    set: &'static str,
    probe: &'static str,
    package: &'static str,
    purpose: &'static str,
}

impl Need {
    fn all() -> impl Iterator<Item = Self> {
        LIST.lines().filter_map(|line| {
            let (set, rest) = line.split_once(' ')?;
            let (probe, rest) = rest.trim_start().split_once(' ')?;
            let (package, purpose) = rest.trim_start().split_once(' ')?;
            let purpose = purpose.trim();
            (set != "#").then_some(Self {
                set,
                probe,
                package,
                purpose,
            })
        })
    }

    fn is_met(&self) -> bool {
        match self.probe {
            "llvm" => Llvm::find().is_some(),
            path if path.starts_with('/') => Path::new(path).exists(),
            header if header.ends_with(".h") => header_exists(header),
            program => path::has(program),
        }
    }
}

fn header_exists(name: &str) -> bool {
    let multiarch = format!("/usr/include/{}-linux-gnu", env::consts::ARCH);
    ["/usr/include", "/usr/local/include", &multiarch]
        .iter()
        .any(|dir| Path::new(dir).join(name).exists())
}

/// Installs what is missing of these sets.
///
/// # Errors
///
/// When something is missing that cannot be installed; the error lists it.
pub fn require(context: &Context, sets: &[&str]) -> Result<()> {
    let missing = missing(sets);
    if missing.is_empty() {
        return Ok(());
    }
    let Some(become_root) = installer() else {
        bail!("{}", explain(&missing));
    };
    let _lock = context.cache.lock("apt")?;
    let step = Step::begin("installing packages", &context.cache.log("apt"))?;
    let apt = |words: &[&str]| {
        let mut command = Command::new(become_root[0]);
        command
            .args(&become_root[1..])
            .args(["DEBIAN_FRONTEND=noninteractive", "apt-get"])
            .args(words);
        step.run(&mut command).with_context(|| explain(&missing))
    };
    // A new machine has no package lists.
    apt(&["update"])?;
    let packages = package_names(&missing)?;
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(packages.iter().map(String::as_str));
    apt(&install)?;
    step.done();
    let still = self::missing(sets);
    if !still.is_empty() {
        bail!("{}", explain(&still));
    }
    Ok(())
}

fn missing(sets: &[&str]) -> Vec<Need> {
    Need::all()
        .filter(|need| sets.contains(&need.set) && !need.is_met())
        .collect()
}

/// The words before a command that make it run as root, with more environment. None
/// when there is no apt, or no way to become root.
fn installer() -> Option<&'static [&'static str]> {
    which::which("apt-get").ok()?;
    if rustix::process::geteuid().is_root() {
        return Some(&["env"]);
    }
    let silent = || output(Command::new("sudo").args(["-n", "true"])).is_ok();
    // On a terminal sudo may ask for a password, before a progress bar is drawn there.
    let asked = || {
        Term::stderr().is_term()
            && Command::new("sudo")
                .arg("--validate")
                .status()
                .is_ok_and(|status| status.success())
    };
    (silent() || asked()).then_some(&["sudo", "env"])
}

/// The packages to install, LLVM's with the version that this distribution has.
fn package_names(missing: &[Need]) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for need in missing {
        if need.package == "llvm" {
            let version = LLVM_VERSIONS
                .into_iter()
                .find(|version| is_available(&format!("clang-{version}")))
                .context("this distribution has no clang 17 or newer; add LLVM's repository")?;
            let all = ["clang", "lld", "llvm", "libclang1"];
            names.extend(all.map(|name| format!("{name}-{version}")));
        } else {
            names.insert(need.package.to_owned());
        }
    }
    Ok(names)
}

fn is_available(package: &str) -> bool {
    output(Command::new("apt-cache").args(["show", package])).is_ok_and(|text| !text.is_empty())
}

fn explain(missing: &[Need]) -> String {
    let mut text = String::from("this machine lacks:\n");
    for need in missing {
        let _ = writeln!(text, "  {:<28} {}", need.package, need.purpose);
    }
    text + "These are names of Debian packages. On Debian and Ubuntu, `cargo xtask setup` \
            installs them when it is run as root or sudo works. Elsewhere, install the \
            packages of your distribution."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read() {
        let lines = LIST.lines();
        let count = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        assert_eq!(Need::all().count(), count.count());
        for need in Need::all() {
            assert!(
                [
                    KERNEL, TOOLS, GUEST, VM, VM_ARM64, ARM64, BOOT, TEST, OTHERS, FUZZ, DEB
                ]
                .contains(&need.set),
                "{need:?}"
            );
            assert!(!need.package.contains('/'), "{need:?}");
        }
    }
}
