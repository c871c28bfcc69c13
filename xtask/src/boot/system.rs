// SPDX-License-Identifier: GPL-2.0

//! The system that is booted: a Debian as people run it, and its initramfs.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Result;

use super::initrd::Base;
use crate::cache::Key;
use crate::context::Context;
use crate::debian;
use crate::guest;
use crate::packages;
use crate::progress::Step;

/// What runs the job in the booted system, where there is one.
const SERVICE: &str = "guest-init.service";

/// Makes the directories that mounts need, and enables the service.
const FINISH: &str = r#"
set -e
mkdir -p "$1/sysroot" "$1/mnt/share" "$1/usr/lib/systemd/system/graphical.target.wants"
ln -s ../guest-init.service "$1/usr/lib/systemd/system/graphical.target.wants/"
echo composefs >"$1/etc/hostname"
# Kernels may have no IPv6.
sed -i '/\[::\]/d' "$1/etc/nginx/sites-available/default"
# Empty, so that systemd makes one and asks nothing.
: >"$1/etc/machine-id"
"#;

/// Makes an initramfs without kernel modules: systemd, udev, and what they run. The scripts that
/// dracut adds elsewhere would not know this kind of root.
const INITRAMFS: &str = r#"
set -e
chroot "$1" dracut --force --no-kernel --no-hostonly --no-hostonly-cmdline --no-compress \
    --reproducible --install "sulogin dmesg" --modules "systemd systemd-initrd systemd-udevd \
    systemd-journald systemd-modules-load systemd-tmpfiles udev-rules kernel-modules" \
    --install "/usr/lib/systemd/system/emergency.service /usr/lib/systemd/systemd-sulogin-shell" \
    /tmp/initramfs.cpio 0
"#;

/// Downloads the package that the second image has in addition.
const FETCH_UPDATE: &str = r#"
set -e
cd "$1/tmp"
APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get download tree
mv tree_*.deb update.deb
"#;

/// The parts, in a cache entry.
#[derive(Clone, Debug)]
pub struct System {
    /// The directory, with [`UPDATE`] among them.
    pub dir: PathBuf,
    /// A key that changes with them.
    pub key: String,
}

impl System {
    /// The archive of the system's tree.
    pub fn tar(&self) -> PathBuf {
        self.dir.join(TAR)
    }

    /// The initramfs without kernel modules.
    pub fn initramfs(&self) -> Base {
        Base {
            file: self.dir.join("initramfs.cpio"),
            key: self.key.clone(),
        }
    }
}

/// The archive's name in the cache entry.
const TAR: &str = "system.tar";

/// The name of the update's package.
pub const UPDATE: &str = "update.deb";

/// Makes the system unless the cache has it.
///
/// # Errors
///
/// When tools are missing, Debian cannot be reached or the disk is full.
pub fn make(context: &Context) -> Result<System> {
    let scripts = context.repo.join("scripts");
    let packages = guest::names(&scripts.join("boot-packages"))?;
    let service = scripts.join(SERVICE);
    let key = Key::default()
        .with("suite", debian::SUITE)
        .with("packages", packages.join(","))
        .with("service", fs::read(&service)?)
        .with("hooks", format!("{FINISH}{INITRAMFS}{FETCH_UPDATE}"))
        .finish();
    let dir = context.cache.made("boot-system", &key, |dir| {
        packages::require(context, &[packages::GUEST])?;
        let log = context.cache.log("boot-system");
        let step = Step::begin("making the system to boot", &log)?;
        let quoted = |path: &Path| shell_words::quote(&path.to_string_lossy()).into_owned();
        step.run(
            debian::mmdebstrap("essential", "tar")
                .arg(format!("--include={}", packages.join(",")))
                .arg(format!(
                    "--customize-hook=upload {} /usr/lib/systemd/system/{SERVICE}",
                    quoted(&service)
                ))
                .arg(format!("--customize-hook={FINISH}"))
                .arg(format!("--customize-hook={INITRAMFS}"))
                .arg(format!("--customize-hook={FETCH_UPDATE}"))
                .arg(format!(
                    "--customize-hook=copy-out /tmp/initramfs.cpio /tmp/update.deb {}",
                    quoted(dir)
                ))
                .arg("--customize-hook=rm \"$1\"/tmp/initramfs.cpio \"$1\"/tmp/update.deb")
                .arg(debian::SUITE)
                .arg(dir.join(TAR))
                .args(debian::mirror()),
        )?;
        step.done();
        Ok(())
    })?;
    Ok(System { dir, key })
}
