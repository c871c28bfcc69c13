// SPDX-License-Identifier: GPL-2.0

//! `composefs_fsmount` of the composefs crate, as it would be with composefs-mount.

use std::io::Result;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use composefs::mount::VerityRequirement;
use composefs_mount::MountAttrFlags;
use composefs_mount::Verity;

/// The fields of that crate's `MountOptions`, which are private there.
#[derive(Debug, Default)]
pub struct MountOptions {
    /// The upper and the work directory of overlayfs.
    pub upperdirs: Option<(OwnedFd, OwnedFd)>,
    /// Whether the mount is writable.
    pub read_write: bool,
    /// A user namespace.
    pub idmap_fd: Option<OwnedFd>,
}

/// Mounts an image, with `composefs:NAME` as its source.
///
/// The lines between the marks are those of composefs-clients.rst.
///
/// # Errors
///
/// Those of composefs-mount.
pub fn composefs_fsmount(
    image: OwnedFd,
    name: &str,
    basedirs: &[BorrowedFd<'_>],
    verity: VerityRequirement,
    options: &MountOptions,
) -> Result<OwnedFd> {
    // begin
    let mut mount = composefs_mount::MountOptions::new(&image)
        .source(format!("composefs:{name}"))
        .verity(match verity {
            VerityRequirement::Disabled => Verity::Off,
            VerityRequirement::Required => Verity::Required,
            VerityRequirement::Try => Verity::Try,
        });
    for basedir in basedirs {
        mount = mount.basedir(*basedir);
    }
    if let Some((upperdir, workdir)) = &options.upperdirs {
        mount = mount.upper(upperdir, workdir);
    }
    if let Some(namespace) = &options.idmap_fd {
        mount = mount.idmap(namespace.as_fd());
    }
    if !options.read_write {
        mount = mount.attributes(MountAttrFlags::MOUNT_ATTR_RDONLY);
    }
    Ok(mount.mount()?.into_fd())
    // end
}

#[cfg(test)]
mod tests {
    /// The lines of a text without the spaces at their beginnings.
    fn lines(text: &str) -> Vec<&str> {
        text.lines().map(str::trim).collect()
    }

    #[test]
    fn the_manual_has_these_lines() {
        let manual = include_str!("../../../Documentation/filesystems/composefs-clients.rst");
        let source = lines(include_str!("fsmount.rs"));
        let mark = |text: &str| source.iter().position(|line| *line == text).unwrap();
        let body = &source[mark("// begin") + 1..mark("// end")];
        assert!(body.len() > 10);
        let found = lines(manual).windows(body.len()).any(|part| part == body);
        assert!(
            found,
            "composefs-clients.rst does not have these lines:\n{body:#?}"
        );
    }
}
