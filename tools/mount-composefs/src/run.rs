// SPDX-License-Identifier: GPL-2.0

//! Doing what the command line asks for.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use composefs_mount::Error;
use composefs_mount::Kind;
use composefs_mount::MountOptions;
use rustix::fs::CWD;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::openat;
use rustix::io::Errno;

use crate::command::Command;
use crate::failure::Failure;
use crate::namespace;
use crate::options::Options;

/// Mounts the image, or changes the flags of a mount.
///
/// # Errors
///
/// What is wrong. Nothing is mounted then.
pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    let options = Options::parse(&command.options, command.sloppy)?;
    if let Some(namespace) = &command.namespace {
        namespace::enter(namespace)?;
    }
    match options.remount {
        true => remount(command, &options),
        false => mount(command, &options),
    }
}

fn mount(command: &Command, options: &Options) -> Result<(), Failure> {
    let image = options.image.as_deref().unwrap_or(&command.source);
    let failed = |error| Failure::mount(image, &error);
    let idmap = options.idmap.as_deref().map(user_namespace).transpose()?;

    let mut mount = MountOptions::new(image)
        .verity(options.verity())
        .prefer(options.prefer)
        .attributes(options.flags.attributes());
    if options.image.is_some() {
        mount = mount.source(command.source.as_os_str());
    }
    if let (Some(upper), Some(work)) = (&options.upperdir, &options.workdir) {
        mount = mount.upper(upper, work);
    }
    if let Some(namespace) = &idmap {
        mount = mount.idmap(namespace.as_fd());
    }
    mount = with_common(mount, options).map_err(failed)?;
    if command.fake {
        mount.check().map_err(failed)?;
        return check_target(&command.target).map_err(failed);
    }
    let mounted = match mount.mount() {
        // As mount(8) does for a device.
        Err(Error::Image {
            errno: Errno::NOENT,
            ..
        }) if options.nofail => return Ok(()),
        done => done.map_err(failed)?,
    };
    let kind = mounted.kind();
    mounted.attach(&command.target).map_err(failed)?;
    if command.verbose {
        report(image, &command.target, kind);
    }
    Ok(())
}

fn remount(command: &Command, options: &Options) -> Result<(), Failure> {
    let failed = |error| Failure::remount(&command.target, &error);
    let image = options.image.as_deref().unwrap_or(&command.source);
    let mut mount = MountOptions::new(image).verity(options.verity_of_remount());
    if options.image.is_some() {
        mount = mount.source(command.source.as_os_str());
    }
    let mount = with_common(mount, options).map_err(failed)?;
    if command.fake {
        return check_target(&command.target).map_err(failed);
    }
    let flags = options.flags.for_remount();
    mount.remount(&command.target, flags).map_err(failed)
}

/// Adds the options that mounts and remounts have in common.
fn with_common<'a>(
    mut mount: MountOptions<'a>,
    options: &'a Options,
) -> composefs_mount::Result<MountOptions<'a>> {
    for basedir in &options.basedirs {
        mount = mount.basedir(basedir);
    }
    if let Some(digest) = &options.digest {
        mount = mount.digest(digest.parse()?);
    }
    if let Some(signature) = &options.signature {
        mount = mount.signature(signature.as_path());
    }
    mount = mount.signed(options.signed);
    if !options.remount {
        for name in options.flags.of_file_system() {
            mount = mount.common_option(name, None)?;
        }
    }
    for (name, value) in &options.labels {
        mount = mount.common_option(name, Some(value))?;
    }
    Ok(mount)
}

fn user_namespace(path: &Path) -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    let opened = openat(CWD, path, flags, Mode::empty());
    opened.map_err(|errno| Failure::open("userns ", &path, errno))
}

/// Whether there is a mount point, for `-f`.
fn check_target(target: &Path) -> composefs_mount::Result<()> {
    let opened = openat(CWD, target, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    opened.map(drop).map_err(|errno| Error::Target {
        target: target.display().to_string(),
        errno,
    })
}

/// Says how the image was mounted.
fn report(image: &Path, target: &Path, kind: Kind) {
    let mut line = b"mount.composefs: ".to_vec();
    line.extend_from_slice(image.as_os_str().as_bytes());
    line.extend_from_slice(b" mounted on ");
    line.extend_from_slice(target.as_os_str().as_bytes());
    line.extend_from_slice(format!(": {kind}\n").as_bytes());
    // The image is mounted, whether or not anybody reads this.
    let _ = std::io::stdout().write_all(&line);
}
