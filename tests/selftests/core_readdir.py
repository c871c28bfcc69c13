#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Listing directories: every name once, with its type, from any position."""

from __future__ import annotations

import os
import stat

from lib import core, image, ktap
from lib.dirents import DT_OF_MODE, Buffer, Dirent

suite = ktap.Suite()

# Numbers of names in a directory. A block has room for "." and ".." and 203
# names: an entry takes 12 bytes, and a name here 8.
SIZES = (0, 1, 203, 204, 205, 10000)


def directory(count: int) -> image.Inode:
    return image.directory({f"{number:08}": image.regular(b"")
                            for number in range(count)})


@suite.test("every name is listed once, in order, with the dots")
def every_name(test: ktap.Test) -> None:
    root = image.directory({str(count): directory(count) for count in SIZES})
    with core.mounted(root) as top:
        for count in SIZES:
            found = [entry.name for entry in listed(f"{top}/{count}")]
            test.equal(found, [b".", b"..", *(b"%08d" % number
                                              for number in range(count))],
                       f"names of {count}")


@suite.test("the type and the number of an entry are those of its inode")
def types(test: ktap.Test) -> None:
    root = image.directory({
        "regular": image.regular(b""),
        "external": image.external(5000, "/ab/cd"),
        "directory": image.directory({}),
        "symlink": image.symlink("regular"),
        "char": image.special(stat.S_IFCHR | 0o600, os.makedev(1, 3)),
        "block": image.special(stat.S_IFBLK | 0o600, os.makedev(7, 0)),
        "fifo": image.special(stat.S_IFIFO | 0o600),
        "socket": image.special(stat.S_IFSOCK | 0o600),
    })
    with core.mounted(root) as top:
        for entry in listed(top):
            if entry.name == b"..":
                continue
            inode = os.lstat(os.fsencode(top) + b"/" + entry.name)
            test.equal(entry.type, DT_OF_MODE[stat.S_IFMT(inode.st_mode)],
                       f"{entry.name!r}: type")
            test.equal(entry.ino, inode.st_ino, f"{entry.name!r}: number")


@suite.test("small buffers give the same as large ones")
def small_buffers(test: ktap.Test) -> None:
    with core.mounted(directory(1000)) as top:
        whole = listed(top)
        for size in (32, 33, 100, 4096):
            test.check(listed(top, size) == whole, f"{size} bytes: differs")


@suite.test("lseek(2) to any d_off continues the listing there")
def seek(test: ktap.Test) -> None:
    with core.mounted(directory(1000)) as top:
        whole = listed(top)
        fd = os.open(top, os.O_RDONLY)
        try:
            # Backwards, so that no position is the current one.
            for at in reversed(range(len(whole))):
                os.lseek(fd, whole[at].off, os.SEEK_SET)
                test.check(Buffer(100).read(fd) == whole[at + 1:][:3],
                           f"wrong entries after entry {at}")
            os.lseek(fd, 0, os.SEEK_SET)
            test.check(Buffer().read_all(fd) == whole, "rewound: differs")
        finally:
            os.close(fd)


def listed(path: str, buffer_size: int = 65536) -> list[Dirent]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return Buffer(buffer_size).read_all(fd)
    finally:
        os.close(fd)


core.require_composefs()
suite.run()
