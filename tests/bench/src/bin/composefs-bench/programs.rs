// SPDX-License-Identifier: GPL-2.0

//! The rows that run other programs: ls(1), find(1) and fio(1).

use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use composefs_bench::Plan;
use composefs_bench::Stack;

use crate::caches;
use crate::mounts::Mounted;
use crate::mounts::Verity;
use crate::prepare::IMPORTS;
use crate::prepare::PROGRAM;
use crate::prepare::PYTHON;
use crate::recorder::Recorder;

/// Runs `ls -lR` and `find -type f`, with nothing of the tree in memory.
pub fn listings(plan: &Plan, stack: Stack, recorder: &mut Recorder) -> Result<()> {
    let mounted = Mounted::new(stack, &plan.tree, Verity::Off)?;
    let ls = |dir: &Path| run(Command::new("ls").arg("-lR").arg(dir));
    let find = |dir: &Path| run(Command::new("find").arg(dir).args(["-type", "f"]));
    let empty = &plan.tree.objects;

    // Run the program on an empty directory first, so that only the tree is cold.
    caches::drop_all()?;
    ls(empty)?;
    recorder.time("ls", || ls(mounted.path()))?;

    caches::drop_all()?;
    find(empty)?;
    recorder.time("find", || find(mounted.path()))
}

/// Runs a program of the image, which also loads its libraries.
pub fn exec(plan: &Plan, stack: Stack, recorder: &mut Recorder) -> Result<()> {
    let mounted = Mounted::new(stack, &plan.content, Verity::Required)?;
    let root = match stack {
        Stack::Ext4 => &plan.unpacked,
        _ => mounted.path(),
    };
    let start = || chroot(root, &[&format!("/{PROGRAM}"), "--version"]);
    start()?;
    recorder.time("exec", start)?;

    let import = || chroot(root, &[&format!("/{PYTHON}"), "-I", "-S", "-B", IMPORTS]);
    import()?;
    recorder.time("imports", import)?;

    // Looks at each library, and changes nothing.
    let ldconfig = || run(Command::new("ldconfig").args(["-N", "-X", "-r"]).arg(root));
    ldconfig()?;
    recorder.time("ldconfig", ldconfig)
}

/// Runs a program of a tree, which is its root.
pub fn chroot(root: &Path, words: &[&str]) -> Result<()> {
    run(Command::new("chroot").arg(root).args(words))
}

/// Runs a program, without its output.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("{command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}
