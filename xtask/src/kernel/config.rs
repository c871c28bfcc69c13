// SPDX-License-Identifier: GPL-2.0

//! The kernel's configuration: the fragments in scripts/config.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::fs;

use anyhow::Context as _;
use anyhow::Result;

use super::target::Target;
use crate::context::Context;

/// The fragments of a kernel in one text.
///
/// # Errors
///
/// When one cannot be read.
pub fn fragment(context: &Context, target: Target) -> Result<String> {
    let mut text = String::new();
    let (own, lines) = target.machine.config();
    for name in target.flavor.fragments().iter().copied().chain(own) {
        let path = context.repo.join("scripts/config").join(name);
        text += &fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        text.push('\n');
    }
    Ok(text + lines)
}

/// Files that the kernel is built with: where they are in the repository, and their names in the
/// build directory, where options look for them.
const FILES: [(&str, &str); 2] = [
    // CONFIG_IPE_BOOT_POLICY
    ("scripts/config/ipe-policy", "ipe-policy"),
    // CONFIG_SYSTEM_TRUSTED_KEYS
    ("tests/selftests/test-key.pem", "test-key.pem"),
];

/// The names and texts of the files that the kernel is built with.
///
/// # Errors
///
/// When one cannot be read.
pub fn files(context: &Context) -> Result<Vec<(&'static str, String)>> {
    FILES
        .iter()
        .map(|(path, name)| {
            let path = context.repo.join(path);
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Ok((*name, text))
        })
        .collect()
}

/// The options of a fragment that `config`, the text of a .config, lacks or has with
/// another value.
pub fn refused(fragment: &str, config: &str) -> Vec<String> {
    let set: HashSet<&str> = config.lines().map(str::trim).collect();
    // The last line about an option counts.
    let mut asked = BTreeMap::new();
    for line in fragment.lines().map(str::trim) {
        if let Some((name, _)) = line.split_once('=') {
            if name.starts_with("CONFIG_") {
                asked.insert(name, line);
            }
        } else if let Some(name) = line
            .strip_prefix("# ")
            .and_then(|line| line.strip_suffix(" is not set"))
        {
            asked.insert(name, line);
        }
    }
    asked
        .into_iter()
        .filter(|(name, line)| {
            if line.starts_with('#') {
                // .config says "is not set", or has no line about the option.
                set.iter().any(|has| has.starts_with(&format!("{name}=")))
            } else {
                !set.contains(line)
            }
        })
        .map(|(_, line)| line.trim_start_matches("# ").to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::refused;

    #[test]
    fn options_that_did_not_take_are_named() {
        let fragment = "# a comment\nCONFIG_A=y\nCONFIG_B=m\nCONFIG_C=3\n# CONFIG_D is not set\n";
        let config = "CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=3\nCONFIG_D=y\n";
        assert_eq!(
            refused(fragment, config),
            ["CONFIG_B=m", "CONFIG_D is not set"]
        );
    }

    #[test]
    fn the_later_fragment_wins() {
        let fragment = "CONFIG_A=y\n# CONFIG_A is not set\n";
        assert!(refused(fragment, "# CONFIG_A is not set\n").is_empty());
    }
}
