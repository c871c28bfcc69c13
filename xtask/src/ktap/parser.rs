// SPDX-License-Identifier: GPL-2.0

//! The state of a run: which suites are open, and what they still owe.

use super::case::Case;
use super::case::Verdict;
use super::case::failed;
use super::line::Line;
use super::line::Record;
use super::line::classify;
use super::line::reason;
use super::line::split_prefix;

/// How many diagnostic lines are kept for a test that fails.
const DIAGNOSTICS: usize = 20;

/// One level of nesting, as read so far.
#[derive(Debug, Default)]
struct Level {
    /// The prefix of its lines.
    prefix: String,
    /// The name that was announced for it.
    name: String,
    plan: Option<u32>,
    seen: u32,
    failed: bool,
    /// Whether its plan says that it is skipped.
    skipped: bool,
}

/// The reader. It takes lines, then [`finish`](Parser::finish).
#[derive(Debug, Default)]
pub struct Parser {
    levels: Vec<Level>,
    /// The name of the next level.
    announced: String,
    /// Diagnostic lines since the last result, which belong to the next one.
    diagnostics: Vec<String>,
    /// Whether a child of the next result has failed. `None` if it has no children.
    children: Option<bool>,
    begun: bool,
}

impl Parser {
    /// Takes a line, and returns the tests whose results are now known.
    pub fn line(&mut self, line: &str) -> Vec<Case> {
        let line = line.trim_end();
        let (prefix, rest) = split_prefix(line);
        let mut cases = Vec::new();
        match classify(rest) {
            Line::Version => self.open(prefix, &mut cases),
            Line::Plan(count, directive) => {
                // In TAP 14, a subtest has no version line.
                let deeper = self.levels.last().is_some_and(|level| {
                    prefix.len() > level.prefix.len() && prefix.trim().is_empty()
                });
                if deeper {
                    self.open(prefix, &mut cases);
                }
                if let Some(level) = self.at(prefix, &mut cases) {
                    if level.plan.is_some() {
                        level.failed = true;
                        cases.push(failed(&level.name, "two plans"));
                    }
                    level.plan = Some(count);
                    if count == 0 {
                        level.skipped = true;
                        cases.push(Case {
                            name: level.name.clone(),
                            verdict: Verdict::Skipped(reason(directive)),
                        });
                    }
                }
            }
            Line::Result(record) => self.result(prefix, &record, &mut cases),
            Line::BailOut(why) => {
                self.begun = true;
                cases.push(failed(&self.path(""), &format!("bailed out: {why}")));
                if let Some(level) = self.levels.last_mut() {
                    level.failed = true;
                }
            }
            Line::Announcement(name) => self.announce(prefix, name),
            Line::Other => {
                if !rest.is_empty() && self.diagnostics.len() < DIAGNOSTICS {
                    self.diagnostics.push(rest.to_owned());
                }
            }
        }
        cases
    }

    /// Takes the end of the output, and returns its faults.
    pub fn finish(mut self) -> Vec<Case> {
        let mut cases = Vec::new();
        if !self.begun {
            cases.push(failed("output", "has no KTAP"));
        }
        while self.levels.len() > 1 {
            self.close(&mut cases);
            cases.push(failed(&self.path(""), "broke off within a subtest"));
        }
        if !self.levels.is_empty() {
            self.close(&mut cases);
        }
        cases
    }

    /// Begins a level at a version line.
    fn open(&mut self, prefix: &str, cases: &mut Vec<Case>) {
        self.begun = true;
        while self
            .levels
            .last()
            .is_some_and(|level| level.prefix.len() >= prefix.len())
        {
            self.close(cases);
            if !self.levels.is_empty() {
                // There was no result for it.
                cases.push(failed(&self.path(""), "broke off within a subtest"));
            }
        }
        self.children = None;
        let announced = std::mem::take(&mut self.announced);
        self.levels.push(Level {
            prefix: prefix.to_owned(),
            name: self.path(&announced),
            ..Level::default()
        });
    }

    /// Takes a name, which KUnit prints after the version line, run_kselftest.sh before.
    fn announce(&mut self, prefix: &str, name: &str) {
        let fresh = self
            .levels
            .last()
            .is_some_and(|level| level.prefix == prefix && level.plan.is_none() && level.seen == 0);
        if !fresh || self.levels.len() < 2 {
            name.clone_into(&mut self.announced);
            return;
        }
        let Some(mut level) = self.levels.pop() else {
            return;
        };
        level.name = self.path(name);
        self.levels.push(level);
    }

    /// The level of this prefix. Deeper levels end.
    fn at(&mut self, prefix: &str, cases: &mut Vec<Case>) -> Option<&mut Level> {
        let depth = self.levels.iter().position(|l| l.prefix == prefix)?;
        while self.levels.len() > depth + 1 {
            let failed = self.close(cases);
            self.children = Some(failed || self.children == Some(true));
        }
        self.levels.last_mut()
    }

    fn result(&mut self, prefix: &str, record: &Record<'_>, cases: &mut Vec<Case>) {
        if self.at(prefix, cases).is_none() {
            return;
        }
        let children = self.children.take();
        self.announced.clear();
        let name = self.path(record.name);
        let Some(level) = self.levels.last_mut() else {
            return;
        };
        level.seen += 1;
        if record.number.is_some_and(|number| number != level.seen) {
            level.failed = true;
            cases.push(failed(&name, &format!("is not number {}", level.seen)));
        }
        let mut verdict = record.verdict();
        let diagnostics = std::mem::take(&mut self.diagnostics);
        let bad = if let Verdict::Failed(why) = &mut verdict {
            for diagnostic in diagnostics {
                why.push('\n');
                why.push_str(&diagnostic);
            }
            *why = why.trim_start().to_owned();
            true
        } else {
            false
        };
        level.failed |= bad;
        match children {
            // The failures of the children were reported already.
            Some(true) if bad => {}
            Some(false) if !bad => {}
            Some(true) => {
                level.failed = true;
                cases.push(failed(&name, "says ok, but a subtest failed"));
            }
            _ => cases.push(Case { name, verdict }),
        }
    }

    /// Ends the deepest level. Returns whether it failed.
    fn close(&mut self, cases: &mut Vec<Case>) -> bool {
        let Some(mut level) = self.levels.pop() else {
            return false;
        };
        let wrong = match level.plan {
            None => Some("no plan".to_owned()),
            Some(plan) if plan != level.seen => {
                Some(format!("{plan} tests planned, {} results", level.seen))
            }
            Some(0) if !level.skipped => Some("no tests".to_owned()),
            Some(_) => None,
        };
        if let Some(why) = wrong {
            level.failed = true;
            cases.push(failed(&level.name, &why));
        }
        level.failed
    }

    /// The full name of a test in the deepest level.
    fn path(&self, name: &str) -> String {
        let around = self.levels.last().map_or("", |level| level.name.as_str());
        match (around, name) {
            ("", name) => name.to_owned(),
            (around, "") => around.to_owned(),
            (around, name) => format!("{around}: {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Case> {
        let mut parser = Parser::default();
        let mut cases: Vec<Case> = text.lines().flat_map(|line| parser.line(line)).collect();
        cases.extend(parser.finish());
        cases
    }

    fn names(text: &str, want: fn(&Verdict) -> bool) -> Vec<String> {
        read(text)
            .into_iter()
            .filter(|case| want(&case.verdict))
            .map(|case| case.name)
            .collect()
    }

    fn passes(text: &str) -> Vec<String> {
        names(text, |verdict| *verdict == Verdict::Passed)
    }

    fn failures(text: &str) -> Vec<String> {
        names(text, |verdict| matches!(verdict, Verdict::Failed(_)))
    }

    #[test]
    fn a_flat_run() {
        let text = "KTAP version 1\n1..2\nok 1 one\n# a remark\nnot ok 2 - two\n";
        assert_eq!(passes(text), ["one"]);
        assert_eq!(failures(text), ["two"]);
    }

    #[test]
    fn nested_by_indentation() {
        let text = "KTAP version 1\n1..1\n  KTAP version 1\n  # Subtest: suite\n  1..2\n  \
                    ok 1 one\n  ok 2 two\nok 1 suite\n";
        assert_eq!(passes(text), ["suite: one", "suite: two"]);
        assert!(failures(text).is_empty());
    }

    #[test]
    fn nested_without_a_version_line() {
        let text = "TAP version 14\n1..1\n    # Subtest: suite\n    1..2\n    ok 1 - one\n    \
                    not ok 2 - two\nnot ok 1 - suite\n";
        assert_eq!(passes(text), ["suite: one"]);
        assert_eq!(failures(text), ["suite: two"]);
    }

    #[test]
    fn nested_by_run_kselftest() {
        let text = "TAP version 13\n1..2\n# timeout set to 45\n# selftests: composefs: view\n\
                    # TAP version 13\n# 1..2\n# ok 1 names\n# not ok 2 modes\n\
                    not ok 1 selftests: composefs: view # exit=1\n\
                    # selftests: composefs: quiet\nok 2 selftests: composefs: quiet\n";
        assert_eq!(
            passes(text),
            ["composefs: view: names", "selftests: composefs: quiet"]
        );
        assert_eq!(failures(text), ["composefs: view: modes"]);
    }

    #[test]
    fn a_failure_has_the_diagnostics_before_it() {
        let text = "KTAP version 1\n1..2\n# of one\nok 1 one\n# of two\nnot ok 2 two\n";
        let last = read(text).pop().map(|case| case.verdict);
        assert_eq!(last, Some(Verdict::Failed("of two".to_owned())));
    }

    #[test]
    fn skipped_is_not_failed() {
        let text = "TAP version 13\n1..3\nok 1 one # SKIP no root\nnot ok 2 two # TODO later\n\
                    ok 3 three # XFAIL known\n";
        assert!(failures(text).is_empty());
        assert!(passes(text).is_empty());
        let all = read("TAP version 13\n1..0 # SKIP no module\n");
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].verdict, Verdict::Skipped("no module".to_owned()));
    }

    #[test]
    fn what_is_missing_is_a_failure() {
        for (text, why) in [
            ("", "empty"),
            ("hello\n", "no KTAP"),
            ("KTAP version 1\nok 1 one\n", "no plan"),
            ("KTAP version 1\n1..2\nok 1 one\n", "truncated"),
            ("KTAP version 1\n1..1\nok 1 one\nok 2 two\n", "too many"),
            ("KTAP version 1\n1..2\nok 1 one\nok 3 two\n", "numbers"),
            ("KTAP version 1\n1..1\nBail out! no disk\n", "bail out"),
            (
                "KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  ok 1 a\n",
                "no parent",
            ),
            (
                "KTAP version 1\n1..1\n  KTAP version 1\n  ok 1 a\nok 1 s\n",
                "nested plan",
            ),
            (
                "KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  not ok 1 a\nok 1 s\n",
                "lying",
            ),
        ] {
            assert!(!failures(text).is_empty(), "{why}");
        }
    }

    #[test]
    fn a_parent_that_failed_on_its_own_is_reported() {
        let text = "TAP version 13\n1..1\n# selftests: d: p\n# TAP version 13\n# 1..1\n\
                    # ok 1 a\nnot ok 1 selftests: d: p # TIMEOUT 45 seconds\n";
        assert_eq!(failures(text), ["selftests: d: p"]);
    }

    #[test]
    fn ordinary_words_are_no_results() {
        let text = "TAP version 13\n1..1\nokay then\n# ok so far\nok 1 one\n";
        assert_eq!(passes(text), ["one"]);
        assert!(failures(text).is_empty());
    }
}
