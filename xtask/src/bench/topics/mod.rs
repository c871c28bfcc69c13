// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask bench disks`, `containers` and `files`: topics with tables of their own. What is
//! measured is in tests/bench. The disk is in the guest's memory, and each request to it takes a
//! known time.

mod table;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use composefs_bench::Image;
use composefs_bench::topics::LATENCY;
use composefs_bench::topics::Line;
use composefs_bench::topics::Plan;
use composefs_bench::topics::Topic;

use super::args::BenchArgs;
use super::disk;
use super::disk::PROGRAM;
use super::document;
use super::guest::QUIET;
use super::guest::run as run_in_guest;
use super::profile;
use crate::context::Context;
use crate::guest;
use crate::guest::System;
use crate::guest_program;
use crate::kernel::Flavor;
use crate::kernel::Target;
use crate::machine::Machine;
use crate::vm::Job;
use crate::vm::VmConfig;

/// The package of the program that serves an image by FUSE, and the program.
const FUSE: &str = "composefs-bench-fuse";

/// Where images are in the guest.
const TOP: &str = "/run/bench";

/// Measures, and shows the table; with `--save-baseline`, also in the documentation. With
/// `--profile`, shows where a column of it spends instructions instead.
///
/// # Errors
///
/// When an option is wrong, a part cannot be made, or the guest fails.
pub fn run(
    context: &Context,
    args: &BenchArgs,
    topic: Topic,
    names: &[String],
) -> Result<ExitCode> {
    let name = topic.name();
    if args.machine.machine()? != Machine::X86_64 {
        bail!("`bench {name}` measures on x86-64 only: leave out --arch");
    }
    if let Some(other) = names.first() {
        bail!("`bench {name}` measures one table: leave out \"{other}\"");
    }
    args.only(
        &format!("`bench {name}`"),
        &["--profile", "--of", "--save-baseline"],
    )?;
    let plan = Plan {
        topic,
        repeat: repeat(args, topic)?,
        content: None,
        fuse: None,
        profile: args.profiled(&topic.columns())?,
    };
    if args.save_baseline {
        // Before the measurements, which take minutes.
        document::check(context, name)?;
    }
    let (mut cells, mut profiles) = (Vec::new(), Vec::new());
    for line in measure(context, plan)? {
        match line {
            Line::Cell(cell) => cells.push(cell),
            Line::Profile(profile) => profiles.push(profile),
        }
    }
    if args.profile {
        profile::print(&profiles);
        return Ok(ExitCode::SUCCESS);
    }
    let text = table::text(&cells);
    print!("{text}");
    if args.save_baseline {
        document::replace(context, name, &text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How often each is measured.
fn repeat(args: &BenchArgs, topic: Topic) -> Result<u32> {
    match (topic, args.profile) {
        (_, true) if args.repeat < 2 => {
            bail!("--profile needs --repeat 2 or more: the first run takes no samples")
        }
        // Each of its values is a sum over 100,000 files, and takes many minutes.
        (Topic::Files, false) => Ok(1),
        (Topic::Files, true) => Ok(2),
        (Topic::Disks | Topic::Containers, _) => Ok(args.repeat),
    }
}

fn measure(context: &Context, mut plan: Plan) -> Result<Vec<Line>> {
    let topic = plan.topic;
    let target = Target::new(Flavor::Plain, Machine::X86_64)?;
    let program = guest_program::build(context, PROGRAM)?;
    let mut config = VmConfig::prepare(context, target, true, Job::Shell(None))?;
    config.mounts = vec![("bench".to_owned(), program.clone())];
    // They are copied to memory: the clock jumps while the guest waits for the host.
    let mut programs = vec![format!("/mnt/bench/{PROGRAM}")];
    match topic {
        Topic::Disks => {
            config.disks = vec![disk::make(context, target, &program)?];
            plan.content = Some(Image {
                path: "/run/content/content.cfs".into(),
                objects: "/run/content/objects".into(),
            });
        }
        Topic::Containers => {
            // It has a compiler, and an mkfs.erofs that knows of shared page caches.
            config.root.file = guest::make(context, System::Clients, target.machine.arch())?.root;
            let fuse = guest_program::build(context, FUSE)?;
            config.mounts.push(("fuse".to_owned(), fuse));
            programs.push(format!("/mnt/fuse/{FUSE}"));
            plan.fuse = Some(Path::new(TOP).join(FUSE));
        }
        Topic::Files => {}
    }
    config.memory = "6G".to_owned();
    config.timeout = Some(Duration::from_secs(7200));
    config.log_name = format!("bench-{}-console", topic.name());
    config.icount = true;
    config.smp = 1;
    config.append = vec![QUIET.to_owned()];
    let plan = serde_json::to_string(&plan)?;
    config.job = Job::Command(vec![format!(
        "set -e\n\
         mkdir /run/content {TOP}\n\
         [ ! -b /dev/vdc ] || mount -o ro /dev/vdc /run/content\n\
         mount -t ramfs bench {TOP}\n\
         modprobe null_blk nr_devices=3 gb=4 memory_backed=1 \
         irqmode=2 completion_nsec={LATENCY}\n\
         cp {} {TOP}\n\
         exec {TOP}/{PROGRAM} topics {}\n",
        programs.join(" "),
        shell_words::quote(&plan)
    )]);
    let kind = format!("bench-{}", topic.name());
    let about = format!("measuring {} in the guest", topic.name());
    let output = run_in_guest(context, &config, &kind, &about, PROGRAM)?;
    let lines = output.lines().map(|line| {
        serde_json::from_str(line)
            .with_context(|| format!("{PROGRAM} wrote a line that is no result: {line}"))
    });
    lines.collect()
}
