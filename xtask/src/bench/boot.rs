// SPDX-License-Identifier: GPL-2.0

//! One boot of the guest that measures.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use composefs_bench::Image;
use composefs_bench::Line;
use composefs_bench::Plan;
use composefs_bench::Row;
use composefs_bench::Set;
use composefs_bench::Stack;

use super::args::BenchArgs;
use super::disk;
use super::disk::PROGRAM;
use super::guest;
use super::images;
use super::results::Results;
use crate::context::Context;
use crate::fixtures;
use crate::guest_program;
use crate::kernel::Flavor;
use crate::kernel::Target;
use crate::machine::Machine;
use crate::named;
use crate::vm::Job;
use crate::vm::VmConfig;

/// The image to walk, if COMPOSEFS_IMAGES has it...
const PREFERRED_TREE: &str = "cs9-minimal";

/// ... else one of the guest's own tree, from the fixtures.
const USUAL_TREE: &str = "debian-v0";

/// Where images are in the guest: in a ramfs. erofs mounts files of ramfs, but not of
/// tmpfs.
const TOP: &str = "/run/bench";

/// A boot under construction.
pub struct Boot {
    /// The guest.
    pub config: VmConfig,
    plan: Plan,
    tree: String,
    script: String,
}

impl Boot {
    /// A guest that measures these rows.
    ///
    /// # Errors
    ///
    /// When a part of it cannot be made.
    pub fn new(
        context: &Context,
        args: &BenchArgs,
        rows: Vec<String>,
        profile: Option<Stack>,
    ) -> Result<Self> {
        let target = Target::new(Flavor::Plain, args.machine.machine()?)?;
        let program = guest_program::build_for(context, target.machine.arch(), PROGRAM)?;
        let objects = disk::make(context, target, &program)?;
        let mut config = VmConfig::prepare(context, target, true, Job::Shell(None))?;
        config.mounts = vec![("bench".to_owned(), program)];
        config.disks = vec![objects];
        config.timeout = Some(Duration::from_secs(3600));
        config.log_name = "bench-console".to_owned();
        config.append = vec![guest::QUIET.to_owned()];
        let script = format!(
            "set -e\n\
             mkdir /run/content {TOP}\n\
             mount -o ro /dev/vdc /run/content\n\
             mount -t ramfs bench {TOP}\n\
             mkdir {TOP}/none\n\
             cp /run/content/content.cfs /mnt/bench/{PROGRAM} {TOP}\n"
        );
        let plan = Plan {
            rows,
            repeat: match args {
                // The first run takes no samples.
                BenchArgs { profile: true, .. } => args.repeat + 1,
                // The first run after a boot leaves more in memory than later ones.
                BenchArgs { quick: true, .. } => 2,
                _ => args.repeat,
            },
            tree: bare(&format!("{TOP}/tree.cfs")),
            stored_tree: bare("/scratch/tree.cfs"),
            content: Image {
                path: format!("{TOP}/content.cfs").into(),
                objects: "/run/content/objects".into(),
            },
            stored_content: Image {
                path: "/run/content/content.cfs".into(),
                objects: "/run/content/objects".into(),
            },
            unpacked: "/run/content/tree".into(),
            wide: bare(&format!("{TOP}/{}.cfs", images::WIDE)),
            shape: None,
            profile,
        };
        let mut boot = Self {
            config,
            plan,
            tree: String::new(),
            script,
        };
        boot.add_tree(context)?;
        boot.add_made(images::wide(context)?, "wide");
        if target.machine != Machine::default() {
            // Where pages are larger than 4 KiB, erofs does not mount a file that ends within one.
            boot.script += &format!("truncate --size=%64K {TOP}/*.cfs /scratch/tree.cfs\n");
        }
        let large = |name: &String| Row::named(name).is_some_and(|row| row.set == Set::Large);
        if boot.plan.rows.iter().any(large) {
            boot.add_made(images::shape(context)?, "shape");
            boot.plan.shape = Some(images::SHAPE.map(|name| bare(&format!("{TOP}/{name}.cfs"))));
            // For two file systems' inodes and dentries of a million files.
            boot.config.memory = "6G".to_owned();
        }
        Ok(boot)
    }

    /// Adds the image of the tree to walk.
    fn add_tree(&mut self, context: &Context) -> Result<()> {
        let images = named::directory_of("COMPOSEFS_IMAGES")?;
        let preferred =
            images.filter(|images| images.join(format!("{PREFERRED_TREE}.cfs.gz")).exists());
        if let Some(images) = preferred {
            let mount = ("images".to_owned(), images);
            self.config.mounts.push(mount);
            self.tree = PREFERRED_TREE.to_owned();
            self.script +=
                &format!("gzip -dc /mnt/images/{PREFERRED_TREE}.cfs.gz >{TOP}/tree.cfs\n");
        } else {
            self.config
                .disks
                .push(fixtures::make(context, self.config.kernel.target())?);
            self.tree = USUAL_TREE.to_owned();
            self.script += &format!(
                "mkdir /run/fixtures\n\
                 mount -o ro /dev/vdd /run/fixtures\n\
                 cp /run/fixtures/images/{USUAL_TREE}.cfs {TOP}/tree.cfs\n"
            );
        }
        self.script += &format!("cp {TOP}/tree.cfs /scratch\n");
        Ok(())
    }

    /// Adds images that xtask made on the host.
    fn add_made(&mut self, dir: PathBuf, name: &str) {
        self.config.mounts.push((name.to_owned(), dir));
        self.script += &format!("cp /mnt/{name}/*.cfs {TOP}\n");
    }

    /// Boots it and adds its figures to the results.
    ///
    /// # Errors
    ///
    /// When the guest fails.
    pub fn run(mut self, context: &Context, results: &mut Results) -> Result<()> {
        results.tree = self.tree;
        let plan = serde_json::to_string(&self.plan)?;
        self.script += &format!("exec {TOP}/{PROGRAM} run {}\n", shell_words::quote(&plan));
        self.config.job = Job::Command(vec![self.script]);
        let output = guest::run(
            context,
            &self.config,
            "bench",
            "measuring in the guest",
            PROGRAM,
        )?;
        for line in output.lines() {
            match serde_json::from_str(line)
                .with_context(|| format!("{PROGRAM} wrote a line that is not a figure: {line}"))?
            {
                Line::Figure(figure) => results.figures.push(figure),
                Line::Profile(profile) => results.profiles.push(profile),
            }
        }
        Ok(())
    }
}

/// An image without its objects.
fn bare(path: &str) -> Image {
    Image {
        path: path.into(),
        objects: format!("{TOP}/none").into(),
    }
}
