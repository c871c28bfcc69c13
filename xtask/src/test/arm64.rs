// SPDX-License-Identifier: GPL-2.0

//! Tests on arm64, once for each size of pages: the KUnit tests and the selftests.
//!
//! A piece is named by the size, as `64k`, or by the size and a part: `64k:kunit`,
//! `64k:selftests`, or `64k:` and names of selftests.

use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use clap::ValueEnum;

use super::boots;
use super::kunit;
use super::report::Report;
use super::selftests;
use super::suite::Asked;
use crate::context::Context;
use crate::kernel::Flavor;
use crate::kernel::Target;
use crate::machine::Machine;
use crate::machine::PageSize;

/// What the suite is called.
pub const NAME: &str = "arm64";

/// The suites that it has parts for.
const PARTS: [&str; 2] = ["kunit", "selftests"];

/// The pieces of the suite, or the one of this name.
///
/// # Errors
///
/// When there is no such piece.
pub fn list(context: &Context, asked: Asked<'_>) -> Result<Vec<String>> {
    let Asked::Part(piece) = asked else {
        return Ok(PageSize::ALL.map(|size| size.name().to_owned()).to_vec());
    };
    if let (_, Some(part)) = split(piece)? {
        if !PARTS.contains(&part) {
            selftests::check_names(context, part)?;
        }
    }
    Ok(vec![piece.to_owned()])
}

/// Runs a piece.
///
/// # Errors
///
/// When something cannot be built, or the guest cannot be made or fails.
pub fn run(context: &Context, report: &mut Report, piece: &str) -> Result<()> {
    let (size, part) = split(piece)?;
    let target = Target::new(Flavor::Plain, Machine::Arm64(size))?;
    let boot = &boots::ARM64;
    match part {
        None => {
            kunit::run_on(context, report, target)?;
            selftests::run_on(context, report, boot, target.machine)
        }
        Some("kunit") => kunit::run_on(context, report, target),
        Some("selftests") => selftests::run_on(context, report, boot, target.machine),
        Some(names) => selftests::part_on(context, report, boot, target.machine, names),
    }
}

/// The name of the piece that a suite and its part, or all that runs there, are on a machine.
///
/// # Errors
///
/// When the suite does not run there.
pub fn name_of(machine: Machine, suite: Option<(&str, Option<&str>)>) -> Result<String> {
    let Machine::Arm64(size) = machine else {
        bail!("{} has no suite of its own", machine.name());
    };
    let whole = format!("{NAME}:{}", size.name());
    match suite {
        None => Ok(whole),
        Some(("selftests", names)) => Ok(format!("{whole}:{}", names.unwrap_or("selftests"))),
        Some(("kunit", None)) => Ok(format!("{whole}:kunit")),
        Some(("kunit", Some(_))) => bail!("with --arch arm64, kunit has no parts"),
        Some((other, _)) => bail!(
            "the suite \"{other}\" does not run with --arch arm64; these do: {}",
            PARTS.join(" ")
        ),
    }
}

/// The size of pages, and the part if it is not all.
fn split(piece: &str) -> Result<(PageSize, Option<&str>)> {
    let (size, part) = match piece.split_once(':') {
        Some((size, part)) => (size, Some(part)),
        None => (piece, None),
    };
    let size = PageSize::from_str(size, false).map_err(|_| {
        let known = PageSize::ALL.map(PageSize::name).join(" ");
        anyhow!("there is no page size \"{size}\" on arm64; there are: {known}")
    })?;
    Ok((size, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_names_a_size_and_a_part() -> Result<()> {
        assert_eq!(split("64k")?, (PageSize::K64, None));
        assert_eq!(split("4k:kunit")?, (PageSize::K4, Some("kunit")));
        assert!(split("8k").is_err_and(|error| error.to_string().contains("4k 16k 64k")));
        Ok(())
    }

    #[test]
    fn suites_of_x86_64_have_pieces_here() -> Result<()> {
        let machine = Machine::Arm64(PageSize::K16);
        for (suite, name) in [
            (None, "arm64:16k"),
            (
                Some(("selftests", Some("readdir,rights"))),
                "arm64:16k:readdir,rights",
            ),
            (Some(("selftests", None)), "arm64:16k:selftests"),
            (Some(("kunit", None)), "arm64:16k:kunit"),
        ] {
            assert_eq!(name_of(machine, suite)?, name);
        }
        for suite in [("kunit", Some("debug")), ("hostile", None)] {
            assert!(name_of(machine, Some(suite)).is_err(), "{suite:?}");
        }
        Ok(())
    }
}
