// SPDX-License-Identifier: GPL-2.0

//! Writes composefs images of early 2023 from a tree, damages them, and checks the dumps that
//! composefs-old-image makes of them.

pub mod check;
pub mod mutate;
pub mod samples;
pub mod tree;
pub mod writer;
