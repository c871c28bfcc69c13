// SPDX-License-Identifier: GPL-2.0

//! Checks that `make KDIR=DIR modules` names what a kernel or a tool lacks, in one sentence.

use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use crate::context::Context;
use crate::kernel::Kernel;

/// What is different from a kernel and tools that fit, and the answer.
struct Case {
    /// A line that the kernel's configuration does not have.
    without: &'static str,
    /// Whether the kernel has Rust metadata.
    metadata: bool,
    /// Further arguments of make. `DIR` is the directory with [`TOOLS`].
    arguments: &'static [&'static str],
    /// Parts of the sentence.
    said: &'static [&'static str],
}

/// A kernel and tools that fit.
const GOOD: Case = Case {
    without: "",
    metadata: true,
    arguments: &[],
    said: &[],
};

const CASES: [Case; 8] = [
    Case {
        without: "CONFIG_RUST=y",
        said: &["DIR/build", "without CONFIG_RUST=y"],
        ..GOOD
    },
    Case {
        without: "CONFIG_FS_VERITY=y",
        said: &["without CONFIG_FS_VERITY, which composefs needs"],
        ..GOOD
    },
    Case {
        metadata: false,
        said: &["no Rust metadata", "composefs-rust-metadata"],
        ..GOOD
    },
    Case {
        arguments: &["VERSION=7", "PATCHLEVEL=2"],
        said: &["is Linux 7.2", "7.3 or newer is needed"],
        ..GOOD
    },
    Case {
        arguments: &["RUSTC=DIR/rustc"],
        said: &["DIR/rustc is \"rustc 1.85.1 (x)\"", "RUSTC="],
        ..GOOD
    },
    Case {
        arguments: &["RUSTC=DIR/none"],
        said: &["DIR/none is not here"],
        ..GOOD
    },
    Case {
        arguments: &["BINDGEN=DIR/bindgen"],
        said: &["DIR/bindgen is \"bindgen 0.71.0\": 0.71.1 or newer is needed"],
        ..GOOD
    },
    Case {
        arguments: &["BINDGEN=DIR/none"],
        said: &["there is no DIR/none: install bindgen 0.71.1 or newer"],
        ..GOOD
    },
];

/// Programs that say they are of other versions.
const TOOLS: [(&str, &str); 2] = [
    ("rustc", "#!/bin/sh\necho 'rustc 1.85.1 (x)'\n"),
    ("bindgen", "#!/bin/sh\necho 'bindgen 0.71.0'\n"),
];

/// Runs all cases against the build directory of `kernel`, changed as each says.
///
/// # Errors
///
/// The first answer that is not as expected.
pub fn check(context: &Context, kernel: &Kernel) -> Result<()> {
    let work = context.cache.run_dir()?;
    let dir = work.path();
    for (name, script) in TOOLS {
        fs::write(dir.join(name), script)?;
        fs::set_permissions(dir.join(name), Permissions::from_mode(0o755))?;
    }
    // Without a difference, nothing is said: the first object is compiled.
    imitate(kernel, dir, &GOOD)?;
    let mut make = kernel.make(context)?;
    make.arg("-C")
        .arg(dir.join("build"))
        .arg(format!("M={}", context.module_dir().display()))
        .arg(format!("MO={}", dir.join("objects").display()))
        .arg("trace_events.o");
    fs::create_dir(dir.join("objects"))?;
    let (done, said) = answer(&mut make)?;
    if !done {
        bail!("a kernel that fits is refused: {said}");
    }
    for case in CASES {
        imitate(kernel, dir, &case)?;
        let name = dir.display().to_string();
        let mut make = kernel.make(context)?;
        make.current_dir(&context.repo)
            .arg(format!("KDIR={name}/build"))
            .args(case.arguments.iter().map(|word| word.replace("DIR", &name)))
            .arg("modules");
        refused(
            &mut make,
            case.said.iter().map(|part| part.replace("DIR", &name)),
        )?;
    }
    let mut make = kernel.make(context)?;
    make.current_dir(&context.repo)
        .args(["KDIR=/nonexistent", "modules"]);
    refused(
        &mut make,
        ["there is no kernel to build for in /nonexistent".to_owned()],
    )
}

/// Makes the directory "build" in `dir`: links to what is in the kernel's build directory, with
/// the difference of `case`.
fn imitate(kernel: &Kernel, dir: &Path, case: &Case) -> Result<()> {
    let build = dir.join("build");
    if build.exists() {
        fs::remove_dir_all(&build)?;
    }
    let config = Path::new("include/config");
    fs::create_dir_all(build.join(config))?;
    let own = ["include", "Makefile", "rust"];
    link(&kernel.build, &build, &own)?;
    link(
        &kernel.build.join("include"),
        &build.join("include"),
        &["config"],
    )?;
    link(
        &kernel.build.join(config),
        &build.join(config),
        &["auto.conf"],
    )?;
    let conf = fs::read_to_string(kernel.build.join(config).join("auto.conf"))?;
    if !case.without.is_empty() && !conf.lines().any(|line| line == case.without) {
        bail!("the kernel's configuration has no line {}", case.without);
    }
    let lines = conf.lines().filter(|&line| line != case.without);
    let conf: String = lines.map(|line| format!("{line}\n")).collect();
    fs::write(build.join(config).join("auto.conf"), conf)?;
    if case.metadata {
        symlink(kernel.build.join("rust"), build.join("rust"))?;
    }
    let makefile = fs::read_to_string(kernel.build.join("Makefile"))?;
    let (from, to) = (&kernel.build, &build);
    let (from, to) = (from.display().to_string(), to.display().to_string());
    Ok(fs::write(
        build.join("Makefile"),
        makefile.replace(&from, &to),
    )?)
}

/// Links what is in the directory `from`, except these names.
fn link(from: &Path, to: &Path, except: &[&str]) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        if !except.iter().any(|&other| name == other) {
            symlink(from.join(&name), to.join(&name))?;
        }
    }
    Ok(())
}

/// Checks that make fails, that one line says why, and that it has these parts.
fn refused(make: &mut Command, parts: impl IntoIterator<Item = String>) -> Result<()> {
    let (done, said) = answer(make)?;
    let mut lines = said
        .lines()
        .filter(|line| line.contains(": *** ") && line.ends_with("Stop."));
    let line = lines
        .next()
        .with_context(|| format!("make does not say why it stops: {said}"))?;
    for part in parts {
        if done || !line.contains(&part) {
            bail!("expected \"{part}\" in: {line}");
        }
    }
    match lines.next() {
        None => Ok(()),
        Some(other) => bail!("more than one line says what is wrong: {other}"),
    }
}

/// Whether make succeeds, and what it writes to standard error.
fn answer(make: &mut Command) -> Result<(bool, String)> {
    let output = make.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.success(), said))
}
