// SPDX-License-Identifier: GPL-2.0

//! What cargo built of the crates of others, for all clones: it is the same in each, and takes
//! longer to compile than to copy.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use serde::Deserialize;

use crate::cache::Entry;
use crate::cache::Key;
use crate::context::Context;
use crate::progress::output;
use crate::progress::say;
use crate::rust;

/// The directories, below one of a profile, in which cargo keeps what belongs to one crate.
/// Cargo believes what it finds in the last one.
const KINDS: [&str; 3] = ["deps", "build", ".fingerprint"];

/// What cargo adds to a crate's name: a dash, and the digits of a hash.
const DIGITS: usize = 16;

/// The crates of others in a directory that cargo builds in.
pub struct Crates<'a> {
    context: &'a Context,
    target: PathBuf,
    entry: Entry,
    lock: String,
}

impl<'a> Crates<'a> {
    /// Those that cargo builds in the directory `target`. `what` says how: other programs, or
    /// other flags, have crates of their own. What another clone has built of them is copied to
    /// the directory, unless it was before.
    ///
    /// # Errors
    ///
    /// When Cargo.lock cannot be read, or a file cannot be copied.
    pub fn ready(context: &'a Context, what: &str, target: &Path) -> Result<Self> {
        let lock = context.repo.join("Cargo.lock");
        let lock = fs::read(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
        let key = Key::default()
            .with("lock", lock)
            .with("rustc", rust::rustc(&["--version", "--verbose"])?)
            .finish();
        let crates = Self {
            context,
            target: target.to_path_buf(),
            entry: context.cache.entry(&format!("crates-{what}"), &key),
            lock: format!("crates-{what}"),
        };
        let mark = target.join(format!(".crates-{key}"));
        if !mark.exists() && crates.entry.is_complete() {
            let _lock = context.cache.lock(&crates.lock)?;
            // Also what is there: something that was built later than what depends on it would
            // have all of that built again.
            Self::copy(crates.entry.path(), target, &|_, _| true)?;
            fs::write(mark, "")?;
        }
        Ok(crates)
    }

    /// Keeps those that were built here for other clones. A failure is only said: nothing but
    /// time is lost.
    pub fn keep(&self) {
        if let Err(error) = self.copy_to_cache() {
            say(&format!(
                "xtask: the crates are compiled again in the next clone: {error:#}"
            ));
        }
    }

    fn copy_to_cache(&self) -> Result<()> {
        let own = Member::names(self.context)?;
        let _lock = self.context.cache.lock(&self.lock)?;
        Self::copy(&self.target, self.entry.path(), &|name, there| {
            !there && crate_of(name).is_some_and(|name| !own.contains(name))
        })?;
        self.entry.complete()
    }

    /// Copies what fits from one directory that cargo builds in to another one.
    fn copy(from: &Path, to: &Path, fits: Fits<'_>) -> Result<()> {
        for profile in profiles(from)? {
            for kind in KINDS {
                let place = profile.join(kind);
                copy_some(&from.join(&place), &to.join(&place), fits)?;
            }
        }
        Ok(())
    }
}

/// The directories of profiles below `target`, such as `debug` and `TRIPLE/release`.
fn profiles(target: &Path) -> Result<Vec<PathBuf>> {
    let mut profiles = Vec::new();
    for first in fs::read_dir(target)?.flatten() {
        let name = PathBuf::from(first.file_name());
        if first.path().join(".fingerprint").is_dir() {
            profiles.push(name);
            continue;
        }
        for second in fs::read_dir(first.path()).into_iter().flatten().flatten() {
            if second.path().join(".fingerprint").is_dir() {
                profiles.push(name.join(second.file_name()));
            }
        }
    }
    Ok(profiles)
}

/// The crate to which a file or directory of cargo's belongs.
fn crate_of(name: &str) -> Option<&str> {
    let name = name.split('.').next()?;
    let (name, hash) = name.rsplit_once('-')?;
    let is_hash = hash.len() == DIGITS && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    let name = name.strip_prefix("lib").unwrap_or(name);
    is_hash.then_some(name)
}

/// Whether something of this name is copied, where something of this name is, or is not, already.
type Fits<'a> = &'a dyn Fn(&str, bool) -> bool;

/// Copies what fits from one directory to another one, with all times, by which cargo knows what
/// is new.
fn copy_some(from: &Path, to: &Path, fits: Fits<'_>) -> Result<()> {
    // What an interrupted copy has left there is of no use.
    let part = to.join(".part");
    if part.exists() {
        fs::remove_dir_all(&part).with_context(|| format!("cannot remove {}", part.display()))?;
    }
    let names = fs::read_dir(from).into_iter().flatten().flatten();
    let names: Vec<OsString> = names
        .map(|entry| entry.file_name())
        .filter(|name| {
            let there = to.join(name).exists();
            let fits = |name: &str| !name.starts_with('.') && fits(name, there);
            name.to_str().is_some_and(fits)
        })
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
    let mut cp = Command::new("cp");
    cp.args(["--archive", "--reflink=auto", "--target-directory"])
        .arg(&part)
        .args(names.iter().map(|name| from.join(name)));
    output(&mut cp)?;
    for name in &names {
        let to = to.join(name);
        if to.is_dir() {
            fs::remove_dir_all(&to).with_context(|| format!("cannot remove {}", to.display()))?;
        }
        fs::rename(part.join(name), &to)
            .with_context(|| format!("cannot make {}", to.display()))?;
    }
    Ok(fs::remove_dir(&part)?)
}

/// A package of this workspace, as `cargo metadata` names it.
#[derive(Deserialize)]
struct Member {
    name: String,
    targets: Vec<Target>,
}

/// A library, program or test of a package.
#[derive(Deserialize)]
struct Target {
    name: String,
}

/// What `cargo metadata` says.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Member>,
}

impl Member {
    /// The names that files of the workspace's own packages have.
    fn names(context: &Context) -> Result<HashSet<String>> {
        let mut cargo = Command::new("cargo");
        cargo
            .current_dir(&context.repo)
            .args(["metadata", "--format-version=1", "--no-deps"]);
        let metadata: Metadata = serde_json::from_str(&output(&mut cargo)?)?;
        let names = metadata.packages.into_iter().flat_map(|package| {
            let targets = package.targets.into_iter().map(|target| target.name);
            targets.chain([package.name])
        });
        // A library "liba" has a file "liba-HASH", too.
        let stripped = |name: String| {
            let name = name.strip_prefix("lib").unwrap_or(&name).to_owned();
            [name.replace('-', "_"), name]
        };
        Ok(names.flat_map(stripped).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::fs::FileTimes;
    use std::time::Duration;
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn names_of_cargo_are_told_apart() {
        let crate_of = |name| super::crate_of(name).unwrap_or("");
        assert_eq!(
            crate_of("libserde_json-0123456789abcdef.rmeta"),
            "serde_json"
        );
        assert_eq!(crate_of("serde-json-0123456789abcdef"), "serde-json");
        assert_eq!(crate_of("xtask-0123456789abcdef.d"), "xtask");
        assert_eq!(crate_of("xtask"), "");
        assert_eq!(crate_of("serde-json"), "");
    }

    #[test]
    fn what_fits_is_copied_with_its_times() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("a/b"))?;
        fs::create_dir_all(to.join(".part/a"))?;
        for name in ["a/b/c", "left", "there"] {
            fs::write(from.join(name), "new")?;
        }
        fs::write(to.join("there"), "old")?;
        let time = SystemTime::now() - Duration::from_secs(1000);
        for path in [from.join("a/b/c"), from.join("a")] {
            File::open(path)?.set_times(FileTimes::new().set_modified(time))?;
        }
        copy_some(&from, &to, &|name, there| name != "left" && !there)?;
        assert_eq!(fs::read_to_string(to.join("there"))?, "old");
        assert_eq!(fs::metadata(to.join("a/b/c"))?.modified()?, time);
        assert_eq!(fs::metadata(to.join("a"))?.modified()?, time);
        assert!(!to.join("left").exists() && !to.join(".part").exists());
        fs::write(to.join("a/old"), "")?;
        copy_some(&from, &to, &|_, _| true)?;
        assert_eq!(fs::read_to_string(to.join("there"))?, "new");
        assert!(to.join("left").exists() && !to.join("a/old").exists());
        Ok(())
    }
}
