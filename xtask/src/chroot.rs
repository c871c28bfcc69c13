// SPDX-License-Identifier: GPL-2.0

//! A Debian in a directory, in which commands run as if it were the machine.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::path;
use crate::progress::Step;

/// Unpacks the archive that a command writes into the directory `$1`. All files belong to the
/// user, so that the user can remove them.
const UNPACK: &str = "set -o pipefail; root=$1; shift; \
    \"$@\" | tar --extract --no-same-owner --exclude='./dev/*' --directory=\"$root\"";

/// Mounts what a command needs, and runs it in the root `$1`. The words up to `--` are directories
/// that it sees at their own paths.
const ENTER: &str = r#"
set -e
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
root=$1
shift
for dir in /proc /dev; do
	mount --rbind "$dir" "$root$dir"
done
while [ "$1" != -- ]; do
	mkdir -p "$root$1"
	mount --bind "$1" "$root$1"
	shift
done
shift
exec chroot "$root" "$@"
"#;

/// Fills the directory `root` with what mmdebstrap makes. Says whether that went well; the
/// step's log says why not.
///
/// # Errors
///
/// When mmdebstrap cannot be started, or the user interrupts.
pub fn unpack(step: &Step, mmdebstrap: &Command, root: &Path) -> Result<bool> {
    let mut unpack = Command::new("bash");
    unpack
        .args(["-c", UNPACK, "bash"])
        .arg(root)
        .arg(mmdebstrap.get_program())
        .args(mmdebstrap.get_args());
    Ok(step.status(&mut unpack)?.success())
}

/// A command that runs in the directory `root`. It sees the directories `seen` at their own
/// paths, and no environment of this machine.
pub fn command(root: &Path, seen: &[&Path], program: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .env_clear()
        .env("PATH", path::with_sbin())
        .env("LC_ALL", "C")
        .env("HOME", "/root")
        .arg("--mount");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args(["sh", "-c", ENTER, "sh"])
        .arg(root)
        .args(seen)
        .args(["--", program]);
    command
}
