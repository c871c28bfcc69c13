// SPDX-License-Identifier: GPL-2.0

//! Booting the guest and running something in it.
//!
//! A run has succeeded only when the guest said an exit status through the
//! control channel *and* its console shows no kernel complaint: QEMU's own exit
//! status tells nothing (it is 0 after a guest's panic and reboot).

mod accel;
mod args;
mod channel;
pub mod complaint;
mod config;
mod outcome;
mod ports;
mod run;
mod share;
mod terminal;

pub use args::VmArgs;
pub use config::Disk;
pub use config::Job;
pub use config::VmConfig;
pub use outcome::Failure;
pub use outcome::Outcome;
pub use ports::Stream;
pub use run::run;
