// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask demo`
use std::process::ExitCode;
use anyhow::Result;
use crate::context::Context;
/// x
pub fn run(_: &Context, _: bool) -> Result<ExitCode> { anyhow::bail!("not yet") }
