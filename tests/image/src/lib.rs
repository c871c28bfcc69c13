// SPDX-License-Identifier: GPL-2.0

//! The composefs on-disk format, for the host.
//!
//! The very source files of the kernel module, so that what is tested here is what runs there.

#![no_std]

#[path = "../../../fs/composefs/image/mod.rs"]
mod image;

pub use image::*;
