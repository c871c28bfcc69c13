// SPDX-License-Identifier: GPL-2.0

//! Mapping files, and opening them by handle: a child in Python does it, for
//! there is no safe way to map a file in Rust, and none in rustix to a handle.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Lines;
use std::io::Write;
use std::path::Path;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use rustix::io::Errno;

use crate::board::Desk;
use crate::board::Operation;

const PROGRAM: &str = include_str!("mapper.py");

/// A child that has made its first pass.
pub struct Mapper {
    child: Child,
    ask: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Mapper {
    /// Starts it on the files below `top`.
    pub fn start(top: &Path, selftests: &Path, seed: u64) -> Result<Self> {
        let mut child = Command::new("python3")
            .args(["-B", "-c", PROGRAM])
            .arg(selftests)
            .arg(top)
            .arg(seed.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start python3")?;
        let ask = child.stdin.take().context("no way to the child")?;
        let answers = child.stdout.take().context("no way from the child")?;
        let mut answers = BufReader::new(answers).lines();
        let first = answers.next().context("the child did not begin")??;
        ensure!(first == "begun", "the child began so: {first}");
        Ok(Self {
            child,
            ask,
            answers,
        })
    }

    /// Lets it do one operation after the other.
    pub fn work(mut self, desk: &mut Desk<'_>) -> Result<()> {
        while desk.goes_on() {
            desk.does(Operation::Map, || self.one());
        }
        drop(self.ask);
        let status = self.child.wait()?;
        ensure!(status.success(), "the child ended with {status}");
        Ok(())
    }

    fn one(&mut self) -> Result<()> {
        writeln!(self.ask, "next").context("the child does not listen")?;
        let answer = self.answers.next().context("the child has gone")??;
        match answer.as_str() {
            "ok" => Ok(()),
            "short" => Err(Errno::NOMEM.into()),
            wrong => bail!("{wrong}"),
        }
    }
}
