// SPDX-License-Identifier: GPL-2.0

//! Checks that misuse of the module's VFS abstractions does not compile.
//!
//! Each file in tests/compile-fail is a crate that uses the module's crate. Its second line says
//! what rustc must answer: `// compiles`, or `// error:` and the number of the error.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Output;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use crate::context::Context;
use crate::progress::output;

/// What the build emits, and from which source.
const EMITTED: &str =
    "--out-dir ./ --emit=dep-info=./.composefs_main.o.d --emit=obj=composefs_main.o";

/// Compiles all files. `objects` is where the module was built.
///
/// # Errors
///
/// When rustc says something else than a file expects.
pub fn check(context: &Context, objects: &Path) -> Result<()> {
    let rustc = rustc(objects)?;
    let metadata = objects.join("compile-fail");
    fs::create_dir_all(&metadata)?;
    let metadata = metadata.display();
    let emit = format!("--out-dir {metadata} --emit=metadata");
    let root = context.module_dir().join("composefs_main.rs");
    output(&mut shell(
        objects,
        &format!("{rustc} {emit} {}", root.display()),
    ))?;

    let mut wrong = Vec::new();
    let mut compiled = 0;
    for entry in fs::read_dir(context.repo.join("tests/compile-fail"))? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        let expected = text.lines().nth(1).unwrap_or_default();
        let uses = format!("--extern composefs_main={metadata}/libcomposefs_main.rmeta");
        let command = format!("{rustc} {emit} {uses} {}", path.display());
        let answer = answer(&shell(objects, &command).output()?);
        if answer != expected {
            wrong.push(format!(
                "{}: expected `{expected}`, found `{answer}`",
                path.display()
            ));
        }
        compiled += 1;
    }
    if compiled == 0 {
        bail!("no files in tests/compile-fail");
    }
    if !wrong.is_empty() {
        wrong.sort();
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

/// The command with which kbuild compiled the module's crate, without what it emitted.
fn rustc(objects: &Path) -> Result<String> {
    let saved = objects.join(".composefs_main.o.cmd");
    let saved = fs::read_to_string(&saved).with_context(|| saved.display().to_string())?;
    let line = saved.lines().next().unwrap_or_default();
    let command = line
        .split_once(" := ")
        .and_then(|(_, command)| command.split_once(EMITTED))
        .with_context(|| format!("not how kbuild compiles Rust: {line}"))?;
    Ok(command.0.trim().to_owned())
}

/// A command of the shell in the directory and with the environment in which kbuild ran it.
fn shell(objects: &Path, command: &str) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", command])
        .env("RUSTC_BOOTSTRAP", "1")
        .current_dir(objects);
    shell
}

/// What rustc said, as the second line of a file says it. All errors have to be the same.
fn answer(output: &Output) -> String {
    if output.status.success() {
        return "// compiles".to_owned();
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let mut errors: Vec<&str> = stderr
        .lines()
        .filter(|line| line.starts_with("error") && !line.starts_with("error: aborting"))
        .map(|line| {
            line.strip_prefix("error[")
                .and_then(|rest| rest.split_once(']'))
                .map_or(line, |(number, _)| number)
        })
        .collect();
    errors.dedup();
    format!("// error: {}", errors.join(", "))
}
