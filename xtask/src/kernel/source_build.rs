// SPDX-License-Identifier: GPL-2.0

//! A kernel that xtask builds from source, once for each version, configuration
//! and toolchain.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use super::built::Kernel;
use super::built::install_modules;
use super::built::lock;
use super::config;
use super::target::Target;
use crate::cache::Entry;
use crate::cache::Key;
use crate::context::Context;
use crate::progress::Step;
use crate::source::Source;
use crate::toolchain::Toolchain;

/// Builds the kernel unless the cache has it. `own` is the user's own source tree.
///
/// # Errors
///
/// When tools are missing, or the source cannot be fetched or does not build.
pub fn make(context: &Context, target: Target, own: Option<&Path>) -> Result<Kernel> {
    let job = Job::prepare(context, target, own)?;
    if job.is_done() {
        return Ok(job.kernel());
    }
    let _lock = lock(context, &job.key)?;
    if job.is_done() {
        return Ok(job.kernel());
    }
    // make continues an interrupted build.
    job.entry.resume()?;
    let log = context.cache.log(&format!("kernel-{}", target.name()));
    let step = Step::begin(
        format!("building Linux {} ({})", job.source.version, target.name()),
        &log,
    )?;
    job.configure(&step)?;
    let image = target.machine.image().0;
    if job.has_later_modules() {
        // What modules out of tree need. The list of modules is empty so far.
        step.run(job.make().args([image, "modules_prepare"]))?;
        let build = job.build();
        fs::copy(build.join("vmlinux.symvers"), build.join("Module.symvers"))?;
        fs::write(build.join("modules.order"), "")?;
    } else {
        step.run(job.make().args([image, "modules"]))?;
    }
    install_modules(&step, job.make(), &job.kernel())?;
    job.entry.complete()?;
    step.done();
    Ok(job.kernel())
}

/// Builds the modules that [`make`] leaves out, if it leaves some out of this kernel and they
/// are not built yet.
///
/// # Errors
///
/// When the kernel or a module does not build.
pub fn later_modules(context: &Context, target: Target, own: Option<&Path>) -> Result<()> {
    let kernel = make(context, target, own)?;
    let job = Job::prepare(context, target, own)?;
    let stamp = job.entry.path().join("all-modules");
    if !job.has_later_modules() || stamp.exists() {
        return Ok(());
    }
    let _lock = lock(context, &job.key)?;
    if stamp.exists() {
        return Ok(());
    }
    let name = format!("modules-{}", target.name());
    let step = Step::begin(
        format!("building the modules of Linux ({})", target.name()),
        &context.cache.log(&name),
    )?;
    // make would take the empty list for the list of all.
    match fs::remove_file(job.build().join("modules.order")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    step.run(job.make().arg("modules"))?;
    install_modules(&step, job.make(), &kernel)?;
    fs::write(stamp, "")?;
    step.done();
    Ok(())
}

/// Configures the kernel in a directory of its own, and checks that each option
/// was taken.
///
/// # Errors
///
/// When one was not.
pub fn configure_only(context: &Context, target: Target, own: Option<&Path>) -> Result<()> {
    let mut job = Job::prepare(context, target, own)?;
    job.entry = context.cache.entry("kernel-config", &job.key);
    job.entry.start_over()?;
    let log = context.cache.log(&format!("configure-{}", target.name()));
    let step = Step::begin(format!("configuring Linux ({})", target.name()), &log)?;
    job.configure(&step)?;
    step.done();
    println!("{}", job.build().join(".config").display());
    Ok(())
}

/// A kernel about to be built.
struct Job {
    target: Target,
    source: Source,
    tools: Toolchain,
    /// The configuration's fragments in one text.
    fragment: String,
    /// Other files that the kernel is built with: names and texts.
    files: Vec<(&'static str, String)>,
    key: String,
    entry: Entry,
}

impl Job {
    fn prepare(context: &Context, target: Target, own: Option<&Path>) -> Result<Self> {
        let tools = Toolchain::ready(context)?;
        let source = Source::ready(context, own)?;
        let fragment = config::fragment(context, target)?;
        let files = config::files(context)?;
        let mut key = Key::default()
            .with("version", &source.version)
            .with("config", &fragment)
            .with("tools", tools.identity());
        for (name, text) in &files {
            key = key.with(name, text);
        }
        if source.own {
            key = key.with("source", source.dir.as_os_str().as_encoded_bytes());
        }
        let key = format!("{}-{}-{}", source.version, target.name(), key.finish());
        let entry = context.cache.entry("kernel", &key);
        Ok(Self {
            target,
            source,
            tools,
            fragment,
            files,
            key,
            entry,
        })
    }

    /// Whether make has nothing to do. The user's own tree may have changed, so make
    /// is always asked about that.
    fn is_done(&self) -> bool {
        self.entry.is_complete() && !self.source.own
    }

    /// Whether modules are built only when a test needs them: those of the debug kernel, xfs and
    /// btrfs, take a fifth of the time of the whole build.
    fn has_later_modules(&self) -> bool {
        self.target.flavor.is_debug() && !self.source.own
    }

    fn build(&self) -> PathBuf {
        self.entry.path().join("build")
    }

    fn kernel(&self) -> Kernel {
        Kernel {
            flavor: self.target.flavor,
            machine: self.target.machine,
            image: self.build().join(self.target.machine.image().1),
            initramfs: None,
            modules: self.entry.path().join("root/lib/modules"),
            build: self.build(),
            source: Some(self.source.dir.clone()),
            key: self.key.clone(),
            root: None,
        }
    }

    fn make(&self) -> Command {
        let mut make = self.tools.make(self.target.machine);
        make.arg("-C")
            .arg(&self.source.dir)
            .arg(format!("O={}", self.build().display()));
        make
    }

    fn configure(&self, step: &Step) -> Result<()> {
        let fragment = self.entry.path().join("fragment");
        let config = self.build().join(".config");
        let same = fs::read_to_string(&fragment).is_ok_and(|old| old == self.fragment);
        if same && config.exists() && !self.source.own {
            return Ok(());
        }
        fs::create_dir_all(self.build())?;
        fs::write(&fragment, &self.fragment)?;
        for (name, text) in &self.files {
            fs::write(self.build().join(name), text)?;
        }
        step.run(self.make().arg("rustavailable"))
            .context("the kernel's build refuses the Rust tools")?;
        step.run(
            self.make()
                .arg(format!("KCONFIG_ALLCONFIG={}", fragment.display()))
                .arg("allnoconfig"),
        )?;
        let refused = config::refused(&self.fragment, &fs::read_to_string(&config)?);
        if !refused.is_empty() {
            fs::remove_file(&fragment)?;
            bail!(
                "Linux {} does not take these options of scripts/config: {}; something that they \
                 depend on is missing, or they have another name there",
                self.source.version,
                refused.join(" ")
            );
        }
        Ok(())
    }
}
