// SPDX-License-Identifier: GPL-2.0

//! Reading a kernel's console for words that no good run prints.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

use super::outcome::Failure;

static COMPLAINT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"BUG:|kernel BUG at|WARNING:|[Pp]anicked|Oops|general protection|Kernel panic",
        r"|INFO: task|hard LOCKUP|rcu:.*(stall|self-detected)",
        r"|KASAN|UBSAN:|ODEBUG:|refcount_t:|list_(add|del) corruption|Busy inodes",
        r"|suspicious RCU|possible recursive locking|INFO: trying to register",
        // Whatever happens after that, nobody looks at the locks.
        r"|turning off the locking correctness validator",
        r"|kmemleak: [0-9]+ new",
    ))
    .ok()
});

/// Lines of a healthy boot that the expression above would catch.
const HARMLESS: [&str; 3] = [
    // KASAN says that it is there.
    "KernelAddressSanitizer initialized",
    "kasan: ",
    // The kernel's command line names settings.
    "Kernel command line:",
];

/// How many lines of a console are complaints.
pub fn count(console: &Path) -> usize {
    complaints(&read(console)).count()
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
    let panic = complaints.iter().find(|l| l.contains("Kernel panic"));
    // What came before the panic says more than the panic.
    let first = complaints.first()?.trim().to_owned();
    Some(match panic {
        Some(panic) if panic.trim() == first => Failure::Panicked(first),
        Some(panic) => Failure::Panicked(format!("{} after: {first}", panic.trim())),
        None => Failure::Complained(first, None),
    })
}

fn is_complaint(line: &str) -> bool {
    COMPLAINT.as_ref().is_some_and(|bad| bad.is_match(line))
        && !HARMLESS.iter().any(|good| line.contains(good))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_seen() {
        for line in [
            "[    1.0] BUG: kernel NULL pointer dereference, address: 0",
            "[    1.0] WARNING: CPU: 0 PID: 1 at fs/inode.c:1",
            "[    1.0] WARNING: possible circular locking dependency detected",
            "[    1.0] BUG: KASAN: slab-use-after-free in foo",
            "[    1.0] INFO: task cat:12 blocked for more than 120 seconds.",
            "[    1.0] WARNING: suspicious RCU usage",
            "[    1.0] rust_kernel: panicked at fs/composefs/dir.rs:3:1",
            "[    1.0] Oops: general protection fault, probably for address",
            "[    1.0] Kernel panic - not syncing: sysrq triggered crash",
            "[    1.0] rcu: INFO: rcu_preempt self-detected stall on CPU",
            "[    1.0] kernel BUG at fs/inode.c:1!",
            "[    1.0] VFS: Busy inodes after unmount of vdc (ext4)",
            "[    1.0] refcount_t: underflow; use-after-free.",
            "[    1.0] list_del corruption. next->prev should be 0, but was 1",
            "[    1.0] INFO: trying to register non-static key.",
            "[    1.0] turning off the locking correctness validator.",
            "[    1.0] kmemleak: 3 new suspected memory leaks (see /sys/kernel)",
        ] {
            assert!(is_complaint(line), "{line}");
        }
    }

    #[test]
    fn a_healthy_boot_is_no_complaint() {
        for line in [
            "[    0.0] Kernel command line: panic=-1 oops=panic panic_on_warn=1",
            "[    0.0] kasan: KernelAddressSanitizer initialized (generic)",
            "[    0.0] rcu: Preemptible hierarchical RCU implementation.",
            "[    0.0] kmemleak: Kernel memory leak detector disabled",
        ] {
            assert!(!is_complaint(line), "{line}");
        }
    }

    #[test]
    fn the_cause_comes_before_the_panic() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let console = dir.path().join("console");
        fs::write(&console, "WARNING: one\nKernel panic - two\n")?;
        let Some(Failure::Panicked(line)) = find(&console) else {
            anyhow::bail!("no panic seen");
        };
        assert!(line.contains("one") && line.contains("two"), "{line}");
        Ok(())
    }
}
