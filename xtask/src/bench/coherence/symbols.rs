// SPDX-License-Identifier: GPL-2.0

//! What addresses of the guest's kernel mean.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;

use super::measured::Measured;
use crate::kernel::Kernel;
use crate::llvm::Llvm;

/// The kernel's and modules' symbols.
pub struct Symbols {
    /// Those of the kernel.
    names: BTreeMap<u64, String>,
    /// Modules, by the address of their code.
    modules: BTreeMap<u64, (String, Option<PathBuf>)>,
    /// The frames of addresses in a module of which the lines are known: functions and lines,
    /// the innermost inlined function first.
    frames: BTreeMap<u64, Vec<Frame>>,
}

/// A function that is inlined, or not.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its name.
    pub function: String,
    /// Where in the source: file and line.
    pub line: String,
}

impl Symbols {
    /// Those of a kernel.
    ///
    /// # Errors
    ///
    /// When it has no System.map.
    pub fn of_kernel(kernel: &Kernel) -> Result<Self> {
        let path = kernel.build.join("System.map");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(Self {
            names: names(&text),
            modules: BTreeMap::new(),
            frames: BTreeMap::new(),
        })
    }

    /// The addresses at which the kernel begins to handle interrupts, one a line.
    pub fn interrupts(&self) -> String {
        let is_entry = |name: &str| {
            name.starts_with("asm_sysvec_")
                || matches!(name, "asm_common_interrupt" | "asm_spurious_interrupt")
        };
        let entries = self.names.iter().filter(|(_, name)| is_entry(name));
        entries
            .map(|(address, _)| format!("{address:x}\n"))
            .collect()
    }

    /// Adds a module, and its file if that tells lines.
    pub fn add_module(&mut self, name: String, address: u64, file: Option<&Path>) {
        self.modules
            .insert(address, (name, file.map(Path::to_path_buf)));
    }

    /// Asks for the lines of all addresses that are in modules.
    ///
    /// # Errors
    ///
    /// When LLVM's tools fail.
    pub fn resolve(&mut self, measured: &[Measured]) -> Result<()> {
        let llvm = Llvm::find().context("there is no LLVM")?;
        for (&base, (_, file)) in &self.modules {
            let Some(file) = file else { continue };
            let misses = measured.iter().flat_map(|measured| &measured.window.misses);
            let addresses = misses.flat_map(|misses| {
                let callers = misses.callers.iter().copied();
                callers.chain([misses.at, misses.cause])
            });
            let addresses: BTreeSet<u64> = addresses
                .filter(|&address| self.module(address).is_some_and(|(found, _)| found == base))
                .collect();
            let asked = addresses.iter().map(|address| address - base);
            let said = llvm.symbolize(file, &["--functions=linkage", "--demangle"], asked)?;
            let frames = said.split("\n\n").map(frames);
            self.frames.extend(addresses.into_iter().zip(frames));
        }
        Ok(())
    }

    /// The module that an address is in, if it is in one.
    fn module(&self, address: u64) -> Option<(u64, &str)> {
        // Modules have a part of the address space of their own, at its end.
        let (&base, (name, _)) = self.modules.range(..=address).next_back()?;
        Some((base, name))
    }

    /// Whether an address is in the code of composefs.
    pub fn is_ours(&self, address: u64) -> bool {
        self.frames.contains_key(&address)
    }

    /// The frames of an address in composefs.
    pub fn frames(&self, address: u64) -> &[Frame] {
        self.frames.get(&address).map_or(&[], Vec::as_slice)
    }

    /// The name of the function that an address is in.
    pub fn function(&self, address: u64) -> String {
        if let Some(frame) = self.frames(address).last() {
            return frame.function.clone();
        }
        if let Some((_, name)) = self.module(address) {
            return format!("[{name}]");
        }
        let found = self.names.range(..=address).next_back();
        found.map_or_else(|| format!("{address:#x}"), |(_, name)| name.clone())
    }

    /// Where an address is: in composefs the lines, with those that it is inlined into; elsewhere
    /// the function.
    pub fn place(&self, address: u64) -> String {
        let frames = self.frames(address);
        if frames.is_empty() {
            return self.function(address);
        }
        let lines: Vec<&str> = frames
            .iter()
            // Of other crates, only what is called says something.
            .filter(|frame| !frame.line.starts_with('/'))
            .map(|frame| frame.line.as_str())
            .collect();
        let function = frames.first().map_or("", |frame| frame.function.as_str());
        let function = function.rsplit("::").next().unwrap_or(function);
        format!("{} ({function})", lines.join(" < "))
    }

    /// The name of a variable of the kernel that an address is in, if that is known.
    pub fn variable(&self, address: u64) -> Option<String> {
        let (_, end) = self
            .names
            .iter()
            .find(|(_, name)| *name == "_end")
            .map(|(a, n)| (n, *a))?;
        let start = *self.names.iter().find(|(_, name)| *name == "_sdata")?.0;
        if !(start..end).contains(&address) {
            return None;
        }
        // A symbol that begins inside of the line is as good as one that begins before it.
        let (at, name) = self.names.range(..address + 64).next_back()?;
        Some(match address.checked_sub(*at) {
            None | Some(0) => name.clone(),
            Some(offset) => format!("{name}+{offset:#x}"),
        })
    }
}

/// Reads System.map. Of several names of an address, the first one counts.
fn names(text: &str) -> BTreeMap<u64, String> {
    let mut names = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let address = words
            .next()
            .and_then(|word| u64::from_str_radix(word, 16).ok());
        // Addresses of each processor's variables are small numbers.
        if let (Some(address @ 0x8000_0000_0000_0000..), Some(name)) = (address, words.nth(1)) {
            names.entry(address).or_insert_with(|| name.to_owned());
        }
    }
    names
}

/// Reads what llvm-symbolizer says about an address: pairs of lines.
fn frames(said: &str) -> Vec<Frame> {
    let lines: Vec<&str> = said.lines().collect();
    let frame = |pair: &[&str]| {
        let [function, line] = pair else { return None };
        let line = line.rsplit_once(':').map_or(*line, |(line, _column)| line);
        let line = line
            .rsplit_once("fs/composefs/")
            .map_or(line, |(_, line)| line);
        Some(Frame {
            function: short(function),
            line: line.to_owned(),
        })
    };
    lines.chunks(2).filter_map(frame).collect()
}

/// A function without the hash and the crate.
fn short(function: &str) -> String {
    let function = function.trim();
    let plain = function
        .rsplit_once("::h")
        .filter(|(_, hash)| hash.len() == 16)
        .map_or(function, |(plain, _)| plain);
    plain
        .replace("composefs_main::", "")
        .replace("composefs::", "")
}
