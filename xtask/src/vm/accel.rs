// SPDX-License-Identifier: GPL-2.0

//! Whether guests run with KVM here.
//!
//! That /dev/kvm opens proves nothing: in some nested virtual machines it opens, and no
//! guest boots. So xtask boots a guest with KVM once, and keeps the answer until the
//! machine or QEMU changes.

use std::fs;
use std::fs::OpenOptions;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use anyhow::bail;

use super::config::Accel;
use super::config::Disk;
use super::config::Job;
use super::config::VmConfig;
use super::qemu::Engine;
use super::run::run;
use crate::cache::Key;
use crate::context::Context;
use crate::machine::Arch;
use crate::progress::output;
use crate::progress::say;

/// Decides what executes the guest's instructions.
///
/// # Errors
///
/// When KVM is asked for and there is none, or the answer cannot be stored.
pub fn choose(context: &Context, config: &VmConfig) -> Result<Engine> {
    match config.accel {
        // Only the emulation counts instructions.
        _ if config.icount => Ok(Engine::Tcg),
        Accel::Tcg => Ok(Engine::Tcg),
        Accel::Auto if !config.arch().is_host() => Ok(Engine::Tcg),
        Accel::Kvm if !config.arch().is_host() => bail!(
            "--accel kvm: a guest that is an {} can only be emulated here",
            config.arch().name()
        ),
        Accel::Kvm if !kvm_opens() => bail!(
            "--accel kvm: /dev/kvm cannot be opened for reading and writing. Load the kvm module \
             and join the group that owns the file, or use --accel tcg"
        ),
        Accel::Kvm => Ok(Engine::Kvm),
        Accel::Auto if kvm_works(context, config)? => Ok(Engine::Kvm),
        Accel::Auto => Ok(Engine::Tcg),
    }
}

fn kvm_opens() -> bool {
    let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    kvm.is_ok()
}

fn kvm_works(context: &Context, config: &VmConfig) -> Result<bool> {
    if !kvm_opens() {
        return Ok(false);
    }
    let answer = context
        .cache
        .root()
        .join(format!("kvm-{}", machine(config.arch())));
    match fs::read_to_string(&answer).as_deref().map(str::trim) {
        Ok("yes") => return Ok(true),
        Ok("no") => return Ok(false),
        _ => {}
    }
    say("xtask: testing once whether guests run with KVM here");
    let probe = VmConfig {
        job: Job::Command(vec!["true".to_owned()]),
        root: Disk {
            keep: false,
            ..config.root.clone()
        },
        stdin: false,
        share: None,
        mounts: Vec::new(),
        disks: Vec::new(),
        fixtures: None,
        boot_timeout: Duration::from_secs(20),
        timeout: Some(Duration::from_secs(20)),
        append: Vec::new(),
        qemu: Vec::new(),
        log_name: "kvm-probe".to_owned(),
        ..config.clone()
    };
    let outcome = run(context, &probe, Engine::Kvm, &mut |_, _| {})?;
    if crate::signals::interrupted() {
        bail!("interrupted");
    }
    let works = outcome.result == Ok(0);
    if !works {
        say("xtask: guests do not boot with KVM, so they are emulated, which is slower");
    }
    fs::write(&answer, if works { "yes\n" } else { "no\n" })?;
    Ok(works)
}

/// A key that changes with the host's kernel, processor and QEMU.
fn machine(arch: Arch) -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor
        .lines()
        .find(|line| line.starts_with("model name"));
    let said =
        |program: &str, arg: &str| output(Command::new(program).arg(arg)).unwrap_or_default();
    Key::default()
        .with("model", model.unwrap_or_default())
        .with("host", said("uname", "-a"))
        .with("qemu", said(arch.qemu(), "--version"))
        .finish()
}
