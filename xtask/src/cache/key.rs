// SPDX-License-Identifier: GPL-2.0

//! Names of cache entries that change with what the entries are made of.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use sha2::Digest;
use sha2::Sha256;

/// A digest of everything that an entry depends on.
#[derive(Default)]
pub struct Key {
    hash: Sha256,
}

impl Key {
    /// Adds one input.
    #[must_use]
    pub fn with(mut self, what: &str, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        // Lengths keep ("ab", "c") and ("a", "bc") apart.
        self.hash.update(format!("{what}:{}:", value.len()));
        self.hash.update(value);
        self
    }

    /// Adds the files of a directory, in the order of their names.
    ///
    /// # Errors
    ///
    /// When one cannot be read.
    pub fn with_files(mut self, dir: &Path) -> Result<Self> {
        let entries =
            fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|path| path.is_file());
        files.sort();
        for file in files {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let content =
                fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            self = self.with(&name, content);
        }
        Ok(self)
    }

    /// Twelve hexadecimal digits, enough for the cache of one user.
    pub fn finish(self) -> String {
        let digest = self.hash.finalize();
        digest.iter().take(6).fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_keeps_inputs_apart() {
        let one = Key::default().with("a", "bc").with("d", "e").finish();
        let two = Key::default().with("a", "b").with("cd", "e").finish();
        assert_ne!(one, two);
        assert_eq!(one.len(), 12);
    }
}
