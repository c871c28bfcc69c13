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
use crate::named;
use crate::packages;
use crate::progress::Step;

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
    /// What its Makefile says, like "7.3.4".
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
        let makefile = dir.join("Makefile");
        let text = fs::read_to_string(&makefile)
            .with_context(|| format!("{} is not a kernel source tree", dir.display()))?;
        let (numbers, version) = version(&text)
            .with_context(|| format!("{} does not say a kernel version", makefile.display()))?;
        if numbers < OLDEST {
            bail!(
                "{} is Linux {version}: composefs needs {}.{} or newer, whose VFS interfaces and \
                 Rust bindings it is written for",
                dir.display(),
                OLDEST.0,
                OLDEST.1
            );
        }
        Ok(Self { dir, version, own })
    }
}

/// Downloads an archive of the kernel into `dir`: Debian's, or kernel.org's where
/// there is none.
fn fetch(context: &Context, log: &Path, dir: &Path) -> Result<PathBuf> {
    if let Some(mirror) = debian::mirror() {
        packages::require(context, &[packages::GUEST])?;
        let name = format!("{PACKAGE}.tar.xz");
        let step = Step::begin("fetching the kernel's source from Debian", log)?;
        if debian::extract(&step, &mirror, PACKAGE, &format!("/usr/src/{name}"), dir)? {
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

/// The version in a kernel's top Makefile, as numbers and in full.
fn version(makefile: &str) -> Option<((u32, u32), String)> {
    let value = |name: &str| {
        makefile.lines().find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        })
    };
    let major = value("VERSION")?;
    let minor = value("PATCHLEVEL")?;
    let numbers = (major.parse().ok()?, minor.parse().ok()?);
    let level = value("SUBLEVEL").unwrap_or_default();
    let extra = value("EXTRAVERSION").unwrap_or_default();
    Some((numbers, format!("{major}.{minor}.{level}{extra}")))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn the_makefile_tells_the_version() {
        let makefile = "# x\nVERSION = 7\nPATCHLEVEL = 4\nSUBLEVEL = 0\nEXTRAVERSION = -rc1\n";
        assert_eq!(version(makefile), Some(((7, 4), "7.4.0-rc1".to_owned())));
        assert_eq!(version("all:\n"), None);
    }
}
