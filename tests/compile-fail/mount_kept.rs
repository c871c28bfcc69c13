// SPDX-License-Identifier: GPL-2.0
// error: E0597

//! A private mount used after it was unmounted.

use composefs_main::vfs::path::{Path, PrivateMounts};
use kernel::prelude::*;

pub fn keep(path: &Path) -> Result<Path> {
    let mount = {
        let mut mounts = PrivateMounts::default();
        mounts.add(path)?
    };
    Ok(mount.root())
}
