// SPDX-License-Identifier: GPL-2.0

//! The clone and the cache, which every command needs.

use std::env;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;

use crate::cache::Cache;

/// The clone that xtask works for, and the cache of what it builds.
pub struct Context {
    /// The top directory of the clone.
    pub repo: PathBuf,
    /// Everything built or downloaded.
    pub cache: Cache,
}

impl Context {
    /// Finds the clone and opens the cache.
    ///
    /// # Errors
    ///
    /// When there is no clone, or the cache directory cannot be made.
    pub fn new() -> Result<Self> {
        // cargo sets this to the package that it runs.
        let cargo = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let places = [cargo, env::current_exe().ok(), env::current_dir().ok()];
        Ok(Self {
            repo: clone(places)?,
            cache: Cache::open()?,
        })
    }

    /// The directory of the kernel module.
    pub fn module_dir(&self) -> PathBuf {
        self.repo.join("fs/composefs")
    }
}

/// The top of the clone that holds the first of these places that is in one. The path at
/// which this program was compiled is not used: the clone may have been moved.
fn clone(places: impl IntoIterator<Item = Option<PathBuf>>) -> Result<PathBuf> {
    let top = |place: PathBuf| {
        let top = place.ancestors().find(|top| is_clone(top));
        top.map(Path::to_path_buf)
    };
    places.into_iter().flatten().find_map(top).context(
        "this is not in a clone of composefs: change to its directory and run `cargo xtask` there",
    )
}

fn is_clone(top: &Path) -> bool {
    ["xtask/Cargo.toml", "fs/composefs/composefs_main.rs"]
        .iter()
        .all(|name| top.join(name).exists())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_clone_is_found_by_where_the_program_is_and_is_called() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let dir = dir.path().canonicalize()?;
        for name in ["one", "two"] {
            for (folder, file) in [
                ("xtask", "Cargo.toml"),
                ("fs/composefs", "composefs_main.rs"),
            ] {
                fs::create_dir_all(dir.join(name).join(folder))?;
                fs::write(dir.join(name).join(folder).join(file), "")?;
            }
        }
        let place = |name: &str| Some(dir.join(name));
        let found = |places: [&str; 3]| clone(places.map(place)).ok();
        assert_eq!(
            found(["one/xtask", "two/target/debug/xtask", "two"]),
            place("one")
        );
        assert_eq!(
            found(["other", "two/target/debug/xtask", "one"]),
            place("two")
        );
        assert_eq!(
            found(["other", "bin/xtask", "one/fs/composefs"]),
            place("one")
        );
        assert_eq!(found(["other", "bin/xtask", "."]), None);
        assert_eq!(clone([None, None, place("two")]).ok(), place("two"));
        Ok(())
    }
}
