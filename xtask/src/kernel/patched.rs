// SPDX-License-Identifier: GPL-2.0

//! The guest's kernels with composefs built in: the plain or the debug kernel, and the patches.
//!
//! The build starts from the object files of the kernel without them. In a new mount namespace, it
//! mounts an overlay on the source tree and on the build tree. So neither tree is changed,
//! and make finds each file at the path where it was compiled.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::UNIX_EPOCH;

use anyhow::Context as _;
use anyhow::Result;

use super::built::Kernel;
use super::built::lock;
use super::flavor::Flavor;
use crate::cache::Key;
use crate::context::Context;
use crate::git::forget_repository;
use crate::patches;
use crate::progress::Step;
use crate::progress::output;
use crate::toolchain::Toolchain;

/// Name of the file with the key of the patches that the image was built with.
const STAMP: &str = "series";

/// Mounts the overlays and defines functions for the scripts below. The arguments of the
/// script are the command `make`.
const COVER: &str = r#"
set -e
cover() {
	mkdir -p "$WORK/$1/upper" "$WORK/$1/workdir"
	cd "$2"
	mount -t overlay "composefs-$1" "$2" \
		-o "lowerdir=.,upperdir=$WORK/$1/upper,workdir=$WORK/$1/workdir$OPTIONS"
}
# The patches without the cover letter.
patches() {
	printf '%s\n' "$PATCHES"/0*-*.patch | grep -v /0000-
}
configure() {
	scripts/config --file "$BUILD/.config" "$@"
}
# overlayfs leaves directories of mode 0 there, which only root could remove.
trap 'chmod -f 0700 "$WORK"/*/workdir/work || true' EXIT
cover source "$SOURCE"
cover build "$BUILD"
cd "$SOURCE"
# Keep git from using a repository above the source tree.
GIT_CEILING_DIRECTORIES=$(dirname "$SOURCE")
export GIT_CEILING_DIRECTORIES GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
"#;

/// Builds the kernel with all patches.
const BUILD: &str = r#"
for patch in $(patches); do
	git apply "$patch"
done
configure --enable COMPOSEFS_FS
"$@" olddefconfig
if ! grep -qx CONFIG_COMPOSEFS_FS=y "$BUILD/.config"; then
	echo "CONFIG_COMPOSEFS_FS=y is not accepted: one of its dependencies is not built in" >&2
	exit 1
fi
"$@" bzImage
cp "$BUILD/arch/x86/boot/bzImage" "$IMAGE.new"
mv "$IMAGE.new" "$IMAGE"
"#;

/// Builds the kernel after each patch that changes files of the build. Everything is
/// built in; from the file system on, a second build has it as a module. A warning
/// is an error, unless it is about code that only a later patch uses.
const BUILD_EACH: &str = r#"
each() {
	echo "xtask: $(basename "$patch"): $*"
	"$@" olddefconfig bzImage modules 2>&1 | tee "$WORK/log"
	! grep -i 'warning:\|error:\|\*\*\*' "$WORK/log" |
		grep -v 'never \(used\|constructed\|read\)\|warnings\? emitted'
}
for patch in $(patches); do
	git apply "$patch"
	grep -q '^+++ b/\(rust\|fs\|include\)/' "$patch" || continue
	configure --enable RUST_VFS_ABSTRACTIONS --enable RUST_KUNIT_TESTS \
		--enable RUST_VFS_KUNIT_TEST --enable COMPOSEFS_FS
	each "$@"
	grep -qx CONFIG_COMPOSEFS_FS=y "$BUILD/.config" || continue
	configure --module COMPOSEFS_FS
	each "$@"
done
grep -qx CONFIG_COMPOSEFS_FS=m "$BUILD/.config"
"#;

/// Builds the kernel `flavor` from `base`, the one without the patches, unless the cache has it.
///
/// # Errors
///
/// When the patches do not apply, the kernel does not build, or this machine does
/// not allow an overlay mount in a mount namespace.
pub fn make(context: &Context, flavor: Flavor, base: Kernel) -> Result<Kernel> {
    let dir = context
        .cache
        .of_clone("patched", &context.repo)?
        .join(&base.key);
    let series = dir.join("patches");
    let (base_key, base_image) = (base.key.clone(), base.image.clone());
    let kernel = Kernel {
        flavor,
        image: dir.join("bzImage"),
        key: format!("{}-patched", base.key),
        ..base
    };
    let _lock = lock(context, &kernel.key)?;
    // Keep the other kernel from being built again while it is below the overlay.
    let _base = lock(context, &base_key)?;
    if series.exists() {
        // The old series may have other patches.
        fs::remove_dir_all(&series)?;
    }
    let patches = patches::make(context, &kernel.tree(context)?, &series)?;
    let identity = identity(&base_image, &patches)?;
    let stamp = dir.join(STAMP);
    if kernel.image.exists() && fs::read_to_string(&stamp).is_ok_and(|old| old == identity) {
        return Ok(kernel);
    }
    if stamp.exists() {
        fs::remove_file(&stamp)?;
    }
    build(context, &kernel, &series)?;
    fs::write(&stamp, identity).with_context(|| stamp.display().to_string())?;
    Ok(kernel)
}

/// The key of a build: the time of the other kernel, which the user may have built, and the
/// patches.
fn identity(base: &Path, patches: &[PathBuf]) -> Result<String> {
    let age = fs::metadata(base)?.modified()?;
    let mut key = Key::default().with("base", format!("{:?}", age.duration_since(UNIX_EPOCH)));
    for patch in patches {
        key = key.with("patch", fs::read(patch)?);
    }
    Ok(key.finish())
}

/// Checks that this machine allows an overlay in a new mount namespace.
///
/// # Errors
///
/// The output of the command that failed.
pub fn can_cover(context: &Context) -> Result<()> {
    let work = context.cache.run_dir()?;
    let mut command = in_namespace(CAN_COVER, &Command::new("true"));
    command.env("WORK", work.path()).env("OPTIONS", options());
    output(&mut command).map(drop)
}

const CAN_COVER: &str = r#"
set -e
cd "$WORK"
mkdir lower upper workdir
cd lower
trap 'chmod -f 0700 "$WORK/workdir/work" || true' EXIT
mount -t overlay composefs-test "$WORK/lower" \
	-o "lowerdir=.,upperdir=$WORK/upper,workdir=$WORK/workdir$OPTIONS"
"#;

/// Options of the overlay. Only root may set `trusted.` xattrs, the default of overlayfs.
fn options() -> &'static str {
    match rustix::process::geteuid().is_root() {
        true => "",
        false => ",userxattr",
    }
}

fn build(context: &Context, kernel: &Kernel, series: &Path) -> Result<()> {
    let name = kernel.flavor.name();
    let log = context.cache.log(&format!("kernel-{name}"));
    let step = Step::begin(
        format!("building Linux with composefs built in ({name})"),
        &log,
    )?;
    run(context, kernel, series, BUILD, step)
}

/// Builds `plain`, the plain kernel, after each patch of a series. Nothing is kept.
///
/// # Errors
///
/// When a patch does not apply, or the kernel does not build with it or has warnings.
pub fn build_each(context: &Context, plain: &Kernel, series: &Path) -> Result<()> {
    let _plain = lock(context, &plain.key)?;
    let log = context.cache.log("kernel-each-patch");
    let step = Step::begin("building Linux after each patch", &log)?;
    run(context, plain, series, BUILD_EACH, step)
}

/// Runs [`COVER`] and then `script`.
fn run(context: &Context, kernel: &Kernel, series: &Path, script: &str, step: Step) -> Result<()> {
    // In the cache directory, which has room. Removed afterwards.
    let work = context.cache.run_dir()?;
    let mut make = Toolchain::ready(context)?.make(kernel.machine);
    make.arg("-C").arg(&kernel.build);
    let mut command = in_namespace(&format!("{COVER}{script}"), &make);
    forget_repository(&mut command);
    command
        .env("SOURCE", kernel.tree(context)?)
        .env("BUILD", &kernel.build)
        .env("PATCHES", series)
        .env("WORK", work.path())
        .env("OPTIONS", options())
        .env("IMAGE", &kernel.image);
    step.run(&mut command)?;
    step.done();
    Ok(())
}

/// A command that runs a shell script, with `words` as its arguments, in new
/// namespaces: mounts that it makes are not seen outside.
fn in_namespace(script: &str, words: &Command) -> Command {
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["sh", "-c", script, "sh"]);
    command.arg(words.get_program()).args(words.get_args());
    for (name, value) in words.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}
