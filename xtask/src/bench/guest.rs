// SPDX-License-Identifier: GPL-2.0

//! Running what measures in the guest.

use anyhow::Result;
use anyhow::bail;

use crate::context::Context;
use crate::progress::Step;
use crate::progress::tail;
use crate::vm;
use crate::vm::Stream;
use crate::vm::VmConfig;

/// A word of the kernel's command line, without which messages cost instructions: each of their
/// characters is written to the console. erofs has a message for each mount.
pub const QUIET: &str = "loglevel=4";

/// Boots a guest, and returns what its job prints. `kind` is the name of the log, `about` what is
/// shown meanwhile, and `job` what an error calls the job.
///
/// # Errors
///
/// When the guest or the job fails.
pub fn run(
    context: &Context,
    config: &VmConfig,
    kind: &str,
    about: &str,
    job: &str,
) -> Result<String> {
    let log = context.cache.numbered_log(kind)?;
    let step = Step::begin(about, &log)?;
    let mut output = Vec::new();
    let outcome = vm::run(context, config, &mut |stream, bytes| {
        step.note(bytes);
        if stream == Stream::Stdout {
            output.extend_from_slice(bytes);
        }
    })?;
    drop(step);
    match &outcome.result {
        Ok(0) => Ok(String::from_utf8(output)?),
        Ok(status) => bail!(
            "{job} ended with status {status}:\n{}\nIts output: {}",
            tail(&log, 10),
            log.display()
        ),
        Err(failure) => bail!("{}", outcome.explain(failure)),
    }
}
