// SPDX-License-Identifier: GPL-2.0

//! How a run of the guest ended.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::progress::human;
use crate::progress::tail;

/// The exit status of xtask when the guest gave none that can be relied on.
pub const NO_RESULT: u8 = 125;

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// The job's exit status, or why there is none.
    pub result: Result<u8, Failure>,
    /// The log of the guest's console.
    pub console: PathBuf,
    /// Whether the job had begun, or the system on the guest's disk: they may have had effects.
    pub began: bool,
}

/// Why a run gave no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The kernel panicked: the console's line.
    Panicked(String),
    /// The kernel printed a BUG, a WARNING or the like: the console's line,
    /// and the job's status if there was one.
    Complained(String, Option<u8>),
    /// The guest did not run the job within this time.
    NotBooted(Duration),
    /// The system refused to boot, or could not: the console's line.
    Refused(String),
    /// The guest could not prepare itself: its message.
    NotPrepared(String),
    /// The job took longer than this.
    TimedOut(Duration),
    /// The job ended, with this status, but the guest did not power off.
    NotPoweredOff(u8),
    /// QEMU ended before the guest said how the job ended.
    Vanished,
    /// QEMU itself failed: its messages.
    Qemu(String),
    /// The user asked to stop.
    Interrupted,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(line) => write!(f, "the guest's kernel panicked: {line}"),
            Self::Complained(line, None) => write!(f, "the guest's kernel complained: {line}"),
            Self::Complained(line, Some(status)) => write!(
                f,
                "the guest's kernel complained (the command itself ended with status {status}): {line}"
            ),
            Self::NotBooted(time) => write!(f, "the guest did not boot within {}", human(*time)),
            Self::Refused(line) => write!(f, "the system does not boot: {line}"),
            Self::NotPrepared(why) => write!(f, "the guest could not prepare itself: {why}"),
            Self::TimedOut(time) => write!(
                f,
                "the guest was stopped: the command took longer than {} (--timeout)",
                human(*time)
            ),
            Self::NotPoweredOff(status) => write!(
                f,
                "the guest hung while powering off (the command had ended with status {status})"
            ),
            Self::Vanished => write!(f, "the guest ended without the command's exit status"),
            Self::Qemu(why) => write!(f, "QEMU failed: {why}"),
            Self::Interrupted => write!(f, "interrupted"),
        }
    }
}

impl Outcome {
    /// The exit status for xtask. A failure is printed.
    pub fn report(&self) -> u8 {
        match &self.result {
            Ok(status) => *status,
            Err(Failure::Interrupted) => {
                eprintln!("xtask: interrupted; the guest was stopped");
                130
            }
            Err(failure) => {
                eprintln!("error: {}", self.explain(failure));
                NO_RESULT
            }
        }
    }

    /// The failure in full, with the end of the console.
    pub fn explain(&self, failure: &Failure) -> String {
        let end = tail(&self.console, 40);
        if end.is_empty() {
            // QEMU did not start the guest.
            return format!("{failure}\nThe guest has printed nothing on its console.");
        }
        format!(
            "{failure}\nThe end of the guest's console:\n{}\nThe whole console: {}",
            end,
            self.console.display()
        )
    }
}
