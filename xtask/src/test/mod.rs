// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask test`: every suite, one line a test, one summary.

mod arm64;
mod boot;
mod boot_ways;
mod boots;
mod cargo_test;
mod citations;
mod compile_fail;
mod coverage;
mod deb;
mod debug_all;
mod defects;
mod e2fs;
mod foreign;
mod fuzz;
mod fuzz_kernel;
mod harness;
mod headers;
mod host;
mod hostile;
mod imports;
mod kdir;
mod kunit;
mod lanes;
mod ledger;
mod module;
mod old;
mod others;
mod outcome;
mod patches;
mod pool;
mod report;
mod selftests;
mod share;
mod stress;
mod suite;
mod suites;
mod table;
mod times;
mod tools;
mod watch;
mod words;

use std::env;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use anyhow::bail;
use clap::Args;

use crate::context::Context;
use crate::machine::Machine;
use crate::machine::MachineArgs;
use crate::named;
use crate::progress::Course;
use crate::progress::Piece;
use crate::progress::Stage;
use crate::progress::Transcript;
use crate::progress::about;
use crate::progress::print;
use crate::progress::say;
use crate::signals;
use crate::sync::lock;
pub use fuzz_kernel::CaseArgs;
pub use fuzz_kernel::run_case;
use ledger::Ledger;
use ledger::Record;
use report::Report;
use suite::Asked;
use suite::Reads;
use suite::Run;
use suite::Task;
use suite::When;
use suites::SUITES;
use times::Times;

/// With this variable set, a skipped test has failed: it is for machines on which every
/// test can run.
const NO_SKIP: &str = "COMPOSEFS_NO_SKIP";

/// What to test.
#[derive(Args, Debug)]
pub struct TestArgs {
    /// Runs only these suites. A part is SUITE:PART: selftests:readdir,rights
    /// are programs of a suite, stress:debian is the suite on one kernel, and
    /// debug-all:3of12 is a share of its programs. The suite says on which
    /// kernel a program runs: selftests on Debian's, selftests-plain on the
    /// plain one, debug on the debug kernel
    #[arg(value_name = "SUITE")]
    names: Vec<String>,
    /// Also runs the suites that take long
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Goes on with a run that was stopped: what has passed on the same tree is
    /// not run again
    #[arg(long)]
    resume: bool,
    /// Lists the suites, or those that are named, and how long they take
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Runs the suites of these names. `SUITE:PART` is a part of one. Without a name, runs those
/// that do not take long, or with `--all`, all of them.
///
/// # Errors
///
/// When a name or a variable of the environment is wrong, or the user interrupts. A suite that
/// cannot run counts as a failed test.
pub fn run(context: &Context, args: &TestArgs) -> Result<ExitCode> {
    if args.list {
        list(context, args)?;
        return Ok(ExitCode::SUCCESS);
    }
    // Before anything is built.
    for variable in [hostile::SEED, stress::SECONDS, stress::SEED, fuzz::SECONDS] {
        named::number(variable)?;
    }
    named::directory_of(selftests::IMAGES)?;
    let tasks = tasks(context, args)?;
    let ledger = Ledger::open(&context.repo)?;
    if args.resume && !ledger.is_current(Reads::Code) {
        bail!(
            "git does not know which tree this is, so nobody can tell what has passed on it; run \
             the tests in a git clone, or without --resume"
        );
    }
    let mut records: Vec<Option<Record>> = tasks.iter().map(|_| None).collect();
    if args.resume {
        for (task, record) in tasks.iter().zip(&mut records) {
            *record = ledger.passed(&task.name(), task.suite.reads());
        }
        say(&resumed(&ledger, &records));
    }
    let ended = run_tasks(context, &ledger, &tasks, &mut records);
    let records: Vec<Record> = records.into_iter().flatten().collect();
    if !records.is_empty() {
        for line in table::lines(&records, &context.repo) {
            print(&line);
        }
    }
    if ended.is_err() {
        say("xtask: stopped; the same command with --resume goes on from here");
    }
    ended?;
    let sum = table::sum(&records);
    if (sum.passed, sum.failed) == (0, 0) {
        say("error: no test was run");
    }
    print(&table::counts(&sum));
    Ok(if sum.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs what has no record yet.
fn run_tasks(
    context: &Context,
    ledger: &Ledger,
    tasks: &[Task],
    records: &mut [Option<Record>],
) -> Result<()> {
    let times = Mutex::new(Times::read(&context.cache));
    // The next run may be without them.
    let other_times =
        env::var_os(fuzz::SECONDS).is_some() || env::var_os(stress::SECONDS).is_some();
    let pieces = tasks.iter().zip(&*records).map(|(task, record)| Piece {
        name: task.name(),
        expected: lock(&times).of(&task.name()).or_else(|| task.guess()),
        divisor: pool::PROCESSORS / task.suite.processors,
        stage: match record {
            Some(_) => Stage::Done,
            None => Stage::Todo,
        },
    });
    let course = Course::begin(pieces.collect());
    let todo = tasks.iter().zip(records).enumerate();
    let todo: Vec<(usize, &Task, Mutex<&mut Option<Record>>)> = todo
        .filter(|(_, (_, record))| record.is_none())
        .map(|(number, (task, record))| (number, task, Mutex::new(record)))
        .collect();
    let needs: Vec<u32> = todo.iter().map(|todo| todo.1.suite.processors).collect();
    pool::run(&needs, |index| {
        let Some((number, task, record)) = todo.get(index) else {
            return Ok(());
        };
        course.piece_begins(*number);
        let ended = run_task(context, ledger, task)?;
        course.piece_ends(*number);
        if ended.outcome.is_good() && !other_times {
            lock(&times).keep(&ended.piece, ended.time)?;
        }
        **lock(record) = Some(ended);
        Ok(())
    })
}

fn run_task(context: &Context, ledger: &Ledger, task: &Task) -> Result<Record> {
    let piece = task.name();
    let begun = ledger.begin(&piece, task.suite.reads())?;
    let transcript = Transcript::begin(&begun.log)?;
    let since = Instant::now();
    let mut report = Report::new(task.suite.name, env::var_os(NO_SKIP).is_some());
    let result = task.run(context, &mut report);
    // Whatever the suite says: its tests may have failed because they were interrupted.
    if signals::interrupted() {
        bail!("interrupted during: {piece}");
    }
    if let Err(error) = result {
        report.fail("the suite could not run", &format!("{error:#}"));
    }
    drop(transcript);
    let record = Record {
        piece,
        tree: ledger.tree().to_owned(),
        outcome: report.into_outcome(),
        time: since.elapsed(),
        failed_before: begun.failed_before,
        log: begun.log,
    };
    if ledger.is_current(task.suite.reads()) {
        ledger.end(&record)?;
    }
    Ok(record)
}

/// What is gone on with, in words.
fn resumed(ledger: &Ledger, records: &[Option<Record>]) -> String {
    let passed = records.iter().flatten().count();
    match ledger.other() {
        _ if !ledger.is_empty() => format!(
            "xtask: going on: {passed} of {} passed on this tree before",
            records.len()
        ),
        Some(other) => format!(
            "xtask: this tree was not tested before, so all begins anew; the last one was {other}"
        ),
        None => "xtask: nothing was tested before, so all begins anew".to_owned(),
    }
}

/// What the arguments name, in the order of the suites.
fn tasks(context: &Context, args: &TestArgs) -> Result<Vec<Task>> {
    let names = names(args)?;
    let wanted: Vec<(&str, Option<&str>)> = names.iter().map(|name| split(name)).collect();
    for (name, _) in &wanted {
        if SUITES.iter().all(|suite| suite.name != *name) {
            if selftests::check_names(context, name).is_ok() {
                bail!("\"{name}\" is a program of a suite: selftests:{name}");
            }
            let known: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
            bail!(
                "there is no test suite \"{name}\"; there are: {}",
                known.join(" ")
            );
        }
    }
    let mut tasks = Vec::new();
    for suite in SUITES {
        if wanted.is_empty() && (args.all || suite.when == When::Gate) {
            tasks.extend(suite.tasks(context, Asked::AmongAll)?);
        }
        for (_, part) in wanted.iter().filter(|(name, _)| *name == suite.name) {
            tasks.extend(suite.tasks(context, part.map_or(Asked::Alone, Asked::Part))?);
        }
    }
    Ok(tasks)
}

/// The names of suites in the arguments. On another machine, they are parts of its own suite.
fn names(args: &TestArgs) -> Result<Vec<String>> {
    let machine = args.machine.machine()?;
    if machine == Machine::default() {
        return Ok(args.names.clone());
    }
    if args.all {
        bail!(
            "--all takes no --arch: it has the tests on {} already",
            machine.name()
        );
    }
    if args.names.is_empty() {
        return Ok(vec![arm64::name_of(machine, None)?]);
    }
    let wanted = args.names.iter().map(|name| split(name));
    wanted
        .map(|name| arm64::name_of(machine, Some(name)))
        .collect()
}

/// Splits `SUITE:PART`.
fn split(name: &str) -> (&str, Option<&str>) {
    match name.split_once(':') {
        Some((name, part)) => (name, Some(part)),
        None => (name, None),
    }
}

/// Prints the suites' names, and how long they take.
fn list(context: &Context, args: &TestArgs) -> Result<()> {
    let times = Times::read(&context.cache);
    let named = !names(args)?.is_empty();
    let mut wanted = Vec::new();
    if named {
        wanted = tasks(context, args)?;
    } else {
        for suite in SUITES {
            wanted.extend(suite.tasks(context, Asked::AmongAll)?);
        }
    }
    let mut gate = Duration::ZERO;
    let mut all = Duration::ZERO;
    let width = SUITES.iter().map(|suite| suite.name.len()).max();
    let width = width.unwrap_or_default();
    for suite in SUITES {
        let mut time = Duration::ZERO;
        let mut guessed = ' ';
        let mut is_wanted = false;
        for task in wanted.iter().filter(|task| task.suite.name == suite.name) {
            is_wanted = true;
            let known = times.of(&task.name());
            if known.is_none() {
                guessed = '~';
            }
            time += known.or_else(|| task.guess()).unwrap_or_default();
        }
        if !is_wanted {
            continue;
        }
        // Two that need half of the machine take as long as one.
        let share = time * suite.processors / pool::PROCESSORS;
        all += share;
        let only = match suite.when {
            When::All => " (with --all)",
            When::Gate => {
                gate += share;
                ""
            }
        };
        let time = match suite.run {
            // They run beside each other.
            Run::Pieces { .. } => share,
            _ => time,
        };
        print(&format!(
            "{:<width$} {guessed}{:<10} {}{only}",
            suite.name,
            about(time),
            suite.about
        ));
    }
    if named {
        return Ok(());
    }
    print(&format!(
        "The times are the last ones here, or with ~, those of two processors under emulation: \
         {} in all, or {} with --all. What is not built yet takes longer.",
        about(gate),
        about(all)
    ));
    Ok(())
}
