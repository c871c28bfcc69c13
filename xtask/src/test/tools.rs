// SPDX-License-Identifier: GPL-2.0

//! What is built from tools/ and tests/ for the selftests.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::context::Context;
use crate::guest_program;
use crate::vm::VmConfig;

/// The variable by which the selftests find the directory in the guest.
const VARIABLE: &str = "COMPOSEFS_TOOLS";

/// Shared libraries: package and file.
const LIBRARIES: [(&str, &str); 1] = [("libcomposefs-mount", "liblcfs_mount.so")];

/// Builds all, and gives it to the guest. Returns the line of the shell that sets [`VARIABLE`].
///
/// # Errors
///
/// When something does not compile or cannot be copied.
pub fn share(context: &Context, config: &mut VmConfig, work: &Path) -> Result<String> {
    let directory = work.join("tools");
    fs::create_dir(&directory)?;
    for (package, file) in LIBRARIES {
        let built = guest_program::build_library(context, package)?;
        fs::copy(built.join(file), directory.join(file))?;
    }
    config.mounts.push(("tools".to_owned(), directory));
    Ok(format!("export {VARIABLE}=/mnt/tools\n"))
}
