// SPDX-License-Identifier: GPL-2.0

//! Complaints of the kernel on the guest's console: BUG, WARNING, panic and the like.
//!
//! A line may contain such words as the name of a file, a mount or a program. So only
//! what stands right behind the line's time counts, where the kernel's own words begin.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

use super::outcome::Failure;

/// The time that the kernel prints before each line of its log, with the thread or
/// processor if CONFIG_PRINTK_CALLER is set.
static STAMP: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\[ *[0-9]+\.[0-9]{6}\](\[ *[TC][0-9]+\])? ").ok());

static COMPLAINT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        "^(",
        r"(watchdog: )?BUG[: ]|kernel BUG at |WARNING: |rust_kernel: panicked at |Oops[: ]",
        r"|general protection fault|traps: PANIC: |Kernel panic",
        r"|INFO: (task|trying to register) |watchdog: .*hard LOCKUP",
        r"|rcu: .*(stall|self-detected)",
        r"|KASAN: |UBSAN: |ODEBUG: |refcount_t: |list_(add|del) corruption|VFS: Busy inodes",
        // lockdep checks nothing from then on.
        r"|turning off the locking correctness validator",
        r"|kmemleak: [0-9]+ new",
        ")",
    ))
    .ok()
});

/// How many lines of a console are complaints.
pub fn count(console: &Path) -> usize {
    complaints(&read(console)).count()
}

/// What an initramfs prints last when it has no root: systemd's and that of initramfs-tools. And
/// what systemd prints when it cannot start the init of the root.
const REFUSALS: [&str; 5] = [
    "Freezing execution",
    "You are in emergency mode",
    "Cannot open access to console, the root account is locked",
    "(initramfs) ",
    "Rebooting automatically due to panic=",
];

/// The line of a console on which an initramfs has given up.
pub fn refusal(console: &Path) -> Option<String> {
    let text = read(console);
    let is_last = |line: &&str| REFUSALS.iter().any(|words| line.contains(words));
    let line = text.lines().find(is_last)?;
    Some(line.trim().to_owned())
}

/// Whether the kernel has started its first program.
pub fn has_begun(console: &Path) -> bool {
    read(console).lines().any(starts_init)
}

/// Whether the kernel met a breakpoint of its own before a module of this project was loaded.
///
/// It writes breakpoints while it changes its code, as when it switches to another clock. An
/// emulated processor may still execute one, from what it has translated, when the kernel has
/// forgotten it.
pub fn is_stale_breakpoint(console: &Path) -> bool {
    let text = read(console);
    let is_oops = |line| message(line).is_some_and(|words| words.starts_with("Oops: int3:"));
    text.lines().any(is_oops) && !text.contains("composefs: ")
}

fn starts_init(line: &str) -> bool {
    message(line).is_some_and(|words| {
        words.starts_with("Run ") && words.trim_end().ends_with(" as init process")
    })
}

fn read(console: &Path) -> String {
    let text = fs::read(console).unwrap_or_default();
    String::from_utf8_lossy(&text).into_owned()
}

fn complaints(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| is_complaint(line))
}

/// The first complaint on a console, as the failure that it is.
pub fn find(console: &Path) -> Option<Failure> {
    let text = read(console);
    let complaints: Vec<&str> = complaints(&text).collect();
    let is_panic = |line: &&&str| message(line).is_some_and(|m| m.starts_with("Kernel panic"));
    let panic = complaints.iter().find(is_panic);
    // The complaint before a panic is its cause.
    let first = complaints.first()?.trim().to_owned();
    Some(match panic {
        Some(panic) if panic.trim() == first => Failure::Panicked(first),
        Some(panic) => Failure::Panicked(format!("{} after: {first}", panic.trim())),
        None => Failure::Complained(first, None),
    })
}

fn is_complaint(line: &str) -> bool {
    let bad = COMPLAINT.as_ref().zip(message(line));
    bad.is_some_and(|(bad, message)| bad.is_match(message))
}

/// The kernel's words in a line of the console: what follows the first time in it. A
/// program's output without a newline may stand before that.
fn message(line: &str) -> Option<&str> {
    let stamp = STAMP.as_ref()?.find(line)?;
    line.get(stamp.end()..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_seen() {
        for line in [
            "[    1.000000] BUG: kernel NULL pointer dereference, address: 0",
            "[    1.000000] WARNING: CPU: 0 PID: 1 at fs/inode.c:1",
            "[    1.000000] WARNING: possible circular locking dependency detected",
            "[    1.000000] BUG: KASAN: slab-use-after-free in foo",
            "[    1.000000] INFO: task cat:12 blocked for more than 120 seconds.",
            "[    1.000000] WARNING: suspicious RCU usage",
            "[    1.000000] rust_kernel: panicked at fs/composefs/dir.rs:3:1",
            "[    1.000000] Oops: general protection fault, probably for address",
            "[    1.000000] Kernel panic - not syncing: sysrq triggered crash",
            "[    1.000000] rcu: INFO: rcu_preempt self-detected stall on CPU",
            "[    1.000000] kernel BUG at fs/inode.c:1!",
            "[    1.000000] VFS: Busy inodes after unmount of vdc (ext4)",
            "[    1.000000] refcount_t: underflow; use-after-free.",
            "[    1.000000] list_del corruption. next->prev should be 0, but was 1",
            "[    1.000000] INFO: trying to register non-static key.",
            "[    1.000000] turning off the locking correctness validator.",
            "[    1.000000] kmemleak: 3 new suspected memory leaks (see /sys/kernel)",
            "[    1.000000] BUG kmalloc-64 (Not tainted): Poison overwritten",
            "[    1.000000] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [cat:1]",
            "[    1.000000] watchdog: CPU0: Watchdog detected hard LOCKUP on cpu 0",
            "[12345.678901][   T12] BUG: unable to handle page fault for address: 0",
            "a program's line without an end[    1.000000] Kernel panic - not syncing: x",
        ] {
            assert!(is_complaint(line), "{line}");
        }
    }

    #[test]
    fn a_healthy_boot_is_no_complaint() {
        for line in [
            "[    0.000000] Kernel command line: panic=-1 oops=panic panic_on_warn=1",
            "[    0.000000] kasan: KernelAddressSanitizer initialized (generic)",
            "[    0.000000] rcu: Preemptible hierarchical RCU implementation.",
            "[    0.000000] kmemleak: Kernel memory leak detector disabled",
        ] {
            assert!(!is_complaint(line), "{line}");
        }
    }

    #[test]
    fn the_first_program_is_seen() {
        assert!(starts_init(
            "[    1.000000] Run /sbin/init as init process\r"
        ));
        assert!(!starts_init("[    1.000000] pci 0000:00:07.0: BAR 0\r"));
    }

    #[test]
    fn names_are_no_complaints() {
        for line in [
            "[    1.000000] composefs: /dev/vdc: inode 5: object Kernel panic: not there",
            "[    1.000000] composefs: [    1.000000] Kernel panic - not syncing: x: inode 5",
            "[    1.000000] composefs: BUG: inode 5: dirent: nameoff is invalid",
            "[    1.000000] EXT4-fs (vdc): mounted filesystem KASAN: WARNING: r/w",
            "Kernel panic - not syncing: as a program says",
        ] {
            assert!(!is_complaint(line), "{line}");
        }
    }

    #[test]
    fn a_panic_in_a_name_is_no_panic() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let console = dir.path().join("console");
        let line = "[    1.000000] BUG: Dentry 0{i=1,n=Kernel panic} still in use (1)";
        fs::write(&console, line)?;
        assert_eq!(
            find(&console),
            Some(Failure::Complained(line.to_owned(), None))
        );
        Ok(())
    }

    #[test]
    fn the_cause_comes_before_the_panic() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let console = dir.path().join("console");
        fs::write(
            &console,
            "[    1.000000] WARNING: one\r\n[    1.000001] Kernel panic - two\r\n",
        )?;
        let Some(Failure::Panicked(line)) = find(&console) else {
            anyhow::bail!("no panic seen");
        };
        assert!(line.contains("one") && line.contains("two"), "{line}");
        Ok(())
    }
}
