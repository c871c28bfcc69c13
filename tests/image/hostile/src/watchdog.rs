// SPDX-License-Identifier: GPL-2.0

//! Ends the run if a system call does not end.

use std::process;
use std::thread;
use std::time::Duration;

use crate::keep;
use crate::operation;

/// Starts to watch: no system call may take longer than `patience`.
pub fn start(patience: Duration) {
    thread::spawn(move || {
        loop {
            let before = operation::total();
            thread::sleep(patience);
            if operation::total() == before {
                println!(
                    "Bail out! image {}: {:?} has not ended within {} seconds",
                    keep::current(),
                    operation::current(),
                    patience.as_secs()
                );
                process::exit(1);
            }
        }
    });
}
