// SPDX-License-Identifier: GPL-2.0

//! This crate has only tests and an example.
