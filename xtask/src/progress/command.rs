// SPDX-License-Identifier: GPL-2.0

//! Commands: short ones, and how any is started and ended.

use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process_group;

/// Runs a short command and returns what it wrote to its standard output.
///
/// # Errors
///
/// When it cannot be started, or fails. The error has its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| cannot_start(command))?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What to say of a command that cannot be started.
pub fn cannot_start(command: &Command) -> String {
    format!(
        "cannot start {}; `cargo xtask setup` installs what is missing",
        command.get_program().to_string_lossy()
    )
}

/// Ends a child and all of its process group.
pub fn end_group(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        if let Some(pid) = Pid::from_raw(pid) {
            let _ = kill_process_group(pid, Signal::TERM);
        }
    }
    let _ = child.wait();
}
