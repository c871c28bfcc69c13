// SPDX-License-Identifier: GPL-2.0

//! tests/fuzz-kernel in the guest: fuzzes the module on the debug kernel, guided by the code of
//! the module that runs.

mod case;
mod guest;

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::anyhow;

use super::coverage;
use super::coverage::By;
use super::fuzz::SECONDS;
use super::report::Report;
use super::watch::Program;
use super::watch::watch;
use crate::context::Context;
use crate::kernel::Flavor;
use crate::named;
use crate::progress::say;
use crate::vm::Job;
use guest::FUZZER;
use guest::prepare;

pub use case::CaseArgs;
pub use case::run as run_case;

/// As long, unless [`SECONDS`] says otherwise.
const USUAL: u64 = 600;

/// Time for the images at the beginning, and for making a case smaller that fails.
const MARGIN: Duration = Duration::from_secs(900);

/// The case that runs, and those that fail, in the directory that is shared with the guest.
const CURRENT: &str = "current.case";
const FOUND: &str = "found";

/// Runs the suite. The corpus stays in the cache for the next run.
///
/// # Errors
///
/// When the program or the module cannot be built, or the guest fails.
pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    let seconds = named::number(SECONDS)?.unwrap_or(USUAL);
    let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let _lock = context.cache.lock("fuzz-kernel")?;
    let share = context.cache.root().join("fuzz-kernel");
    fs::create_dir_all(&share).with_context(|| format!("cannot make {}", share.display()))?;
    let _ = fs::remove_file(share.join(CURRENT));
    let mut config = prepare(context, FUZZER, Flavor::Debug)?;
    config.share = Some(share.clone());
    config.job = Job::Command(vec![format!(
        "set -e\n\
         echo 1 >/sys/kernel/rcu_expedited\n\
         cp /mnt/programs/{FUZZER} /run/\n\
         exec /run/{FUZZER} --share . --corpus corpus --seconds {seconds} --seed {seed}\n"
    )]);
    config.timeout = Some(Duration::from_secs(seconds) + MARGIN);
    config.log_name = "fuzz-kernel-console".to_owned();
    let program = Program::on(Flavor::Debug, "fuzz-kernel", "fuzzing the module");
    say(&format!("xtask: the seed of the random choices: {seed}"));
    let before = cases(&share.join(FOUND));
    let result = watch(context, &config, report, &program);
    for path in cases(&share.join(FOUND)) {
        if !before.contains(&path) {
            say(&format!("xtask: the case that fails is {}", path.display()));
        }
    }
    if result.is_ok() {
        let module = config.module.as_deref().context("there is no module")?;
        let places = coverage::read(&share.join("places"))?;
        coverage::tell(context, report, module, By::Fuzzer, None, places)?;
    }
    result.map_err(|error| match keep(&share) {
        Ok(path) => anyhow!("{error:#}\nThe case that ran: {}", path.display()),
        Err(_) => error,
    })
}

/// Keeps the case that ran when the guest died. Returns its file.
fn keep(share: &Path) -> Result<PathBuf> {
    let found = share.join(FOUND);
    fs::create_dir_all(&found)?;
    let case = fs::read(share.join(CURRENT))?;
    let number = cases(&found).len();
    let path = found.join(format!("died-{number}.case"));
    fs::write(&path, case)?;
    Ok(path)
}

/// The cases in a directory.
fn cases(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
