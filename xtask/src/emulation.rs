// SPDX-License-Identifier: GPL-2.0

//! Programs of other processors on this machine: the kernel gives them to QEMU, if that is
//! registered at binfmt_misc. Setting up a Debian of another processor runs some.

use std::process::Command;

use anyhow::Result;
use anyhow::bail;

use crate::context::Context;
use crate::machine::Arch;
use crate::packages;
use crate::path;
use crate::progress::output;

/// Registers QEMU, as systemd or binfmt-support do it at boot. A container has none of them. The
/// argument is what QEMU calls the processor.
const REGISTER: &str = r#"
dir=/proc/sys/fs/binfmt_misc
[ -e $dir/register ] || mount -t binfmt_misc binfmt_misc $dir
update-binfmts --enable "qemu-$1" || /usr/lib/systemd/systemd-binfmt "qemu-$1.conf"
"#;

/// Makes programs of a processor run here.
///
/// # Errors
///
/// When they do not.
pub fn ready(context: &Context, arch: Arch) -> Result<()> {
    if arch.is_host() {
        return Ok(());
    }
    packages::require(context, &[packages::ARM64])?;
    let runs = || output(Command::new("arch-test").arg(arch.debian())).is_ok();
    if runs() {
        return Ok(());
    }
    if rustix::process::geteuid().is_root() {
        let mut register = Command::new("sh");
        register.env("PATH", path::with_sbin());
        // Whether it worked is seen by what runs.
        let _ = output(register.args(["-c", REGISTER, "sh", arch.rust()]));
    }
    if !runs() {
        bail!(
            "programs of {0} do not run on this machine: QEMU is not registered at binfmt_misc. As \
             root, run `mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc` and \
             `update-binfmts --enable qemu-{1}`",
            arch.name(),
            arch.rust()
        );
    }
    Ok(())
}
