// SPDX-License-Identifier: GPL-2.0
// error: E0505

//! Bytes of a page cache used after it was dropped.

use composefs_main::vfs::mapping::{PrivateMapping, Reader};
use kernel::prelude::*;

pub fn keep<R: Reader>(mapping: PrivateMapping<R, 4096>) -> Result<usize> {
    let bytes = mapping.bytes(0)?;
    drop(mapping);
    Ok(bytes.len())
}
