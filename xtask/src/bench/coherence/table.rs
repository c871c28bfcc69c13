// SPDX-License-Identifier: GPL-2.0

//! The tables of all that was measured.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use composefs_bench::Stack;
use composefs_bench::coherence::ROWS;
use composefs_bench::coherence::Row;

use super::counts::Counted;
use super::report;

/// What is less often in an operation is not shown.
const SHOWN: f64 = 0.05;

/// How many functions or lines are shown of a row.
const MOST: usize = 30;

/// A difference of so many misses is chance: that of other addresses, and of other moments at
/// which something is freed.
const CHANCE: f64 = 0.1;

/// The same, as a part of all misses.
const CHANCE_PART: f64 = 0.03;

/// How many functions are named that miss more often with more processors.
const GROWING: usize = 4;

/// So many misses of a function more are growth.
const GROWTH: f64 = 0.3;

/// Misses of an operation: by row and number of processors; then for the highest number by
/// function, and on composefs by line.
pub fn text(all: &[Counted]) -> String {
    let mut text = heading("Misses of an operation, processors");
    for row in ROWS {
        let mut fewer = None;
        for count in processors(all, row) {
            let each = |stack| total(all, row, count, stack);
            let mut found = line(row, &format!("{:<16} {count}", row.name), each);
            if let Some(ours) = find(all, row, count, Some(Stack::Composefs)) {
                let goal = goal(row);
                let (own, most) = (each(Some(Stack::Composefs)), each(Some(goal)));
                if own.zip(most).is_some_and(|(own, most)| is_more(own, most)) {
                    found = format!("{found}  more than {goal}");
                }
                let growing = fewer.map_or_else(Vec::new, |fewer| grows(fewer, ours));
                if !growing.is_empty() {
                    found = format!("{found}  grows: {}", growing.join(", "));
                }
                fewer = Some(ours);
            }
            text += &format!("{found}\n");
        }
    }
    for row in ROWS.iter().filter(|row| !row.stacks.is_empty()) {
        if let Some(most) = processors(all, row).last() {
            text += &details(all, row, *most);
        }
    }
    text
}

/// With which stack a row of composefs is compared: that without composefs's work, if it has
/// content, or that of the same metadata.
fn goal(row: &Row) -> Stack {
    match row.stacks.contains(&Stack::Erofs) {
        true => Stack::Erofs,
        false => Stack::Ext4,
    }
}

/// The functions that miss more often with more processors.
///
/// A line that any processor may have written last was written by another one in n - 1 of n
/// cases. This much is no growth: it ends at one miss.
fn grows<'a>(fewer: &Counted, more: &'a Counted) -> Vec<&'a str> {
    let others = |counted: &Counted| {
        let processors = f64::from(counted.measured.processors);
        (processors - 1.0) / processors
    };
    let allowed = others(more) / others(fewer);
    let functions = more.functions.sorted().into_iter();
    functions
        .filter(|(name, misses)| {
            let before = fewer.functions.of(name).both();
            let before = fewer.measured.each(before) * allowed;
            more.measured.each(misses.both()) > before + GROWTH
        })
        .map(|(name, _)| name)
        .take(GROWING)
        .collect()
}

fn is_more(misses: f64, than: f64) -> bool {
    misses > than + CHANCE.max(than * CHANCE_PART)
}

/// A row by function, and on composefs by line.
fn details(all: &[Counted], row: &Row, processors: u32) -> String {
    let mut functions: BTreeMap<&str, f64> = BTreeMap::new();
    for counted in windows(all, row).filter(|found| found.measured.processors == processors) {
        for (name, misses) in counted.functions.sorted() {
            let each = counted.measured.each(misses.both());
            if each >= SHOWN {
                *functions.entry(name).or_default() += each;
            }
        }
    }
    if functions.is_empty() {
        return String::new();
    }
    let mut functions: Vec<(&str, f64)> = functions.into_iter().collect();
    functions.sort_by(|(a, x), (b, y)| y.total_cmp(x).then_with(|| a.cmp(b)));
    let title = format!("{} with {processors} processors", row.name);
    let mut text = format!("\n{}", heading(&title));
    for (name, _) in functions.into_iter().take(MOST) {
        let each = |stack| {
            let counted = find(all, row, processors, stack)?;
            Some(counted.measured.each(counted.functions.of(name).both()))
        };
        text += &format!("{}\n", line(row, name, each));
    }
    if let Some(counted) = find(all, row, processors, Some(Stack::Composefs)) {
        let lists = [
            ("In composefs, and what caused it", &counted.ours),
            ("In what it calls", &counted.below),
        ];
        for (title, counts) in lists {
            let lines = report::lines(counts, &counted.measured, MOST);
            text += &format!("{title}:\n   each   reads  writes\n{lines}");
        }
    }
    text
}

/// The numbers of processors that a row was measured with.
fn processors(all: &[Counted], row: &Row) -> Vec<u32> {
    let mut processors: Vec<u32> = windows(all, row)
        .map(|counted| counted.measured.processors)
        .collect();
    processors.sort_unstable();
    processors.dedup();
    processors
}

/// The misses of an operation.
fn total(all: &[Counted], row: &Row, processors: u32, stack: Option<Stack>) -> Option<f64> {
    let measured = &find(all, row, processors, stack)?.measured;
    Some(measured.each(measured.window.total()))
}

/// The windows of a row.
fn windows<'a>(all: &'a [Counted], row: &Row) -> impl Iterator<Item = &'a Counted> {
    all.iter()
        .filter(move |counted| counted.measured.row.name == row.name)
}

fn find<'a>(
    all: &'a [Counted],
    row: &Row,
    processors: u32,
    stack: Option<Stack>,
) -> Option<&'a Counted> {
    windows(all, row)
        .find(|found| (found.measured.processors, found.measured.stack) == (processors, stack))
}

fn heading(title: &str) -> String {
    let mut text = format!("{title:<44}");
    for stack in Stack::ALL {
        let _ = write!(text, " {:>15}", stack.to_string());
    }
    text + "\n"
}

/// A line of a table: `each` returns the value of a stack.
fn line(row: &Row, name: &str, each: impl Fn(Option<Stack>) -> Option<f64>) -> String {
    let mut text = format!("{name:<44}");
    let shown = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.2}"));
    if row.stacks.is_empty() {
        let _ = write!(text, " {:>15}", shown(each(None)));
    } else {
        for stack in Stack::ALL {
            let _ = write!(text, " {:>15}", shown(each(Some(stack))));
        }
    }
    text.trim_end().to_owned()
}
