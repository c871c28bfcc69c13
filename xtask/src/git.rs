// SPDX-License-Identifier: GPL-2.0

//! git, for the repository that we mean.

use std::process::Command;

/// What tells git of a repository, whatever directory it runs in.
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

/// git, for the repository of the directory that it is run in.
pub fn git() -> Command {
    let mut git = Command::new("git");
    forget_repository(&mut git);
    git
}

/// Takes from a command what git is told of a repository: a hook of another one
/// may have started us.
pub fn forget_repository(command: &mut Command) {
    for name in REPOSITORY {
        command.env_remove(name);
    }
}
