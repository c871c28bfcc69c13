// SPDX-License-Identifier: GPL-2.0

//! tests/selftests in the guest.
//!
//! They are a directory of the kernel's tools/testing/selftests, and the Makefile there
//! builds and installs them. It is given a tree of links to the kernel's, with ours in it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use super::coverage;
use super::coverage::By;
use super::coverage::Places;
use super::headers;
use super::lanes;
use super::others;
use super::report::Report;
use super::share::Share;
use super::tools;
use super::watch::Program;
use super::watch::watch;
use crate::context::Context;
use crate::fixtures;
use crate::git::git;
use crate::guest;
use crate::guest::System;
use crate::kernel;
use crate::kernel::Flavor;
use crate::kernel::Kernel;
use crate::kernel::Target;
use crate::machine::Machine;
use crate::module;
use crate::module::Lint;
use crate::named;
use crate::packages;
use crate::patches;
use crate::progress::Step;
use crate::progress::output;
use crate::toolchain::Toolchain;
use crate::vm;
use crate::vm::Accel;
use crate::vm::Job;
use crate::vm::VmConfig;

/// Some of the programs of tests/selftests, named without `.py`.
#[derive(Clone, Copy, Debug)]
pub enum Programs<'a> {
    /// All but those of these lists, and those of the suites "clients" and "others".
    AllBut(&'a [&'a [&'a str]]),
    /// These.
    Only(&'a [&'a str]),
    /// Those of the suite "clients": their names begin with `clients_`.
    Clients,
    /// Those of the suite "others": their names begin with `others_`.
    Others,
    /// A share of these.
    Share(&'a Programs<'a>, Share),
}

impl Programs<'_> {
    /// Whether a program may be one of these.
    pub fn may_run(&self, name: &str) -> bool {
        match self {
            Self::AllBut(lists) => {
                !lists.iter().any(|names| names.contains(&name))
                    && !name.starts_with(CLIENTS)
                    && !name.starts_with(OTHERS)
            }
            Self::Only(names) => names.contains(&name),
            Self::Clients => name.starts_with(CLIENTS),
            Self::Others => name.starts_with(OTHERS),
            Self::Share(all, _) => all.may_run(name),
        }
    }
}

/// Where the programs and the images come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The programs of this clone, with images that the composefs tools made.
    Clone,
    /// The programs of a kernel tree with the patches. They have to make the images
    /// themselves, and must not skip a test.
    Patches,
}

/// One boot of the guest.
#[derive(Clone, Copy, Debug)]
pub struct Boot<'a> {
    /// The name of its logs.
    pub name: &'static str,
    /// The kernel.
    pub flavor: Flavor,
    /// The system on the root disk.
    pub system: System,
    /// Further words of the kernel's command line.
    pub append: &'static [&'static str],
    /// In how many guests at once.
    pub lanes: usize,
    /// Where the programs and the images come from.
    pub origin: Origin,
    /// The programs to run.
    pub programs: Programs<'a>,
    /// How long all programs together may take, under emulation.
    pub timeout: Duration,
    /// How long one program may take, if not as in `tests/selftests/settings`.
    pub program_timeout: Option<Duration>,
    /// Whether to tell which lines of the module were run. The kernel needs KCOV.
    pub coverage: bool,
    /// Whether tests that repeat something do with fewer rounds.
    pub few_rounds: bool,
}

impl Boot<'_> {
    /// The names of its programs. Those that can run in the guest are in the directory
    /// `installed`.
    fn names(&self, installed: &Path) -> Result<Vec<String>> {
        // run_kselftest.sh refuses a name that it does not know.
        if let Programs::Only(names) = self.programs {
            return Ok(names.iter().map(|&name| name.to_owned()).collect());
        }
        let list = installed.join("kselftest-list.txt");
        let list =
            fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
        let mut names: Vec<&str> = list
            .lines()
            .filter_map(|line| line.split_once(':')?.1.strip_suffix(".py"))
            .filter(|name| self.programs.may_run(name))
            .collect();
        if let Programs::Share(_, share) = self.programs {
            names = share.programs(&names, self.flavor);
        }
        Ok(names.into_iter().map(str::to_owned).collect())
    }
}

/// The variable that names a directory with further images, `*.cfs.gz`.
pub const IMAGES: &str = "COMPOSEFS_IMAGES";

/// What the names of the programs of the suite "clients" begin with.
pub const CLIENTS: &str = "clients_";

/// The program that reads images of another machine: those for x86-64, on other machines.
const OTHER_MACHINE: &str = "other_machine";

/// What the names of the programs of the suite "others" begin with.
pub const OTHERS: &str = "others_";

/// Programs that need the modules xfs and btrfs.
const NEED_MODULES: [&str; 3] = ["source", "data_store", "lock_order_disks"];

/// Where the directory is in a kernel tree.
const COLLECTION: &str = "filesystems/composefs";

/// Runs the programs of one boot on the usual machine.
///
/// # Errors
///
/// As [`run_on`].
pub fn run(context: &Context, report: &mut Report, boot: &Boot<'_>) -> Result<()> {
    run_on(context, report, boot, Machine::default())
}

/// Runs the programs of one boot on a machine.
///
/// # Errors
///
/// When the tests cannot be built or the guest not be made.
pub fn run_on(
    context: &Context,
    report: &mut Report,
    boot: &Boot<'_>,
    machine: Machine,
) -> Result<()> {
    packages::require(context, &[packages::TEST])?;
    let target = Target::new(boot.flavor, machine)?;
    let mut config = VmConfig::prepare(context, target, true, Job::Shell(None))?;
    if boot.system != System::Usual {
        config.root.file = guest::make(context, boot.system, machine.arch())?.root;
    }
    // Each run has a directory of its own: another one may be using another build.
    let work = context.cache.run_dir()?;
    let mut environment = String::new();
    let ours = match boot.origin {
        Origin::Clone => {
            config.fixtures = Some(fixtures::make(context, target)?);
            environment.push_str(&format!("export COMPOSEFS_FIXTURES={}\n", vm::FIXTURES));
            if machine != Machine::default() && boot.programs.may_run(OTHER_MACHINE) {
                config.disks.push(fixtures::make(context, boot.flavor)?);
                // The first one of these.
                environment.push_str("export COMPOSEFS_OTHER_FIXTURES=/dev/vdc\n");
            }
            context.repo.join("tests/selftests")
        }
        Origin::Patches => of_patches(context, &config.kernel, work.path())?,
    };
    if !ours.join("Makefile").exists() {
        bail!("{} has no Makefile", ours.display());
    }
    let installed = install(context, &config.kernel, &ours, work.path())?;
    config.mounts = vec![("kselftest".to_owned(), installed.clone())];
    if boot.origin == Origin::Clone {
        environment.push_str(&tools::share(context, &mut config, work.path(), |name| {
            boot.programs.may_run(name)
        })?);
    }
    if boot.system == System::Others {
        let kernel = config.kernel.clone();
        environment.push_str(&others::share(context, &mut config, &kernel, work.path())?);
    }
    if let (Origin::Clone, Some(images)) = (boot.origin, named::directory_of(IMAGES)?) {
        config.mounts.push(("images".to_owned(), images));
        environment.push_str("export COMPOSEFS_IMAGES=/mnt/images\n");
    }
    if boot.few_rounds {
        environment.push_str("export COMPOSEFS_SLOW=1\n");
    }
    if boot.coverage {
        config.module = Some(module::make(context, &config.kernel, Lint::Coverage)?);
        // With KVM, nothing is translated.
        config.accel = Accel::Tcg;
    }
    config.timeout = Some(boot.timeout);
    config
        .append
        .extend(boot.append.iter().map(|&word| word.to_owned()));
    let share = match boot.programs {
        Programs::Share(_, share) => Some(share),
        _ => None,
    };
    let program = Program {
        name: share.map_or_else(
            || "selftests".to_owned(),
            |share| format!("{}-{share}", boot.name),
        ),
        about: share.map_or_else(
            || "running the selftests in the guest".to_owned(),
            |share| format!("running the selftests in the guest, {share}"),
        ),
        // All are of this one collection.
        prefix: format!("{COLLECTION}: "),
        suffix: match boot.origin {
            Origin::Clone if machine != Machine::default() => format!(" ({})", machine.name()),
            Origin::Clone => String::new(),
            Origin::Patches => " (kernel tree)".to_owned(),
        },
        may_skip: boot.origin == Origin::Clone,
    };
    let names = boot.names(&installed)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if names.iter().any(|name| NEED_MODULES.contains(name)) {
        kernel::all_modules(context, target, None)?;
    }
    let lanes = lanes::split(&names, boot.flavor, boot.lanes);
    let mut name = format!("{}{}", boot.name, machine.suffix());
    if let Some(share) = share {
        name.push_str(&format!("-{share}"));
    }
    let log = |number: u32| coverage::Log::new(work.path().join(format!("translated-{number}")));
    let module = config.module.clone();
    let guests: Vec<(VmConfig, Program)> = (1..)
        .zip(&lanes)
        .map(|(number, names)| {
            let mut config = config.clone();
            let mut program = program.clone();
            config.log_name = format!("{name}-console");
            if lanes.len() > 1 {
                config.log_name = format!("{name}-{number}-console");
                program.name = format!("{}-{number}", program.name);
                program.about = format!("{} {number} of {}", program.about, lanes.len());
            }
            if boot.coverage {
                config.qemu.extend(log(number).qemu());
            }
            config.job = Job::Command(vec![format!(
                "set -e\n{environment}\
                 cp -r /mnt/kselftest /run/kselftest\n\
                 exec /run/kselftest/run_kselftest.sh --no-error-on-fail{}\n",
                arguments(boot, names),
            )]);
            (config, program)
        })
        .collect();
    lanes::at_once(report, guests, |(config, program), report| {
        watch(context, &config, report, &program)
    })?;
    if let (true, Some(module)) = (boot.coverage, module) {
        let mut places = Places::new();
        for (number, _) in (1..).zip(&lanes) {
            places.extend(log(number).places()?);
        }
        let part = match boot.programs {
            Programs::Only(names) => Some(names.join(",")),
            _ => share.map(|share| share.to_string()),
        };
        coverage::tell(
            context,
            report,
            &module,
            By::Selftests,
            part.as_deref(),
            places,
        )?;
    }
    Ok(())
}

/// Runs some programs, with commas between their names, on the kernel of a boot.
///
/// # Errors
///
/// As [`run`].
pub fn part(context: &Context, report: &mut Report, boot: &Boot<'_>, names: &str) -> Result<()> {
    part_on(context, report, boot, Machine::default(), names)
}

/// Runs some programs, with commas between their names, on the kernel of a boot for a machine.
///
/// # Errors
///
/// As [`run_on`].
pub fn part_on(
    context: &Context,
    report: &mut Report,
    boot: &Boot<'_>,
    machine: Machine,
    names: &str,
) -> Result<()> {
    let names: Vec<&str> = names.split(',').collect();
    let boot = Boot {
        programs: Programs::Only(&names),
        ..*boot
    };
    run_on(context, report, &boot, machine)
}

/// Checks that there are programs of these names, with commas between them.
///
/// # Errors
///
/// The first name without a program, and the names of all programs.
pub fn check_names(context: &Context, names: &str) -> Result<()> {
    let known = programs(&context.repo.join("tests/selftests"))?;
    for name in names.split(',') {
        if name.is_empty() {
            bail!("the name of a program is missing in \"{names}\"");
        }
        if !known.iter().any(|known| known == name) {
            bail!(
                "there is no program \"{name}\" in tests/selftests; there are: {}",
                known.join(" ")
            );
        }
    }
    Ok(())
}

/// The names of all programs, sorted.
fn programs(dir: &Path) -> Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(dir)?
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".py")?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

/// The arguments of run_kselftest.sh for these programs.
fn arguments(boot: &Boot<'_>, names: &[&str]) -> String {
    let mut arguments = String::new();
    for name in names {
        arguments.push_str(&format!(" --test {COLLECTION}:{name}.py"));
    }
    if let Some(limit) = boot.program_timeout {
        arguments.push_str(&format!(" -o {}", limit.as_secs()));
    }
    arguments
}

/// Takes the programs out of the patches. Returns the directory.
fn of_patches(context: &Context, kernel: &Kernel, work: &Path) -> Result<PathBuf> {
    let series = patches::make(context, &kernel.tree(context)?, &work.join("patches"))?;
    let tree = work.join("patched");
    fs::create_dir(&tree)?;
    let inside = Path::new("tools/testing/selftests").join(COLLECTION);
    // The first file is the cover letter.
    for patch in series.iter().skip(1) {
        let mut apply = git();
        apply
            .current_dir(&tree)
            // A repository above the directory would swallow the files.
            .env("GIT_CEILING_DIRECTORIES", work)
            .arg("apply")
            .arg(format!("--include={}/*", inside.display()))
            .arg(patch);
        output(&mut apply)?;
    }
    Ok(tree.join(inside))
}

/// Builds and installs the tests with the kernel's Makefile.
fn install(context: &Context, kernel: &Kernel, ours: &Path, work: &Path) -> Result<PathBuf> {
    let tools = Toolchain::ready(context)?;
    let tree = work.join("tree");
    let objects = work.join("objects");
    let installed = work.join("installed");
    let inside = Path::new("tools/testing/selftests").join(COLLECTION);
    let source = kernel.tree(context)?;
    graft(&source, &tree, &inside, ours)?;

    let log = context.cache.numbered_log("selftests-build")?;
    let step = Step::begin("building the selftests", &log)?;
    let headers = headers::ready(context, kernel, &source, &step)?;
    fs::create_dir_all(&objects)?;
    symlink(headers, objects.join("usr"))?;
    step.run(
        tools
            .make(kernel.machine)
            .arg("-C")
            .arg(tree.join("tools/testing/selftests"))
            .arg(format!("O={}", objects.display()))
            .arg(format!("KSFT_INSTALL_PATH={}", installed.display()))
            .arg(format!("TARGETS={COLLECTION}"))
            .args(["SKIP_TARGETS=", "FORCE_TARGETS=1", "COMPOSEFS_SPECIAL=1"])
            // The guest's C library may be older than the host's.
            .arg("USERLDFLAGS=-static")
            .arg("install"),
    )?;
    drop(step);
    Ok(installed)
}

/// Makes a tree of links to `source`, with `ours` at `inside`.
fn graft(source: &Path, tree: &Path, inside: &Path, ours: &Path) -> Result<()> {
    fs::create_dir_all(tree)?;
    let mut parts = inside.components();
    let Some(next) = parts.next() else {
        bail!("nothing to graft");
    };
    let below = parts.as_path();
    for entry in fs::read_dir(source)?.flatten() {
        if entry.file_name() != next.as_os_str() {
            symlink(entry.path(), tree.join(entry.file_name()))?;
        }
    }
    if below.as_os_str().is_empty() {
        // Not a link to the directory: the Makefile in it includes ../../lib.mk.
        let dir = tree.join(next);
        fs::create_dir(&dir)?;
        for entry in fs::read_dir(ours)?.flatten() {
            symlink(entry.path(), dir.join(entry.file_name()))?;
        }
        return Ok(());
    }
    graft(&source.join(next), &tree.join(next), below, ours)
}
