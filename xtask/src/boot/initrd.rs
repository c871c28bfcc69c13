// SPDX-License-Identifier: GPL-2.0

//! The initramfs: one without modules, and the modules of a kernel behind it. The kernel unpacks
//! one archive after the other.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::cache::Key;
use crate::context::Context;
use crate::kernel::Kernel;
use crate::path;
use crate::progress::Step;

/// What mounts the root, whatever it is on. Kernels may have some of them built in.
const DRIVERS: &str = "virtio_pci virtio_blk pvpanic-pci ext4 btrfs overlay erofs loop autofs4";

/// Makes an archive of modules. The arguments are the directory above lib/modules, the base,
/// the file to write, and composefs.ko if it is a module.
const MODULES: &str = r#"
set -e
kernel=$1 base=$2 image=$3 module=$4
release=$(ls "$kernel/lib/modules")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
to=$work/usr/lib/modules/$release
mkdir -p "$to/updates"
ln -s usr/lib "$work/lib"
cp "$kernel/lib/modules/$release"/modules.builtin* "$kernel/lib/modules/$release/modules.order" "$to"
rm -f "$to"/*.bin
for file in $(modprobe --dirname "$kernel" --set-version "$release" --show-depends --all \
		DRIVERS | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'); do
	case $file in
	*.xz) xz --decompress --stdout "$file" >"$to/$(basename "$file" .xz)" ;;
	*) cp "$file" "$to" ;;
	esac
done
[ -z "$module" ] || cp "$module" "$to/updates"
depmod --basedir "$work" "$release"
# The base has this link.
rm "$work/lib"
(cd "$work" && find . -mindepth 1 | LC_ALL=C sort |
	cpio --quiet --create --format=newc --owner=0:0) >"$image.modules"
cat "$base" "$image.modules" >"$image"
rm "$image.modules"
"#;

/// An initramfs without kernel modules, which is not compressed.
#[derive(Clone, Debug)]
pub struct Base {
    /// The archive.
    pub file: PathBuf,
    /// A key that changes with it.
    pub key: String,
}

/// Makes the initramfs for a kernel and a module unless the cache has it.
///
/// # Errors
///
/// When a tool is missing, or the disk is full.
pub fn make(
    context: &Context,
    kernel: &Kernel,
    module: Option<&Path>,
    base: &Base,
) -> Result<PathBuf> {
    let script = MODULES.replace("DRIVERS", DRIVERS);
    let mut key = Key::default()
        .with("kernel", &kernel.key)
        .with("base", &base.key)
        .with("script", &script);
    if let Some(module) = module {
        key = key.with("module", fs::read(module)?);
    }
    let dir = context.cache.made("boot-initramfs", &key.finish(), |dir| {
        let log = context.cache.log("boot-initramfs");
        let step = Step::begin("making the initramfs", &log)?;
        // /lib/modules may be a link in a tree: its directory is named.
        let above = kernel.modules.ancestors().nth(2).unwrap_or(&kernel.modules);
        step.run(
            Command::new("sh")
                .env("PATH", path::with_sbin())
                .args(["-c", &script, "sh"])
                .arg(above)
                .arg(&base.file)
                .arg(dir.join(IMAGE))
                .arg(module.unwrap_or(Path::new(""))),
        )?;
        step.done();
        Ok(())
    })?;
    Ok(dir.join(IMAGE))
}

/// The file in its cache entry.
const IMAGE: &str = "initramfs.cpio";
