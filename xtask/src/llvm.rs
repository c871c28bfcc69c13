// SPDX-License-Identifier: GPL-2.0

//! The LLVM that compiles the kernel's C.

use std::env;
use std::fs;
use std::io::Write as _;
use std::iter;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;

use crate::path;
use crate::progress::output;

/// The oldest version that Rust for Linux and KASAN accept.
const OLDEST: u32 = 17;

/// The newest version that is looked for by a suffix.
const NEWEST: u32 = 25;

/// The programs that the kernel's build runs.
const PROGRAMS: [&str; 7] = [
    "clang",
    "ld.lld",
    "llvm-ar",
    "llvm-nm",
    "llvm-objcopy",
    "llvm-strip",
    "llvm-readelf",
];

/// An installed LLVM.
#[derive(Clone, Debug)]
pub struct Llvm {
    /// What Debian appends to the names of programs: "-19", or nothing.
    suffix: String,
    /// The directory of its libclang. bindgen loads it, and must not load that of
    /// another version. `None` where bindgen finds it by itself.
    pub libclang: Option<PathBuf>,
}

impl Llvm {
    /// The plain `clang` if it is new enough, else the newest one with a suffix.
    pub fn find() -> Option<Self> {
        let suffixes = (OLDEST..=NEWEST).rev().map(|version| format!("-{version}"));
        iter::once(String::new())
            .chain(suffixes)
            .find_map(Self::with_suffix)
    }

    fn with_suffix(suffix: String) -> Option<Self> {
        let mut programs = PROGRAMS.iter().map(|name| format!("{name}{suffix}"));
        if !programs.all(|program| path::has(&program)) {
            return None;
        }
        let clang = |argument| output(Command::new(format!("clang{suffix}")).arg(argument)).ok();
        let version = clang("-dumpversion")?;
        let version: u32 = version.split('.').next()?.trim().parse().ok()?;
        let resources = clang("-print-resource-dir")?;
        let libclang = libclang(Path::new(resources.trim()));
        (version >= OLDEST).then_some(Self { suffix, libclang })
    }

    /// The value of the kernel's make variable LLVM.
    pub fn make_variable(&self) -> &str {
        match self.suffix.as_str() {
            "" => "1",
            suffix => suffix,
        }
    }

    /// What llvm-symbolizer says about addresses in an object file: for each, the functions and
    /// lines, and an empty line.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub fn symbolize(
        &self,
        object: &Path,
        arguments: &[&str],
        addresses: impl Iterator<Item = u64>,
    ) -> Result<String> {
        let asked: String = addresses.map(|address| format!("{address:#x}\n")).collect();
        let mut symbolizer = Command::new(self.program("llvm-symbolizer"))
            .arg("--inlines")
            .args(arguments)
            .arg("--obj")
            .arg(object)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start llvm-symbolizer")?;
        // It answers while it is asked: both pipes would be full.
        let stdin = symbolizer.stdin.take();
        let writer =
            std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(asked.as_bytes())));
        let said = symbolizer.wait_with_output()?;
        let _ = writer.join();
        ensure!(said.status.success(), "llvm-symbolizer: {}", said.status);
        Ok(String::from_utf8_lossy(&said.stdout).into_owned())
    }

    /// The name of one of its programs.
    pub fn program(&self, name: &str) -> String {
        format!("{name}{}", self.suffix)
    }
}

/// The directory of libclang: `LIBCLANG_PATH`, or two above clang's own directory of
/// headers, where Debian has it.
fn libclang(resources: &Path) -> Option<PathBuf> {
    if let Some(own) = env::var_os("LIBCLANG_PATH") {
        return Some(PathBuf::from(own));
    }
    let dir = resources.parent()?.parent()?;
    let mut entries = fs::read_dir(dir).ok()?.flatten();
    // libclang-cpp is another interface.
    let is_libclang = |name: &str| {
        name.strip_prefix("libclang")
            .is_some_and(|rest| rest.contains(".so") && !rest.starts_with("-cpp"))
    };
    entries
        .any(|entry| is_libclang(&entry.file_name().to_string_lossy()))
        .then(|| dir.to_path_buf())
}
