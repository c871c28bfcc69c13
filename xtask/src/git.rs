// SPDX-License-Identifier: GPL-2.0

//! git, for the repository of its working directory and no other one.

use std::process::Command;

/// Variables that make git use a repository other than that of its working directory.
const REPOSITORY: [&str; 10] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_COUNT",
];

/// git without these variables.
pub fn git() -> Command {
    let mut git = Command::new("git");
    forget_repository(&mut git);
    git
}

/// Removes these variables from a command's environment. They are set if a hook of
/// another repository runs xtask.
pub fn forget_repository(command: &mut Command) {
    for name in REPOSITORY {
        command.env_remove(name);
    }
}
