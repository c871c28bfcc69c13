// SPDX-License-Identifier: GPL-2.0

//! Mapping files, and opening them by handle. A child process in Python does it: Rust
//! has no safe way to map a file, and rustix has no name_to_handle_at(2).

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

use crate::round::Operation;
use crate::round::Task;

const PROGRAM: &str = include_str!("mapper.py");

/// A child process that has made its first pass.
pub struct Mapper {
    child: Child,
    ask: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Mapper {
    /// Starts the child on the files below `top`.
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
        let ask = child
            .stdin
            .take()
            .context("the child has no standard input")?;
        let answers = child
            .stdout
            .take()
            .context("the child has no standard output")?;
        let mut answers = BufReader::new(answers).lines();
        let first = answers.next().context("the child did not begin")??;
        ensure!(first == "begun", "the child did not begin: {first}");
        Ok(Self {
            child,
            ask,
            answers,
        })
    }

    /// Has the child perform one operation after another.
    pub fn work(mut self, task: &mut Task<'_>) -> Result<()> {
        while task.has_time() {
            task.perform(Operation::Map, || self.one());
        }
        drop(self.ask);
        let status = self.child.wait()?;
        ensure!(status.success(), "the child ended with {status}");
        Ok(())
    }

    fn one(&mut self) -> Result<()> {
        writeln!(self.ask, "next").context("cannot write to the child")?;
        let answer = self.answers.next().context("the child has ended")??;
        match answer.as_str() {
            "ok" => Ok(()),
            "short" => Err(Errno::NOMEM.into()),
            wrong => bail!("{wrong}"),
        }
    }
}
