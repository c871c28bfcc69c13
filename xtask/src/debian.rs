// SPDX-License-Identifier: GPL-2.0

//! Debian's packages, by way of mmdebstrap. It sets up an apt of its own, so the
//! machine may be another release, and its packages and apt hooks stay out of it.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::machine::Arch;
use crate::progress::Step;
use crate::progress::output;

/// The release of the guest. Its backports have the kernel's source.
pub const SUITE: &str = "trixie";

/// The release with the composefs project's tools, and with newer container tools.
pub const NEWER: &str = "forky";

/// Debian's keys, from the package debian-archive-keyring.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The mirror in `COMPOSEFS_DEBIAN_MIRROR`, else the one that apt of this machine
/// uses, if the machine runs Debian.
pub fn mirror() -> Option<String> {
    if let Ok(own) = env::var("COMPOSEFS_DEBIAN_MIRROR") {
        return Some(own).filter(|own| !own.is_empty());
    }
    let release = fs::read_to_string("/etc/os-release").ok()?;
    let id = release.lines().find_map(|line| line.strip_prefix("ID="))?;
    if id.trim_matches('"') != "debian" {
        return None;
    }
    let targets = output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(COMPONENT) $(RELEASE) $(REPO_URI)",
    ]))
    .ok()?;
    main_repository(&targets)
}

/// The first of apt's targets that is Debian's own main repository.
fn main_repository(targets: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (component, release, uri) = (words.next()?, words.next()?, words.next()?);
        let uri = uri.trim_end_matches('/');
        let own = component == "main" && !release.contains("security") && uri.ends_with("/debian");
        own.then(|| uri.to_owned())
    })
}

/// mmdebstrap with what all uses of it share: Debian's keys, and how apt of this
/// machine reaches a mirror.
pub fn mmdebstrap(variant: &str, format: &str) -> Command {
    let mut command = Command::new("mmdebstrap");
    command
        .arg(format!("--variant={variant}"))
        .arg(format!("--format={format}"))
        .arg(format!("--keyring={KEYRING}"))
        .arg("--aptopt=Acquire::Languages \"none\"")
        // What a crash leaves incomplete is made again.
        .arg("--dpkgopt=force-unsafe-io");
    // A machine without apt has nothing to say about proxies.
    let all = output(Command::new("apt-config").args(["dump", "Acquire"])).unwrap_or_default();
    for line in all.lines().filter(|line| is_about_reaching(line)) {
        command.arg(format!("--aptopt={}", line.trim_end_matches(';')));
    }
    command
}

/// Adds a release from the mirror of the release `first`, whichever mirror that is.
pub fn add_release(command: &mut Command, first: &str, other: &str) {
    command.arg(format!(
        "--setup-hook=sed -i '/ {first} /{{p;s/ {first} / {other} /}}' \"$1/etc/apt/sources.list\""
    ));
}

/// Downloads the original sources of packages of a release, and unpacks them in the directory
/// `to`. Says whether that went well; the step's log says why not.
///
/// # Errors
///
/// When mmdebstrap cannot be started, or the user interrupts.
pub fn sources(step: &Step, release: &str, packages: &[&str], to: &Path) -> Result<bool> {
    let fetch = format!(
        "mkdir \"$1/sources\" && cd \"$1/sources\" && \
         APT_CONFIG=\"$MMDEBSTRAP_APT_CONFIG\" apt-get source --download-only --tar-only {} && \
         for file in *.orig.tar.*; do \
             case $file in *.asc) continue ;; esac; \
             tar --extract --no-same-owner --file \"$file\" --directory {} || exit; \
         done",
        packages.join(" "),
        shell_words::quote(&to.to_string_lossy())
    );
    // No root file system is made: the hook uses its apt, and it is dropped.
    let mut command = mmdebstrap("custom", "null");
    command
        .arg("--setup-hook=sed -i '/^deb /{p;s/^deb /deb-src /}' \"$1/etc/apt/sources.list\"")
        .arg(format!("--customize-hook={fetch}"))
        .args([release, "/dev/null"])
        .args(mirror());
    Ok(step.status(&mut command)?.success())
}

/// Whether an option of apt says how to reach a mirror: proxies and the like.
fn is_about_reaching(option: &str) -> bool {
    let names = ["http", "https", "Proxy", "Retries", "Force", "Check-"];
    let name = option.strip_prefix("Acquire::").unwrap_or_default();
    names.iter().any(|start| name.starts_with(start)) && !option.ends_with(" \"\";")
}

/// Downloads a package for a processor, `NAME` or `NAME=VERSION` with `*` for any end of the
/// version, and copies `path` out of it into the directory `to`. Says whether that went well;
/// the step's log says why not. Without a mirror, mmdebstrap takes its own default, which has
/// no backports.
///
/// # Errors
///
/// When mmdebstrap cannot be started, or the user interrupts.
pub fn extract(
    step: &Step,
    mirror: Option<&str>,
    arch: Arch,
    package: &str,
    path: &str,
    to: &Path,
) -> Result<bool> {
    let unpack = format!(
        "cd \"$1\" && APT_CONFIG=\"$MMDEBSTRAP_APT_CONFIG\" apt-get download {} && \
         dpkg-deb --extract *.deb .",
        shell_words::quote(package)
    );
    let copy = format!(
        "copy-out {} {}",
        shell_words::quote(path),
        shell_words::quote(&to.to_string_lossy())
    );
    // No root file system is made: the hooks use its apt, and it is dropped.
    let mut command = mmdebstrap("custom", "null");
    command
        .arg(format!("--architectures={}", arch.debian()))
        .arg(format!("--customize-hook={unpack}"))
        .arg(format!("--customize-hook={copy}"))
        .args([SUITE, "/dev/null"]);
    if let Some(mirror) = mirror {
        command
            .arg(format!("deb {mirror} {SUITE} main"))
            .arg(format!("deb {mirror} {SUITE}-backports main"));
    }
    Ok(step.status(&mut command)?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_distribution_s_own() {
        let targets = "main stable http://elsewhere.test/tool/\n\
                       main bookworm-security http://mirror.test/debian-security/\n\
                       main bookworm http://mirror.test/debian/\n";
        assert_eq!(
            main_repository(targets).as_deref(),
            Some("http://mirror.test/debian")
        );
    }

    #[test]
    fn proxies_are_carried_over() {
        for (option, wanted) in [
            ("Acquire::http::Proxy \"http://proxy.test:3128\";", true),
            ("Acquire::Retries \"3\";", true),
            ("Acquire::http \"\";", false),
            ("Acquire::Languages \"none\";", false),
        ] {
            assert_eq!(is_about_reaching(option), wanted, "{option}");
        }
    }
}
