// SPDX-License-Identifier: GPL-2.0

//! The end of a run: figures, a table of the suites, what failed, and the counts.

use std::path::Path;
use std::time::Duration;

use super::ledger::Record;
use super::outcome::Outcome;

/// A row of the table.
struct Row {
    suite: String,
    outcome: Outcome,
    time: Duration,
    failed_before: u32,
    log: String,
}

/// The table, as lines. Pieces of one suite are one row. Logs are named as seen from `repo`.
pub fn lines(records: &[Record], repo: &Path) -> Vec<String> {
    let rows = rows(records, repo);
    let mut lines = figures(&sum(records));
    let width = rows.iter().map(|row| row.suite.len()).max().unwrap_or(0);
    let width = width.max("suite".len());
    lines.push(format!(
        "{:<width$}  passed  failed  skipped  seconds  log",
        "suite"
    ));
    for row in &rows {
        let before = match row.failed_before {
            0 => String::new(),
            1 => " (failed once before on this tree)".to_owned(),
            more => format!(" (failed {more} times before on this tree)"),
        };
        lines.push(format!(
            "{:<width$}  {:>6}  {:>6}  {:>7}  {:>7}  {}{before}",
            row.suite,
            row.outcome.passed,
            row.outcome.failed,
            row.outcome.skipped,
            row.time.as_secs(),
            row.log,
        ));
    }
    lines.extend(
        sum(records)
            .failures
            .iter()
            .map(|name| format!("failed: {name}")),
    );
    lines
}

/// All results together.
pub fn sum(records: &[Record]) -> Outcome {
    let mut sum = Outcome::default();
    for record in records {
        sum.add(record.outcome.clone());
    }
    sum
}

/// "N passed, N failed", and how many were skipped, if any were.
pub fn counts(outcome: &Outcome) -> String {
    let skipped = match outcome.skipped {
        0 => String::new(),
        some => format!(", {some} skipped"),
    };
    format!(
        "{} passed, {} failed{skipped}",
        outcome.passed, outcome.failed
    )
}

fn rows(records: &[Record], repo: &Path) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for record in records {
        let log = record.log.strip_prefix(repo).unwrap_or(&record.log);
        let suite = record.piece.split(':').next().unwrap_or_default();
        match rows.last_mut() {
            Some(row) if row.suite.split(':').next() == Some(suite) => {
                suite.clone_into(&mut row.suite);
                row.outcome.add(record.outcome.clone());
                row.time += record.time;
                row.failed_before += record.failed_before;
                let dir = log.parent().unwrap_or(log).display();
                row.log = format!("{dir}/{suite}.*.log");
            }
            _ => rows.push(Row {
                suite: record.piece.clone(),
                outcome: record.outcome.clone(),
                time: record.time,
                failed_before: record.failed_before,
                log: log.display().to_string(),
            }),
        }
    }
    rows
}

fn figures(outcome: &Outcome) -> Vec<String> {
    let guests = &outcome.guests;
    let mut figures = outcome.figures.clone();
    if guests.boots > 0 {
        let minutes = guests.time.as_secs().div_ceil(60);
        let boots = format!("{}, {minutes}", guests.boots);
        figures.push(("all: boots of the guest, minutes".to_owned(), boots));
        figures.push(("all: splats".to_owned(), guests.splats.to_string()));
    }
    let width = figures.iter().map(|(what, _)| what.len()).max();
    let width = width.unwrap_or(0);
    figures
        .iter()
        .map(|(what, value)| format!("     {what:<width$}  {value}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(piece: &str, failed: u32, failed_before: u32) -> Record {
        Record {
            piece: piece.to_owned(),
            tree: String::new(),
            outcome: Outcome {
                passed: 2,
                failed,
                failures: vec![format!("{piece}: a test"); failed as usize],
                ..Outcome::default()
            },
            time: Duration::from_secs(61),
            failed_before,
            log: format!("/clone/target/test/a/{piece}.log").into(),
        }
    }

    #[test]
    fn a_suite_is_a_row_with_its_log() {
        let records = [record("host", 0, 0), record("debug", 1, 2)];
        assert_eq!(
            lines(&records, Path::new("/clone")),
            [
                "suite  passed  failed  skipped  seconds  log",
                "host        2       0        0       61  target/test/a/host.log",
                "debug       2       1        0       61  target/test/a/debug.log \
                 (failed 2 times before on this tree)",
                "failed: debug: a test",
            ]
        );
        assert_eq!(counts(&sum(&records)), "4 passed, 1 failed");
    }

    #[test]
    fn pieces_of_a_suite_are_one_row() {
        let records = [record("defects:01", 0, 0), record("defects:02", 1, 0)];
        let lines = lines(&records, Path::new("/clone"));
        assert_eq!(
            lines[1],
            "defects       4       1        0      122  target/test/a/defects.*.log"
        );
        assert_eq!(lines[2], "failed: defects:02: a test");
    }
}
