// SPDX-License-Identifier: GPL-2.0

//! Whether the guest can be run by KVM.
//!
//! A /dev/kvm that opens proves nothing: in some nested machines it opens and
//! no guest kernel gets anywhere. So a guest is booted with it once, and the
//! answer is kept for as long as machine and QEMU stay the same.

use std::fs;
use std::fs::OpenOptions;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::config::Accel;
use super::config::Job;
use super::config::VmConfig;
use super::run::run;
use crate::cache::Key;
use crate::context::Context;
use crate::guest::Guest;
use crate::progress::output;

/// What QEMU is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// `-accel kvm`
    Kvm,
    /// `-accel tcg`
    Tcg,
}

/// Finds out how to run the guest.
///
/// # Errors
///
/// When the answer cannot be kept.
pub fn choose(context: &Context, config: &VmConfig) -> Result<Choice> {
    match config.accel {
        // Counting instructions is a thing of the emulation.
        _ if config.icount => Ok(Choice::Tcg),
        Accel::Tcg => Ok(Choice::Tcg),
        Accel::Kvm => Ok(Choice::Kvm),
        Accel::Auto if kvm_works(context, config)? => Ok(Choice::Kvm),
        Accel::Auto => Ok(Choice::Tcg),
    }
}

fn kvm_works(context: &Context, config: &VmConfig) -> Result<bool> {
    let opens = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok();
    if !opens {
        return Ok(false);
    }
    let answer = context.cache.root().join(format!("kvm-{}", machine()));
    match fs::read_to_string(&answer).as_deref().map(str::trim) {
        Ok("yes") => return Ok(true),
        Ok("no") => return Ok(false),
        _ => {}
    }
    eprintln!("xtask: trying once whether guests run with KVM here");
    let probe = VmConfig {
        accel: Accel::Kvm,
        boot_timeout: Duration::from_secs(20),
        timeout: Some(Duration::from_secs(20)),
        log_name: "kvm-probe".to_owned(),
        ..VmConfig::new(
            config.kernel.clone(),
            Guest {
                root: config.root.clone(),
                scratch: config.scratch.clone(),
            },
            Job::Command(vec!["true".to_owned()]),
        )
    };
    let outcome = run(context, &probe, &mut |_, _| {})?;
    if crate::signals::interrupted() {
        anyhow::bail!("interrupted");
    }
    let works = outcome.result == Ok(0);
    if !works {
        eprintln!("xtask: they do not; guests are emulated, which is slower");
    }
    fs::write(&answer, if works { "yes\n" } else { "no\n" })?;
    Ok(works)
}

/// Changes with the host's kernel, processor and QEMU.
fn machine() -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor
        .lines()
        .find(|line| line.starts_with("model name"));
    let said =
        |program: &str, arg: &str| output(Command::new(program).arg(arg)).unwrap_or_default();
    Key::default()
        .with("model", model.unwrap_or_default())
        .with("host", said("uname", "-a"))
        .with("qemu", said("qemu-system-x86_64", "--version"))
        .finish()
}
