// SPDX-License-Identifier: GPL-2.0

//! Debian's own kernel, unpacked from its packages, with what a module for it is built with.

use std::fs;

use anyhow::Result;

use super::built::Kernel;
use super::flavor::Flavor;
use crate::build_root::BuildRoot;
use crate::cache::Key;
use crate::context::Context;
use crate::machine::Machine;
use crate::progress::Step;
use crate::toolchain;

/// The drivers of the guest's disks and shares, and of the device that ends QEMU after a panic.
const DRIVERS: [&str; 5] = ["virtio_blk", "ext4", "9pnet_virtio", "9p", "pvpanic-pci"];

/// The program that makes the Rust metadata, which Debian's headers lack. It is that of the
/// package composefs-dkms.
const METADATA: &str = "packaging/composefs-rust-metadata";

/// Makes an initramfs. The arguments are the program that becomes /init, the file to write, the
/// kernel's release and the drivers.
pub const INITRAMFS: &str = r#"
set -e
init=$1 image=$2 release=$3
shift 3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir bin dev guest modules
cp "$init" init
cp /bin/busybox bin
for name in sh mount insmod sleep switch_root; do
	ln -s busybox "bin/$name"
done
number=100
# Not in a pipe, in which a failure would not be seen.
modprobe --set-version "$release" --show-depends --all "$@" >needed
for module in $(awk '$1 == "insmod" && !seen[$2]++ { print $2 }' needed); do
	name=$(basename "$module" .xz)
	case $module in
	*.xz) xz --decompress --stdout "$module" >"modules/$number-$name" ;;
	*) cp "$module" "modules/$number-$name" ;;
	esac
	number=$((number + 1))
done
rm needed
find . | cpio --quiet --create --format=newc --owner=0:0 >"$image"
"#;

/// Makes the kernel unless the cache has it.
///
/// # Errors
///
/// [`Unavailable`](crate::build_root::Unavailable) when Debian's packages cannot be had. Others
/// when the Rust metadata or the initramfs cannot be made.
pub fn make(context: &Context) -> Result<Kernel> {
    let root = BuildRoot::ready(context)?;
    let modules = root.modules();
    let metadata = context.repo.join(METADATA);
    let init = context.repo.join("scripts/guest-initramfs");
    let key = Key::default()
        .with("root", &root.key)
        .with("metadata", fs::read(&metadata)?)
        .finish();
    let build = context.cache.made("debian-headers", &key, |entry| {
        let log = context.cache.log("debian-headers");
        let step = Step::begin("making the Rust metadata of Debian's kernel", &log)?;
        step.run(
            root.command(context, &metadata.to_string_lossy())
                .env("COMPOSEFS_JOBS", toolchain::jobs()?.to_string())
                .arg(&root.release)
                .arg(entry.join(BUILD)),
        )?;
        step.done();
        Ok(())
    })?;
    let initramfs_key = Key::default()
        .with("root", &root.key)
        .with("init", fs::read(&init)?)
        .with("script", INITRAMFS)
        .with("drivers", DRIVERS.join(" "))
        .finish();
    let initramfs = context
        .cache
        .made("debian-initramfs", &initramfs_key, |entry| {
            let log = context.cache.log("debian-initramfs");
            let step = Step::begin("making an initramfs for Debian's kernel", &log)?;
            step.run(
                root.command(context, "sh")
                    .args(["-c", INITRAMFS, "sh"])
                    .arg(&init)
                    .arg(entry.join(IMAGE))
                    .arg(&root.release)
                    .args(DRIVERS),
            )?;
            step.done();
            Ok(())
        })?;
    Ok(Kernel {
        flavor: Flavor::Debian,
        machine: Machine::X86_64,
        image: modules.join(&root.release).join("vmlinuz"),
        initramfs: Some(initramfs.join(IMAGE)),
        modules,
        build: build.join(BUILD),
        source: None,
        key: format!("{}-{key}", root.release),
        root: Some(root),
    })
}

/// Names in the cache's entries.
const BUILD: &str = "build";
const IMAGE: &str = "initramfs.cpio";
