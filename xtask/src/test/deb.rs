// SPDX-License-Identifier: GPL-2.0

//! The Debian packages, on a fresh Debian with its own kernel: their life in a chroot, and
//! then, booted with systemd, what they have installed (tests/packages).
//!
//! Nothing is kept in the cache: what apt does depends on the mirror.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;

use super::report::Report;
use super::watch::Program;
use super::watch::watch;
use crate::context::Context;
use crate::deb;
use crate::deb::DebArgs;
use crate::debian;
use crate::guest;
use crate::guest::Guest;
use crate::kernel::Flavor;
use crate::kernel::Kernel;
use crate::ktap::Parser;
use crate::machine::Machine;
use crate::packages;
use crate::progress::Step;
use crate::toolchain;
use crate::vm::Job;
use crate::vm::VmConfig;

/// What a fresh Debian has, besides the essential packages, apt and the kernel.
const SYSTEM: &str = "systemd-sysv,udev,initramfs-tools,kmod,zstd,fsverity";

/// Installs Debian's kernel of backports, as its users do.
const INSTALL_KERNEL: &str = r#"chroot "$1" apt-get install --yes --no-install-recommends \
    -t trixie-backports linux-image-amd64 linux-headers-amd64"#;

/// Leaves the kernel and its initramfs in /srv, and makes room: nothing is built any more.
const FINISH: &str = r#"chroot "$1" sh -c '
    set -e
    cp /boot/vmlinuz-7.3.* /srv/vmlinuz
    cp /boot/initrd.img-7.3.* /srv/initrd
    systemctl enable guest-init.service
    rm -rf /srv/old /srv/new /var/cache/apt/* /usr/src/linux-source-* /usr/src/rustc-* \
        /usr/lib/llvm-*
'"#;

/// Runs the suite.
///
/// # Errors
///
/// When the packages cannot be built, Debian cannot be reached, or the guest fails.
pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    packages::require(context, &[packages::GUEST, packages::VM])?;
    let work = context.cache.run_dir()?;
    let work = work.path();
    let old = work.join("old");
    deb::make(context, &old, &DebArgs::default())?;
    let new = work.join("new");
    let newer = DebArgs {
        package_version: Some(format!("{}+test1", deb::version(context)?)),
        modules: true,
    };
    deb::make(context, &new, &newer)?;

    let tar = work.join("root.tar");
    let results = work.join("results");
    let log = context.cache.numbered_log("packages-life")?;
    let step = Step::begin("installing the packages on a fresh Debian", &log)?;
    step.run(&mut life(context, work, &old, &new, &tar)?)?;
    step.done();
    let text = fs::read_to_string(&results)
        .with_context(|| format!("{}: no results", results.display()))?;
    let mut parser = Parser::default();
    let mut cases: Vec<_> = text.lines().flat_map(|line| parser.line(line)).collect();
    cases.extend(parser.finish());
    for case in cases {
        report.case(&case.name, &case.verdict);
    }
    boot(context, report, work, &tar)
}

/// Makes a Debian and runs `tests/packages/in-chroot` in it. `work` gets the results, the
/// kernel and its initramfs, and `tar` the system.
fn life(context: &Context, work: &Path, old: &Path, new: &Path, tar: &Path) -> Result<Command> {
    let quoted = |path: PathBuf| shell_words::quote(&path.to_string_lossy()).into_owned();
    let test = context.repo.join("tests/packages/in-chroot");
    let service = context.repo.join("scripts/guest-init.service");
    let test_line = format!(
        "chroot \"$1\" env COMPOSEFS_JOBS={} bash /srv/in-chroot /srv/old /srv/new \
         >\"$1/srv/results\"",
        toolchain::jobs()?,
    );
    let mut command = debian::mmdebstrap("apt", "tar");
    command.arg(format!("--include={SYSTEM}"));
    let hooks = [
        INSTALL_KERNEL.to_owned(),
        format!(
            "copy-in {} {} {} /srv",
            quoted(old.to_path_buf()),
            quoted(new.to_path_buf()),
            quoted(test)
        ),
        test_line,
        format!("copy-in {} /etc/systemd/system", quoted(service)),
        FINISH.to_owned(),
        format!("download /srv/results {}", quoted(work.join("results"))),
        format!("download /srv/vmlinuz {}", quoted(work.join(KERNEL))),
        format!("download /srv/initrd {}", quoted(work.join(INITRAMFS))),
    ];
    for hook in hooks {
        command.arg(format!("--customize-hook={hook}"));
    }
    let backports = format!("{}-backports", debian::SUITE);
    debian::add_release(&mut command, debian::SUITE, &backports);
    // If no mirror is known, mmdebstrap takes its own default.
    command.arg(debian::SUITE).arg(tar).args(debian::mirror());
    Ok(command)
}

/// Boots the system, and runs `tests/packages/in-guest` in it.
fn boot(context: &Context, report: &mut Report, work: &Path, tar: &Path) -> Result<()> {
    let guest = Guest {
        root: work.join("root.img"),
        scratch: work.join("scratch.img"),
    };
    // The module is in the system itself.
    let modules = work.join("modules");
    fs::create_dir(&modules)?;
    let log = context.cache.numbered_log("packages-disk")?;
    let step = Step::begin("making a disk of it", &log)?;
    guest::disk_from_tar(&step, tar, work, &guest.root)?;
    guest::verity_disk(&step, &guest.scratch, 64 << 20)?;
    step.done();
    let kernel = Kernel {
        flavor: Flavor::Debian,
        machine: Machine::X86_64,
        image: work.join(KERNEL),
        initramfs: Some(work.join(INITRAMFS)),
        build: modules.clone(),
        modules,
        source: None,
        key: "packages".to_owned(),
        root: None,
    };
    let job = Job::Command(vec!["exec bash /mnt/packages/in-guest".to_owned()]);
    let mut config = VmConfig::new(kernel, guest, job);
    config.mounts = vec![("packages".to_owned(), context.repo.join("tests/packages"))];
    // systemd starts many programs.
    config.boot_timeout = Duration::from_secs(600);
    config.timeout = Some(Duration::from_secs(900));
    config.log_name = "packages-console".to_owned();
    let program = Program {
        name: "packages".to_owned(),
        about: "using the packages on Debian's kernel".to_owned(),
        prefix: String::new(),
        suffix: " (booted)".to_owned(),
        may_skip: false,
    };
    watch(context, &config, report, &program)
}

/// Names in the working directory.
const KERNEL: &str = "vmlinuz";
const INITRAMFS: &str = "initrd";
