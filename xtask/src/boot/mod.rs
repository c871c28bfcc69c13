// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask boot`: a Debian whose root is a composefs image.

mod args;
mod hooks;
mod initrd;
mod store;
mod system;
mod tamper;
mod tree;
mod words;

use std::fs;
use std::io;
use std::io::IsTerminal;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;

use crate::cache::RunDir;
use crate::context::Context;
use crate::files;
use crate::kernel;
use crate::kernel::Flavor;
use crate::kernel::Kernel;
use crate::module;
use crate::module::Lint;
use crate::packages;
use crate::vm;
use crate::vm::Disk;
use crate::vm::VmConfig;

pub use args::BootArgs;
pub use args::Image;
pub use args::Stack;
pub use args::StoreType;
pub use args::Way;
use store::Store;
pub use tamper::rename;
use words::Root;

/// Boots the system, and runs a command or a shell in it. Returns its exit status.
///
/// # Errors
///
/// When a part cannot be made, or the boot cannot begin.
pub fn run(context: &Context, args: BootArgs) -> Result<u8> {
    let mut boot = Boot::prepare(context, &args.checked()?)?;
    // A pipe or a file is meant for the command, a terminal is not.
    boot.config.stdin = !io::stdin().is_terminal();
    let outcome = vm::run(context, &boot.config, &mut vm::pass_on)?;
    Ok(outcome.report())
}

/// A boot that can begin.
pub struct Boot {
    /// What QEMU is given.
    pub config: VmConfig,
    /// A copy of the disk that is removed with this.
    _copy: Option<RunDir>,
}

impl Boot {
    /// The boot that the options ask for, with all parts made.
    ///
    /// # Errors
    ///
    /// When a part cannot be made.
    pub fn prepare(context: &Context, args: &BootArgs) -> Result<Self> {
        packages::require(context, &[packages::VM, packages::BOOT])?;
        let kernel = kernel::make(context, args.flavor, None)?;
        let module = args
            .flavor
            .takes_module()
            .then(|| module::make(context, &kernel, Lint::Usual))
            .transpose()?;
        let system = system::make(context)?;
        let initramfs = {
            let base = hooks::make(context, args.way)?.unwrap_or_else(|| system.initramfs());
            initrd::make(context, &kernel, module.as_deref(), &base)?
        };
        let tree = tree::make(context, &modules_of(context, args.flavor)?, &system)?;
        let (disk, copy, words) = if args.stack == Stack::Ext4 {
            let (disk, copy) = disk(context, args, &tree.disk)?;
            (disk, copy, words::without_image())
        } else {
            let store = Store::make(context, args.flavor, &tree, args.store)?;
            let (disk, copy) = disk(context, args, &store.disk)?;
            let words = root_words(context, args, &store, &disk)?;
            (disk, copy, words)
        };
        let kernel = Kernel {
            initramfs: Some(initramfs),
            ..kernel
        };
        let mut config = VmConfig::of_system(kernel, disk, words, args.job());
        config.memory = "1G".to_owned();
        config.append.clone_from(&args.append);
        config.timeout = (args.timeout > 0 && !args.command.is_empty())
            .then(|| Duration::from_secs(args.timeout));
        config.log_name = "boot-console".to_owned();
        Ok(Self {
            config,
            _copy: copy,
        })
    }
}

/// The kernel whose modules are in the images. A patched one has those of the one without patches.
fn modules_of(context: &Context, flavor: Flavor) -> Result<Kernel> {
    let flavor = match flavor {
        Flavor::Patched => Flavor::Plain,
        Flavor::PatchedDebug => Flavor::Debug,
        other => other,
    };
    kernel::make(context, flavor, None)
}

/// What the kernel's command line says about the root. Tampers with the disk, if asked for.
fn root_words(
    context: &Context,
    args: &BootArgs,
    store: &Store,
    disk: &Disk,
) -> Result<Vec<String>> {
    let stored = store.image(args.image)?;
    let own = &stored.digest;
    eprintln!(
        "xtask: image {}: {own}; {} objects that the store did not have before",
        args.image.name(),
        stored.new_objects
    );
    if let Some(path) = &args.tamper {
        let object = match path.as_str() {
            "image" => format!("/composefs/objects/{}/{}", &own[..2], &own[2..]),
            path => store.object(args.image, path)?,
        };
        tamper::replace(context, &disk.file, &object)?;
    }
    if args.way != Way::Kernel {
        // These look for the image by the name that it must have.
        if let Some(digest) = &args.digest {
            tamper::link(&disk.file, own, digest)?;
        }
        let digest = args.digest.as_deref().unwrap_or(own);
        return Ok(words::for_hooks(digest, args.transient));
    }
    let root = Root {
        overlayfs: args.stack == Stack::Overlayfs,
        store: args.store.name(),
        image: own,
        digest: args.digest.as_deref().unwrap_or(own),
        transient: args.transient,
    };
    Ok(root.words())
}

/// The disk to boot from: the one in the cache, the user's own, or a copy for a change.
fn disk(context: &Context, args: &BootArgs, made: &Path) -> Result<(Disk, Option<RunDir>)> {
    if let Some(file) = &args.disk {
        if !file.exists() {
            // Half a disk would be booted the next time.
            let mut new = file.clone().into_os_string();
            new.push(".new");
            let new = PathBuf::from(new);
            files::copy_sparse(made, &new)?;
            fs::rename(&new, file).with_context(|| format!("cannot make {}", file.display()))?;
        }
        let (file, keep) = (file.clone(), true);
        return Ok((Disk { file, keep }, None));
    }
    let (mut file, keep) = (made.to_path_buf(), false);
    let mut copy = None;
    if args.tamper.is_some() || (args.digest.is_some() && args.way != Way::Kernel) {
        let dir = context.cache.run_dir()?;
        file = dir.path().join("disk.img");
        files::copy_sparse(made, &file)?;
        copy = Some(dir);
    }
    Ok((Disk { file, keep }, copy))
}
