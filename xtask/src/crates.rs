// SPDX-License-Identifier: GPL-2.0

//! What cargo built of the crates of others, for all clones: it is the same in each, and takes
//! longer to compile than to copy.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

use anyhow::Context as _;
use anyhow::Result;
use serde::Deserialize;

use crate::cache::Entry;
use crate::cache::Key;
use crate::cache::Lock;
use crate::context::Context;
use crate::progress::output;
use crate::progress::say;
use crate::rust;
use crate::signals;

/// The directories, below one of a profile, in which cargo keeps what belongs to one crate.
/// Cargo believes what it finds in the last one.
const KINDS: [&str; 3] = ["deps", "build", ".fingerprint"];

/// What cargo adds to a crate's name: a dash, and the digits of a hash.
const DIGITS: usize = 16;

/// How many files one cp(1) copies: there is a limit for its command line.
const CHUNK: usize = 500;

/// The crates of others in a directory that cargo builds in.
///
/// A crate that includes a file which its build script has made differs from one directory to
/// another, and what depends on it knows that. So the cache has all crates from one directory,
/// and a directory gets all of them or none.
pub struct Crates<'a> {
    context: &'a Context,
    target: PathBuf,
    entry: Entry,
    /// The name of the lock, and that of the file which says where the crates are from.
    name: String,
}

impl<'a> Crates<'a> {
    /// Those that cargo builds in the directory `target`. `what` says how: other programs, or
    /// other flags, have crates of their own. If the directory is new, what another clone has
    /// built of them is copied to it. A failure is only said: nothing but time is lost.
    ///
    /// # Errors
    ///
    /// When Cargo.lock cannot be read.
    pub fn ready(context: &'a Context, what: &str, target: &Path) -> Result<Self> {
        let lock = context.repo.join("Cargo.lock");
        let lock = fs::read(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
        let key = Key::default()
            .with("format", "2")
            .with("lock", lock)
            .with("rustc", rust::rustc(&["--version", "--verbose"])?)
            .finish();
        let kind = format!("crates-{what}");
        let crates = Self {
            context,
            target: target.to_path_buf(),
            entry: context.cache.entry(&kind, &key),
            name: kind,
        };
        let is_new = crates.origin(target).is_none();
        if is_new && crates.entry.is_complete() {
            if let (Err(error), false) = (crates.copy_from_cache(), signals::interrupted()) {
                say(&format!(
                    "xtask: crates are compiled, and not copied: {error:#}"
                ));
            }
        }
        Ok(crates)
    }

    /// Keeps those that were built here for other clones, unless the cache has those of another
    /// clone. A failure is only said: nothing but time is lost.
    pub fn keep(&self) {
        if let Err(error) = self.copy_to_cache() {
            say(&format!(
                "xtask: the crates are compiled again in the next clone: {error:#}"
            ));
        }
    }

    fn copy_from_cache(&self) -> Result<()> {
        let own = Member::names(self.context)?;
        let _lock = self.context.cache.lock(&self.name)?;
        let from = self.entry.path();
        for profile in profiles(from)? {
            let _lock = cargo_lock(&self.target.join(&profile))?;
            let prints = profile.join(".fingerprint");
            let foreign = |name: &String| crate_of(name).is_some_and(|name| !own.contains(name));
            let all_there = names(&self.target.join(&prints))
                .filter(foreign)
                .all(|name| from.join(&prints).join(name).exists());
            // Something that the cache has not may depend on what would be replaced.
            if !all_there {
                continue;
            }
            // The clone's own ones were built with what is replaced. They go first, in case that
            // the rest fails.
            for name in names(&self.target.join(&prints)).filter(|name| !foreign(name)) {
                fs::remove_dir_all(self.target.join(&prints).join(name))?;
            }
            for kind in KINDS {
                let place = profile.join(kind);
                copy_some(&from.join(&place), &self.target.join(&place), &|_, _| true)?;
            }
        }
        self.set_origin(&self.target, &self.origin(from).unwrap_or_default())
    }

    fn copy_to_cache(&self) -> Result<()> {
        let own = Member::names(self.context)?;
        let _lock = self.context.cache.lock(&self.name)?;
        let to = self.entry.path();
        if !self.entry.is_complete() {
            self.entry.start_over()?;
            let origin = format!("{} {:?}\n", self.target.display(), SystemTime::now());
            self.set_origin(to, &origin)?;
            self.set_origin(&self.target, &format!("own {origin}"))?;
        }
        let origin = self.origin(to).unwrap_or_default();
        if self.origin(&self.target) != Some(format!("own {origin}")) {
            return Ok(());
        }
        for profile in profiles(&self.target)? {
            let _lock = cargo_lock(&self.target.join(&profile))?;
            for kind in KINDS {
                let place = profile.join(kind);
                copy_some(
                    &self.target.join(&place),
                    &to.join(&place),
                    &|name, there| !there && crate_of(name).is_some_and(|name| !own.contains(name)),
                )?;
            }
        }
        self.entry.complete()
    }

    /// Where the crates in a directory are from.
    fn origin(&self, dir: &Path) -> Option<String> {
        fs::read_to_string(dir.join(format!(".{}", self.name))).ok()
    }

    fn set_origin(&self, dir: &Path, origin: &str) -> Result<()> {
        let path = dir.join(format!(".{}", self.name));
        fs::write(&path, origin).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Keeps cargo from building in the directory of a profile.
fn cargo_lock(profile: &Path) -> Result<Lock> {
    fs::create_dir_all(profile).with_context(|| format!("cannot make {}", profile.display()))?;
    Lock::take(&profile.join(".cargo-lock"))
}

/// The names in a directory, if it exists.
fn names(dir: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
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
    let names: Vec<String> = names(from)
        .filter(|name| !name.starts_with('.') && fits(name, to.join(name).exists()))
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
    for chunk in names.chunks(CHUNK) {
        let mut cp = Command::new("cp");
        cp.args(["--archive", "--reflink=auto", "--target-directory"])
            .arg(&part)
            .args(chunk.iter().map(|name| from.join(name)));
        output(&mut cp)?;
    }
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
