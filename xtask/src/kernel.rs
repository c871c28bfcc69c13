// SPDX-License-Identifier: GPL-2.0

//! The guest's kernel: unpatched unless that is asked for, configured by the
//! fragments in scripts/config, built once for each source, configuration and
//! toolchain.

use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::UNIX_EPOCH;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use crate::cache::Entry;
use crate::cache::Key;
use crate::cache::Lock;
use crate::context::Context;
use crate::named;
use crate::packages::path_with_sbin;
use crate::patched;
use crate::progress::Step;
use crate::source::Source;
use crate::toolchain::Toolchain;

/// Which of the guest's kernels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Flavor {
    /// Quick
    #[default]
    Plain,
    /// With sanitizers, lock checking and fault injection; slow
    Debug,
    /// The plain one, with composefs built in
    Patched,
}

impl Flavor {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Debug => "debug",
            Self::Patched => "patched",
        }
    }

    /// Whether composefs is a module of it.
    pub fn takes_module(self) -> bool {
        self != Self::Patched
    }

    /// Whether it is the slow one.
    pub fn is_debug(self) -> bool {
        self == Self::Debug
    }

    /// The fragments, the later ones winning.
    fn fragments(self) -> &'static [&'static str] {
        match self {
            Self::Plain | Self::Patched => &["base.config"],
            Self::Debug => &["base.config", "debug.config"],
        }
    }
}

/// A built kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Which one.
    pub flavor: Flavor,
    /// What QEMU boots.
    pub image: PathBuf,
    /// What becomes the guest's /lib/modules.
    pub modules: PathBuf,
    /// The build directory, for modules out of tree.
    pub build: PathBuf,
    /// The source tree.
    pub source: PathBuf,
    /// Names this build among others.
    pub key: String,
}

/// Builds the kernel unless it is there. `own` is a person's own tree.
///
/// A directory named by `COMPOSEFS_KERNEL_BUILD` is taken as it is, as a
/// finished build of whatever flavor was asked for; the patched kernel is made
/// from it.
///
/// # Errors
///
/// When tools are missing, the source is not to be had or does not build.
pub fn make(context: &Context, flavor: Flavor, own: Option<&Path>) -> Result<Kernel> {
    if flavor == Flavor::Patched {
        return patched::make(context, own);
    }
    if let Some(build) = named::directory_of("COMPOSEFS_KERNEL_BUILD")? {
        return finished(context, flavor, &build);
    }
    let own = own.map(Path::to_path_buf).or_else(|| {
        let dir = env::var_os("COMPOSEFS_KERNEL_SOURCE")?;
        (!dir.is_empty()).then(|| PathBuf::from(dir))
    });
    let job = Job::prepare(context, flavor, own.as_deref())?;
    if job.entry.is_complete() && !job.source.own {
        return Ok(job.kernel());
    }
    let _lock = lock(context, &job.key)?;
    if job.entry.is_complete() && !job.source.own {
        return Ok(job.kernel());
    }
    // What an interrupted build has compiled is still good: make looks.
    job.entry.resume()?;
    let log = context.cache.log(&format!("kernel-{}", flavor.name()));
    let step = Step::begin(
        format!("building Linux {} ({})", job.source.version, flavor.name()),
        &log,
    )?;
    job.configure(&step)?;
    step.run(job.make().args(["bzImage", "modules"]))?;
    install_modules(&step, job.make(), &job.kernel())?;
    job.entry.complete()?;
    step.done();
    Ok(job.kernel())
}

/// Keeps others from building the kernel of this key.
///
/// # Errors
///
/// When there is no lock to be had.
pub fn lock(context: &Context, key: &str) -> Result<Lock> {
    context.cache.lock(&format!("kernel-{key}"))
}

/// Configures the kernel in a directory of its own and checks the result.
///
/// # Errors
///
/// When an option was not taken.
pub fn configure_only(context: &Context, flavor: Flavor, own: Option<&Path>) -> Result<()> {
    let mut job = Job::prepare(context, flavor, own)?;
    job.entry = context.cache.entry("kernel-config", &job.key);
    job.entry.start_over()?;
    let log = context.cache.log(&format!("configure-{}", flavor.name()));
    let step = Step::begin(format!("configuring Linux ({})", flavor.name()), &log)?;
    job.configure(&step)?;
    step.done();
    println!("{}", job.build().join(".config").display());
    Ok(())
}

/// A kernel about to be built.
struct Job {
    flavor: Flavor,
    source: Source,
    tools: Toolchain,
    /// The fragments, one after the other.
    fragment: String,
    key: String,
    entry: Entry,
}

impl Job {
    fn prepare(context: &Context, flavor: Flavor, own: Option<&Path>) -> Result<Self> {
        let tools = Toolchain::ready(context)?;
        let source = Source::ready(context, own)?;
        let mut fragment = String::new();
        for name in flavor.fragments() {
            let path = context.repo.join("scripts/config").join(name);
            fragment += &fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            fragment.push('\n');
        }
        let mut key = Key::default()
            .with("version", &source.version)
            .with("config", &fragment)
            .with("tools", tools.identity());
        if source.own {
            key = key.with("source", source.dir.as_os_str().as_encoded_bytes());
        }
        let key = format!("{}-{}-{}", source.version, flavor.name(), key.finish());
        let entry = context.cache.entry("kernel", &key);
        Ok(Self {
            flavor,
            source,
            tools,
            fragment,
            key,
            entry,
        })
    }

    fn build(&self) -> PathBuf {
        self.entry.path().join("build")
    }

    fn kernel(&self) -> Kernel {
        Kernel {
            flavor: self.flavor,
            image: self.build().join("arch/x86/boot/bzImage"),
            modules: self.entry.path().join("root/lib/modules"),
            build: self.build(),
            source: self.source.dir.clone(),
            key: self.key.clone(),
        }
    }

    fn make(&self) -> Command {
        let mut make = self.tools.make();
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
        step.run(self.make().arg("rustavailable"))
            .context("the kernel's build refuses the Rust tools")?;
        step.run(
            self.make()
                .arg(format!("KCONFIG_ALLCONFIG={}", fragment.display()))
                .arg("allnoconfig"),
        )?;
        let refused = refused(&self.fragment, &fs::read_to_string(&config)?);
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

/// Installs the modules and checks that they have their index.
fn install_modules(step: &Step, mut make: Command, kernel: &Kernel) -> Result<()> {
    let root = kernel
        .modules
        .parent()
        .and_then(Path::parent)
        .context("no place for modules")?;
    if root.exists() {
        fs::remove_dir_all(root)?;
    }
    fs::create_dir_all(&kernel.modules)?;
    step.run(
        make.env("PATH", path_with_sbin())
            .arg(format!("INSTALL_MOD_PATH={}", root.display()))
            .arg("INSTALL_MOD_STRIP=1")
            .arg("modules_install"),
    )
}

/// A build that somebody else made. `build` is a path from the root on.
fn finished(context: &Context, flavor: Flavor, build: &Path) -> Result<Kernel> {
    let name = build.display();
    let image = build.join("arch/x86/boot/bzImage");
    let age = fs::metadata(&image)
        .and_then(|data| data.modified())
        .with_context(|| format!("COMPOSEFS_KERNEL_BUILD: {name} has no arch/x86/boot/bzImage"))?;
    let source = build
        .join("source")
        .canonicalize()
        .unwrap_or_else(|_| build.to_path_buf());
    let key = Key::default()
        .with("build", build.as_os_str().as_encoded_bytes())
        .with("age", format!("{:?}", age.duration_since(UNIX_EPOCH)))
        .finish();
    let key = format!("own-{key}");
    let entry = context.cache.entry("kernel", &key);
    let kernel = Kernel {
        flavor,
        image,
        modules: entry.path().join("root/lib/modules"),
        build: build.to_path_buf(),
        source,
        key,
    };
    if !entry.is_complete() {
        let _lock = lock(context, &kernel.key)?;
        entry.start_over()?;
        let step = Step::begin(
            "installing the kernel's modules",
            &context.cache.log("modules"),
        )?;
        let mut make = Toolchain::ready(context)?.make();
        make.arg("-C").arg(build);
        install_modules(&step, make, &kernel)?;
        entry.complete()?;
        step.done();
    }
    Ok(kernel)
}

/// The options of a fragment that a configuration lacks, or has otherwise.
fn refused(fragment: &str, config: &str) -> Vec<String> {
    let set: std::collections::HashSet<&str> = config.lines().map(str::trim).collect();
    // A later fragment may override an earlier one.
    let mut asked = std::collections::BTreeMap::new();
    for line in fragment.lines().map(str::trim) {
        if let Some((name, _)) = line.split_once('=') {
            if name.starts_with("CONFIG_") {
                asked.insert(name, line);
            }
        } else if let Some(name) = line
            .strip_prefix("# ")
            .and_then(|line| line.strip_suffix(" is not set"))
        {
            asked.insert(name, line);
        }
    }
    asked
        .into_iter()
        .filter(|(name, line)| {
            if line.starts_with('#') {
                // Not set, or not even a question.
                set.iter().any(|has| has.starts_with(&format!("{name}=")))
            } else {
                !set.contains(line)
            }
        })
        .map(|(_, line)| line.trim_start_matches("# ").to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::refused;

    #[test]
    fn options_that_did_not_take_are_named() {
        let fragment = "# a comment\nCONFIG_A=y\nCONFIG_B=m\nCONFIG_C=3\n# CONFIG_D is not set\n";
        let config = "CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=3\nCONFIG_D=y\n";
        assert_eq!(
            refused(fragment, config),
            ["CONFIG_B=m", "CONFIG_D is not set"]
        );
    }

    #[test]
    fn the_later_fragment_wins() {
        let fragment = "CONFIG_A=y\n# CONFIG_A is not set\n";
        assert!(refused(fragment, "# CONFIG_A is not set\n").is_empty());
    }
}
