// SPDX-License-Identifier: GPL-2.0

//! Tests of xtask itself: a guest that does not end well must not pass, whatever it
//! printed before.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use anyhow::bail;

use super::lanes;
use super::report::Report;
use super::watch::Program;
use super::watch::watch;
use crate::context::Context;
use crate::kernel::Flavor;
use crate::packages;
use crate::progress::output;
use crate::vm;
use crate::vm::Failure;
use crate::vm::Job;
use crate::vm::Outcome;
use crate::vm::Stream;
use crate::vm::VmConfig;

/// How a run ended, and its output.
struct Seen {
    outcome: Outcome,
    stdout: String,
    stderr: String,
}

/// Runs the suite.
///
/// # Errors
///
/// When the guest cannot be made.
pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    packages::require(context, &[packages::TEST])?;
    let base = VmConfig::prepare(context, Flavor::Debian, false, Job::Shell(None))?;
    // Both at the same time: most of it is waiting for one processor.
    let parts: Vec<(&str, Part)> = vec![("guests", guests), ("programs", programs)];
    lanes::at_once(report, parts, |(name, part), report| {
        let log_name = format!("harness-{name}");
        let base = VmConfig {
            log_name,
            ..base.clone()
        };
        part(context, &base, report);
        Ok(())
    })
}

/// Half of the suite.
type Part = fn(&Context, &VmConfig, &mut Report);

/// Guests that end in many ways.
fn guests(context: &Context, base: &VmConfig, report: &mut Report) {
    let boot = |line: &str, change: fn(&mut VmConfig)| {
        let mut config = configure(base, line);
        change(&mut config);
        see(context, &config)
    };

    report.check("output and status come through, apart", || {
        let seen = boot("echo out; echo err >&2; (sleep 1000 &); exit 7", |_| {})?;
        expect(&seen, |result| *result == Ok(7))?;
        if (seen.stdout.as_str(), seen.stderr.as_str()) != ("out\n", "err\n") {
            bail!("stdout {:?}, stderr {:?}", seen.stdout, seen.stderr);
        }
        Ok(())
    });
    report.check("much output comes through whole", || {
        let seen = boot("seq 200000; seq 200000 >&2", |_| {})?;
        expect(&seen, |result| *result == Ok(0))?;
        let whole: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
        if seen.stdout != whole || seen.stderr != whole {
            bail!("{} and {} bytes came", seen.stdout.len(), seen.stderr.len());
        }
        Ok(())
    });
    report.check("a panic is reported", || {
        let seen = boot("echo ok 1; echo c >/proc/sysrq-trigger", |_| {})?;
        expect(&seen, |result| matches!(result, Err(Failure::Panicked(_))))
    });
    report.check("a hang is reported", || {
        let seen = boot("sleep 1000", |config| {
            config.timeout = Some(Duration::from_secs(2));
        })?;
        expect(&seen, |result| matches!(result, Err(Failure::TimedOut(_))))
    });
    report.check("a WARNING on the console is reported", || {
        let seen = boot("echo 'WARNING: a test' >/dev/kmsg", |_| {})?;
        expect(&seen, |result| {
            matches!(result, Err(Failure::Complained(_, Some(0))))
        })
    });
    report.check("a name that reads like a panic is not one", || {
        let seen = boot("echo 'composefs: Kernel panic: a test' >/dev/kmsg", |_| {})?;
        expect(&seen, |result| *result == Ok(0))
    });
    report.check("a guest that powers off early is reported", || {
        let seen = boot("echo o >/proc/sysrq-trigger; sleep 1000", |_| {})?;
        expect(&seen, |result| *result == Err(Failure::Vanished))
    });
    report.check("a guest that does not boot is reported", || {
        let seen = boot("true", |config| {
            // The first program is that of the initramfs.
            config.append = vec!["rdinit=/bin/sleep".to_owned(), "1000".to_owned()];
            config.boot_timeout = Duration::from_secs(30);
        })?;
        expect(&seen, |result| matches!(result, Err(Failure::NotBooted(_))))
    });
}

/// What counts as passed when a program in the guest prints KTAP, and the script that counts.
fn programs(context: &Context, base: &VmConfig, report: &mut Report) {
    report.check("instructions are counted, function by function", || {
        counted(context)
    });
    for (name, line, good) in PROGRAMS {
        report.check(name, || {
            let mut seen = Report::silent();
            let config = configure(base, line);
            let program = Program {
                name: "harness".to_owned(),
                about: "running a program that prints KTAP".to_owned(),
                prefix: String::new(),
                suffix: String::new(),
                may_skip: true,
            };
            let result = watch(context, &config, &mut seen, &program);
            let (passed, failed) = seen.counts();
            match (good, result) {
                (true, Ok(())) if (passed, failed) == (2, 0) => Ok(()),
                (false, Ok(())) if failed > 0 => Ok(()),
                (false, Err(_)) => Ok(()),
                (_, result) => bail!("{passed} passed, {failed} failed, {result:?}"),
            }
        });
    }
}

/// Runs scripts/count-instructions on getppid(2), which does almost nothing.
fn counted(context: &Context) -> Result<()> {
    let said = output(
        Command::new(context.repo.join("scripts/count-instructions"))
            .args(["--flavor", Flavor::Debian.name(), "__x64_sys_getppid"])
            .arg("exec python3 -c 'import os\nwhile True: os.getppid()'"),
    )?;
    let count = said.split_whitespace().next();
    let count: Option<u32> = count.and_then(|word| word.parse().ok());
    let functions = ["__x64_sys_getppid", "do_syscall_64"];
    let seen = functions
        .iter()
        .all(|name| said.contains(&format!("  {name}\n")));
    if !seen || !count.is_some_and(|count| (20..1000).contains(&count)) {
        bail!("scripts/count-instructions printed:\n{said}");
    }
    Ok(())
}

/// A run of `line` in the shell.
fn configure(base: &VmConfig, line: &str) -> VmConfig {
    VmConfig {
        job: Job::Command(vec![line.to_owned()]),
        timeout: Some(Duration::from_secs(60)),
        ..base.clone()
    }
}

/// Programs in the guest, and whether their tests pass. No test of theirs says that it
/// failed. The unit tests of [`watch`] show that broken KTAP fails.
const PROGRAMS: [(&str, &str, bool); 4] = [
    (
        "KTAP that is whole passes",
        "printf 'KTAP version 1\\n1..2\\nok 1 a\\nok 2 b\\n'",
        true,
    ),
    (
        "a program that fails after its tests is reported",
        "printf 'KTAP version 1\\n1..2\\nok 1 a\\nok 2 b\\n'; exit 3",
        false,
    ),
    (
        "a WARNING after all tests is reported",
        "printf 'KTAP version 1\\n1..2\\nok 1 a\\nok 2 b\\n'; echo 'WARNING: a test' >/dev/kmsg",
        false,
    ),
    (
        "a panic after all tests is reported",
        "printf 'KTAP version 1\\n1..2\\nok 1 a\\nok 2 b\\n'; echo c >/proc/sysrq-trigger",
        false,
    ),
];

fn see(context: &Context, config: &VmConfig) -> Result<Seen> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let outcome = vm::run(context, config, &mut |stream, bytes| match stream {
        Stream::Stderr => stderr.extend_from_slice(bytes),
        Stream::Stdout | Stream::Terminal => stdout.extend_from_slice(bytes),
    })?;
    Ok(Seen {
        outcome,
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    })
}

fn expect(seen: &Seen, good: impl Fn(&std::result::Result<u8, Failure>) -> bool) -> Result<()> {
    if good(&seen.outcome.result) {
        return Ok(());
    }
    match &seen.outcome.result {
        Ok(status) => bail!("the run passed, with status {status}"),
        Err(failure) => bail!(
            "the run failed in another way: {}",
            seen.outcome.explain(failure)
        ),
    }
}
