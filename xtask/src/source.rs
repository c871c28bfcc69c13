// SPDX-License-Identifier: GPL-2.0

//! Where the kernel's source comes from.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use crate::apt::PrivateApt;
use crate::context::Context;
use crate::named;
use crate::progress::Step;

/// The oldest kernel that the module is written for.
const OLDEST: (u32, u32) = (7, 3);

/// Debian's package of it.
const PACKAGE: &str = "linux-source-7.3";

/// The release that is taken from kernel.org, where there is no Debian.
const RELEASE: &str = "7.3.4";

/// A kernel tree.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its top.
    pub dir: PathBuf,
    /// What its Makefile says, like "7.3.4".
    pub version: String,
    /// Whether it is a person's own, which changes under us.
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
        let entry = context.cache.entry("source", PACKAGE);
        let tree = entry.path().join("linux");
        if entry.is_complete() {
            return Self::read(tree, false);
        }
        let _lock = context.cache.lock("source")?;
        if entry.is_complete() {
            return Self::read(tree, false);
        }
        entry.start_over()?;
        let step = Step::begin("fetching the kernel's source", &context.cache.log("source"))?;
        let archive = fetch(context, &step, entry.path())?;
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
        let source = Self::read(tree, false)?;
        entry.complete()?;
        step.done();
        Ok(source)
    }

    fn read(dir: PathBuf, own: bool) -> Result<Self> {
        let makefile = dir.join("Makefile");
        let text = fs::read_to_string(&makefile)
            .with_context(|| format!("{} is no kernel source", dir.display()))?;
        let (numbers, version) = version(&text)
            .with_context(|| format!("{} names no kernel version", makefile.display()))?;
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

/// Downloads an archive of the kernel.
fn fetch(context: &Context, step: &Step, dir: &Path) -> Result<PathBuf> {
    if let Some(apt) = PrivateApt::open(context, step)? {
        if let Some(version) = apt.version(PACKAGE, "7.3.") {
            let unpacked = dir.join("package");
            apt.unpack(step, PACKAGE, &version, &unpacked)?;
            let archive = dir.join("linux.tar.xz");
            fs::rename(unpacked.join(format!("usr/src/{PACKAGE}.tar.xz")), &archive)?;
            fs::remove_dir_all(unpacked)?;
            return Ok(archive);
        }
    }
    let archive = dir.join("linux.tar.xz");
    let major = RELEASE.split('.').next().unwrap_or_default();
    let url = format!("https://cdn.kernel.org/pub/linux/kernel/v{major}.x/linux-{RELEASE}.tar.xz");
    step.run(
        Command::new("curl")
            .args([
                "--fail",
                "--location",
                "--silent",
                "--show-error",
                "--retry",
                "3",
            ])
            .arg("--output")
            .arg(&archive)
            .arg(url),
    )
    .context(
        "unpack a Linux 7.3 yourself and name it with --source DIR or COMPOSEFS_KERNEL_SOURCE",
    )?;
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
