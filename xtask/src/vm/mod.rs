// SPDX-License-Identifier: GPL-2.0

//! Booting the guest and running something in it.
//!
//! A run has succeeded only when the guest sent an exit status through the control
//! channel *and* its console shows no complaint of the kernel. QEMU's own exit status
//! says nothing: it is 0 after the guest has panicked and rebooted.

mod accel;
mod args;
mod channel;
pub mod complaint;
mod config;
mod outcome;
mod ports;
mod qemu;
mod run;
mod session;
mod share;
mod terminal;

use anyhow::Result;

use crate::context::Context;
use crate::progress::say;
use qemu::Engine;

pub use args::VmArgs;
pub use config::Accel;
pub use config::Disk;
pub use config::FIXTURES;
pub use config::Job;
pub use config::VmConfig;
pub use outcome::Failure;
pub use outcome::Outcome;
pub use ports::Stream;
pub use ports::pass_on;

/// Boots the guest, runs its job and says how that ended. `output` is given the job's
/// output as it comes.
///
/// # Errors
///
/// When the run cannot begin: KVM or a file is missing, or QEMU does not start. What
/// goes wrong later is in the [`Outcome`].
pub fn run(
    context: &Context,
    config: &VmConfig,
    output: &mut dyn FnMut(Stream, &[u8]),
) -> Result<Outcome> {
    let engine = accel::choose(context, config)?;
    let mut outcome = run::run(context, config, engine, output)?;
    let why = may_repeat(config, engine).then(|| emulation_failed(&outcome));
    if let Some(why) = why.flatten() {
        say(&format!(
            "xtask: the guest's kernel {why}; once more (console: {})",
            outcome.console.display()
        ));
        outcome = run::run(context, config, engine, output)?;
    }
    let without_guest = matches!(
        outcome.result,
        Err(Failure::Qemu(_) | Failure::NotBooted(_) | Failure::Vanished)
    );
    if without_guest && config.accel == Accel::Kvm {
        eprintln!("xtask: KVM may not work on this machine; --accel tcg does without it");
    }
    Ok(outcome)
}

/// Whether a guest may be started once more if the emulation of its processors fails. It does so,
/// if seldom, when nothing of composefs has run yet.
fn may_repeat(config: &VmConfig, engine: Engine) -> bool {
    engine == Engine::Tcg
        // With it, the second run would hang in the same way.
        && !config.icount
        // The first run has read some of it.
        && !config.stdin
        && config.kernel.flavor.takes_module()
}

/// What the guest's kernel did, if it was the emulation's fault.
fn emulation_failed(outcome: &Outcome) -> Option<&'static str> {
    if hung_early(outcome) {
        return Some("hung before it started its init");
    }
    let complained = matches!(
        outcome.result,
        Err(Failure::Panicked(_) | Failure::Complained(..))
    );
    // What has begun may have had effects, which a second run would find.
    let early = !outcome.began && complaint::is_stale_breakpoint(&outcome.console);
    (complained && early).then_some("met a breakpoint of its own (int3)")
}

/// Whether the guest's kernel did not start the first program in time.
fn hung_early(outcome: &Outcome) -> bool {
    matches!(outcome.result, Err(Failure::NotBooted(_))) && !complaint::has_begun(&outcome.console)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_kernel_that_started_its_init_did_not_hang_early() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let console = dir.path().join("console");
        let mut outcome = Outcome {
            result: Err(Failure::NotBooted(Duration::from_secs(120))),
            console: console.clone(),
            began: false,
        };
        let lines = "[    0.936860] pci 0000:00:1f.2: BAR 4\r\n";
        std::fs::write(&console, lines)?;
        assert!(hung_early(&outcome));
        let init = format!("{lines}[    1.000000] Run /init as init process\r\n");
        std::fs::write(&console, init)?;
        assert!(!hung_early(&outcome));
        outcome.result = Ok(0);
        std::fs::write(&console, lines)?;
        assert!(!hung_early(&outcome));
        Ok(())
    }

    #[test]
    fn a_breakpoint_is_stale_only_before_module_and_job() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let console = dir.path().join("console");
        let mut outcome = Outcome {
            result: Err(Failure::Panicked("Kernel panic".to_owned())),
            console: console.clone(),
            began: false,
        };
        let oops = "[    2.281342] Oops: int3: 0000 [#1] SMP NOPTI\r\n";
        std::fs::write(&console, oops)?;
        assert!(emulation_failed(&outcome).is_some());
        outcome.began = true;
        assert!(emulation_failed(&outcome).is_none());
        outcome.began = false;
        let module = "[    2.1] composefs: loading out-of-tree module taints kernel.\r\n";
        std::fs::write(&console, format!("{module}{oops}"))?;
        assert!(emulation_failed(&outcome).is_none());
        std::fs::write(&console, "[    2.281342] Oops: 0000 [#1] SMP NOPTI\r\n")?;
        assert!(emulation_failed(&outcome).is_none());
        Ok(())
    }
}
