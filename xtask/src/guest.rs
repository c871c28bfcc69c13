// SPDX-License-Identifier: GPL-2.0

//! The guest's disks: a small Debian, and an empty scratch file system with
//! fs-verity.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use crate::cache::Key;
use crate::context::Context;
use crate::debian;
use crate::emulation;
use crate::machine::Arch;
use crate::packages;
use crate::path;
use crate::progress::Step;

/// Files that are left out of the guest, where nothing reads them.
const EXCLUDED: [&str; 7] = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    // Graphics drivers, on which the package stress-ng depends.
    "/usr/lib/*/libLLVM*",
    "/usr/lib/*/libgallium*",
    "/usr/lib/*/libz3*",
];

/// Puts the C program that mounts composefs where mount(8) does not find it: it would run
/// instead of the module.
const HIDE_C_PROGRAM: &str = r#"mkdir -p "$1/usr/libexec/composefs-c" &&
    mv "$1/usr/sbin/mount.composefs" "$1/usr/libexec/composefs-c/""#;

/// Free space in the root file system, in bytes.
const FREE: u64 = 512 << 20;

/// Size of the scratch file system. It is sparse: only what is written counts.
const SCRATCH_SIZE: u64 = 8 << 30;

/// Names of the disk images in the cache's entry.
const ROOT: &str = "root.img";
const SCRATCH: &str = "scratch.img";

/// The systems that the guest can have on its root disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum System {
    /// What tests and experiments need
    #[default]
    Usual,
    /// Container tools and ostree, of a newer Debian
    Clients,
    /// Test programs of others, of a newer Debian
    Others,
}

impl System {
    /// What its disks are called in the cache.
    fn kind(self) -> &'static str {
        match self {
            Self::Usual => "guest",
            Self::Clients => "guest-clients",
            Self::Others => "guest-others",
        }
    }

    /// The releases of Debian. The others give only what the first one lacks.
    fn suites(self) -> &'static [&'static str] {
        match self {
            Self::Usual => &[debian::SUITE, debian::NEWER],
            Self::Clients | Self::Others => &[debian::NEWER],
        }
    }

    /// Checks that it is there for a processor.
    fn check(self, arch: Arch) -> Result<()> {
        if self != Self::Usual && arch != Arch::default() {
            bail!(
                "only --system usual is made for processors other than {}",
                Arch::default().name()
            );
        }
        Ok(())
    }

    /// Its list of packages in scripts.
    fn packages(self) -> &'static str {
        match self {
            Self::Usual => "guest-packages",
            Self::Clients => "clients-packages",
            Self::Others => "others-packages",
        }
    }
}

/// The guest's disk images. A run writes to a snapshot of them, which is dropped.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The root file system.
    pub root: PathBuf,
    /// An empty ext4 with fs-verity.
    pub scratch: PathBuf,
}

/// Makes the guest unless the cache has it.
///
/// # Errors
///
/// When tools are missing, Debian cannot be reached or the disk is full.
pub fn make(context: &Context, system: System, arch: Arch) -> Result<Guest> {
    system.check(arch)?;
    let packages = names(&context.repo.join("scripts").join(system.packages()))?;
    let stub = context.repo.join("scripts/guest-stub");
    let kind = system.kind();
    let mut key = Key::default()
        .with("suites", system.suites().join(" "))
        .with("packages", packages.join(","))
        .with("excluded", EXCLUDED.join(","))
        .with("stub", fs::read(&stub)?)
        .with("hook", HIDE_C_PROGRAM)
        .with("sizes", format!("{FREE} {SCRATCH_SIZE}"));
    if arch != Arch::default() {
        key = key.with("architecture", arch.name());
    }
    let dir = context.cache.made(kind, &key.finish(), |dir| {
        packages::require(context, &[packages::GUEST])?;
        emulation::ready(context, arch)?;
        let log = context.cache.log(&format!("{kind}-{}", arch.name()));
        let step = Step::begin(format!("making the {kind} for {}", arch.name()), &log)?;
        let tar = dir.join("root.tar");
        step.run(&mut mmdebstrap(
            system.suites(),
            arch,
            &packages,
            &stub,
            &tar,
        ))?;
        disk_from_tar(&step, &tar, dir, &dir.join(ROOT))?;
        fs::remove_file(&tar)?;
        verity_disk(&step, &dir.join(SCRATCH), SCRATCH_SIZE)?;
        step.done();
        Ok(())
    })?;
    Ok(Guest {
        root: dir.join(ROOT),
        scratch: dir.join(SCRATCH),
    })
}

/// The package names in a list with comments.
///
/// # Errors
///
/// When it cannot be read.
pub fn names(list: &Path) -> Result<Vec<String>> {
    let text =
        fs::read_to_string(list).with_context(|| format!("cannot read {}", list.display()))?;
    Ok(text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect())
}

fn mmdebstrap(
    suites: &[&str],
    arch: Arch,
    packages: &[String],
    stub: &Path,
    tar: &Path,
) -> Command {
    let (first, others) = suites.split_first().unwrap_or((&debian::SUITE, &[]));
    let mut command = debian::mmdebstrap("essential", "tar");
    command
        .arg(format!("--architectures={}", arch.debian()))
        .arg(format!("--include={}", packages.join(",")));
    for path in EXCLUDED {
        command.arg(format!("--dpkgopt=path-exclude={path}"));
    }
    for dir in ["/scratch", "/mnt/share", "/usr/local/sbin", "/lib/modules"] {
        command.arg(format!("--customize-hook=mkdir -p \"$1{dir}\""));
    }
    command
        .arg(format!(
            "--customize-hook=upload {} /sbin/init",
            shell_words::quote(&stub.to_string_lossy())
        ))
        .arg("--customize-hook=chmod 755 \"$1/sbin/init\"")
        .arg(format!("--customize-hook={HIDE_C_PROGRAM}"))
        .arg("--customize-hook=echo composefs > \"$1/etc/hostname\"")
        .arg("--customize-hook=rm -rf \"$1\"/var/lib/apt/lists/* \"$1\"/var/cache/apt/*")
        .arg(format!("--aptopt=APT::Default-Release \"{first}\""));
    for other in others {
        debian::add_release(&mut command, first, other);
    }
    command.arg(first).arg(tar);
    // If no mirror is known, mmdebstrap takes its own default.
    command.args(debian::mirror());
    command
}

/// Puts an archive into an ext4 image with fs-verity, owners and capabilities included. `work`
/// is a directory for the files.
///
/// # Errors
///
/// When the disk is full or e2fsprogs too old.
pub fn disk_from_tar(step: &Step, tar: &Path, work: &Path, image: &Path) -> Result<()> {
    let system = TreeDisk {
        tar,
        modules: None,
        label: "root",
        size: None,
    };
    system.write(step, work, image)
}

/// A disk with a tree.
pub struct TreeDisk<'a> {
    /// The archive of the tree.
    pub tar: &'a Path,
    /// What becomes its /usr/lib/modules.
    pub modules: Option<&'a Path>,
    /// The label of the file system.
    pub label: &'a str,
    /// The size in bytes. If it is not given, the tree and some free space fit.
    pub size: Option<u64>,
}

impl TreeDisk<'_> {
    /// Writes it to the file `image`, as [`disk_from_tar`] does.
    ///
    /// # Errors
    ///
    /// When the disk is full or e2fsprogs too old.
    pub fn write(&self, step: &Step, work: &Path, image: &Path) -> Result<()> {
        let script = r#"
        set -eu
        rm -rf "$2"
        echo "unpacking the tree"
        mkdir "$2"
        tar --extract --file="$1" --directory="$2" --numeric-owner --xattrs --xattrs-include='*' \
            --exclude='./dev/*'
        if [ -n "$5" ]; then
            mkdir -p "$2/usr/lib/modules"
            cp -a "$5/." "$2/usr/lib/modules"
            rm -f "$2"/usr/lib/modules/*/build "$2"/usr/lib/modules/*/source
            chown -hR 0:0 "$2/usr/lib/modules"
        fi
        used=$(du --summarize --block-size=1 "$2" | cut -f1)
        size=${6:-$((used * 5 / 4 + $4))}
        truncate --size="$size" "$3"
        echo "making the file system"
        mke2fs -q -t ext4 -O verity -L "$7" -m 0 -E root_owner=0:0 -d "$2" "$3"
        rm -rf "$2"
    "#;
        // Only root may change owners. For other users, fakeroot pretends.
        let mut command = if rustix::process::geteuid().is_root() {
            Command::new("sh")
        } else {
            let mut fake = Command::new("fakeroot");
            fake.arg("sh");
            fake
        };
        command
            .env("PATH", path::with_sbin())
            .args(["-c", script, "sh"])
            .arg(self.tar)
            .arg(work.join("root"))
            .arg(image)
            .arg(FREE.to_string())
            .arg(self.modules.unwrap_or(Path::new("")))
            .arg(self.size.map(|size| size.to_string()).unwrap_or_default())
            .arg(self.label);
        step.run(&mut command)
    }
}

/// Makes a sparse disk with an empty ext4 that supports fs-verity and large extended
/// attributes. `size` is in bytes.
///
/// # Errors
///
/// When the disk is full or e2fsprogs too old.
pub fn verity_disk(step: &Step, image: &Path, size: u64) -> Result<()> {
    File::create(image)?.set_len(size)?;
    let made = step.status(
        Command::new("mke2fs")
            .env("PATH", path::with_sbin())
            .args(["-q", "-t", "ext4", "-O", "verity,ea_inode", "-b", "4096"])
            .args(["-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"])
            .arg(image),
    )?;
    if !made.success() {
        bail!("mke2fs cannot make a file system with fs-verity: e2fsprogs 1.45 or newer is needed");
    }
    Ok(())
}
