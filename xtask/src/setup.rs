// SPDX-License-Identifier: GPL-2.0

//! Installing what is missing, or saying what a person must install.

use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use console::Term;

use crate::context::Context;
use crate::packages::LLVM;
use crate::packages::Need;
use crate::progress::Step;
use crate::progress::output;
use crate::rust_src;
use crate::tools;

pub use crate::packages::GUEST;
pub use crate::packages::KERNEL;
pub use crate::packages::TEST;
pub use crate::packages::VM;
pub use crate::packages::path_with_sbin;

/// LLVM versions by preference, where the distribution's plain one is too old.
const LLVM_VERSIONS: [u32; 6] = [19, 20, 21, 22, 18, 17];

/// `cargo xtask setup`: everything that any command needs.
///
/// # Errors
///
/// When something is missing that cannot be installed.
pub fn all(context: &Context) -> Result<()> {
    let needs: Vec<Need> = [KERNEL, GUEST, VM, TEST].concat();
    require(context, &needs)?;
    let bindgen = tools::bindgen(context)?;
    let library = rust_src::ready(context)?;
    let cfsctl = tools::cfsctl(context)?;
    println!("system packages  all there");
    println!("bindgen          {}", bindgen.display());
    println!("Rust sources     {}", library.display());
    println!("cfsctl           {}", cfsctl.display());
    println!("cache            {}", context.cache.root().display());
    Ok(())
}

/// Sees to it that all of these are there.
///
/// # Errors
///
/// When one is missing and we may not or cannot install it; the error lists
/// what to install.
pub fn require(context: &Context, needs: &[Need]) -> Result<()> {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    let Some(mut become_root) = installer() else {
        bail!("{}", explain(&missing));
    };
    let _lock = context.cache.lock("apt")?;
    let step = Step::begin("installing packages", &context.cache.log("apt"))?;
    // A new machine has no package lists.
    step.run(&mut become_root(&["apt-get", "update"]))
        .with_context(|| explain(&missing))?;
    let packages = package_names(&missing)?;
    let mut install = vec![
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "install",
        "--yes",
        "--no-install-recommends",
    ];
    install.extend(packages.iter().map(String::as_str));
    step.run(&mut become_root(&install))
        .with_context(|| explain(&missing))?;
    step.done();
    let still: Vec<Need> = self::missing(&missing);
    if !still.is_empty() {
        bail!("{}", explain(&still));
    }
    Ok(())
}

fn missing(needs: &[Need]) -> Vec<Need> {
    needs
        .iter()
        .copied()
        .filter(|need| !need.is_met())
        .collect()
}

/// How to run apt-get as root. None: no apt, or no way to become root.
fn installer() -> Option<impl FnMut(&[&str]) -> Command> {
    which::which("apt-get").ok()?;
    let root = rustix::process::geteuid().is_root();
    let silent = || output(Command::new("sudo").args(["-n", "true"])).is_ok();
    // With a terminal sudo may ask, once, before the screen is ours.
    let asked = || {
        Term::stderr().is_term()
            && Command::new("sudo")
                .arg("--validate")
                .status()
                .is_ok_and(|status| status.success())
    };
    if !root && !silent() && !asked() {
        return None;
    }
    Some(move |words: &[&str]| {
        let mut command = Command::new(if root { words[0] } else { "sudo" });
        command.args(if root { &words[1..] } else { words });
        command
    })
}

/// The packages' names, LLVM's with the version that this distribution has.
fn package_names(missing: &[Need]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for need in missing {
        if need.package == LLVM {
            let version = LLVM_VERSIONS
                .into_iter()
                .find(|version| is_available(&format!("clang-{version}")))
                .context("this distribution has no clang 17 or newer; add LLVM's own repository")?;
            names.extend(
                ["clang", "lld", "llvm", "libclang1"].map(|name| format!("{name}-{version}")),
            );
        } else {
            names.push(need.package.to_owned());
        }
    }
    Ok(names)
}

fn is_available(package: &str) -> bool {
    output(Command::new("apt-cache").args(["show", package])).is_ok_and(|text| !text.is_empty())
}

fn explain(missing: &[Need]) -> String {
    let mut text = String::from("some things are missing on this machine:\n");
    for need in missing {
        text.push_str(&format!("  {:<28} {}\n", need.package, need.purpose));
    }
    text.push_str(
        "These are the names of Debian's packages. On Debian and Ubuntu `cargo xtask setup`, run \
         as root or with sudo, installs them; elsewhere install what your distribution calls them.",
    );
    text
}
