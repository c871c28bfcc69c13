// SPDX-License-Identifier: GPL-2.0

//! One boot of a guest with some processors, and the plugin.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use composefs_bench::Image;
use composefs_bench::coherence::Line;
use composefs_bench::coherence::Plan;
use composefs_bench::coherence::Row;
use composefs_bench::coherence::Window;

use super::measured::Measured;
use super::symbols::Symbols;
use crate::bench::disk;
use crate::bench::disk::PROGRAM;
use crate::bench::guest;
use crate::bench::images;
use crate::cache::RunDir;
use crate::context::Context;
use crate::guest_program;
use crate::kernel::Flavor;
use crate::kernel::Kernel;
use crate::kernel::Target;
use crate::machine::Arch;
use crate::machine::Machine;
use crate::module;
use crate::module::Lint;
use crate::vm::Job;
use crate::vm::VmConfig;

/// The package of the plugin, and its file.
const PLUGIN: (&str, &str) = ("composefs-coherence", "libcomposefs_coherence.so");

/// Where images are in the guest: in a ramfs. erofs mounts files of ramfs, but not of tmpfs.
const TOP: &str = "/run/bench";

/// A boot.
pub struct Boot {
    config: VmConfig,
    processors: u32,
    dir: RunDir,
}

impl Boot {
    /// A guest with this many processors, for these rows.
    ///
    /// # Errors
    ///
    /// When a part of it cannot be made.
    pub fn new(context: &Context, processors: u32, rows: &[String]) -> Result<Self> {
        let target = Target::new(Flavor::Plain, Machine::X86_64)?;
        let program = guest_program::build(context, PROGRAM)?;
        let plugin = guest_program::build_library(context, Arch::default(), PLUGIN.0)?;
        let objects = disk::make(context, target, &program)?;
        let mut config = VmConfig::prepare(context, target, false, Job::Shell(None))?;
        let most = most_processors(&config.kernel)?;
        ensure!(
            processors <= most,
            "--processors {processors}: the guest's kernel has at most {most} (CONFIG_NR_CPUS)"
        );
        config.module = Some(module::make(context, &config.kernel, Lint::Lines)?);
        config.mounts = vec![
            ("bench".to_owned(), program),
            ("inline".to_owned(), images::inline(context)?),
        ];
        config.disks = vec![objects];
        config.timeout = Some(Duration::from_secs(7200));
        config.boot_timeout = Duration::from_secs(600);
        config.log_name = "coherence-console".to_owned();
        config.icount = true;
        config.smp = processors;
        config.append = vec!["nokaslr".to_owned(), guest::QUIET.to_owned()];

        let dir = context.cache.run_dir()?;
        let interrupts = dir.path().join("interrupts");
        let addresses = Symbols::of_kernel(&config.kernel)?.interrupts();
        ensure!(
            !addresses.is_empty(),
            "the kernel has no entries of interrupts"
        );
        fs::write(&interrupts, addresses)?;
        config.qemu = vec![
            "-plugin".to_owned(),
            format!(
                "file={},out={},interrupts={}",
                plugin.join(PLUGIN.1).display(),
                dir.path().join("windows").display(),
                interrupts.display()
            ),
        ];
        let plan = Plan {
            rows: rows.to_vec(),
            processors,
            content: Image {
                path: format!("{TOP}/content.cfs").into(),
                objects: "/run/content/objects".into(),
            },
            stored_content: Image {
                path: "/run/content/content.cfs".into(),
                objects: "/run/content/objects".into(),
            },
            unpacked: "/run/content/tree".into(),
            inline: Image {
                path: format!("{TOP}/{}.cfs", images::INLINE).into(),
                objects: format!("{TOP}/none").into(),
            },
        };
        let script = format!(
            "set -e\n\
             mkdir /run/content {TOP}\n\
             mount -o ro /dev/vdc /run/content\n\
             mount -t ramfs bench {TOP}\n\
             mkdir {TOP}/none\n\
             cp /run/content/content.cfs /mnt/inline/*.cfs /mnt/bench/{PROGRAM} {TOP}\n\
             exec {TOP}/{PROGRAM} coherence {}\n",
            shell_words::quote(&serde_json::to_string(&plan)?)
        );
        config.job = Job::Command(vec![script]);
        Ok(Self {
            config,
            processors,
            dir,
        })
    }

    /// Boots it. Returns what was measured, and what addresses mean.
    ///
    /// # Errors
    ///
    /// When the guest fails, or the plugin has counted something else.
    pub fn run(self, context: &Context) -> Result<(Vec<Measured>, Symbols)> {
        let about = format!("measuring with {} processors", self.processors);
        let output = guest::run(context, &self.config, "coherence", &about, PROGRAM)?;
        let mut symbols = Symbols::of_kernel(&self.config.kernel)?;
        let counted = self.dir.path().join("windows");
        let counted =
            fs::read_to_string(&counted).with_context(|| counted.display().to_string())?;
        let mut windows = counted.lines();
        let mut measured = Vec::new();
        for line in output.lines() {
            match serde_json::from_str(line)
                .with_context(|| format!("{PROGRAM} wrote a line that means nothing: {line}"))?
            {
                Line::Module(name, address) => {
                    let ours = self.config.module.as_deref();
                    let file = ours.filter(|_| name == "composefs");
                    symbols.add_module(name, address, file);
                }
                Line::Window(row, stack, address) => {
                    let window = windows.next().context("the plugin counted too little")?;
                    let window: Window = serde_json::from_str(window)
                        .context("the plugin wrote a line that means nothing")?;
                    ensure!(
                        window.operations > 0,
                        "{row} on {stack:?}: the plugin saw no operation"
                    );
                    measured.push(Measured {
                        row: Row::named(&row).context("the guest knows other rows")?,
                        stack,
                        processors: self.processors,
                        address,
                        window,
                    });
                }
            }
        }
        ensure!(windows.next().is_none(), "the plugin counted too much");
        symbols.resolve(&measured)?;
        Ok((measured, symbols))
    }
}

/// How many processors a kernel can have.
fn most_processors(kernel: &Kernel) -> Result<u32> {
    let path = kernel.build.join(".config");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    text.lines()
        .find_map(|line| line.strip_prefix("CONFIG_NR_CPUS=")?.parse().ok())
        .with_context(|| format!("{} has no CONFIG_NR_CPUS", path.display()))
}
