// SPDX-License-Identifier: GPL-2.0

//! One case of the fuzzer again, or made smaller.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use super::guest::CASES;
use super::guest::prepare;
use crate::context::Context;
use crate::kernel::Flavor;
use crate::progress::say;
use crate::vm;
use crate::vm::Failure;
use crate::vm::Job;
use crate::vm::VmConfig;

/// How often the guest is booted to make a case smaller.
const BOOTS: u32 = 60;

/// How long it may take from one boot on.
const TIMEOUT: Duration = Duration::from_secs(1800);

/// Which cases, and what is done with them.
#[derive(clap::Args, Debug)]
pub struct CaseArgs {
    /// Which kernel
    #[arg(long, value_enum, default_value_t = Flavor::Debug)]
    flavor: Flavor,
    /// Makes the case smaller that fails: writes it to FILE. If the guest dies of it, each step
    /// takes a boot
    #[arg(long, value_name = "FILE")]
    minimise: Option<PathBuf>,
    /// The cases
    #[arg(required = true, value_name = "CASE")]
    cases: Vec<PathBuf>,
}

/// Runs cases, and tells how they end.
///
/// # Errors
///
/// When the program or the guest cannot be made.
pub fn run(context: &Context, args: &CaseArgs) -> Result<ExitCode> {
    let work = context.cache.run_dir()?;
    let share = work.path().join("share");
    fs::create_dir_all(&share)?;
    let mut names = Vec::new();
    for (number, case) in args.cases.iter().enumerate() {
        let stem = case.file_stem().unwrap_or_default().to_string_lossy();
        let name = format!("{number}-{}.case", stem.replace(char::is_whitespace, "_"));
        fs::copy(case, share.join(&name))
            .with_context(|| format!("cannot read {}", case.display()))?;
        names.push(name);
    }
    let mut config = prepare(context, CASES, args.flavor)?;
    config.share = Some(share.clone());
    config.timeout = Some(TIMEOUT);
    let Some(result) = &args.minimise else {
        config.append.clear();
        config.job = job(&format!("replay --disk {}", names.join(" ")));
        let outcome = vm::run(context, &config, &mut vm::pass_on)?;
        return Ok(ExitCode::from(outcome.report()));
    };
    let [name] = &names[..] else {
        bail!("only one case can be made smaller at a time");
    };
    config.job = job(&format!("minimise --share . {name}"));
    minimise(context, &config, &share, result)
}

fn minimise(context: &Context, config: &VmConfig, share: &Path, result: &Path) -> Result<ExitCode> {
    for boot in 1..=BOOTS {
        let outcome = vm::run(context, config, &mut vm::pass_on)?;
        match &outcome.result {
            Ok(status) | Err(Failure::Complained(_, Some(status))) => {
                if *status == 0 {
                    fs::copy(share.join("minimised.case"), result)
                        .with_context(|| format!("cannot write {}", result.display()))?;
                    say(&format!(
                        "xtask: {} is as short as can be",
                        result.display()
                    ));
                }
                return Ok(ExitCode::from(*status));
            }
            Err(Failure::Panicked(line)) => say(&format!("xtask: boot {boot}: {line}")),
            Err(failure) => bail!("{}", outcome.explain(failure)),
        }
    }
    bail!("after {BOOTS} boots, the case is still not as short as can be")
}

/// Runs the program with these arguments.
fn job(arguments: &str) -> Job {
    Job::Command(vec![format!(
        "set -e\ncp /mnt/programs/{CASES} /run/\nexec /run/{CASES} {arguments}\n"
    )])
}
