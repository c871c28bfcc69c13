// SPDX-License-Identifier: GPL-2.0

//! Reading KTAP, the format in which kernel tests print their results
//! (Documentation/dev-tools/ktap.rst), while they run.
//!
//! Results of subtests are indented, or, by run_kselftest.sh, preceded by "# ". The
//! output of a program that dies looks like that of one that has ended well. So all that
//! is missing counts as a failure: a plan, a planned result, the result of a parent.

mod case;
mod line;
mod parser;

pub use case::Case;
pub use case::Verdict;
pub use parser::Parser;
