// SPDX-License-Identifier: GPL-2.0

//! The result of one test.

/// How one test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passed.
    Passed,
    /// It did not run, or is known to fail: the reason given.
    Skipped(String),
    /// It failed, or the output is faulty: why.
    Failed(String),
}

/// A test, or a fault of the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The names of the suites around it, then its own.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
}

/// A case that failed.
pub fn failed(name: &str, why: &str) -> Case {
    let name = if name.is_empty() { "output" } else { name };
    Case {
        name: name.to_owned(),
        verdict: Verdict::Failed(why.to_owned()),
    }
}
