// SPDX-License-Identifier: GPL-2.0

//! Where programs are looked for: in the directories of PATH, and in those of
//! system programs, which a user's PATH may lack.

use std::env;
use std::ffi::OsString;

/// PATH with the directories of system programs.
pub fn with_sbin() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

/// Whether a program is installed.
pub fn has(program: &str) -> bool {
    which::which_in(program, Some(with_sbin()), "/").is_ok()
}
