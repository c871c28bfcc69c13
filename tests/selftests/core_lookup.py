#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Lookups by name, and the attributes of the inodes."""

from __future__ import annotations

import errno
import os
import stat

from lib import core, image, ktap
from lib.image import Inode

suite = ktap.Suite()

# The names in a directory of several blocks.
MANY = [f"entry-{number:04}" for number in range(0, 4000, 2)]


@suite.test("attributes are those of the image")
def attributes(test: ktap.Test) -> None:
    inodes = {
        "regular": Inode(stat.S_IFREG | 0o640, b"12345", uid=1, gid=2),
        "external": image.external(1 << 40, "/ab/cd"),
        "setuid": Inode(stat.S_IFREG | 0o4755, uid=70000, gid=80000),
        "directory": image.directory({"sub": image.directory({})}, 0o1777),
        "symlink": image.symlink("regular"),
        "char": image.special(stat.S_IFCHR | 0o620, os.makedev(5, 1)),
        "block": image.special(stat.S_IFBLK | 0o660, os.makedev(259, 70000)),
        "fifo": image.special(stat.S_IFIFO | 0o600),
        "socket": image.special(stat.S_IFSOCK | 0o755),
        "old": Inode(stat.S_IFREG | 0o644, mtime=-1),
        "new": Inode(stat.S_IFREG | 0o644, mtime=(1 << 33) * 10**9 + 7),
    }
    links = {"directory": 3}
    sizes = {"regular": 5, "external": 1 << 40, "symlink": 7}
    with core.mounted(image.directory(inodes)) as top:
        for name, inode in inodes.items():
            found = os.lstat(f"{top}/{name}")
            test.equal(oct(found.st_mode), oct(inode.mode), f"{name}: mode")
            test.equal(found.st_uid, inode.uid, f"{name}: uid")
            test.equal(found.st_gid, inode.gid, f"{name}: gid")
            test.equal(found.st_rdev, inode.rdev, f"{name}: device")
            test.equal(found.st_mtime_ns, inode.mtime, f"{name}: mtime")
            test.equal(found.st_nlink, links.get(name, 1), f"{name}: links")
            if not inode.is_directory():
                test.equal(found.st_size, sizes.get(name, 0), f"{name}: size")
        test.equal(os.readlink(f"{top}/symlink"), "regular", "target")


@suite.test("each name of a large directory is found, and no other")
def large(test: ktap.Test) -> None:
    entries = {name: image.regular(name.encode()) for name in MANY}
    with core.mounted(image.directory(entries)) as top:
        for name in MANY:
            with open(f"{top}/{name}", "rb") as file:
                test.equal(file.read(), name.encode(), name)
        for number in range(1, 4000, 2):
            absent(test, f"{top}/entry-{number:04}")
        for name in ("a", "entry-", "entry-00000", "zzz", "\x01", "\xff"):
            absent(test, f"{top}/{name}")


@suite.test("names are bytes")
def names(test: ktap.Test) -> None:
    odd = [b"a", b"ab", b"abc", b" ", b"\n", b"\xff\xfe", b"...", b".a",
           b"!", b"n" * 255]
    root = Inode(stat.S_IFDIR | 0o755, entries={
        name: image.regular(name) for name in odd})
    with core.mounted(root) as top:
        for name in odd:
            with open(os.fsencode(top) + b"/" + name, "rb") as file:
                test.equal(file.read(), name, repr(name))
        test.fails(errno.ENAMETOOLONG, "256 bytes", os.lstat,
                   f"{top}/{'n' * 256}")


@suite.test("paths: directories, dots, symlinks")
def paths(test: ktap.Test) -> None:
    deep = image.regular(b"deep")
    root = image.directory({
        "a": image.directory({"b": image.directory({"file": deep})}),
        "link": image.symlink("a/b"),
        "loop": image.symlink("loop"),
        "dangling": image.symlink("nowhere"),
        "file": image.regular(b""),
    })
    with core.mounted(root) as top:
        expected = os.stat(f"{top}/a/b/file").st_ino
        for path in ("a/b/../b/file", "a/../a/./b/file", "link/file"):
            test.equal(os.stat(f"{top}/{path}").st_ino, expected, path)
        test.equal(os.stat(f"{top}/a/..").st_ino, os.stat(top).st_ino, "a/..")
        for path, number in (("file/x", errno.ENOTDIR),
                             ("loop", errno.ELOOP),
                             ("dangling", errno.ENOENT),
                             ("x/file", errno.ENOENT)):
            test.fails(number, path, os.stat, f"{top}/{path}")


@suite.test("names of one inode are hard links")
def hard_links(test: ktap.Test) -> None:
    one = image.regular(b"one")
    root = image.directory({"a": one, "b": one,
                            "sub": image.directory({"c": one}),
                            "other": image.regular(b"one")})
    with core.mounted(root) as top:
        found = {name: os.stat(f"{top}/{name}")
                 for name in ("a", "b", "sub/c", "other")}
        test.equal([found[name].st_nlink for name in found], [3, 3, 3, 1],
                   "link counts")
        test.equal(len({file.st_ino for file in found.values()}), 2, "inodes")


def absent(test: ktap.Test, path: str) -> None:
    # The second lookup may find a negative dentry.
    for _ in range(2):
        test.fails(errno.ENOENT, path, os.lstat, path)


core.require_composefs()
suite.run()
