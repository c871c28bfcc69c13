// SPDX-License-Identifier: GPL-2.0

//! Initramfs as a Debian user has them: made by initramfs-tools and by dracut, with what
//! packaging/initramfs adds to them. And one in which composefs-setup-root of crates.io makes
//! the root.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::args::Way;
use super::initrd::Base;
use crate::cache::Key;
use crate::context::Context;
use crate::debian;
use crate::guest_program;
use crate::packages;
use crate::progress::Step;
use crate::tools;

/// What makes an initramfs, and what it takes programs from. dracut and initramfs-tools cannot
/// both be installed, but their programs can.
const PACKAGES: &str = "busybox,dracut-core,e2fsprogs,initramfs-tools-core,kmod,mount,systemd,\
                        systemd-sysv,udev";

/// Installs what the package composefs-linux-utils has (packaging/debian/rules), and makes the
/// initramfs, without modules. There is no kernel here, whose version is 0.
const MAKE: &str = r#"chroot "$1" sh -c '
    set -e
    cd /tmp/initramfs
    install -D -t /usr/lib/composefs composefs-root
    install -D initramfs-tools/hook /usr/share/initramfs-tools/hooks/composefs
    install -D initramfs-tools/local-bottom /usr/share/initramfs-tools/scripts/local-bottom/composefs
    install -D -t /usr/lib/dracut/modules.d/90composefs-root dracut/*
    chmod 755 /usr/sbin/mount.composefs /usr/sbin/composefs-readahead /usr/bin/composefs-setup-root

    mkdir -p /lib/modules/0
    touch /lib/modules/0/modules.order /lib/modules/0/modules.builtin
    echo MODULES=list >/etc/initramfs-tools/conf.d/modules
    mkinitramfs -c gzip -o /tmp/initramfs-tools.cpio.gz 0
    gunzip /tmp/initramfs-tools.cpio.gz

    make_with_dracut() {
        dracut --force --no-kernel --no-hostonly --no-hostonly-cmdline --no-compress \
            --no-early-microcode --reproducible --modules "bash systemd systemd-initrd \
            rootfs-block fs-lib base shutdown udev-rules dracut-systemd usrmount \
            kernel-modules composefs-root" "$@" 0
    }
    make_with_dracut /tmp/dracut.cpio
    make_with_dracut --install /usr/bin/composefs-setup-root --include \
        /tmp/boot-setup-root.conf \
        /usr/lib/systemd/system/composefs-root.service.d/setup-root.conf /tmp/setup-root.cpio
'"#;

/// Makes the initramfs without modules for a way unless the cache has it. `None` for the way
/// without any program of this project.
///
/// # Errors
///
/// When a program cannot be built, or Debian cannot be reached.
pub fn make(context: &Context, way: Way) -> Result<Option<Base>> {
    let Some(name) = file_name(way) else {
        return Ok(None);
    };
    let program = guest_program::build(context, "mount-composefs")?.join("mount-composefs");
    let readahead =
        guest_program::build(context, "composefs-readahead")?.join("composefs-readahead");
    let setup_root = tools::setup_root(context)?;
    let hooks = context.repo.join("packaging/initramfs");
    let conf = context.repo.join("scripts/boot-setup-root.conf");
    let mut key = Key::default()
        .with("suite", debian::SUITE)
        .with("packages", PACKAGES)
        .with("make", MAKE)
        .with("program", fs::read(&program)?)
        .with("readahead", fs::read(&readahead)?)
        .with("setup-root", setup_root.as_os_str().as_encoded_bytes())
        .with("conf", fs::read(&conf)?);
    for dir in ["", "dracut", "initramfs-tools"] {
        key = key.with_files(&hooks.join(dir))?;
    }
    let key = key.finish();
    let dir = context.cache.made("boot-hooks", &key, |dir| {
        packages::require(context, &[packages::GUEST])?;
        let log = context.cache.log("boot-hooks");
        let step = Step::begin("making initramfs with the hooks", &log)?;
        let quoted = |path: &Path| shell_words::quote(&path.to_string_lossy()).into_owned();
        let hooks = [
            format!(
                "copy-in {} {} {} /tmp",
                quoted(&hooks),
                quoted(&conf),
                quoted(&setup_root)
            ),
            "mv \"$1/tmp/composefs-setup-root\" \"$1/usr/bin/\"".to_owned(),
            format!("upload {} /usr/sbin/mount.composefs", quoted(&program)),
            format!(
                "upload {} /usr/sbin/composefs-readahead",
                quoted(&readahead)
            ),
            MAKE.to_owned(),
            format!(
                "copy-out /tmp/initramfs-tools.cpio /tmp/dracut.cpio /tmp/setup-root.cpio {}",
                quoted(dir)
            ),
        ];
        let mut command = debian::mmdebstrap("essential", "null");
        command.arg(format!("--include={PACKAGES}"));
        command.args(hooks.map(|hook| format!("--customize-hook={hook}")));
        step.run(
            command
                .args([debian::SUITE, "/dev/null"])
                .args(debian::mirror()),
        )?;
        step.done();
        Ok(())
    })?;
    Ok(Some(Base {
        file: dir.join(name),
        key: format!("{key}-{name}"),
    }))
}

/// The name of a way's initramfs in the cache entry.
fn file_name(way: Way) -> Option<&'static str> {
    match way {
        Way::Kernel => None,
        Way::InitramfsTools => Some("initramfs-tools.cpio"),
        Way::Dracut => Some("dracut.cpio"),
        Way::SetupRoot => Some("setup-root.cpio"),
    }
}
