// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask bench disks`, `containers` and `files`: topics with tables of their own. What is
//! measured is in tests/bench. The disk is in the guest's memory, and each request to it takes a
//! known time.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use composefs_bench::Image;
use composefs_bench::topics::Cell;
use composefs_bench::topics::LATENCY;
use composefs_bench::topics::Plan;
use composefs_bench::topics::Topic;

use super::args::BenchArgs;
use super::disk;
use super::disk::PROGRAM;
use super::document;
use super::guest::QUIET;
use super::guest::run as run_in_guest;
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

/// Width of the columns with numbers.
const NUMBER: usize = 10;

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
        bail!("`bench {name}` measures on x86-64 only: leave out --arch");
    }
    if let Some(other) = names.first() {
        bail!("`bench {name}` measures one table: leave out \"{other}\"");
    }
    args.only(&format!("`bench {name}`"), &["--save-baseline"])?;
    if args.save_baseline {
        // Before the measurements, which take minutes.
        document::check(context, name)?;
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
    let mut config = VmConfig::prepare(context, target, true, Job::Shell(None))?;
    config.mounts = vec![("bench".to_owned(), program.clone())];
    // They are copied to memory: the clock jumps while the guest waits for the host.
    let mut programs = vec![format!("/mnt/bench/{PROGRAM}")];
    let mut plan = Plan {
        topic,
        repeat: match topic {
            // Each of its values is a sum over 100,000 files, and takes many minutes.
            Topic::Files => 1,
            Topic::Disks | Topic::Containers => args.repeat.max(1),
        },
        content: None,
        fuse: None,
    };
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
    let cells = output.lines().map(|line| {
        serde_json::from_str(line)
            .with_context(|| format!("{PROGRAM} wrote a line that is no result: {line}"))
    });
    cells.collect()
}

/// The table, in reStructuredText. A row that a column does not have is empty there.
fn table(cells: &[Cell]) -> String {
    let mut columns: Vec<&str> = Vec::new();
    let mut rows: Vec<&str> = Vec::new();
    for cell in cells {
        if !columns.contains(&cell.column.as_str()) {
            columns.push(&cell.column);
        }
        if !rows.contains(&cell.row.as_str()) {
            rows.push(&cell.row);
        }
    }
    let width = rows.iter().map(|row| row.chars().count()).max();
    let width = width.unwrap_or_default();
    let rule = line(
        width,
        &"=".repeat(width),
        columns.iter().map(|_| "=".repeat(NUMBER)),
    );
    let head = line(width, "\\", columns.iter().map(|&column| column.to_owned()));
    let body = rows.iter().map(|&row| {
        let values = columns.iter().map(|&column| {
            let mut found = cells.iter();
            let found = found.find(|cell| cell.row == row && cell.column == column);
            found.map_or_else(String::new, |cell| amount(cell.value))
        });
        line(width, row, values)
    });
    format!("{rule}{head}{rule}{}{rule}", body.collect::<String>())
}

/// A value, with as many digits as say something.
fn amount(value: f64) -> String {
    match value {
        whole if whole.fract() == 0.0 => format!("{whole:.0}"),
        large if large >= 1000.0 => format!("{large:.0}"),
        middle if middle >= 100.0 => format!("{middle:.1}"),
        small => format!("{small:.2}"),
    }
}

fn line(width: usize, title: &str, cells: impl Iterator<Item = String>) -> String {
    let mut text = format!("{title:<width$}");
    for cell in cells {
        text += &format!(" {cell:>NUMBER$}");
    }
    text.trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_row() {
        let cell = |row: &str, column: &str, value| Cell {
            row: row.to_owned(),
            column: column.to_owned(),
            value,
        };
        let text = table(&[
            cell("a: ms", "composefs", 1.5),
            cell("b: KiB", "composefs", 1234.0),
            cell("a: ms", "er.+ovl.", 150.25),
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
