// SPDX-License-Identifier: GPL-2.0

//! The guest's kernel with composefs built in: the plain one and the patches.
//!
//! What the plain one's build has compiled is used again. Both trees are covered
//! by an overlay in a mount namespace of the build's own, so that neither is
//! changed, and make finds everything at the place where it was compiled.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;

use crate::cache::Key;
use crate::context::Context;
use crate::kernel;
use crate::kernel::Flavor;
use crate::kernel::Kernel;
use crate::patches;
use crate::progress::Step;
use crate::progress::in_namespace;
use crate::toolchain::Toolchain;

/// Says which patches the image was built with.
const STAMP: &str = "series";

/// Covers the trees, patches the source and builds. The words after the script
/// are the command `make`.
const BUILD: &str = r#"
set -e
cover() {
	mkdir -p "$WORK/$1/upper" "$WORK/$1/work"
	mount -t overlay "composefs-$1" "$2" \
		-o "lowerdir=$2,upperdir=$WORK/$1/upper,workdir=$WORK/$1/work"
}
cover source "$SOURCE"
cover build "$BUILD"
cd "$SOURCE"
# Above the tree may be a repository, of which it is no part.
export GIT_CEILING_DIRECTORIES="$(dirname "$SOURCE")"
for patch in "$PATCHES"/0*-*.patch; do
	case $patch in
	*/0000-*) ;;
	*) git apply "$patch" ;;
	esac
done
scripts/config --file "$BUILD/.config" --enable COMPOSEFS_FS
"$@" olddefconfig
grep -qx CONFIG_COMPOSEFS_FS=y "$BUILD/.config"
"$@" bzImage
cp "$BUILD/arch/x86/boot/bzImage" "$IMAGE"
"#;

/// Builds the kernel unless it is there. `own` is a person's own tree.
///
/// # Errors
///
/// When the plain one does not build, the patches do not apply, or this machine
/// lets nobody cover a directory.
pub fn make(context: &Context, own: Option<&Path>) -> Result<Kernel> {
    let plain = kernel::make(context, Flavor::Plain, own)?;
    let dir = context
        .cache
        .of_clone("patched", &context.repo)?
        .join(&plain.key);
    let series = dir.join("patches");
    let kernel = Kernel {
        flavor: Flavor::Patched,
        image: dir.join("bzImage"),
        key: format!("{}-patched", plain.key),
        ..plain
    };
    let _lock = context.cache.lock(&format!("kernel-{}", kernel.key))?;
    let patches = patches::make(context, &kernel.source, &series)?;
    let identity = identity(&patches)?;
    let stamp = dir.join(STAMP);
    if kernel.image.exists() && fs::read_to_string(&stamp).is_ok_and(|old| old == identity) {
        return Ok(kernel);
    }
    build(context, &kernel, &series)?;
    fs::write(&stamp, identity).with_context(|| stamp.display().to_string())?;
    Ok(kernel)
}

fn identity(patches: &[PathBuf]) -> Result<String> {
    let mut key = Key::default();
    for patch in patches {
        key = key.with("patch", fs::read(patch)?);
    }
    Ok(key.finish())
}

fn build(context: &Context, kernel: &Kernel, series: &Path) -> Result<()> {
    let log = context.cache.log("kernel-patched");
    let step = Step::begin("building Linux with composefs built in", &log)?;
    // Beside the trees, where there is room, and gone afterwards.
    let work = context.cache.run_dir()?;
    let mut make = Toolchain::ready(context)?.make();
    make.arg("-C").arg(&kernel.build);
    let mut command = in_namespace(BUILD, &make);
    command
        .env("SOURCE", &kernel.source)
        .env("BUILD", &kernel.build)
        .env("PATCHES", series)
        .env("WORK", work.path())
        .env("IMAGE", &kernel.image);
    step.run(&mut command)?;
    step.done();
    Ok(())
}
