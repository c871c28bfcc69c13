// SPDX-License-Identifier: GPL-2.0

//! Cases of the module's fuzzer: an image, and a program of operations on mounts of it.
//!
//! A case fails if the kernel complains, if an operation hangs, if something stays busy, or if a
//! good image does not show what erofs + overlayfs show of it.

pub mod case;
pub mod corpus;
pub mod cover;
mod data;
pub mod grammar;
pub mod kcov;
pub mod log;
pub mod minimise;
mod names;
mod ops;
mod reference;
pub mod run;
mod scene;
pub mod seeds;
pub mod store;
mod sys;
pub mod trials;
pub mod world;
mod write;
