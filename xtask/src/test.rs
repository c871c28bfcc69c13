// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask test`
use std::process::ExitCode;
use anyhow::Result;
use crate::context::Context;
/// x
pub fn run(_: &Context, _: &[String]) -> Result<ExitCode> { anyhow::bail!("not yet") }
/// x
pub fn list() {}
