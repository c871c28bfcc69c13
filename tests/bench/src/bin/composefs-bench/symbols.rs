// SPDX-License-Identifier: GPL-2.0

//! The kernel's functions, by address.

use std::fs;

use anyhow::Context as _;
use anyhow::Result;

/// The functions of the kernel and of the modules that are loaded.
pub struct Symbols {
    /// Start and name of each function, sorted.
    starts: Vec<(u64, String)>,
}

impl Symbols {
    /// Asks the kernel.
    pub fn load() -> Result<Self> {
        let text = fs::read_to_string("/proc/kallsyms").context("/proc/kallsyms")?;
        let mut starts: Vec<(u64, String)> = text
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let start = u64::from_str_radix(words.next()?, 16).ok()?;
                if !matches!(words.next()?, "t" | "T" | "w" | "W") {
                    return None;
                }
                let name = format!("{:#}", rustc_demangle::demangle(words.next()?));
                let module = words.next().map(|module| format!(" {module}"));
                Some((start, name + &module.unwrap_or_default()))
            })
            .collect();
        starts.sort();
        Ok(Self { starts })
    }

    /// The function at an address, if it is one of the kernel.
    pub fn name(&self, ip: u64) -> Option<&str> {
        let after = self.starts.partition_point(|(start, _)| *start <= ip);
        let (_, name) = self.starts.get(after.checked_sub(1)?)?;
        (ip >> 63 == 1).then_some(name)
    }
}
