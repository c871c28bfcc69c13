// SPDX-License-Identifier: GPL-2.0

//! Running the measuring program in the guest.

use anyhow::Result;
use anyhow::bail;

use super::disk::PROGRAM;
use crate::context::Context;
use crate::progress::Step;
use crate::progress::tail;
use crate::vm;
use crate::vm::Stream;
use crate::vm::VmConfig;

/// Boots a guest whose job ends in the program, and returns what that prints. `kind` is the name
/// of the log, and `about` what is shown meanwhile.
///
/// # Errors
///
/// When the guest or the program fails.
pub fn run(context: &Context, config: &VmConfig, kind: &str, about: &str) -> Result<String> {
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
            "{PROGRAM} ended with status {status}:\n{}\nIts output: {}",
            tail(&log, 10),
            log.display()
        ),
        Err(failure) => bail!("{}", outcome.explain(failure)),
    }
}
