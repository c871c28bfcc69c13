// SPDX-License-Identifier: GPL-2.0

//! The directory that tells the guest what to do: the 9p share `xtask`.
//!
//! It holds the guest's init with its settings, the command, the module and
//! mount.composefs. So a change of these needs no new disk for the guest.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Context as _;
use anyhow::Result;

use super::config::Job;
use super::config::VmConfig;
use super::terminal;
use crate::machine::Arch;

/// Fills `dir` for a run.
///
/// # Errors
///
/// When a file cannot be read or written.
pub fn fill(dir: &Path, config: &VmConfig, init: &Path, mark: &str) -> Result<()> {
    copy(init, &dir.join("init"))?;
    if let Some(module) = &config.module {
        copy(module, &dir.join("composefs.ko"))?;
    }
    if let Some(program) = &config.mount_helper {
        copy(program, &dir.join("mount.composefs"))?;
    }
    fs::write(dir.join("config"), settings(config, mark))?;
    fs::write(dir.join("command"), command(&config.job))?;
    Ok(())
}

/// What the guest's init reads as shell variables.
fn settings(config: &VmConfig, mark: &str) -> String {
    let mut text = String::new();
    let mut set = |name: &str, value: &str| {
        let _ = writeln!(text, "{name}={}", shell_words::quote(value));
    };
    let yes = |is: bool| if is { "yes" } else { "" };
    set("END", mark);
    set("SHARE", yes(config.share.is_some()));
    set("STDIN", yes(config.stdin));
    set("FIXTURES", &fixtures_device(config));
    set("MODULE", yes(config.module.is_some()));
    set("SYSTEMD", yes(config.systemd));
    set("NOW", &now(config.arch()));
    set("SHELL_JOB", yes(matches!(config.job, Job::Shell(_))));
    let names: Vec<&str> = config
        .mounts
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    set("MOUNTS", &names.join(" "));
    if matches!(config.job, Job::Shell(_)) {
        let (rows, columns) = terminal::size().unwrap_or((24, 80));
        set("ROWS", &rows.to_string());
        set("COLUMNS", &columns.to_string());
        let term = std::env::var("TERM").unwrap_or_else(|_| "vt100".to_owned());
        set("TERM", &term);
    }
    text
}

/// The seconds since 1970, where the guest's kernel does not read a clock when it starts.
fn now(arch: Arch) -> String {
    match arch {
        Arch::X86_64 => String::new(),
        Arch::Arm64 => SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map(|time| time.as_secs().to_string())
            .unwrap_or_default(),
    }
}

/// The guest's device for [`VmConfig::fixtures`], or nothing.
fn fixtures_device(config: &VmConfig) -> String {
    // /dev/vda and vdb are the guest's own.
    let letter = ('c'..='z').nth(config.disks.len());
    match (letter, &config.fixtures) {
        (Some(letter), Some(_)) => format!("/dev/vd{letter}"),
        _ => String::new(),
    }
}

/// The script that the guest runs.
fn command(job: &Job) -> String {
    let script = match job {
        // As with ssh, one word is a line for the shell. Several are the arguments.
        Job::Command(words) => match words.as_slice() {
            [line] => line.clone(),
            words => format!("exec {}", shell_words::join(words)),
        },
        Job::Shell(first) => first.clone().unwrap_or_default(),
    };
    format!("{script}\n")
}

fn copy(from: &Path, to: &PathBuf) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_is_a_line_and_several_are_arguments() {
        let words = |list: &[&str]| Job::Command(list.iter().map(|&w| w.to_owned()).collect());
        assert_eq!(command(&words(&["ls | wc"])), "ls | wc\n");
        assert_eq!(
            command(&words(&["echo", "a b", "$c"])),
            "exec echo 'a b' '$c'\n"
        );
    }
}
