// SPDX-License-Identifier: GPL-2.0
// error: E0277

//! The emitter of a directory used by a thread that does not run getdents64(2).

use composefs_main::vfs::dir::DirEmitter;

fn is_send<T: Send>(_: &T) {}

pub fn pass_on(emitter: &mut DirEmitter<'_>) {
    is_send(emitter);
}
