// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask bench disks`, `containers` and `files`: tables of their own, of which tests/bench
//! knows more. Their disk is in the guest's memory, and each request to it takes a known time.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use composefs_bench::Image;
use composefs_bench::ways::Cell;
use composefs_bench::ways::LATENCY;
use composefs_bench::ways::Plan;
use composefs_bench::ways::Topic;

use super::args::BenchArgs;
use super::disk;
use super::disk::PROGRAM;
use super::document;
use super::guest;
use crate::context::Context;
use crate::guest as systems;
use crate::guest::System;
use crate::guest_program;
use crate::kernel::Flavor;
use crate::kernel::Target;
use crate::machine::Machine;
use crate::vm::Disk;
use crate::vm::Job;
use crate::vm::VmConfig;

/// The package of the program that serves an image by FUSE, and the program.
const FUSE: &str = "composefs-bench-fuse";

/// Where images are in the guest.
const TOP: &str = "/run/bench";

/// Widths of the columns.
const TITLE: usize = 36;
const NUMBER: usize = 10;

/// The topic of this name.
pub fn topic(name: &str) -> Option<Topic> {
    Topic::ALL.into_iter().find(|topic| topic.name() == name)
}

/// Measures, and shows the table; with `--save-baseline`, also in the documentation.
///
/// # Errors
///
/// When a part cannot be made, or the guest fails.
pub fn run(
    context: &Context,
    args: &BenchArgs,
    topic: Topic,
    names: &[String],
) -> Result<ExitCode> {
    let name = topic.name();
    if args.machine.machine()? != Machine::X86_64 {
        bail!("{name} are measured on x86-64 only");
    }
    if let Some(other) = names.first() {
        bail!("\"{name}\" is one table: leave out \"{other}\"");
    }
    let cells = measure(context, args, topic)?;
    let text = table(&cells);
    print!("{text}");
    if args.save_baseline {
        document::replace(context, name, &text)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(context: &Context, args: &BenchArgs, topic: Topic) -> Result<Vec<Cell>> {
    let target = Target::new(Flavor::Plain, Machine::X86_64)?;
    let program = guest_program::build(context, PROGRAM)?;
    let content = disk::make(context, target, &program)?;
    let mut config = VmConfig::prepare(context, target, true, Job::Shell(None))?;
    config.mounts = vec![("bench".to_owned(), program)];
    // They are copied to memory: the clock jumps while the guest waits for the host.
    let mut programs = vec![format!("/mnt/bench/{PROGRAM}")];
    if topic == Topic::Containers {
        // It has a compiler, and an mkfs.erofs that knows of shared page caches.
        let system = systems::make(context, System::Clients, target.machine.arch())?;
        config.root = Disk {
            file: system.root,
            keep: false,
        };
        config.scratch = Some(system.scratch);
        let fuse = guest_program::build(context, FUSE)?;
        config.mounts.push(("fuse".to_owned(), fuse));
        programs.push(format!("/mnt/fuse/{FUSE}"));
    }
    config.disks = vec![content];
    config.memory = "6G".to_owned();
    config.timeout = Some(Duration::from_secs(3600));
    config.log_name = format!("bench-{}-console", topic.name());
    config.icount = true;
    config.smp = 1;
    let plan = Plan {
        topic,
        repeat: args.repeat.max(1),
        content: Image {
            path: "/run/content/content.cfs".into(),
            objects: "/run/content/objects".into(),
        },
        fuse: Path::new(TOP).join(FUSE),
    };
    let plan = serde_json::to_string(&plan)?;
    config.job = Job::Command(vec![format!(
        "set -e\n\
         mkdir /run/content {TOP}\n\
         mount -o ro /dev/vdc /run/content\n\
         mount -t ramfs bench {TOP}\n\
         modprobe null_blk nr_devices=3 gb=4 memory_backed=1 \
         irqmode=2 completion_nsec={LATENCY}\n\
         cp {} {TOP}\n\
         exec {TOP}/{PROGRAM} ways {}\n",
        programs.join(" "),
        shell_words::quote(&plan)
    )]);
    let kind = format!("bench-{}", topic.name());
    let about = format!("measuring {} in the guest", topic.name());
    let output = guest::run(context, &config, &kind, &about, PROGRAM)?;
    let cells = output.lines().map(|line| {
        serde_json::from_str(line)
            .with_context(|| format!("{PROGRAM} wrote a line that is no result: {line}"))
    });
    cells.collect()
}

/// The table, in reStructuredText. A row without a value for a way has an empty cell.
fn table(cells: &[Cell]) -> String {
    let mut ways: Vec<&str> = Vec::new();
    let mut rows: Vec<&str> = Vec::new();
    for cell in cells {
        if !ways.contains(&cell.way.as_str()) {
            ways.push(&cell.way);
        }
        if !rows.contains(&cell.row.as_str()) {
            rows.push(&cell.row);
        }
    }
    let rule = line(&"=".repeat(TITLE), ways.iter().map(|_| "=".repeat(NUMBER)));
    let head = line("\\", ways.iter().map(|way| short(way).to_owned()));
    let body = rows.iter().map(|row| {
        let values = ways.iter().map(|way| {
            let found = cells
                .iter()
                .find(|cell| cell.row == *row && cell.way == *way);
            found.map_or_else(String::new, |cell| amount(cell.value))
        });
        line(row, values)
    });
    format!("{rule}{head}{rule}{}{rule}", body.collect::<String>())
}

/// The title of a column.
fn short(way: &str) -> &str {
    match way {
        "erofs+overlayfs" => "er.+ovl.",
        other => other,
    }
}

/// A value, with as many digits as say something.
fn amount(value: f64) -> String {
    match value {
        large if large >= 1000.0 => format!("{large:.0}"),
        middle if middle >= 100.0 => format!("{middle:.1}"),
        small => format!("{small:.2}"),
    }
}

fn line(title: &str, cells: impl Iterator<Item = String>) -> String {
    let mut text = format!("{title:<TITLE$}");
    for cell in cells {
        text += &format!(" {cell:>NUMBER$}");
    }
    text.trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_column_for_each_way() {
        let cell = |row: &str, way: &str, value| Cell {
            row: row.to_owned(),
            way: way.to_owned(),
            value,
        };
        let text = table(&[
            cell("a: ms", "composefs", 1.5),
            cell("b: KiB", "composefs", 1234.0),
            cell("a: ms", "erofs+overlayfs", 150.25),
        ]);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let words = |line: &str| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(words(lines[1]), ["\\", "composefs", "er.+ovl."]);
        assert_eq!(words(lines[3]), ["a:", "ms", "1.50", "150.2"]);
        assert_eq!(words(lines[4]), ["b:", "KiB", "1234"]);
    }
}
