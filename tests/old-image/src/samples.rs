// SPDX-License-Identifier: GPL-2.0

//! Small trees, of which tests and fuzzers make images.

use crate::tree::Data;
use crate::tree::Inode;
use crate::tree::Tree;

/// Two files with few attributes.
pub fn tiny() -> Tree {
    let mut tree = root();
    tree.add(0, "file", Inode::regular(5, "ab/cd"));
    tree.add(0, "link", Inode::symlink("file"));
    tree
}

/// One or two of each kind of file.
pub fn small() -> Tree {
    let mut tree = root();
    tree.inodes[0] = tree.inodes[0].clone().with_xattr("user.root", b"");
    let bin = tree.add(0, "bin", Inode::directory());
    let program = Inode {
        digest: Some([0xd1; 32]),
        uid: 1000,
        gid: 100,
        mode: 0o104755,
        ..Inode::regular(70_000, "d1/d1d1")
    };
    let label = b"system_u:object_r:bin_t:s0\0";
    let program = program
        .with_xattr("security.selinux", label)
        .with_xattr("user.a=b", b"-");
    let program = tree.add(bin, "program", program);
    tree.link(0, "again", program);
    tree.link(bin, "zzz", program);
    tree.add(0, "-", Inode::regular(0, ""));
    let old = Inode {
        mtime: -86_400,
        mtime_nsec: 999_999_999,
        ..Inode::regular(1 << 40, "by/path")
    };
    tree.add(0, "a b\n=\\", old.with_xattr("security.selinux", label));
    for (name, mode, rdev) in [
        ("block", 0o60660, 0x0803),
        ("char", 0o20666, 0xfff0_0103),
        ("fifo", 0o10644, 0),
        ("socket", 0o140755, 0),
        ("whiteout", 0o20000, 0),
    ] {
        let inode = Inode {
            rdev,
            ..Inode::new(mode, Data::None)
        };
        tree.add(0, name, inode);
    }
    let link = Inode::symlink("../bin/program").with_xattr("trusted.overlay.opaque", b"y");
    let sub = tree.add(0, "sub", Inode::directory());
    tree.add(sub, "link", link);
    tree.add(sub, "empty", Inode::directory());
    tree
}

/// Directories in directories, and one with many entries.
pub fn wide() -> Tree {
    let mut tree = small();
    let mut deep = 0;
    for name in ["a", "b", "c", "d", "e"] {
        deep = tree.add(deep, name, Inode::directory());
    }
    for number in 0..200 {
        let name = format!("{number:03}-{}", "n".repeat(number % 40));
        match number % 9 {
            0 => tree.link(deep, &name, 2),
            _ => drop(tree.add(deep, &name, Inode::regular(9, "ab/cd"))),
        }
    }
    tree
}

fn root() -> Tree {
    let mut root = Inode::directory();
    root.nlink = 1;
    Tree { inodes: vec![root] }
}
