// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask boot`: what a system sees of its root (tests/boot), and which roots are refused.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use super::e2fs::e2fs;
use super::report::Report;
use super::watch::Program;
use super::watch::watch_console;
use crate::boot::Boot;
use crate::boot::BootArgs;
use crate::boot::Image;
use crate::boot::StoreType;
use crate::cache::RunDir;
use crate::context::Context;
use crate::guest_program;
use crate::kernel::Flavor;
use crate::path;
use crate::progress::Step;
use crate::vm;
use crate::vm::Failure;

/// The program that cares for the store.
const STORE: &str = "composefs-store";

/// Two boots: a system that is used, and one that is refused.
///
/// # Errors
///
/// When the system cannot be made.
pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    let mut machine = Machine::new(context, report)?;
    machine.boot("root", kept(Image::A))?;
    let zeros = "0".repeat(64);
    let wrong = BootArgs {
        digest: Some(zeros.clone()),
        ..usual()
    };
    machine.refuse("a wrong digest is refused", wrong, |image, digest| {
        vec![
            format!("{image}: wrong fs-verity digest: expected sha256:{zeros}"),
            format!("found sha256:{digest}"),
        ]
    })
}

/// What the life of a machine brings: updates, and attacks on its disk.
///
/// # Errors
///
/// When the system cannot be made.
pub fn run_all(context: &Context, report: &mut Report) -> Result<()> {
    let mut machine = Machine::new(context, report)?;
    machine.boot("first", kept(Image::A))?;
    machine.boot("updated", kept(Image::B))?;
    machine.boot("back", kept(Image::A))?;
    machine.boot("soft_reboot", kept(Image::A))?;
    let tampered = BootArgs {
        tamper: Some("/usr/sbin/nginx".to_owned()),
        ..usual()
    };
    machine.boot("tampered", tampered)?;
    let inline = BootArgs {
        image: Image::Inline,
        ..usual()
    };
    let btrfs = BootArgs {
        store: StoreType::Btrfs,
        ..usual()
    };
    let patched = BootArgs {
        flavor: Flavor::Patched,
        ..usual()
    };
    for args in [inline, btrfs, patched] {
        machine.boot("root", args)?;
    }
    let changed = BootArgs {
        tamper: Some("image".to_owned()),
        ..usual()
    };
    machine.refuse(
        "an image that was changed is refused",
        changed,
        |image, _| vec![format!("{image}: has no fs-verity digest")],
    )?;
    let no_init = BootArgs {
        tamper: Some("/usr/lib/systemd/systemd".to_owned()),
        ..usual()
    };
    machine.refuse("an init that was changed is refused", no_init, |_, _| {
        vec!["has no fs-verity digest, expected sha256:".to_owned()]
    })?;
    machine.without_store()
}

/// A boot of an image from the disk that is kept.
fn kept(image: Image) -> BootArgs {
    BootArgs {
        image,
        disk: Some(PathBuf::from(DISK)),
        ..usual()
    }
}

/// What all boots have in common. Debian's kernel is what such systems run.
fn usual() -> BootArgs {
    BootArgs {
        flavor: Flavor::Debian,
        timeout: 600,
        ..BootArgs::default()
    }
}

/// A machine: its disk is kept from boot to boot.
struct Machine<'a> {
    context: &'a Context,
    report: &'a mut Report,
    work: RunDir,
}

impl<'a> Machine<'a> {
    fn new(context: &'a Context, report: &'a mut Report) -> Result<Self> {
        let work = context.cache.run_dir()?;
        let share = work.path().join(SHARE);
        fs::create_dir(&share)?;
        let from = context.repo.join("tests");
        copy_programs(&from.join("boot"), &share)?;
        copy_programs(&from.join("selftests/lib"), &share.join("lib"))?;
        let built = guest_program::build(context, STORE)?;
        fs::copy(built.join(STORE), share.join(STORE))?;
        Ok(Self {
            context,
            report,
            work,
        })
    }

    /// Boots, and runs a program of tests/boot. A disk that is kept is one of this machine.
    fn boot(&mut self, program: &'static str, args: BootArgs) -> Result<()> {
        let disk = args.disk.map(|name| self.work.path().join(name));
        let built_in = match args.flavor {
            Flavor::Patched => "env COMPOSEFS_BUILT_IN=1 ",
            _ => "",
        };
        let args = BootArgs {
            disk: disk.clone(),
            command: vec![format!(
                "cp -rT /mnt/share /run/tests && exec {built_in}python3 /run/tests/{program}.py"
            )],
            ..args
        };
        let mut boot = prepare(self.context, &args)?;
        boot.config.share = Some(self.work.path().join(SHARE));
        boot.config.log_name = format!("boot-{program}-console");
        let program = Program {
            name: "boot".to_owned(),
            about: format!("booting for tests/boot/{program}.py"),
            prefix: String::new(),
            suffix: match &args {
                BootArgs {
                    store: StoreType::Btrfs,
                    ..
                } => format!(" ({program}, btrfs)"),
                BootArgs {
                    flavor: Flavor::Patched,
                    ..
                } => format!(" ({program}, patched kernel)"),
                BootArgs {
                    image: Image::Inline,
                    ..
                } => format!(" ({program}, inline files)"),
                _ => format!(" ({program})"),
            },
            may_skip: false,
        };
        let console = watch_console(self.context, &boot.config, self.report, &program)?;
        if let Some(disk) = disk {
            self.check_shutdown(&console, &disk, &program.suffix);
        }
        Ok(())
    }

    /// Boots what must not come up. A line of the console has to say why, in words that depend on
    /// the end of the image's path and on its digest.
    fn refuse(
        &mut self,
        test: &str,
        args: BootArgs,
        words: impl Fn(&str, &str) -> Vec<String>,
    ) -> Result<()> {
        let args = BootArgs {
            command: vec!["true".to_owned()],
            ..args
        };
        let boot = prepare(self.context, &args)?;
        let log = self.context.cache.numbered_log("boot-refused")?;
        let step = Step::begin("booting what is to be refused", &log)?;
        let outcome = vm::run(self.context, &boot.config, &mut |_, bytes| step.note(bytes))?;
        drop(step);
        self.report.check(test, || {
            match &outcome.result {
                Err(Failure::Refused(_)) => {}
                Ok(_) => bail!("the system came up"),
                Err(failure) => bail!("{}", outcome.explain(failure)),
            }
            let console = read(&outcome.console)?;
            let digest = digest_of(&boot.config.root_words)?;
            let (first, rest) = digest.split_at(2);
            let words = words(&format!("objects/{first}/{rest}"), digest);
            let has_all = |line: &str| words.iter().all(|word| line.contains(word));
            if !console.lines().any(has_all) {
                bail!(
                    "no line of the console has {words:?}: {}",
                    outcome.console.display()
                );
            }
            Ok(())
        });
        Ok(())
    }

    /// Boots without the file system that has the store.
    fn without_store(&mut self) -> Result<()> {
        let args = BootArgs {
            disk: Some(self.work.path().join("other.img")),
            ..usual()
        };
        // This makes the disk.
        let boot = Boot::prepare(self.context, &args)?;
        let done = Command::new("e2label")
            .env("PATH", path::with_sbin())
            .arg(&boot.config.root.file)
            .arg("other")
            .status()?;
        if !done.success() {
            bail!("e2label failed: {done}");
        }
        self.refuse("a missing store is refused", args, |_, _| {
            vec![
                "Timed out waiting".to_owned(),
                "/dev/disk/by-label/store".to_owned(),
            ]
        })
    }

    /// Whether the last shutdown has unmounted all that can be, and left a disk without faults and
    /// with an empty journal.
    fn check_shutdown(&mut self, console: &Path, disk: &Path, suffix: &str) {
        let test = format!("a shutdown leaves nothing busy, and a clean disk{suffix}");
        self.report.check(&test, || {
            let state = e2fs("dumpe2fs", &["-h"], disk)?;
            let text = read(console)?;
            for line in text.lines() {
                let is_bad = ["Failed unmounting", "resource busy"]
                    .iter()
                    .any(|words| line.contains(words));
                // The directory of the host with this test, which still runs.
                if is_bad && !line.contains("mnt-share.mount") {
                    bail!("the console says \"{line}\": {}", console.display());
                }
            }
            if state.contains("needs_recovery") {
                bail!("its journal was not written back:\n{state}");
            }
            e2fs("e2fsck", &["-f", "-n"], disk).map(drop)
        });
    }
}

/// A boot on one processor. With two, QEMU's emulation now and then ends Debian's kernel early by
/// the int3 with which it patches its own code on the other processor.
fn prepare(context: &Context, args: &BootArgs) -> Result<Boot> {
    let mut boot = Boot::prepare(context, args)?;
    boot.config.smp = 1;
    Ok(boot)
}

/// The name of the disk that is kept from boot to boot.
const DISK: &str = "disk.img";

/// The name of a directory for the guest.
const SHARE: &str = "share";

/// The text of a console.
fn read(console: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(console)?).into_owned())
}

/// The digest of the image in the words about the root.
fn digest_of(words: &[String]) -> Result<&str> {
    let after = words.iter().find_map(|word| word.split_once("images/"));
    let (_, rest) = after.context("no image on the kernel's command line")?;
    rest.get(..64).context("no digest of an image")
}

/// Copies the Python programs of a directory.
fn copy_programs(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "py")
            && let Some(name) = path.file_name()
        {
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}
