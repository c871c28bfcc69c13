// SPDX-License-Identifier: GPL-2.0

//! The kernel's source: the user's own tree, or one that is fetched.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use crate::context::Context;
use crate::debian;
use crate::machine::Arch;
use crate::named;
use crate::packages;
use crate::progress::Step;
use crate::progress::output;

/// The oldest kernel that the module is written for.
const OLDEST: (u32, u32) = (7, 3);

/// Debian's package of it.
const PACKAGE: &str = "linux-source-7.3";

/// The release to fetch from kernel.org, where Debian cannot be reached.
const RELEASE: &str = "7.3.4";

/// A kernel tree.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its top.
    pub dir: PathBuf,
    /// What `make kernelversion` says, like "7.3.4".
    pub version: String,
    /// Whether it is the user's own, which may change at any time.
    pub own: bool,
}

impl Source {
    /// Finds the tree, or fetches one: `own`, else Debian's, else kernel.org's.
    ///
    /// # Errors
    ///
    /// When it cannot be fetched, or is too old.
    pub fn ready(context: &Context, own: Option<&Path>) -> Result<Self> {
        if let Some(dir) = own {
            let dir = named::directory("--source or COMPOSEFS_KERNEL_SOURCE", dir)?;
            return Self::read(dir, true);
        }
        let dir = context.cache.made("source", PACKAGE, |dir| {
            let tree = dir.join("linux");
            let log = context.cache.log("source");
            packages::require(context, &[packages::KERNEL])?;
            let archive = fetch(context, &log, dir)?;
            let step = Step::begin("unpacking the kernel's source", &log)?;
            fs::create_dir(&tree)?;
            step.run(
                Command::new("tar")
                    .arg("--extract")
                    .arg("--file")
                    .arg(&archive)
                    .arg("--directory")
                    .arg(&tree)
                    .args(["--strip-components=1", "--no-same-owner"]),
            )?;
            fs::remove_file(&archive)?;
            Self::read(tree, false)?;
            step.done();
            Ok(())
        })?;
        Self::read(dir.join("linux"), false)
    }

    fn read(dir: PathBuf, own: bool) -> Result<Self> {
        let name = dir.display();
        let mut make = Command::new("make");
        make.arg("-sC").arg(&dir).arg("kernelversion");
        // With a surrounding make's -w, make prints more than the version.
        make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
        let said =
            output(&mut make).with_context(|| format!("{name} is not a kernel source tree"))?;
        let version = said.trim().to_owned();
        let (major, minor) = OLDEST;
        if numbers(&version).is_none_or(|numbers| numbers < OLDEST) {
            bail!(
                "{name} is Linux {version}: composefs needs {major}.{minor} or newer, for its VFS \
                 and Rust interfaces"
            );
        }
        Ok(Self { dir, version, own })
    }
}

/// The first two numbers of a version.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(['.', '-']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Downloads an archive of the kernel into `dir`: Debian's, or kernel.org's where
/// there is none.
fn fetch(context: &Context, log: &Path, dir: &Path) -> Result<PathBuf> {
    if let Some(mirror) = debian::mirror() {
        packages::require(context, &[packages::GUEST])?;
        let name = format!("{PACKAGE}.tar.xz");
        let step = Step::begin("fetching the kernel's source from Debian", log)?;
        if debian::extract(
            &step,
            Some(&mirror),
            Arch::default(),
            PACKAGE,
            &format!("/usr/src/{name}"),
            dir,
        )? {
            step.done();
            return Ok(dir.join(name));
        }
    }
    let step = Step::begin("fetching the kernel's source from kernel.org", log)?;
    let archive = dir.join("linux.tar.xz");
    let major = RELEASE.split('.').next().unwrap_or_default();
    let url = format!("https://cdn.kernel.org/pub/linux/kernel/v{major}.x/linux-{RELEASE}.tar.xz");
    step.run(
        Command::new("curl")
            .args(["--fail", "--location", "--silent", "--show-error"])
            .args(["--retry", "3", "--output"])
            .arg(&archive)
            .arg(url),
    )
    .context(
        "unpack Linux 7.3 yourself and name it with --source DIR or COMPOSEFS_KERNEL_SOURCE",
    )?;
    step.done();
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert_eq!(numbers("7.3.4"), Some((7, 3)));
        assert_eq!(numbers("7.10-rc1"), Some((7, 10)));
        assert_eq!(numbers("composefs"), None);
    }
}
