// SPDX-License-Identifier: GPL-2.0

//! The guest in which the fuzzer runs.

use anyhow::Result;

use crate::context::Context;
use crate::guest_program;
use crate::kernel::Flavor;
use crate::module;
use crate::module::Lint;
use crate::vm::Job;
use crate::vm::VmConfig;

/// The package of the fuzzer, and its program.
pub const FUZZER: &str = "composefs-fuzz-kernel";

/// The one that runs cases again.
pub const CASES: &str = "composefs-fuzz-cases";

/// A guest with one of the programs. On the debug kernel, the module notes which code runs.
///
/// # Errors
///
/// When the program, the module or the guest cannot be built.
pub fn prepare(context: &Context, program: &str, flavor: Flavor) -> Result<VmConfig> {
    let programs = guest_program::build(context, program)?;
    let covered = flavor.is_debug();
    let mut config = VmConfig::prepare(context, flavor, !covered, Job::Shell(None))?;
    if covered {
        config.module = Some(module::make(context, &config.kernel, Lint::Coverage)?);
    }
    config.mounts = vec![("programs".to_owned(), programs)];
    // The program sees a warning in the log, and can then find out what causes it.
    config.append = vec!["panic_on_warn=0".to_owned(), "kasan_multi_shot".to_owned()];
    Ok(config)
}
