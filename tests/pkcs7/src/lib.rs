// SPDX-License-Identifier: GPL-2.0

//! What a signature says about its signers, for the host.
//!
//! This crate compiles the source files of the kernel module, so that the tests test the code that
//! runs in the kernel.

#![no_std]

#[path = "../../../fs/composefs/pkcs7/mod.rs"]
mod pkcs7;

pub use pkcs7::*;
