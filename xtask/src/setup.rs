// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask setup`: everything that any command needs.

use anyhow::Result;

use crate::context::Context;
use crate::machine::Arch;
use crate::packages;
use crate::rust;
use crate::tools;

/// Installs it, and says where it is.
///
/// # Errors
///
/// When something is missing that cannot be installed.
pub fn run(context: &Context) -> Result<()> {
    let all = [
        packages::KERNEL,
        packages::TOOLS,
        packages::GUEST,
        packages::VM,
        packages::BOOT,
        packages::TEST,
        packages::DEB,
    ];
    packages::require(context, &all)?;
    let bindgen = tools::bindgen(context)?;
    let library = rust::library(context)?;
    let cfsctl = tools::cfsctl(context, Arch::default())?;
    println!("system packages  installed");
    println!("bindgen          {}", bindgen.display());
    println!("Rust's core      {}", library.display());
    println!("cfsctl           {}", cfsctl.display());
    println!("cache            {}", context.cache.root().display());
    Ok(())
}
