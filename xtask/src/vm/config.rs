// SPDX-License-Identifier: GPL-2.0

//! The parts of a run of the guest.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::context::Context;
use crate::guest;
use crate::guest::Guest;
use crate::guest::System;
use crate::guest_program;
use crate::kernel;
use crate::kernel::Kernel;
use crate::kernel::Target;
use crate::machine::Arch;
use crate::module;
use crate::module::Lint;
use crate::packages;

/// How QEMU executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Accel {
    /// KVM if a guest boots with it on this machine, else emulation
    Auto,
    /// The processor's own virtualization
    Kvm,
    /// Emulation, which works everywhere
    Tcg,
}

/// What the guest does once it has booted.
#[derive(Clone, Debug)]
pub enum Job {
    /// Runs a program with its arguments, without a terminal.
    Command(Vec<String>),
    /// Runs a shell on the user's terminal, after a first command if there is one.
    Shell(Option<String>),
}

/// A raw disk image.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Its path.
    pub file: PathBuf,
    /// Whether what the guest writes is kept.
    pub keep: bool,
}

/// Where the guest mounts the disk of [`VmConfig::fixtures`].
pub const FIXTURES: &str = "/run/fixtures";

/// The root of the guest's own disk, as the kernel's command line names it.
const GUEST_ROOT: [&str; 4] = ["root=/dev/vda", "rootfstype=ext4", "rw", "init=/sbin/init"];

/// The package, and the name of the program that cargo makes of it: it allows no dot.
const MOUNT_HELPER: &str = "mount-composefs";

/// A run of the guest: make it with [`VmConfig::new`], then [`run`](super::run()) it.
#[derive(Clone, Debug)]
pub struct VmConfig {
    /// The kernel to boot.
    pub kernel: Kernel,
    /// The first disk, /dev/vda, with the guest's root.
    pub root: Disk,
    /// What the kernel's command line says about the root.
    pub root_words: Vec<String>,
    /// The disk of /scratch, /dev/vdb; never written to.
    pub scratch: Option<PathBuf>,
    /// The module to load at boot.
    pub module: Option<PathBuf>,
    /// The program that becomes the guest's /usr/sbin/mount.composefs.
    pub mount_helper: Option<PathBuf>,
    /// What the guest does.
    pub job: Job,
    /// Whether systemd boots and shuts down the guest. The job waits until it has booted.
    pub systemd: bool,
    /// Whether xtask's standard input is passed to the command.
    pub stdin: bool,
    /// A directory of the host, at /mnt/share in the guest, read-write.
    pub share: Option<PathBuf>,
    /// Further directories of the host, read-only, at /mnt/NAME in the guest.
    pub mounts: Vec<(String, PathBuf)>,
    /// More disks, /dev/vdc and on in the guest.
    pub disks: Vec<Disk>,
    /// The disk of images and objects for tests, the last one, mounted at [`FIXTURES`].
    pub fixtures: Option<Disk>,
    /// Memory, as QEMU reads it (`2G`).
    pub memory: String,
    /// Processors.
    pub smp: u32,
    /// Whether the guest's clock counts instructions, so that measurements repeat.
    pub icount: bool,
    /// How instructions are executed.
    pub accel: Accel,
    /// How long the job may take, from the end of the boot. `None` is no limit.
    pub timeout: Option<Duration>,
    /// How long the guest may take to boot.
    pub boot_timeout: Duration,
    /// More words for the kernel's command line.
    pub append: Vec<String>,
    /// More words for QEMU's command line.
    pub qemu: Vec<String>,
    /// Name of the console's log.
    pub log_name: String,
}

impl VmConfig {
    /// A run with its kernel, module, guest and mount.composefs, which are made if the cache
    /// lacks them.
    ///
    /// # Errors
    ///
    /// When a part cannot be made.
    pub fn prepare(
        context: &Context,
        target: impl Into<Target>,
        with_module: bool,
        job: Job,
    ) -> Result<Self> {
        let target = target.into();
        let arch = target.machine.arch();
        packages::require(context, &[packages::vm(arch)])?;
        let kernel = kernel::make(context, target, None)?;
        let guest = guest::make(context, System::Usual, arch)?;
        let module = (with_module && target.flavor.takes_module())
            .then(|| module::make(context, &kernel, Lint::Usual))
            .transpose()?;
        let mount_helper =
            guest_program::build_for(context, arch, MOUNT_HELPER)?.join(MOUNT_HELPER);
        Ok(Self {
            module,
            mount_helper: Some(mount_helper),
            ..Self::new(kernel, guest, job)
        })
    }

    /// The guest's processor.
    pub fn arch(&self) -> Arch {
        self.kernel.machine.arch()
    }

    /// A run of a system that systemd boots from a disk of its own. The kernel has its
    /// initramfs.
    pub fn of_system(kernel: Kernel, root: Disk, root_words: Vec<String>, job: Job) -> Self {
        let guest = Guest {
            root: root.file.clone(),
            scratch: PathBuf::new(),
        };
        Self {
            root,
            root_words,
            scratch: None,
            systemd: true,
            // It starts many programs, which is slow under emulation.
            boot_timeout: Duration::from_secs(600),
            ..Self::new(kernel, guest, job)
        }
    }

    /// A run with the defaults of `cargo xtask vm`.
    pub fn new(kernel: Kernel, guest: Guest, job: Job) -> Self {
        // A debug kernel is some thirty times slower under emulation.
        let boot_timeout = Duration::from_secs(if kernel.flavor.is_debug() { 600 } else { 240 });
        Self {
            kernel,
            root: Disk {
                file: guest.root,
                keep: false,
            },
            root_words: GUEST_ROOT.map(str::to_owned).to_vec(),
            scratch: Some(guest.scratch),
            module: None,
            mount_helper: None,
            job,
            systemd: false,
            stdin: false,
            share: None,
            mounts: Vec::new(),
            disks: Vec::new(),
            fixtures: None,
            memory: "2G".to_owned(),
            smp: 2,
            icount: false,
            accel: Accel::Auto,
            timeout: None,
            boot_timeout,
            append: Vec::new(),
            qemu: Vec::new(),
            log_name: "console".to_owned(),
        }
    }
}
