// SPDX-License-Identifier: GPL-2.0

//! Making a case that fails smaller: without operations, changes and bytes that do not matter.

use anyhow::Result;

use crate::case::Case;

/// Leaves out of a case what it fails without. `fails` tries a case, and says whether it fails in
/// the same way.
///
/// # Errors
///
/// Those of `fails`.
pub fn minimise(case: &Case, mut fails: impl FnMut(&Case) -> Result<bool>) -> Result<Case> {
    let mut best = case.clone();
    loop {
        let before = best.clone();
        best = shorter(&best, |case| &mut case.ops, &mut fails)?;
        best = shorter(&best, |case| &mut case.changes, &mut fails)?;
        best = simpler(&best, &mut fails)?;
        if best == before {
            return Ok(best);
        }
    }
}

/// Leaves out elements of a list: half of them, then a quarter, down to one after the other.
fn shorter<T>(
    case: &Case,
    list: impl Fn(&mut Case) -> &mut Vec<T>,
    fails: &mut impl FnMut(&Case) -> Result<bool>,
) -> Result<Case> {
    let mut best = case.clone();
    let mut step = list(&mut best).len().div_ceil(2);
    while step > 0 {
        // From the end: what comes first is more often needed.
        let mut end = list(&mut best).len();
        while end > 0 {
            let start = end.saturating_sub(step);
            let mut attempt = best.clone();
            drop(list(&mut attempt).drain(start..end));
            if fails(&attempt)? {
                best = attempt;
            }
            end = start;
        }
        step /= 2;
    }
    Ok(best)
}

/// Gives arguments their first value, and takes a changed length back.
fn simpler(case: &Case, fails: &mut impl FnMut(&Case) -> Result<bool>) -> Result<Case> {
    let mut best = case.clone();
    if best.length.is_some() {
        let mut attempt = best.clone();
        attempt.length = None;
        if fails(&attempt)? {
            best = attempt;
        }
    }
    for number in 0..best.ops.len() {
        let count = best.ops.get(number).map_or(0, |op| op.values.len());
        for at in 0..count {
            let mut attempt = best.clone();
            let value = attempt
                .ops
                .get_mut(number)
                .and_then(|op| op.values.get_mut(at));
            match value {
                Some(value) if *value != 0 => *value = 0,
                _ => continue,
            }
            if fails(&attempt)? {
                best = attempt;
            }
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(text: &str) -> Result<Case> {
        Case::parse(text)
    }

    #[test]
    fn what_does_not_matter_is_left_out() -> Result<()> {
        let long = case(
            "seed small-v0\nlength 4096\nchange 7 01\nchange 20 02\nchange 30 03\n\
             mount memfd named store usual detached\nstatfs /\nopen 0 /small 4\n\
             drop 1\nread 0 4096 100 1\nclose 0\nstatfs /dir\n",
        )?;
        // Fails if the byte 20 is changed, and a file is read after it was opened.
        let mut tried = 0;
        let fails = |case: &Case| {
            tried += 1;
            let text = case.to_string();
            let open = text.find("open 0");
            let read = text.find("read 0");
            Ok(text.contains("change 20 02") && open.is_some() && open < read)
        };
        let short = minimise(&long, fails)?;
        let wanted = "seed small-v0\nchange 20 02\nopen 0 / 0\nread 0 0 0 0\n";
        assert_eq!(short.to_string(), wanted);
        assert!(tried < 60, "{tried}");
        Ok(())
    }

    #[test]
    fn a_case_of_which_all_is_needed_stays() -> Result<()> {
        let long = case("seed small-v0\nopen 0 /small 4\nread 0 4096 100 1\n")?;
        let same = minimise(&long, |case| Ok(*case == long))?;
        assert_eq!(same, long);
        Ok(())
    }
}
