// SPDX-License-Identifier: GPL-2.0

//! QEMU's command line, and the kernel's.

use std::path::Path;

use super::config::VmConfig;
use crate::machine::Arch;

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The processor's own virtualization: `-accel kvm`
    Kvm,
    /// Emulation: `-accel tcg`
    Tcg,
}

/// QEMU's arguments. `share` is the directory for the guest's init, `console` the file
/// for the console, and `ports` are the names of the guest's channels with QEMU's file
/// descriptors for them.
pub fn arguments(
    config: &VmConfig,
    engine: Engine,
    share: &Path,
    console: &Path,
    ports: &[(&str, i32)],
) -> Vec<String> {
    let mut line = Line::default();
    line.flag("-nodefaults");
    line.flag("-no-user-config");
    line.flag("-no-reboot");
    line.option("-display", "none");
    let (machine, processor) = machine(config.arch());
    line.option("-machine", machine);
    line.option("-cpu", processor);
    line.option("-m", &config.memory);
    if config.icount {
        line.option("-accel", "tcg,thread=single");
        line.option("-icount", "shift=0,sleep=off");
    } else {
        line.option(
            "-accel",
            match engine {
                Engine::Kvm => "kvm",
                Engine::Tcg => "tcg,thread=multi",
            },
        );
    }
    line.option("-smp", &config.smp.to_string());
    // A panic ends QEMU with a failure instead of a reboot's success.
    line.device("pvpanic-pci");
    line.option("-action", "panic=exit-failure");
    line.device("virtio-rng-pci");

    line.option("-kernel", &config.kernel.image.to_string_lossy());
    if let Some(initramfs) = &config.kernel.initramfs {
        line.option("-initrd", &initramfs.to_string_lossy());
    }
    line.option("-append", &command_line(config));
    line.option(
        "-chardev",
        &format!("file,id=console,path={}", escaped(console)),
    );
    line.option("-serial", "chardev:console");

    line.disk("root", &config.root.file, config.root.keep);
    if let Some(scratch) = &config.scratch {
        line.disk("scratch", scratch, false);
    }
    for (number, disk) in config.disks.iter().enumerate() {
        line.disk(&format!("disk{number}"), &disk.file, disk.keep);
    }

    if let Some(disk) = &config.fixtures {
        line.disk("fixtures", &disk.file, disk.keep);
    }

    line.share("xtask", share, true);
    line.share("modules", &config.kernel.modules, true);
    if let Some(dir) = &config.share {
        line.share("share", dir, false);
    }
    for (name, dir) in &config.mounts {
        line.share(name, dir, true);
    }

    line.device("virtio-serial-pci");
    for (name, fd) in ports {
        line.option("-chardev", &format!("socket,id={name},fd={fd}"));
        // A terminal needs a console; the others are plain channels.
        let kind = match *name {
            "terminal" => "virtconsole",
            _ => "virtserialport",
        };
        line.device(&format!("{kind},chardev={name},name={name}"));
    }
    line.words.extend(config.qemu.iter().cloned());
    line.words
}

/// QEMU's machine, and its processor.
fn machine(arch: Arch) -> (&'static str, &'static str) {
    match arch {
        Arch::X86_64 => ("q35", "max"),
        // It has pages of all three sizes, and does not sign pointers, which emulation makes slow.
        Arch::Arm64 => ("virt,gic-version=3", "cortex-a76"),
    }
}

/// The kernel's command line: an oops or a warning is a panic, and a panic ends QEMU.
fn command_line(config: &VmConfig) -> String {
    let mut words = match config.arch() {
        // On a busy machine, the emulated timer is late, and the kernel would panic for it.
        Arch::X86_64 => vec!["console=ttyS0", "no_timer_check"],
        Arch::Arm64 => vec!["console=ttyAMA0"],
    };
    words.extend([
        // complaint.rs knows the kernel's lines by their time.
        "printk.time=1",
        "panic=-1",
        "oops=panic",
        "panic_on_warn=1",
    ]);
    words.extend(config.root_words.iter().map(String::as_str));
    if config.kernel.flavor.is_debug() {
        // Emulated and with all checks, the kernel is slow, but does not hang.
        words.push("watchdog_thresh=165");
        // While the kernel detects the processor's features, pgtable_l5_enabled() is
        // false for a moment, and KASAN then reports a valid access of an interrupt as
        // a wild one.
        words.push("no5lvl");
    }
    if config.systemd {
        // For systemd: no colours and no moving stars on a console that is read later.
        words.push("TERM=dumb");
        // What mount(8) says about a root that is refused.
        words.push("systemd.default_standard_error=journal+console");
    }
    if config.icount {
        // The clock jumps over each wait, which looks like a hang.
        words.extend(["nowatchdog", "sysctl.kernel.hung_task_timeout_secs=0"]);
    }
    words.extend(config.append.iter().map(String::as_str));
    words.join(" ")
}

/// A command line under construction.
#[derive(Default)]
struct Line {
    words: Vec<String>,
}

impl Line {
    fn flag(&mut self, flag: &str) {
        self.words.push(flag.to_owned());
    }

    fn option(&mut self, name: &str, value: &str) {
        self.words.extend([name.to_owned(), value.to_owned()]);
    }

    fn device(&mut self, device: &str) {
        self.option("-device", device);
    }

    fn disk(&mut self, id: &str, file: &Path, keep: bool) {
        let file = escaped(file);
        // A snapshot is dropped at the end, so it need not be written to the host's disk.
        let mode = if keep {
            "cache=writeback"
        } else {
            "snapshot=on,cache=unsafe"
        };
        self.option(
            "-drive",
            &format!("id={id},if=none,format=raw,{mode},file={file}"),
        );
        self.device(&format!("virtio-blk-pci,drive={id},serial={id}"));
    }

    fn share(&mut self, tag: &str, dir: &Path, readonly: bool) {
        let readonly = if readonly { ",readonly=on" } else { "" };
        self.option(
            "-fsdev",
            &format!(
                "local,id={tag},security_model=none,multidevs=remap{readonly},path={}",
                escaped(dir)
            ),
        );
        self.device(&format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"));
    }
}

/// A path inside a QEMU option, where a comma would begin the next one.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::config::Job;
    use super::*;
    use crate::guest::Guest;
    use crate::kernel::Flavor;
    use crate::kernel::Kernel;
    use crate::machine::Machine;
    use crate::machine::PageSize;

    fn line(machine: Machine) -> String {
        let kernel = Kernel {
            flavor: Flavor::Plain,
            machine,
            image: PathBuf::from("/image"),
            initramfs: None,
            modules: PathBuf::from("/modules"),
            build: PathBuf::from("/build"),
            source: None,
            key: "key".to_owned(),
            root: None,
        };
        let guest = Guest {
            root: PathBuf::from("/root.img"),
            scratch: PathBuf::from("/scratch.img"),
        };
        let config = VmConfig::new(kernel, guest, Job::Shell(None));
        let (share, console) = (Path::new("/share"), Path::new("/console"));
        arguments(&config, Engine::Tcg, share, console, &[("control", 10)]).join(" ")
    }

    #[test]
    fn each_machine_has_its_own_console() {
        let usual = line(Machine::X86_64);
        assert!(usual.contains("-machine q35 -cpu max "), "{usual}");
        assert!(usual.contains("console=ttyS0 no_timer_check "), "{usual}");
        let arm64 = line(Machine::Arm64(PageSize::K64));
        assert!(arm64.contains("-machine virt,gic-version=3 "), "{arm64}");
        assert!(arm64.contains("-append console=ttyAMA0 printk.time=1 "));
        assert!(!arm64.contains("no_timer_check"), "{arm64}");
        // The disks and shares are the same.
        for part in [
            "-kernel /image",
            "virtio-blk-pci,drive=root",
            "mount_tag=xtask",
            "pvpanic-pci",
        ] {
            assert!(usual.contains(part) && arm64.contains(part), "{part}");
        }
    }
}
