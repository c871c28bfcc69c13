// SPDX-License-Identifier: GPL-2.0

//! Reading KTAP, the format in which kernel tests tell their results
//! (Documentation/dev-tools/ktap.rst), as it comes.
//!
//! Nested results are indented, or, from run_kselftest.sh, set off by "# ". A
//! test program that dies looks like one that has said all it had to say, so
//! everything that is missing counts as a failure: a plan, a promised result,
//! the parent's line after its children.

/// How many remarks are kept for a test that fails.
const REMARKS: usize = 20;

/// How one test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passed.
    Passed,
    /// It did not run, or is known to fail: the reason given.
    Skipped(String),
    /// It failed, or the output is not what it must be: what was wrong.
    Failed(String),
}

/// One test, or one thing that is wrong with the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The names of the suites around it and its own.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
}

/// What one level of nesting has said so far.
#[derive(Debug, Default)]
struct Level {
    /// What its lines begin with.
    prefix: String,
    /// The name that was announced for it.
    name: String,
    plan: Option<u32>,
    seen: u32,
    failed: bool,
    /// Whether it said that all of it is skipped.
    skipped: bool,
}

/// The reader: give it lines, then [`finish`](Parser::finish).
#[derive(Debug, Default)]
pub struct Parser {
    levels: Vec<Level>,
    /// The name announced for the level that comes next.
    announced: String,
    /// What was said since the last result, for the one that comes next.
    remarks: Vec<String>,
    /// Whether the children of the result that comes next have failed. None:
    /// it has none.
    children: Option<bool>,
    begun: bool,
}

/// What a line is, once its prefix is off.
enum Line<'a> {
    Version,
    Plan(u32, &'a str),
    Result(Record<'a>),
    BailOut(&'a str),
    Announcement(&'a str),
    Other,
}

/// A result line.
struct Record<'a> {
    ok: bool,
    number: Option<u32>,
    name: &'a str,
    directive: Option<(&'a str, &'a str)>,
}

impl Parser {
    /// Takes a line and returns the tests that are now decided.
    pub fn line(&mut self, line: &str) -> Vec<Case> {
        let line = line.trim_end();
        let (prefix, rest) = split_prefix(line);
        let mut cases = Vec::new();
        match classify(rest) {
            Line::Version => self.open(prefix, &mut cases),
            Line::Plan(count, directive) => {
                // Older tests begin a subtest without a version line.
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
                if !rest.is_empty() && self.remarks.len() < REMARKS {
                    self.remarks.push(rest.to_owned());
                }
            }
        }
        cases
    }

    /// Takes the end of the output and returns what is wrong with it.
    pub fn finish(mut self) -> Vec<Case> {
        let mut cases = Vec::new();
        if !self.begun {
            cases.push(failed("output", "holds no KTAP"));
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

    /// A version line: a new level, or a new run of an old one.
    fn open(&mut self, prefix: &str, cases: &mut Vec<Case>) {
        self.begun = true;
        while self
            .levels
            .last()
            .is_some_and(|level| level.prefix.len() >= prefix.len())
        {
            self.close(cases);
            if !self.levels.is_empty() {
                // Its parent never said how it ended.
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

    /// A name: KUnit gives it below the version line, run_kselftest.sh above.
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

    /// The open level of this prefix; deeper ones end here.
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
        let remarks = std::mem::take(&mut self.remarks);
        let bad = if let Verdict::Failed(why) = &mut verdict {
            for remark in remarks {
                why.push('\n');
                why.push_str(&remark);
            }
            *why = why.trim_start().to_owned();
            true
        } else {
            false
        };
        level.failed |= bad;
        match children {
            // The children have told already.
            Some(true) if bad => {}
            Some(false) if !bad => {}
            Some(true) => {
                level.failed = true;
                cases.push(failed(&name, "says ok, but a subtest failed"));
            }
            _ => cases.push(Case { name, verdict }),
        }
    }

    /// Ends the deepest level and says whether it failed.
    fn close(&mut self, cases: &mut Vec<Case>) -> bool {
        let Some(mut level) = self.levels.pop() else {
            return false;
        };
        let wrong = match level.plan {
            None => Some("no plan".to_owned()),
            Some(plan) if plan != level.seen => {
                Some(format!("{plan} tests planned, {} told", level.seen))
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

    /// The name of something in the deepest level.
    fn path(&self, name: &str) -> String {
        let around = self.levels.last().map_or("", |level| level.name.as_str());
        match (around, name) {
            ("", name) => name.to_owned(),
            (around, "") => around.to_owned(),
            (around, name) => format!("{around}: {name}"),
        }
    }
}

impl Record<'_> {
    fn verdict(&self) -> Verdict {
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

fn failed(name: &str, why: &str) -> Case {
    let name = if name.is_empty() { "output" } else { name };
    Case {
        name: name.to_owned(),
        verdict: Verdict::Failed(why.to_owned()),
    }
}

/// Takes off what nesting puts before a line.
fn split_prefix(line: &str) -> (&str, &str) {
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

fn classify(rest: &str) -> Line<'_> {
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
fn reason(directive: &str) -> String {
    let words = directive.trim().trim_start_matches('#').trim();
    words
        .strip_prefix("SKIP")
        .unwrap_or(words)
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::Case;
    use super::Parser;
    use super::Verdict;

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

    fn passed(text: &str) -> Vec<String> {
        names(text, |verdict| *verdict == Verdict::Passed)
    }

    fn failed(text: &str) -> Vec<String> {
        names(text, |verdict| matches!(verdict, Verdict::Failed(_)))
    }

    #[test]
    fn a_flat_run() {
        let text = "KTAP version 1\n1..2\nok 1 one\n# a remark\nnot ok 2 - two\n";
        assert_eq!(passed(text), ["one"]);
        assert_eq!(failed(text), ["two"]);
    }

    #[test]
    fn nested_by_indentation() {
        let text = "KTAP version 1\n1..1\n  KTAP version 1\n  # Subtest: suite\n  1..2\n  \
                    ok 1 one\n  ok 2 two\nok 1 suite\n";
        assert_eq!(passed(text), ["suite: one", "suite: two"]);
        assert!(failed(text).is_empty());
    }

    #[test]
    fn nested_without_a_version_line() {
        let text = "TAP version 14\n1..1\n    # Subtest: suite\n    1..2\n    ok 1 - one\n    \
                    not ok 2 - two\nnot ok 1 - suite\n";
        assert_eq!(passed(text), ["suite: one"]);
        assert_eq!(failed(text), ["suite: two"]);
    }

    #[test]
    fn nested_by_run_kselftest() {
        let text = "TAP version 13\n1..2\n# timeout set to 45\n# selftests: composefs: view\n\
                    # TAP version 13\n# 1..2\n# ok 1 names\n# not ok 2 modes\n\
                    not ok 1 selftests: composefs: view # exit=1\n\
                    # selftests: composefs: quiet\nok 2 selftests: composefs: quiet\n";
        assert_eq!(
            passed(text),
            ["composefs: view: names", "selftests: composefs: quiet"]
        );
        assert_eq!(failed(text), ["composefs: view: modes"]);
    }

    #[test]
    fn a_failure_comes_with_what_was_said_before() {
        let text = "KTAP version 1\n1..2\n# of one\nok 1 one\n# of two\nnot ok 2 two\n";
        let last = read(text).pop().map(|case| case.verdict);
        assert_eq!(last, Some(Verdict::Failed("of two".to_owned())));
    }

    #[test]
    fn skipped_is_not_failed() {
        let text = "TAP version 13\n1..3\nok 1 one # SKIP no root\nnot ok 2 two # TODO later\n\
                    ok 3 three # XFAIL known\n";
        assert!(failed(text).is_empty());
        assert!(passed(text).is_empty());
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
            assert!(!failed(text).is_empty(), "{why}");
        }
    }

    #[test]
    fn a_parent_that_failed_on_its_own_is_told() {
        let text = "TAP version 13\n1..1\n# selftests: d: p\n# TAP version 13\n# 1..1\n\
                    # ok 1 a\nnot ok 1 selftests: d: p # TIMEOUT 45 seconds\n";
        assert_eq!(failed(text), ["selftests: d: p"]);
    }

    #[test]
    fn ordinary_words_are_no_results() {
        let text = "TAP version 13\n1..1\nokay then\n# ok so far\nok 1 one\n";
        assert_eq!(passed(text), ["one"]);
        assert!(failed(text).is_empty());
    }
}
