// SPDX-License-Identifier: GPL-2.0

//! What some of the selftests need besides the guest: programs of this workspace, and of others.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;

use crate::context::Context;
use crate::guest_program;
use crate::machine::Arch;
use crate::tools;
use crate::vm::VmConfig;

/// The variable by which the selftests find the directory in the guest.
const VARIABLE: &str = "COMPOSEFS_TOOLS";

/// Something that selftests need.
struct Tool {
    package: &'static str,
    file: &'static str,
    build: fn(&Context, Arch, &str) -> Result<PathBuf>,
    /// The selftests, without `.py`. The tool takes time to build, and is not built for others.
    users: &'static [&'static str],
}

const TOOLS: &[Tool] = &[
    Tool {
        package: "libcomposefs-mount",
        file: "liblcfs_mount.so",
        build: guest_program::build_library,
        users: &["libcomposefs", "clients_ostree"],
    },
    Tool {
        package: "composefs-clients",
        file: "composefs-clients",
        build: guest_program::build_for,
        users: &["composefs_rs"],
    },
    Tool {
        package: "composefs-store",
        file: "composefs-store",
        build: guest_program::build_for,
        users: &["composefs_store", "composefs_readahead"],
    },
    Tool {
        package: "composefs-readahead",
        file: "composefs-readahead",
        build: guest_program::build_for,
        users: &["composefs_readahead"],
    },
    Tool {
        package: "composefs-old-image",
        file: "composefs-old-image",
        build: guest_program::build_for,
        users: &["old_image"],
    },
    Tool {
        package: "composefs-fuzz-cases",
        file: "composefs-fuzz-cases",
        build: guest_program::build_for,
        users: &["fuzz_cases"],
    },
    Tool {
        package: "composefs-ctl",
        file: "cfsctl",
        build: |context, arch, _| directory(&tools::cfsctl(context, arch)?),
        users: &["layers", "other_machine"],
    },
    Tool {
        package: "umoci",
        file: "umoci",
        build: |context, arch, _| directory(&tools::umoci(context, arch)?),
        users: &["layers"],
    },
];

/// The directory of a program.
fn directory(program: &Path) -> Result<PathBuf> {
    let directory = program.parent().context("a tool is in no directory")?;
    Ok(directory.to_path_buf())
}

/// Builds what the programs need that `may_run` tells, and gives it to the guest. Returns the line of the
/// shell that sets [`VARIABLE`].
///
/// # Errors
///
/// When something does not compile or cannot be copied.
pub fn share(
    context: &Context,
    config: &mut VmConfig,
    work: &Path,
    may_run: impl Fn(&str) -> bool,
) -> Result<String> {
    let directory = work.join("tools");
    fs::create_dir(&directory)?;
    for tool in TOOLS {
        if tool.users.iter().any(|user| may_run(user)) {
            let built = (tool.build)(context, config.arch(), tool.package)?;
            fs::copy(built.join(tool.file), directory.join(tool.file))?;
        }
    }
    config.mounts.push(("tools".to_owned(), directory));
    Ok(format!("export {VARIABLE}=/mnt/tools\n"))
}
