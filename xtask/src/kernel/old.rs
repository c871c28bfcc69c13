// SPDX-License-Identifier: GPL-2.0

//! Debian's older kernels, which composefs is not written for. Tools have to mount by erofs and
//! overlayfs there.

use std::fs;

use anyhow::Result;

use super::built::Kernel;
use super::stock::INITRAMFS;
use crate::cache::Key;
use crate::context::Context;
use crate::debian;
use crate::packages;
use crate::progress::Step;

/// Debian's releases with such a kernel: Linux 6.1 and 6.12.
pub const RELEASES: [&str; 2] = ["bookworm", "trixie"];

/// What is loaded before the guest's disk can be. crc32c is for ext4, which asks for it by a name
/// that modprobe(8) does not know. Without udev, nothing asks for loop.
const DRIVERS: &str =
    "virtio_pci virtio_blk virtio_console crc32c_generic ext4 9pnet_virtio 9p loop";

/// What makes the initramfs.
const PACKAGES: &str = "busybox-static,cpio,kmod,xz-utils";

/// Unpacks the release's kernel into the root `$1` without installing it, which would make an
/// initramfs that is of no use here. Leaves all that is wanted in /old.
const UNPACK: &str = r#"
set -e
cd "$1"
name=$(chroot . apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: //p' | head -n 1)
chroot . apt-get download "$name"
# Not onto the root: older packages have a directory /lib, which is a link there.
chroot . sh -c 'dpkg-deb --extract ./*.deb package'
release=${name#linux-image-}
mv package/lib/modules usr/lib/ || mv package/usr/lib/modules usr/lib/
chroot . depmod "$release"
mkdir old
mv init old
chmod 755 old/init
chroot . sh /initramfs /old/init /old/initramfs.cpio "$release" DRIVERS
mv package/boot/vmlinuz-* old/vmlinuz
mv usr/lib/modules old
"#;

/// Takes the kernel of one of the [`RELEASES`] instead of another kernel.
///
/// # Errors
///
/// When it cannot be downloaded.
pub fn take(context: &Context, kernel: &mut Kernel, release: &str) -> Result<String> {
    let init = context.repo.join("scripts/guest-initramfs");
    let unpack = UNPACK.replace("DRIVERS", DRIVERS);
    let key = Key::default()
        .with("release", release)
        .with("packages", PACKAGES)
        .with("init", fs::read(&init)?)
        .with("scripts", format!("{INITRAMFS}{unpack}"))
        .finish();
    let dir = context.cache.made("old-kernel", &key, |dir| {
        packages::require(context, &[packages::GUEST])?;
        let log = context.cache.log(&format!("old-kernel-{release}"));
        let step = Step::begin(format!("fetching the kernel of {release}"), &log)?;
        let script = dir.join("initramfs");
        fs::write(&script, INITRAMFS)?;
        let quoted =
            |path: &std::path::Path| shell_words::quote(&path.to_string_lossy()).into_owned();
        step.run(
            debian::mmdebstrap("apt", "null")
                .arg(format!("--include={PACKAGES}"))
                .arg(format!("--customize-hook=upload {} /init", quoted(&init)))
                .arg(format!(
                    "--customize-hook=upload {} /initramfs",
                    quoted(&script)
                ))
                .arg(format!("--customize-hook={unpack}"))
                .arg(format!("--customize-hook=copy-out /old {}", quoted(dir)))
                .args([release, "/dev/null"])
                .args(debian::mirror()),
        )?;
        step.done();
        Ok(())
    })?;
    let dir = dir.join("old");
    kernel.image = dir.join("vmlinuz");
    kernel.initramfs = Some(dir.join("initramfs.cpio"));
    kernel.modules = dir.join("modules");
    let release = fs::read_dir(&kernel.modules)?.flatten().next();
    let release = release.map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(release.unwrap_or_default())
}
