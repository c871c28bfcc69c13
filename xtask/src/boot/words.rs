// SPDX-License-Identifier: GPL-2.0

//! What the kernel's command line says about the root.
//!
//! Without a hook, systemd in the initramfs does all of it: it mounts the store by its label, the image from
//! the store, and over the image what can be written. No program of this project is there.

/// Where the store is mounted in the initramfs and in the booted system. What is in /run/initramfs,
/// systemd leaves alone until the end, and then remounts it read-only. Anywhere else, it would
/// unmount the store early, which only hides it: the root needs the file system, which would go on
/// with a journal that is not written back.
const STORE: &str = "/run/initramfs/store";

/// Where erofs mounts the image below overlayfs.
const METADATA: &str = "/run/metadata";

/// Where a tmpfs has the upper layers. systemd makes the directories.
const TRANSIENT: &str = "/run/transient";

/// An image of the store as root.
pub struct Root<'a> {
    /// Whether the kernel's two file systems mount the image, not this one.
    pub overlayfs: bool,
    /// The file system of the store.
    pub store: &'a str,
    /// The name of the image in the store, which is its digest.
    pub image: &'a str,
    /// The digest that the image must have.
    pub digest: &'a str,
    /// Whether everything that is written goes to a tmpfs.
    pub transient: bool,
}

impl Root<'_> {
    /// The words of the kernel's command line.
    pub fn words(&self) -> Vec<String> {
        let Self { image, digest, .. } = self;
        let objects = format!("{STORE}/composefs/objects");
        let image_file = format!("{STORE}/composefs/images/{image}");
        // systemd takes a path in root= for one on an NFS server. What is said in mount-extra is
        // as if it stood in the initramfs's fstab.
        let mut words = vec!["root=fstab".to_owned()];
        if self.overlayfs {
            // By a loop device: without one, erofs is a layer more, and there could be no
            // overlay over /etc.
            words.push(extra(&image_file, METADATA, "erofs", "ro,loop"));
            // Not lowerdir=A::B: a colon ends a part of mount-extra.
            let options = format!(
                "ro,lowerdir+={METADATA},datadir+={objects},metacopy=on,redirect_dir=on,\
                 verity=require,x-systemd.requires-mounts-for={METADATA}"
            );
            words.push(extra("overlay", "/sysroot", "overlay", &options));
        } else {
            let options = format!("ro,basedir={objects},digest={digest}");
            words.push(extra(&image_file, "/sysroot", "composefs", &options));
        }
        words.push(extra("LABEL=store", STORE, self.store, "rw"));
        let state = format!("{STORE}/state");
        if self.transient {
            for dir in ["etc", "var"] {
                let state = format!("{TRANSIENT}/{dir}");
                let after = format!("x-systemd.requires-mounts-for={state}");
                words.push(overlay(dir, &state, &after));
            }
        } else {
            // No more than an order: /etc is not to go when the store is unmounted.
            let etc = format!("{state}/deploy/{image}/etc");
            words.push(overlay(
                "etc",
                &etc,
                "x-systemd.after=run-initramfs-store.mount",
            ));
            let var = format!("{state}/os/default/var");
            words.push(extra(&var, "/sysroot/var", "none", "bind"));
            // An ordinary mount of the booted system, too: a soft reboot mounts it again, and a
            // shutdown makes the journal leave it.
            words.push(of_system(&var, "/var", "none", "bind"));
        }
        words
    }
}

/// The words for a disk with the tree itself, all of which can be written.
pub fn without_image() -> Vec<String> {
    ["root=LABEL=store", "rw"].map(str::to_owned).to_vec()
}

/// The words for the hooks of packaging/initramfs, and for composefs-setup-root.
pub fn for_hooks(digest: &str, transient: bool) -> Vec<String> {
    let mut words = without_image();
    words.push(format!("composefs={digest}"));
    if transient {
        words.push("composefs.transient".to_owned());
    }
    words
}

/// A mount of the initramfs.
fn extra(what: &str, at: &str, fstype: &str, options: &str) -> String {
    format!("rd.systemd.mount-extra={what}:{at}:{fstype}:{options}")
}

/// A mount of the booted system.
fn of_system(what: &str, at: &str, fstype: &str, options: &str) -> String {
    format!("systemd.mount-extra={what}:{at}:{fstype}:{options}")
}

/// An overlay over a directory of the root, whose upper layer is in `state`. The initramfs mounts it
/// below /sysroot, and the booted system keeps it until the end, in a soft reboot as well.
fn overlay(dir: &str, state: &str, order: &str) -> String {
    let options = format!(
        "lowerdir=/sysroot/{dir},upperdir={state}/upper,workdir={state}/work,{order},\
         x-initrd.mount"
    );
    of_system("overlay", &format!("/{dir}"), "overlay", &options)
}
