// SPDX-License-Identifier: GPL-2.0

//! All selftests on the debug kernel, in shares: together they take more than an hour.
//!
//! A piece is named by its share, as `2of12`, or by programs, with commas between their names.

use anyhow::Result;
use anyhow::bail;

use super::boots;
use super::boots::DEBUG_ALL;
use super::report::Report;
use super::selftests;
use super::selftests::Boot;
use super::selftests::Programs;
use super::share::Share;
use super::suite::Asked;
use crate::context::Context;

/// What the suite is called.
pub const NAME: &str = DEBUG_ALL.name;

/// How many shares there are.
pub const SHARES: usize = 12;

/// The pieces of the suite, or the one of this name.
///
/// # Errors
///
/// When there is no such piece.
pub fn list(context: &Context, asked: Asked<'_>) -> Result<Vec<String>> {
    let Asked::Part(piece) = asked else {
        return Ok(Share::all(SHARES).map(|share| share.to_string()).collect());
    };
    if Share::parse(piece, SHARES).is_none() {
        if is_like_share(piece) {
            bail!("\"{piece}\" is no share of {NAME}: those are 1of{SHARES} to {SHARES}of{SHARES}");
        }
        selftests::check_names(context, piece)?;
        boots::check_suite(NAME, piece)?;
    }
    Ok(vec![piece.to_owned()])
}

/// Whether a piece is written as a share, of whatever number.
fn is_like_share(piece: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parts = piece.split_once("of");
    parts.is_some_and(|(number, of)| is_number(number) && is_number(of))
}

/// Runs a piece.
///
/// # Errors
///
/// When something cannot be built, or the guest cannot be made or fails.
pub fn run(context: &Context, report: &mut Report, piece: &str) -> Result<()> {
    let Some(share) = Share::parse(piece, SHARES) else {
        return selftests::part(context, report, &DEBUG_ALL, piece);
    };
    let boot = Boot {
        programs: Programs::Share(&DEBUG_ALL.programs, share),
        ..DEBUG_ALL
    };
    selftests::run(context, report, &boot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_no_share() {
        assert!(is_like_share("13of12") && is_like_share("0of3"));
        for program in ["readdir", "offset", "of", "3of", "of3"] {
            assert!(!is_like_share(program), "{program}");
        }
    }
}
