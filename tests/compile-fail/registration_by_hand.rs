// SPDX-License-Identifier: GPL-2.0
// error: E0133

//! A registration made by hand. It could be dropped while the type is mounted.

use composefs_main::vfs::{registration::Registration, super_block::Operations};

pub fn by_hand<T: Operations>() {
    drop(Registration::<T>::new());
}
