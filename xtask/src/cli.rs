// SPDX-License-Identifier: GPL-2.0

//! The commands and their options.

use std::io;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use anyhow::bail;
use clap::Parser;
use clap::Subcommand;

use crate::bench;
use crate::bench::BenchArgs;
use crate::boot;
use crate::boot::BootArgs;
use crate::context::Context;
use crate::deb;
use crate::deb::DebArgs;
use crate::demo;
use crate::fixtures;
use crate::guest;
use crate::guest::System;
use crate::kernel;
use crate::kernel::Flavor;
use crate::kernel::TargetArgs;
use crate::machine::Arch;
use crate::module;
use crate::patches;
use crate::setup;
use crate::source::Source;
use crate::test;
use crate::test::CaseArgs;
use crate::test::TestArgs;
use crate::vm;
use crate::vm::VmArgs;
use crate::vm::VmConfig;

/// The variables of the environment, for the help.
const ENVIRONMENT: &str = "\
Environment:
  COMPOSEFS_CACHE          directory for everything that is built or downloaded
  COMPOSEFS_KERNEL_SOURCE  Linux tree to build, as with kernel --source
  COMPOSEFS_KERNEL_BUILD   finished kernel build to use as it is
  COMPOSEFS_DEBIAN_MIRROR  mirror for the guest and the kernel's source
  COMPOSEFS_IMAGES         directory of more images to test, *.cfs.gz
  COMPOSEFS_JOBS           number of jobs for make, as with make -j
  COMPOSEFS_STRESS_SECONDS seconds for each boot of the suites stress and stress-long
  COMPOSEFS_STRESS_SEED    seed of the random choices in these suites
  COMPOSEFS_HOSTILE_SEED   seed of the images in the suites hostile and hostile-long
  COMPOSEFS_FUZZ_SECONDS   seconds for each target of the suite fuzz, and for fuzz-kernel
  COMPOSEFS_NO_SKIP        if set, a skipped test counts as failed
  COMPOSEFS_ACCEL          kvm, tcg or auto, as with vm --accel";

/// Builds, runs and tests composefs for Linux
#[derive(Parser)]
#[command(bin_name = "cargo xtask", version, max_term_width = 80, after_help = ENVIRONMENT)]
pub struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Installs what this machine lacks, or lists it
    Setup,
    /// Builds the guest's kernel
    Kernel {
        #[command(flatten)]
        target: TargetArgs,
        /// Builds this Linux tree instead of fetching one
        #[arg(long, value_name = "DIR", env = "COMPOSEFS_KERNEL_SOURCE")]
        source: Option<PathBuf>,
        /// Only configures it, and checks that each option was taken
        #[arg(long)]
        configure_only: bool,
    },
    /// Builds composefs.ko for the guest's kernel
    Module {
        #[command(flatten)]
        target: TargetArgs,
        /// Runs clippy as well
        #[arg(long)]
        clippy: bool,
    },
    /// Writes the patches that add composefs to a kernel tree
    Patches {
        /// Writes them to this directory instead of target/patches
        #[arg(value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Writes them for this Linux tree instead of a fetched one
        #[arg(long, value_name = "DIR", env = "COMPOSEFS_KERNEL_SOURCE")]
        source: Option<PathBuf>,
        /// Builds the kernel after each patch, too
        #[arg(long)]
        build_each: bool,
    },
    /// Makes Debian packages
    Deb {
        /// Writes them to this directory instead of target/debian
        #[arg(value_name = "DIR")]
        dir: Option<PathBuf>,
        #[command(flatten)]
        args: DebArgs,
    },
    /// Makes the guest's disk
    Guest {
        /// Which system is on it
        #[arg(long, value_enum, default_value_t)]
        system: System,
        /// For which processor
        #[arg(long, value_enum, default_value_t)]
        arch: Arch,
    },
    /// Boots the guest, and runs a command or a shell in it
    Vm(VmArgs),
    /// Boots a Debian whose root is a composefs image
    Boot(BootArgs),
    /// Mounts a real image in the guest, step by step
    Demo {
        /// Makes an image of three layers, as containers have them, signs it, and mounts it
        /// because its signature is good
        #[arg(long)]
        layers: bool,
        /// The kernel to boot [default: debian, or plain where that cannot be had]
        #[arg(long, value_enum)]
        flavor: Option<Flavor>,
        /// Ends in a shell in the guest
        #[arg(long)]
        shell: bool,
    },
    /// Runs the tests, first on the host, then in the guest
    Test(TestArgs),
    /// Runs cases of the suite fuzz-kernel again, or makes one smaller
    FuzzCase(CaseArgs),
    /// Measures composefs, and erofs and overlayfs for comparison
    Bench(BenchArgs),
    /// Removes everything that was built or downloaded
    CleanCache,
}

/// Does what the command line says.
///
/// # Errors
///
/// When it cannot be done.
pub fn run(cli: Cli) -> Result<ExitCode> {
    let context = Context::new()?;
    match cli.command {
        Task::Setup => setup::run(&context)?,
        Task::Kernel {
            target,
            source,
            configure_only: true,
        } => kernel::configure_only(&context, target.target()?, source.as_deref())?,
        Task::Kernel { target, source, .. } => {
            let target = target.target()?;
            let kernel = kernel::make(&context, target, source.as_deref())?;
            kernel::all_modules(&context, target, source.as_deref())?;
            println!("{}", kernel.image.display());
        }
        Task::Module { target, clippy } => {
            let kernel = kernel::make(&context, target.target()?, None)?;
            let module = module::make(&context, &kernel, module::Lint::from_flag(clippy))?;
            println!("{}", module.display());
        }
        Task::Patches {
            dir,
            source,
            build_each,
        } => {
            let dir = dir.unwrap_or_else(|| context.repo.join("target/patches"));
            if dir.exists() && !dir.is_dir() {
                bail!(
                    "{} is not a directory: the patches are several files",
                    dir.display()
                );
            }
            let ready = Source::ready(&context, source.as_deref())?;
            patches::run(&context, &ready.dir, &dir)?;
            if build_each {
                kernel::build_each(&context, source.as_deref(), &dir)?;
            }
        }
        Task::Deb { dir, args } => {
            let dir = dir.unwrap_or_else(|| context.repo.join("target/debian"));
            for package in deb::make(&context, &dir, &args)? {
                println!("{}", package.display());
            }
        }
        Task::Guest { system, arch } => {
            println!("{}", guest::make(&context, system, arch)?.root.display());
        }
        Task::Vm(args) => return run_vm(&context, args),
        Task::Boot(args) => return Ok(ExitCode::from(boot::run(&context, args)?)),
        Task::Demo {
            flavor,
            layers,
            shell,
        } => return demo::run(&context, flavor, layers, shell),
        Task::Test(args) => return test::run(&context, &args),
        Task::FuzzCase(args) => return test::run_case(&context, &args),
        Task::Bench(args) => return bench::run(&context, &args),
        Task::CleanCache => context.cache.clean()?,
    }
    Ok(ExitCode::SUCCESS)
}

fn run_vm(context: &Context, args: VmArgs) -> Result<ExitCode> {
    let args = args.checked()?;
    let target = args.target.target()?;
    let mut config = VmConfig::prepare(context, target, !args.no_module, args.job())?;
    if args.fixtures {
        config.fixtures = Some(fixtures::make(context, target)?);
        eprintln!(
            "xtask: images are in {0}/images, their objects in {0}/objects",
            vm::FIXTURES
        );
    }
    if args.system != System::Usual {
        config.root.file = guest::make(context, args.system, target.machine.arch())?.root;
    }
    args.apply(&mut config);
    // A pipe or a file is meant for the command, a terminal is not.
    config.stdin = !io::stdin().is_terminal();
    let outcome = vm::run(context, &config, &mut vm::pass_on)?;
    Ok(ExitCode::from(outcome.report()))
}
