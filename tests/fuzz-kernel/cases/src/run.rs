// SPDX-License-Identifier: GPL-2.0

//! Running a case: what happened, and what was covered.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::case::Case;
use crate::log::Log;
use crate::scene::Scene;
use crate::world::World;

/// Counts operations: the watchdog sees whether it changes.
static STEPS: AtomicU64 = AtomicU64::new(0);

/// Ends the program if an operation takes longer than `timeout`.
pub fn watch(timeout: Duration) {
    thread::spawn(move || {
        let mut before = 0;
        loop {
            thread::sleep(timeout);
            let steps = STEPS.load(Relaxed);
            if steps != 0 && steps == before {
                println!("Bail out! an operation has not ended within {timeout:?}");
                // Logs the tasks that wait.
                let _ = std::fs::write("/proc/sysrq-trigger", "w");
                std::process::exit(1);
            }
            before = steps;
        }
    });
}

/// Runs a case. `covered` is called after each operation. Returns why the case fails, if it
/// does.
///
/// # Errors
///
/// When the case cannot be run.
pub fn run(
    world: &World,
    log: &mut Log,
    case: &Case,
    mut covered: impl FnMut(),
) -> Result<Option<String>> {
    let mut scene = Scene::new(world, case);
    let mut wrong = None;
    for op in &case.ops {
        STEPS.fetch_add(1, Relaxed);
        if let Err(error) = scene.perform(op) {
            wrong = Some(format!("{op}: {error:#}"));
            break;
        }
        covered();
    }
    STEPS.fetch_add(1, Relaxed);
    let ended = scene.end();
    covered();
    STEPS.fetch_add(1, Relaxed);
    let complaint = log.complaint();
    Ok(complaint
        .or(wrong)
        .or(ended.err().map(|error| format!("{error:#}"))))
}
