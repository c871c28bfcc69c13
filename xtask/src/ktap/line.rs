// SPDX-License-Identifier: GPL-2.0

//! The lines of KTAP.

use super::case::Verdict;

/// A line without its prefix.
pub enum Line<'a> {
    /// The version, which begins a level.
    Version,
    /// The plan: the number of results, and what follows it.
    Plan(u32, &'a str),
    /// A result.
    Result(Record<'a>),
    /// The end of all tests, and why.
    BailOut(&'a str),
    /// The name of the suite that follows.
    Announcement(&'a str),
    /// Anything else.
    Other,
}

/// A result line.
pub struct Record<'a> {
    /// Whether it says ok.
    pub ok: bool,
    /// The test's number.
    pub number: Option<u32>,
    /// The test's name.
    pub name: &'a str,
    /// What follows "# ", as a word and the rest.
    pub directive: Option<(&'a str, &'a str)>,
}

impl Record<'_> {
    /// How the test ended.
    pub fn verdict(&self) -> Verdict {
        match self.directive {
            Some(("SKIP" | "TODO" | "XFAIL", why)) => Verdict::Skipped(why.to_owned()),
            Some(("TIMEOUT" | "ERROR", _)) => {
                let (what, why) = self.directive.unwrap_or_default();
                Verdict::Failed(format!("{what} {why}").trim().to_owned())
            }
            _ if self.ok => Verdict::Passed,
            Some((what, why)) => Verdict::Failed(format!("{what} {why}").trim().to_owned()),
            None => Verdict::Failed(String::new()),
        }
    }
}

/// Splits a line into what nesting puts before it and the rest.
pub fn split_prefix(line: &str) -> (&str, &str) {
    let mut at = 0;
    loop {
        let rest = &line[at..];
        // "# Subtest: x" and "# selftests: x" are lines of their own.
        if announcement(rest).is_some() {
            break;
        }
        if rest.starts_with(' ') || rest.starts_with('\t') {
            at += 1;
        } else if rest.starts_with("# ") {
            at += 2;
        } else {
            break;
        }
    }
    line.split_at(at)
}

fn announcement(rest: &str) -> Option<&str> {
    rest.strip_prefix("# Subtest: ")
        .or_else(|| rest.strip_prefix("# selftests: "))
}

/// What kind of line it is, without its prefix.
pub fn classify(rest: &str) -> Line<'_> {
    if rest.starts_with("KTAP version ") || rest.starts_with("TAP version ") {
        Line::Version
    } else if let Some(name) = announcement(rest) {
        Line::Announcement(name)
    } else if let Some(why) = rest.strip_prefix("Bail out!") {
        Line::BailOut(why.trim())
    } else if let Some(plan) = rest.strip_prefix("1..") {
        let (count, directive) = plan.split_once(' ').unwrap_or((plan, ""));
        count
            .parse()
            .map_or(Line::Other, |count| Line::Plan(count, directive))
    } else {
        record(rest).map_or(Line::Other, Line::Result)
    }
}

fn record(rest: &str) -> Option<Record<'_>> {
    let (ok, rest) = match rest.strip_prefix("not ok") {
        Some(rest) => (false, rest),
        None => (true, rest.strip_prefix("ok")?),
    };
    // "okay" is no result.
    if !rest.is_empty() && !rest.starts_with(' ') {
        return None;
    }
    let rest = rest.trim_start();
    let (number, rest) = match rest.split_once(' ').unwrap_or((rest, "")) {
        (word, after) if word.parse::<u32>().is_ok() => (word.parse().ok(), after),
        _ => (None, rest),
    };
    let rest = rest.trim_start().trim_start_matches("- ");
    let (name, directive) = match rest.split_once("# ") {
        Some((name, directive)) => (name, Some(directive)),
        None => (rest, None),
    };
    let directive = directive.map(|words| {
        let (what, why) = words.trim().split_once(' ').unwrap_or((words.trim(), ""));
        (what.trim_end_matches(':'), why.trim())
    });
    Some(Record {
        ok,
        number,
        name: name.trim(),
        directive,
    })
}

/// The reason in a plan's "# SKIP reason".
pub fn reason(directive: &str) -> String {
    let words = directive.trim().trim_start_matches('#').trim();
    words
        .strip_prefix("SKIP")
        .unwrap_or(words)
        .trim()
        .to_owned()
}
