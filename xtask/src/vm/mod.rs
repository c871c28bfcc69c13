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
    if may_repeat(config, engine) && hung_early(&outcome) {
        say(&format!(
            "xtask: the guest's kernel hung before it started its init; once more (console: {})",
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

/// Whether a guest may be started once more if its kernel hangs early. Emulated processors do so,
/// if seldom, when nothing of composefs has run yet.
fn may_repeat(config: &VmConfig, engine: Engine) -> bool {
    engine == Engine::Tcg
        // With it, the second run would hang in the same way.
        && !config.icount
        // The first run has read some of it.
        && !config.stdin
        && config.kernel.flavor.takes_module()
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
}
