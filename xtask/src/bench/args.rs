// SPDX-License-Identifier: GPL-2.0

//! The options of `cargo xtask bench`.

use std::path::PathBuf;

use anyhow::Result;
use anyhow::bail;

use crate::machine::MachineArgs;

/// Options of `cargo xtask bench`.
#[derive(clap::Args, Debug)]
pub struct BenchArgs {
    /// Measures only these rows; "boot" measures a system that boots, by
    /// the ways that follow it, "coherence" how often processors wait
    /// for each other's caches, in the rows that follow it, "disks" files that
    /// come from a disk, "containers" other ways to run containers, and "files"
    /// the memory of many files
    #[arg(value_name = "ROW")]
    pub rows: Vec<String>,

    /// Lists the rows
    #[arg(long)]
    pub list: bool,

    /// Measures only the most important rows, and twice; of a system, all but instructions
    #[arg(long)]
    pub quick: bool,

    /// Measures trees of a million entries as well, which takes some minutes more
    #[arg(long)]
    pub large: bool,

    /// Measures time as well, in a guest with several processors
    #[arg(long)]
    pub wall: bool,

    /// Measures each row N times
    #[arg(long, value_name = "N", default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: u32,

    /// Shows in which functions of the kernel instructions are spent, for the named rows or for
    /// the table "disks", "containers" or "files"
    #[arg(long, requires = "rows", conflicts_with = "save_baseline")]
    pub profile: bool,

    /// The column of the table that --profile looks at [default: composefs]
    #[arg(long, value_name = "COLUMN")]
    pub of: Option<String>,

    /// Numbers of processors, for "coherence" [default: 2,4,8,16]
    #[arg(long, value_name = "N,...", value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=64))]
    pub processors: Option<Vec<u32>>,

    #[command(flatten)]
    pub machine: MachineArgs,

    /// Writes the results to this directory instead of target/bench
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// Stores these figures, with which later ones are compared. If all rows were
    /// measured, writes table and plot of the documentation, too. With "disks",
    /// "containers" and "files", writes their table only
    #[arg(long)]
    pub save_baseline: bool,
}

impl BenchArgs {
    /// Refuses options that mean nothing for what is measured. It does not look at `--repeat` and
    /// the machine.
    ///
    /// # Errors
    ///
    /// When one was given that is not among `known`.
    pub fn only(&self, what: &str, known: &[&str]) -> Result<()> {
        let given = [
            ("--quick", self.quick),
            ("--large", self.large),
            ("--wall", self.wall),
            ("--profile", self.profile),
            ("--of", self.of.is_some()),
            ("--processors", self.processors.is_some()),
            ("--output", self.output.is_some()),
            ("--save-baseline", self.save_baseline),
        ];
        match given
            .iter()
            .find(|(name, given)| *given && !known.contains(name))
        {
            Some((name, _)) => bail!("{name} means nothing for {what}: leave it out"),
            None => Ok(()),
        }
    }

    /// The column that `--profile`, if given, looks at: one of those that a table has.
    ///
    /// # Errors
    ///
    /// When the table has no column of that name.
    pub fn profiled(&self, columns: &[String]) -> Result<Option<String>> {
        let of = self.of.as_deref().unwrap_or("composefs");
        if !self.profile {
            if self.of.is_some() {
                bail!("--of says what --profile looks at: give both, or neither");
            }
            return Ok(None);
        }
        if !columns.iter().any(|column| column == of) {
            bail!("there is no column \"{of}\", but {}", columns.join(", "));
        }
        Ok(Some(of.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use composefs_bench::topics::Topic;

    use super::*;

    #[derive(Parser)]
    struct Whole {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn parse(line: &str) -> Result<BenchArgs, clap::Error> {
        let words = ["bench"].into_iter().chain(line.split_whitespace());
        Whole::try_parse_from(words).map(|whole| whole.args)
    }

    fn profiled(line: &str, topic: Topic) -> Result<Option<String>> {
        parse(line)?.profiled(&topic.columns())
    }

    #[test]
    fn a_topic_has_columns_of_its_own() {
        let known = |line, topic| profiled(line, topic).ok().flatten();
        let composefs = Some("composefs".to_owned());
        assert_eq!(known("disks --profile", Topic::Disks), composefs);
        let layers = "containers --profile --of layers";
        assert_eq!(known(layers, Topic::Containers), Some("layers".to_owned()));
        let wrong = profiled(layers, Topic::Files).map_err(|error| error.to_string());
        let known = "there is no column \"layers\", but composefs, erofs+overlayfs, ext4";
        assert_eq!(wrong, Err(known.to_owned()));
    }

    #[test]
    fn a_table_has_no_profile_unless_asked() {
        assert!(matches!(profiled("files", Topic::Files), Ok(None)));
        assert!(profiled("files --of ext4", Topic::Files).is_err());
        assert!(parse("--profile").is_err());
        assert!(parse("files --profile --save-baseline").is_err());
    }

    #[test]
    fn an_option_that_means_nothing_is_refused() {
        let refused = |line: &str| parse(line).map(|args| args.only("`bench boot`", &["--quick"]));
        assert!(matches!(refused("boot --quick --repeat 5"), Ok(Ok(()))));
        for option in ["--processors 2", "--profile", "--wall"] {
            assert!(matches!(refused(&format!("boot {option}")), Ok(Err(_))));
        }
    }
}
