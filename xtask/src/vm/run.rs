// SPDX-License-Identifier: GPL-2.0

//! One run of the guest: QEMU is started, attended and judged.

use std::fs;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use anyhow::Context as _;
use anyhow::Result;
use command_fds::CommandFdExt;
use command_fds::FdMapping;

use super::config::Job;
use super::config::VmConfig;
use super::outcome::Outcome;
use super::ports::Stream;
use super::qemu;
use super::qemu::Engine;
use super::session::Session;
use super::share;
use super::terminal;
use crate::context::Context;

/// Boots the guest, runs its job and says how that ended. `output` is given the job's
/// output as it comes.
///
/// # Errors
///
/// When the run cannot begin: a file is missing, or QEMU does not start. What goes wrong
/// later is in the [`Outcome`].
pub fn run(
    context: &Context,
    config: &VmConfig,
    engine: Engine,
    output: &mut dyn FnMut(Stream, &[u8]),
) -> Result<Outcome> {
    let dir = context.cache.run_dir()?;
    let console = context.cache.numbered_log(&config.log_name)?;
    let mark = random_mark(dir.path());

    let share = dir.path().join("share");
    fs::create_dir(&share)?;
    let init = context.repo.join("scripts/guest-init");
    share::fill(&share, config, &init, &mark)?;

    let shell = matches!(config.job, Job::Shell(_));
    let raw = shell.then(terminal::RawMode::enter).transpose()?;

    let ports: &[&str] = if shell {
        &["control", "terminal"]
    } else {
        &["control", "stdout", "stderr", "stdin"]
    };
    let (ours, theirs): (Vec<_>, Vec<_>) = ports
        .iter()
        .map(|_| UnixStream::pair())
        .collect::<io::Result<Vec<_>>>()?
        .into_iter()
        .unzip();
    let child = start(config, engine, dir.path(), &share, &console, ports, theirs)?;
    let mut session = Session::connect(child, ports, ours, config, &mark)?;
    let end = session.attend(config, &console, output);
    drop(raw);

    let qemu_said = fs::read_to_string(dir.path().join("qemu.log")).unwrap_or_default();
    // A system that boots from its own disk may write to it before its job begins.
    let began = config.systemd || session.began();
    let result = session.verdict(end, &console, qemu_said.trim());
    Ok(Outcome {
        result,
        console,
        began,
    })
}

fn start(
    config: &VmConfig,
    engine: Engine,
    dir: &Path,
    share: &Path,
    console: &Path,
    ports: &[&str],
    theirs: Vec<UnixStream>,
) -> Result<Child> {
    const FIRST_FD: i32 = 10;
    let fds: Vec<(&str, i32)> = ports.iter().copied().zip(FIRST_FD..).collect();
    // setpriv makes the kernel kill QEMU when xtask ends, even by SIGKILL.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", config.arch().qemu()])
        .args(qemu::arguments(config, engine, share, console, &fds))
        // QEMU keeps the data of snapshot=on here.
        .env("TMPDIR", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(dir.join("qemu.log"))?)
        .process_group(0);
    let mappings = theirs
        .into_iter()
        .zip(FIRST_FD..)
        .map(|(stream, child_fd)| FdMapping {
            parent_fd: OwnedFd::from(stream),
            child_fd,
        })
        .collect();
    command.fd_mappings(mappings)?;
    command.spawn().context(
        "cannot start QEMU; `cargo xtask setup` installs it (setpriv comes with util-linux)",
    )
}

/// A random mark, which no output contains by chance.
fn random_mark(seed: &Path) -> String {
    use std::hash::BuildHasher;
    let word = || std::collections::hash_map::RandomState::new().hash_one(seed);
    format!("\u{1}end-{:016x}{:016x}", word(), word())
}
