// SPDX-License-Identifier: GPL-2.0

//! What must be on the machine: how to see that it is there, and which package
//! of Debian and Ubuntu brings it.

use std::env;
use std::ffi::OsString;
use std::path::Path;

use crate::toolchain::Llvm;

/// How to see that something is there.
#[derive(Clone, Copy, Debug)]
pub enum Probe {
    /// A program in the path, /sbin included.
    Program(&'static str),
    /// A header among the system's.
    Header(&'static str),
    /// A file at a fixed place.
    File(&'static str),
    /// An LLVM that builds kernels: clang, lld, the binary tools and libclang.
    Llvm,
}

/// One thing that must be on the machine.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// How to see it.
    pub probe: Probe,
    /// The Debian package.
    pub package: &'static str,
    /// What it is for, to a person.
    pub purpose: &'static str,
}

const fn need(probe: Probe, package: &'static str, purpose: &'static str) -> Need {
    Need {
        probe,
        package,
        purpose,
    }
}

/// To build the kernel, the module and Rust programs.
pub const KERNEL: &[Need] = &[
    need(
        Probe::Llvm,
        LLVM,
        "compiling the kernel: 17 or newer, with libclang",
    ),
    need(Probe::Program("make"), "make", "building the kernel"),
    need(Probe::Program("flex"), "flex", "building the kernel"),
    need(Probe::Program("bison"), "bison", "building the kernel"),
    need(Probe::Program("bc"), "bc", "building the kernel"),
    need(Probe::Program("perl"), "perl", "building the kernel"),
    need(Probe::Header("gelf.h"), "libelf-dev", "building the kernel"),
    need(Probe::Program("depmod"), "kmod", "installing its modules"),
    need(Probe::Program("tar"), "tar", "unpacking it"),
    need(Probe::Program("xz"), "xz-utils", "unpacking it"),
    need(Probe::Program("curl"), "curl", "fetching it"),
    need(
        Probe::File("/etc/ssl/certs"),
        "ca-certificates",
        "fetching it",
    ),
    need(Probe::Program("gcc"), "gcc", "linking Rust programs"),
    need(
        Probe::Header("stdio.h"),
        "libc6-dev",
        "linking Rust programs",
    ),
    need(
        Probe::Header("openssl/opensslv.h"),
        "libssl-dev",
        "building cfsctl",
    ),
    need(
        Probe::Program("pkg-config"),
        "pkg-config",
        "building cfsctl",
    ),
];

/// To make the guest's disks.
pub const GUEST: &[Need] = &[
    need(
        Probe::Program("newuidmap"),
        "uidmap",
        "making the guest without being root",
    ),
    need(
        Probe::Program("mmdebstrap"),
        "mmdebstrap",
        "making the guest",
    ),
    need(
        Probe::Program("mke2fs"),
        "e2fsprogs",
        "making the guest's disks",
    ),
    need(
        Probe::File(crate::apt::KEYRING),
        "debian-archive-keyring",
        "checking Debian's signatures",
    ),
    need(
        Probe::Program("fakeroot"),
        "fakeroot",
        "making the guest without being root",
    ),
];

/// To run the guest.
pub const VM: &[Need] = &[
    need(
        Probe::Program("qemu-system-x86_64"),
        "qemu-system-x86",
        "running the guest",
    ),
    need(
        Probe::Program("setpriv"),
        "util-linux",
        "stopping the guest with xtask",
    ),
];

/// To build and check the tests.
pub const TEST: &[Need] = &[
    need(
        Probe::Program("rsync"),
        "rsync",
        "installing the selftests, as the kernel's own",
    ),
    need(
        Probe::Program("git"),
        "git",
        "making patches, and checking that they apply",
    ),
    need(
        Probe::Program("python3"),
        "python3",
        "running what is in scripts/",
    ),
];

/// Stands for the packages of the newest LLVM that the distribution has.
pub const LLVM: &str = "clang lld llvm libclang1";

impl Need {
    /// Whether it is there.
    pub fn is_met(&self) -> bool {
        match self.probe {
            Probe::Program(name) => which::which_in(name, Some(path_with_sbin()), "/").is_ok(),
            Probe::Header(name) => header_exists(name),
            Probe::File(path) => Path::new(path).exists(),
            Probe::Llvm => Llvm::find().is_some(),
        }
    }
}

/// The path, with the system programs that a plain user's lacks.
pub fn path_with_sbin() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

fn header_exists(name: &str) -> bool {
    let multiarch = format!("/usr/include/{}-linux-gnu", env::consts::ARCH);
    ["/usr/include", "/usr/local/include", &multiarch]
        .iter()
        .any(|dir| Path::new(dir).join(name).exists())
}
