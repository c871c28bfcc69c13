// SPDX-License-Identifier: GPL-2.0

//! The commands and their options.

use std::io;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use clap::Subcommand;

use crate::bench;
use crate::bench::BenchArgs;
use crate::context::Context;
use crate::demo;
use crate::guest;
use crate::kernel;
use crate::kernel::Flavor;
use crate::module;
use crate::patches;
use crate::setup;
use crate::source::Source;
use crate::test;
use crate::vm;
use crate::vm::VmArgs;
use crate::vm::VmConfig;

/// What may be set in the environment.
const ENVIRONMENT: &str = "\
Environment:
  COMPOSEFS_CACHE          where all that is built is kept
  COMPOSEFS_KERNEL_SOURCE  a Linux tree to build (as kernel --source)
  COMPOSEFS_KERNEL_BUILD   a finished kernel build to use as it is
  COMPOSEFS_DEBIAN_MIRROR  the mirror for the guest and the kernel's source
  COMPOSEFS_IMAGES         a directory of *.cfs.gz, images to test with
  COMPOSEFS_JOBS           how many compilers make runs at once
  COMPOSEFS_STRESS_SECONDS how long each boot of the suite stress goes on
  COMPOSEFS_STRESS_SEED    where chance starts from in it
  COMPOSEFS_HOSTILE_SEED   which images the suite hostile makes
  COMPOSEFS_ACCEL          kvm, tcg or auto (as vm --accel)";

/// Builds, runs and tests composefs for Linux
#[derive(Parser)]
#[command(bin_name = "cargo xtask", version, max_term_width = 80, after_help = ENVIRONMENT)]
pub struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Installs what is missing on this machine, or names it
    Setup,
    /// Builds the guest's kernel
    Kernel {
        /// Which one
        #[arg(long, value_enum, default_value_t)]
        flavor: Flavor,
        /// A Linux tree to build instead of fetching one
        #[arg(long, value_name = "DIR", env = "COMPOSEFS_KERNEL_SOURCE")]
        source: Option<PathBuf>,
        /// Only configures it, and checks that every option was taken
        #[arg(long)]
        configure_only: bool,
    },
    /// Builds composefs.ko against the guest's kernel
    Module {
        /// Which kernel
        #[arg(long, value_enum, default_value_t)]
        flavor: Flavor,
        /// Lets clippy look at it as well
        #[arg(long)]
        clippy: bool,
    },
    /// Writes the patches that bring composefs into a kernel tree
    Patches {
        /// Where to; else to target/patches in the clone
        #[arg(value_name = "DIR")]
        dir: Option<PathBuf>,
        /// The Linux tree that they are for
        #[arg(long, value_name = "DIR", env = "COMPOSEFS_KERNEL_SOURCE")]
        source: Option<PathBuf>,
    },
    /// Makes the guest's disk
    Guest,
    /// Boots the guest with the module, runs a command or a shell in it
    Vm(VmArgs),
    /// Mounts a real image in the guest and shows what that gives
    Demo {
        /// Leaves you in a shell in the guest at the end
        #[arg(long)]
        shell: bool,
    },
    /// Runs the tests: those of the host, then those of the guest
    Test {
        /// Only the suites of these names; selftests:readdir is one program of
        /// its suite, stress:plain one kernel
        names: Vec<String>,
        /// Names the suites
        #[arg(long)]
        list: bool,
    },
    /// Measures composefs beside erofs and overlayfs
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
            flavor,
            source,
            configure_only: true,
        } => kernel::configure_only(&context, flavor, source.as_deref())?,
        Task::Kernel { flavor, source, .. } => {
            let kernel = kernel::make(&context, flavor, source.as_deref())?;
            println!("{}", kernel.image.display());
        }
        Task::Module { flavor, clippy } => {
            let kernel = kernel::make(&context, flavor, None)?;
            let module = module::make(&context, &kernel, module::Lint::from_flag(clippy))?;
            println!("{}", module.display());
        }
        Task::Patches { dir, source } => {
            let source = Source::ready(&context, source.as_deref())?;
            let dir = dir.unwrap_or_else(|| context.repo.join("target/patches"));
            patches::run(&context, &source.dir, &dir)?;
        }
        Task::Guest => println!("{}", guest::make(&context)?.root.display()),
        Task::Vm(args) => return run_vm(&context, args),
        Task::Demo { shell } => return demo::run(&context, shell),
        Task::Test { list: true, .. } => test::list(),
        Task::Test { names, .. } => return test::run(&context, &names),
        Task::Bench(args) => return bench::run(&context, &args),
        Task::CleanCache => context.cache.clean()?,
    }
    Ok(ExitCode::SUCCESS)
}

fn run_vm(context: &Context, args: VmArgs) -> Result<ExitCode> {
    let args = args.checked()?;
    let mut config = VmConfig::prepare(context, args.flavor, !args.no_module, args.job())?;
    args.apply(&mut config);
    // A terminal stays ours; a pipe or a file is meant for the command.
    config.stdin = !io::stdin().is_terminal();
    let outcome = vm::run(context, &config, &mut vm::pass_on)?;
    Ok(ExitCode::from(outcome.report()))
}
