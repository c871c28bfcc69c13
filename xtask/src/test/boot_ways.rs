// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask boot --way`: what Debian's users install to boot from an image
//! (packaging/initramfs), and composefs-setup-root.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use anyhow::bail;

use super::e2fs::e2fs;
use super::report::Report;
use super::watch::Program;
use super::watch::watch;
use crate::boot;
use crate::boot::Boot;
use crate::boot::BootArgs;
use crate::boot::Way;
use crate::cache::RunDir;
use crate::context::Context;
use crate::kernel::Flavor;
use crate::vm;
use crate::vm::Failure;
use crate::vm::complaint;

/// Runs the suite.
///
/// # Errors
///
/// When a system cannot be made.
pub fn run(context: &Context, report: &mut Report) -> Result<()> {
    for (way, name) in [
        (Way::InitramfsTools, "initramfs-tools"),
        (Way::Dracut, "dracut"),
        (Way::SetupRoot, "composefs-setup-root"),
    ] {
        let mut machine = Machine {
            context,
            report,
            way,
            name,
            work: context.cache.run_dir()?,
        };
        machine.boot("first")?;
        machine.boot("second")?;
        machine.check_disk();
        if way != Way::SetupRoot {
            machine.boot("transient")?;
            machine.refuse_digest()?;
            machine.refuse_changed()?;
        }
    }
    Ok(())
}

/// A machine: its disk is kept from boot to boot.
struct Machine<'a> {
    context: &'a Context,
    report: &'a mut Report,
    way: Way,
    name: &'static str,
    work: RunDir,
}

impl Machine<'_> {
    fn disk(&self) -> PathBuf {
        self.work.path().join("disk.img")
    }

    fn args(&self) -> BootArgs {
        BootArgs {
            way: self.way,
            flavor: Flavor::Debian,
            timeout: 600,
            command: vec!["true".to_owned()],
            ..BootArgs::default()
        }
    }

    /// Boots, and runs tests/boot/way.
    fn boot(&mut self, which: &'static str) -> Result<()> {
        let args = BootArgs {
            disk: (which != "transient").then(|| self.disk()),
            transient: which == "transient",
            ..self.args()
        };
        let mut boot = Boot::prepare(self.context, &args)?;
        if which == "first" && self.way != Way::SetupRoot {
            // As on a new machine: /var is filled from the image.
            boot::rename(&self.disk(), "/state/os/default", "var", "aside")?;
        }
        let share = self.work.path().join("share");
        fs::create_dir_all(&share)?;
        fs::copy(self.context.repo.join("tests/boot/way"), share.join("way"))?;
        let digest = digest_of(&boot.config.root_words);
        // composefs-setup-root tells systemd nothing about them.
        let until = match self.way {
            Way::SetupRoot => "unmounted",
            _ => "kept",
        };
        boot.config.share = Some(share);
        boot.config.job = vm::Job::Command(vec![format!(
            "exec bash /mnt/share/way {which} {digest} {until}"
        )]);
        boot.config.log_name = format!("boot-{}-{which}-console", self.name);
        let program = Program {
            name: "boot-ways".to_owned(),
            about: format!("booting by {} ({which})", self.name),
            prefix: String::new(),
            suffix: format!(" ({}, {which})", self.name),
            may_skip: false,
        };
        watch(self.context, &boot.config, self.report, &program)
    }

    /// Whether the last shutdown has left a disk without faults, and a journal that is empty.
    fn check_disk(&mut self) {
        let disk = self.disk();
        let test = format!("the store is clean after a shutdown ({})", self.name);
        self.report.check(&test, || {
            let state = e2fs("dumpe2fs", &["-h"], &disk)?;
            if state.contains("needs_recovery") {
                bail!("its journal was not written back:\n{state}");
            }
            e2fs("e2fsck", &["-f", "-n"], &disk).map(drop)
        });
    }

    /// An image in the store that has the name of another one.
    fn refuse_digest(&mut self) -> Result<()> {
        let own = digest_of(&Boot::prepare(self.context, &self.args())?.config.root_words);
        let wrong = "0".repeat(64);
        let args = BootArgs {
            digest: Some(wrong.clone()),
            ..self.args()
        };
        let words = [
            format!("image {wrong} cannot be mounted"),
            format!("expected sha256:{wrong}"),
            format!("found sha256:{own}"),
            "In the store: ".to_owned(),
        ];
        self.refuse("an image with another digest", &args, &words)
    }

    fn refuse_changed(&mut self) -> Result<()> {
        let args = BootArgs {
            tamper: Some("image".to_owned()),
            ..self.args()
        };
        let own = digest_of(&Boot::prepare(self.context, &self.args())?.config.root_words);
        let words = [
            format!("image {own} cannot be mounted"),
            "Image has no fs-verity".to_owned(),
        ];
        self.refuse("an image that was changed", &args, &words)
    }

    /// Boots what must not come up. The console has to have these words.
    fn refuse(&mut self, what: &str, args: &BootArgs, words: &[String]) -> Result<()> {
        let boot = Boot::prepare(self.context, args)?;
        let outcome = vm::run(self.context, &boot.config, &mut |_, _| ())?;
        let test = format!("{what} is refused ({})", self.name);
        self.report.check(&test, || {
            match &outcome.result {
                Err(Failure::Refused(_)) => {}
                // initramfs-tools reboots at once.
                Err(_) if complaint::refusal(&outcome.console).is_some() => {}
                Ok(_) => bail!("the system came up"),
                Err(failure) => bail!("{}", outcome.explain(failure)),
            }
            let console = fs::read(&outcome.console)?;
            let console = String::from_utf8_lossy(&console);
            for word in words {
                // The command line is on the console, too.
                let mut lines = console.lines().filter(|line| !line.contains("ommand line"));
                if !lines.any(|line| line.contains(word)) {
                    let console = outcome.console.display();
                    bail!("the console does not say \"{word}\": {console}");
                }
            }
            Ok(())
        });
        Ok(())
    }
}

/// The digest on the kernel's command line.
fn digest_of(words: &[String]) -> String {
    let named = words
        .iter()
        .find_map(|word| word.strip_prefix("composefs="));
    named.unwrap_or_default().to_owned()
}
