// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask deb`: the Debian packages of packaging/debian.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use crate::context::Context;
use crate::files;
use crate::kernel;
use crate::kernel::Flavor;
use crate::module;
use crate::module::Lint;
use crate::packages;
use crate::progress::Step;

/// The name of the source package.
const SOURCE: &str = "composefs-linux";

/// Which packages are made.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct DebArgs {
    /// Gives them this version instead of that of packaging/debian/changelog
    #[arg(long, value_name = "VERSION")]
    pub package_version: Option<String>,
    /// Also makes one of the module, built for Debian's kernel
    #[arg(long)]
    pub modules: bool,
}

/// Makes the packages, checks them with lintian, and writes them to `dir`, in which those
/// of an earlier run are replaced.
///
/// # Errors
///
/// When tools are missing, something does not compile, or lintian finds a fault.
pub fn make(context: &Context, dir: &Path, args: &DebArgs) -> Result<Vec<PathBuf>> {
    if dir.exists() && !dir.is_dir() {
        bail!(
            "{} is not a directory: there are several packages",
            dir.display()
        );
    }
    packages::require(context, &[packages::DEB])?;
    let _lock = context.cache.lock("deb")?;
    let work = context.cache.run_dir()?;
    let work = work.path();
    let tree = work.join(SOURCE);
    for file in files::of_clone(&context.repo, ".")? {
        files::copy(&context.repo.join(&file), &tree.join(&file))?;
    }
    // Where Debian's tools look for it.
    let debian = tree.join("debian");
    fs::rename(tree.join("packaging/debian"), &debian)
        .context("the clone has no packaging/debian")?;
    if let Some(version) = &args.package_version {
        set_version(&debian.join("changelog"), version)?;
    }
    if args.modules {
        add_modules(context, &debian)?;
    }
    let step = Step::begin("making Debian packages", &context.cache.log("deb"))?;
    step.run(
        Command::new("dpkg-buildpackage")
            .current_dir(&tree)
            .env(
                "CARGO_TARGET_DIR",
                context.cache.of_clone("deb-cargo", &context.repo)?,
            )
            .args(["--build=binary", "--no-sign"]),
    )?;
    let changes = found(work, ".changes")?;
    step.run(
        Command::new("lintian")
            .args(["--fail-on", "error,warning", "--allow-root"])
            .args(&changes),
    )?;
    let made = found(work, ".deb")?;
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for old in found(dir, ".deb")?.iter().filter(|old| is_ours(old)) {
        fs::remove_file(old).with_context(|| format!("cannot remove {}", old.display()))?;
    }
    let mut written = Vec::new();
    for package in made {
        let name = package.file_name().context("a package has no name")?;
        files::copy(&package, &dir.join(name))?;
        written.push(dir.join(name));
    }
    step.done();
    Ok(written)
}

/// Adds a package of the module for Debian's kernel, whose name has the kernel's release.
fn add_modules(context: &Context, debian: &Path) -> Result<()> {
    let kernel = kernel::make(context, Flavor::Debian, None)?;
    let release = &kernel
        .root
        .as_ref()
        .context("Debian's kernel was not built by Debian's compilers")?
        .release;
    let module = module::make(context, &kernel, Lint::Usual)?;
    let modules = debian.join("modules");
    files::copy(&module, &modules.join("composefs.ko"))?;
    fs::write(modules.join("release"), release)?;
    let template = |name: &str| -> Result<String> {
        Ok(fs::read_to_string(debian.join(name))?.replace("@RELEASE@", release))
    };
    let control = debian.join("control");
    let all = fs::read_to_string(&control)? + &template("control.modules")?;
    fs::write(control, all)?;
    for script in ["postinst", "postrm"] {
        let text = template(&format!("composefs-linux-modules.{script}"))?;
        let name = format!("composefs-linux-modules-{release}.{script}");
        fs::write(debian.join(name), text)?;
    }
    Ok(())
}

/// Whether a file has the name of one of the packages.
fn is_ours(package: &Path) -> bool {
    let name = package.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("composefs-dkms_") || name.starts_with("composefs-linux-")
}

/// The version of the packages.
///
/// # Errors
///
/// When the changelog has none.
pub fn version(context: &Context) -> Result<String> {
    let changelog = context.repo.join("packaging/debian/changelog");
    let text = fs::read_to_string(&changelog)
        .with_context(|| format!("cannot read {}", changelog.display()))?;
    let version = text.split(['(', ')']).nth(1);
    Ok(version
        .with_context(|| format!("{} has no version", changelog.display()))?
        .to_owned())
}

/// Changes the version of the newest entry of a Debian changelog.
fn set_version(changelog: &Path, version: &str) -> Result<()> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b".+~".contains(&byte);
    if !version.starts_with(|first: char| first.is_ascii_digit()) || !version.bytes().all(valid) {
        bail!("\"{version}\" is no version: it begins with a digit and has digits, letters, . + ~");
    }
    let text = fs::read_to_string(changelog)?;
    let (_, rest) = text
        .split_once(')')
        .with_context(|| format!("{} has no version", changelog.display()))?;
    fs::write(changelog, format!("{SOURCE} ({version}){rest}"))?;
    Ok(())
}

/// The files of a directory whose names end so.
fn found(dir: &Path, end: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(end) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_newest_entry() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let log = dir.path().join("changelog");
        fs::write(
            &log,
            "composefs-linux (0.2) unstable; urgency=low\n\nold (0.1) x\n",
        )?;
        set_version(&log, "0.3+test1")?;
        assert_eq!(
            fs::read_to_string(&log)?,
            "composefs-linux (0.3+test1) unstable; urgency=low\n\nold (0.1) x\n"
        );
        for wrong in ["", "1-2", "one", "1 2"] {
            assert!(set_version(&log, wrong).is_err(), "{wrong}");
        }
        Ok(())
    }
}
