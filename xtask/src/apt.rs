// SPDX-License-Identifier: GPL-2.0

//! Debian packages that are taken apart instead of installed: another
//! release's kernel source and Rust sources.
//!
//! The machine's own apt is asked only for its mirror and how to reach it.
//! Everything else is private: sources, lists and downloads in the cache, and
//! none of the machine's hooks, which empty its package cache after an update.

use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use crate::context::Context;
use crate::progress::Step;
use crate::progress::output;

/// The Debian release of the guest, and with its backports of the sources.
pub const SUITE: &str = "trixie";

/// Debian's keys, from the package debian-archive-keyring.
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The Debian mirror to use, where one is known: `COMPOSEFS_DEBIAN_MIRROR`,
/// else what this machine's apt uses if it is a Debian.
pub fn mirror() -> Option<String> {
    if let Ok(own) = env::var("COMPOSEFS_DEBIAN_MIRROR") {
        return Some(own).filter(|own| !own.is_empty());
    }
    let codename = fs::read_to_string("/etc/os-release")
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("ID=").map(str::to_owned))?;
    if codename.trim_matches('"') != "debian" {
        return None;
    }
    let targets = output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(CREATED_BY) $(COMPONENT) $(RELEASE) $(REPO_URI)",
    ]))
    .ok()?;
    debian_uri(&targets)
}

/// The first repository of the distribution itself among apt's targets.
fn debian_uri(targets: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (_, component, release, uri) =
            (words.next()?, words.next()?, words.next()?, words.next()?);
        let plain = uri.trim_end_matches('/');
        let own =
            component == "main" && !release.contains("security") && plain.ends_with("/debian");
        own.then(|| plain.to_owned())
    })
}

/// apt with sources and state of its own.
pub struct PrivateApt {
    dir: PathBuf,
}

impl PrivateApt {
    /// Sets it up and fetches the package lists. None: this machine has no apt
    /// or knows no Debian mirror.
    ///
    /// # Errors
    ///
    /// When the lists cannot be fetched.
    pub fn open(context: &Context, step: &Step) -> Result<Option<Self>> {
        let (Some(mirror), true) = (mirror(), which::which("apt-get").is_ok()) else {
            return Ok(None);
        };
        if !Path::new(KEYRING).exists() {
            bail!("Debian's keys are missing: install the package debian-archive-keyring");
        }
        let dir = context.cache.root().join("apt");
        for sub in [
            "parts",
            "sources.d",
            "preferences.d",
            "lists/partial",
            "cache/archives/partial",
        ] {
            fs::create_dir_all(dir.join(sub))?;
        }
        let suites = [SUITE.to_owned(), format!("{SUITE}-backports")];
        let sources: String = suites
            .iter()
            .map(|suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"))
            .collect();
        fs::write(dir.join("sources.list"), sources)?;
        fs::write(dir.join("apt.conf"), configuration(&dir)?)?;
        let apt = Self { dir };
        step.run(apt.command("apt-get").arg("update"))?;
        Ok(Some(apt))
    }

    /// The newest version of a package whose version begins so.
    pub fn version(&self, package: &str, prefix: &str) -> Option<String> {
        let table = output(self.command("apt-cache").args(["madison", package])).ok()?;
        pick_version(&table, prefix)
    }

    /// Downloads a package and unpacks it into `to`.
    ///
    /// # Errors
    ///
    /// When it cannot be downloaded or unpacked.
    pub fn unpack(&self, step: &Step, package: &str, version: &str, to: &Path) -> Result<()> {
        let downloads = tempfile::tempdir_in(&self.dir)?;
        step.run(
            self.command("apt-get")
                .args(["download", &format!("{package}={version}")])
                .current_dir(downloads.path()),
        )?;
        let deb = fs::read_dir(downloads.path())?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|ext| ext == "deb"))
            .with_context(|| format!("apt downloaded no {package}"))?;
        step.run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(to))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.dir.join("apt.conf"));
        command
    }
}

/// The private configuration, with the machine's ways to reach its mirror
/// (proxies and the like) carried over.
fn configuration(dir: &Path) -> Result<String> {
    let dir = dir.display();
    let all = output(Command::new("apt-config").args(["dump", "Acquire"]))?;
    let reach: String = all
        .lines()
        .filter(|line| {
            ["http", "https", "Proxy", "Retries", "Force", "Check-"]
                .iter()
                .any(|name| line.starts_with(&format!("Acquire::{name}")))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    Ok(format!(
        r#"Dir::Etc::Parts "{dir}/parts";
Dir::Etc::Main "{dir}/parts/none";
Dir::Etc::SourceList "{dir}/sources.list";
Dir::Etc::SourceParts "{dir}/sources.d";
Dir::Etc::PreferencesParts "{dir}/preferences.d";
Dir::State::Lists "{dir}/lists";
Dir::Cache "{dir}/cache";
APT::Sandbox::User "";
APT::Get::List-Cleanup "true";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
{reach}"#
    ))
}

/// From `apt-cache madison`'s table, newest first.
fn pick_version(table: &str, prefix: &str) -> Option<String> {
    table.lines().find_map(|line| {
        let version = line.split('|').nth(1)?.trim();
        let rest = version.strip_prefix(prefix)?;
        // "1.9" must not take "1.95", "7.3." may take "7.3.4".
        let whole = prefix.ends_with('.') || !rest.starts_with(|c: char| c.is_ascii_digit());
        whole.then(|| version.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_rustc() {
        let table = "rust-src | 1.96.1+dfsg1-2 | http://x/debian trixie-backports/main\n\
                     rust-src | 1.95.0+dfsg1-2 | http://x/debian trixie-backports/main\n";
        assert_eq!(
            pick_version(table, "1.95.0").as_deref(),
            Some("1.95.0+dfsg1-2")
        );
        assert_eq!(pick_version(table, "1.9"), None);
        assert_eq!(
            pick_version(table, "1.96.").as_deref(),
            Some("1.96.1+dfsg1-2")
        );
    }

    #[test]
    fn the_mirror_is_the_distribution_s_own() {
        let targets = "Packages main stable http://elsewhere.test/tool/\n\
                       Packages main bookworm-security http://mirror.test/debian-security/\n\
                       Packages main bookworm http://mirror.test/debian/\n";
        assert_eq!(
            debian_uri(targets).as_deref(),
            Some("http://mirror.test/debian")
        );
    }
}
