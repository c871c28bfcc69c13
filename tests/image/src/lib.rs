// SPDX-License-Identifier: GPL-2.0

//! The composefs on-disk format, for the host.
//!
//! This crate compiles the source files of the kernel module, so that the tests test the code that
//! runs in the kernel.

#![no_std]

#[path = "../../../fs/composefs/image/mod.rs"]
mod image;

pub use image::*;
