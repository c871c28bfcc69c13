// SPDX-License-Identifier: GPL-2.0

//! `cargo test`: each of its tests is reported.

use std::fs;
use std::process::Command;

use anyhow::Result;

use super::report::Report;
use crate::context::Context;
use crate::progress::Step;
use crate::progress::tail;

/// Runs `cargo`, and reports each test. The log is named after `name`, and `place` says where the
/// tests run, unless it is empty.
///
/// # Errors
///
/// When cargo cannot be started, or the user interrupts.
pub fn run(
    context: &Context,
    report: &mut Report,
    name: &str,
    cargo: &mut Command,
    place: &str,
) -> Result<()> {
    let place = match place {
        "" => String::new(),
        place => format!(" ({place})"),
    };
    let log = context.cache.numbered_log(&format!("test-{name}"))?;
    let step = Step::begin(format!("running cargo test{place}"), &log)?;
    let status = step.status(cargo)?;
    drop(step);
    let text = fs::read_to_string(&log)?;
    let mut failed = false;
    for (name, result) in text.lines().filter_map(result) {
        let name = format!("{name}{place}");
        match result {
            "ok" => report.pass(&name),
            "ignored" => report.skip(&name, "ignored by cargo test"),
            _ => {
                failed = true;
                report.fail(&name, &format!("see {}", log.display()));
            }
        }
    }
    if !status.success() && !failed {
        report.fail(
            &format!("cargo test{place}"),
            &format!("{}\nThe log: {}", tail(&log, 30), log.display()),
        );
    }
    Ok(())
}

/// The name and the result in a line of `cargo test`.
fn result(line: &str) -> Option<(&str, &str)> {
    let (name, result) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    // "ignored, the reason"
    let word = result.split([',', ' ']).next().unwrap_or(result);
    ["ok", "FAILED", "ignored"]
        .contains(&word)
        .then_some((name.trim(), word))
}

#[cfg(test)]
mod tests {
    use super::result;

    #[test]
    fn lines_of_cargo_test_are_read() {
        assert_eq!(result("test a::b ... ok"), Some(("a::b", "ok")));
        assert_eq!(
            result("test a ... ignored, no images"),
            Some(("a", "ignored"))
        );
        assert_eq!(
            result("test a - should panic ... ok"),
            Some(("a - should panic", "ok"))
        );
        assert_eq!(result("test result: ok. 3 passed"), None);
    }
}
