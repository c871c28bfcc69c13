// SPDX-License-Identifier: GPL-2.0

//! The guest's kernel.

mod built;
mod config;
mod finished;
mod flavor;
pub mod old;
mod patched;
mod source_build;
mod stock;
mod target;

use std::env;
use std::path;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Result;
use anyhow::bail;

use crate::context::Context;
use crate::named;

pub use built::Kernel;
pub use flavor::Flavor;
pub use patched::can_cover;
pub use target::Target;
pub use target::TargetArgs;

/// What cannot be done with Debian's kernel.
const NOT_BUILT: &str = "Debian has configured and built the kernel of --flavor debian: \
                         --source and --configure-only are for the other flavors";

/// Configures the kernel in a directory of its own, and checks that each option was taken.
///
/// # Errors
///
/// When one was not.
pub fn configure_only(context: &Context, target: Target, own: Option<&Path>) -> Result<()> {
    match target.flavor {
        Flavor::Debian => bail!("{}", NOT_BUILT),
        _ => source_build::configure_only(context, target, own),
    }
}

/// Builds the kernel unless the cache has it. `own` is the user's own source tree.
///
/// `COMPOSEFS_KERNEL_BUILD` names a finished build, which is used whatever flavor
/// is asked for, except Debian's; the patched kernels are made from it.
///
/// # Errors
///
/// When tools are missing, or the source cannot be fetched or does not build.
pub fn make(context: &Context, target: impl Into<Target>, own: Option<&Path>) -> Result<Kernel> {
    let target = target.into();
    match target.flavor {
        Flavor::Plain | Flavor::Debug => unpatched(context, target, own),
        Flavor::Patched | Flavor::PatchedDebug => {
            let base = match target.flavor {
                Flavor::Patched => Flavor::Plain,
                _ => Flavor::Debug,
            };
            let base = unpatched(context, base.into(), own)?;
            patched::make(context, target.flavor, base)
        }
        Flavor::Debian if own.is_some() => bail!("{}", NOT_BUILT),
        Flavor::Debian => stock::make(context),
    }
}

/// Builds the kernel after each patch of the series in a directory, with composefs built in
/// and as a module. Takes a quarter of an hour on two processors.
///
/// # Errors
///
/// When a patch does not apply, or the kernel does not build with it without warnings.
pub fn build_each(context: &Context, own: Option<&Path>, series: &Path) -> Result<()> {
    let plain = unpatched(context, Flavor::Plain.into(), own)?;
    patched::build_each(context, &plain, &path::absolute(series)?)
}

/// Builds the modules xfs and btrfs of the debug kernel, unless the cache has them: [`make`]
/// leaves them out, because few tests need them. The other kernels have theirs.
///
/// # Errors
///
/// As [`make`].
pub fn all_modules(context: &Context, target: Target, own: Option<&Path>) -> Result<()> {
    if target.flavor != Flavor::Debug || named::directory_of("COMPOSEFS_KERNEL_BUILD")?.is_some() {
        return Ok(());
    }
    source_build::later_modules(context, target, own_source(own).as_deref())
}

fn unpatched(context: &Context, target: Target, own: Option<&Path>) -> Result<Kernel> {
    if let Some(build) = named::directory_of("COMPOSEFS_KERNEL_BUILD")? {
        return finished::take(context, target, &build);
    }
    source_build::make(context, target, own_source(own).as_deref())
}

/// The user's own source tree, by an option or the environment.
fn own_source(own: Option<&Path>) -> Option<PathBuf> {
    own.map(Path::to_path_buf).or_else(|| {
        let dir = env::var_os("COMPOSEFS_KERNEL_SOURCE")?;
        (!dir.is_empty()).then(|| PathBuf::from(dir))
    })
}
