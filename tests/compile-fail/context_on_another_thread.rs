// SPDX-License-Identifier: GPL-2.0
// error: E0277

//! A file system context used by a thread that does not hold its lock.

use composefs_main::vfs::context::FsContext;

fn is_send<T: Send>(_: &T) {}

pub fn pass_on(fc: &FsContext<'_>) {
    is_send(fc);
}
