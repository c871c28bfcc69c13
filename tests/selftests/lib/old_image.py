# SPDX-License-Identifier: GPL-2.0

"""A writer of composefs images of early 2023, from a tree of files.

All integers are little-endian, and nothing is aligned. An image consists of

    byte 0      the header: version, magic, position of the data
    byte 128    the inodes, 96 bytes each. An inode's number is its place; the
                root has number 0.
    ...         the data: what the references of the inodes lead to

No file's content is in the image: each file that is not empty has an object.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable

from . import image

MAGIC = 0xc078629a
# version, magic, position of the data
HEADER = struct.Struct("<IIQ112x")
# mode, nlink, uid, gid, rdev, size, mtime and ctime with nanoseconds; then
# three references with offset and length: data, xattrs, digest
INODE = struct.Struct("<IIIIIQqIqI" + "QI" * 3 + "8x")
# inode, offset and length of the name, DT_*
DIRENT = struct.Struct("<IIBB2x")


class Writer:
    """Reads a tree. `store` gets the path and the content of the object of
    each file that is not empty. The xattrs with the names in `without` are
    left out."""

    def __init__(self, store: Callable[[str, bytes], object],
                 without: frozenset[str] = frozenset()) -> None:
        self.store = store
        self.without = without
        self.inodes: list[bytes] = []
        self.data = bytearray()
        # Numbers of inodes with several hard links.
        self.seen: dict[int, int] = {}

    def pack(self, top: str) -> bytes:
        """Returns the bytes of an image."""
        self.inode(os.fsencode(top))
        start = HEADER.size + INODE.size * len(self.inodes)
        return HEADER.pack(1, MAGIC, start) + b"".join(self.inodes) \
            + self.data

    def inode(self, path: bytes) -> int:
        """Adds the inode of a file and of all below it."""
        found = os.lstat(path)
        if found.st_ino in self.seen:
            return self.seen[found.st_ino]
        number = len(self.inodes)
        self.inodes.append(b"")
        self.seen[found.st_ino] = number
        data, digest = b"", b""
        if stat.S_ISDIR(found.st_mode):
            data = self.entries(path)
        elif stat.S_ISLNK(found.st_mode):
            data = os.readlink(path)
        elif stat.S_ISREG(found.st_mode) and found.st_size:
            with open(path, "rb") as file:
                content = file.read()
            digest = image.verity_digest(content)
            name = image.object_path(digest)[1:]
            self.store(name, content)
            data = os.fsencode(name)
        self.inodes[number] = INODE.pack(
            found.st_mode, found.st_nlink, found.st_uid, found.st_gid,
            found.st_rdev & 0xffffffff, found.st_size,
            *divmod(found.st_mtime_ns, 10**9),
            *divmod(found.st_ctime_ns, 10**9),
            *self.add(data), *self.add(xattrs(path, self.without)),
            *self.add(digest))
        return number

    def entries(self, path: bytes) -> bytes:
        """The data of a directory."""
        table, names = b"", b""
        children = sorted(os.listdir(path))
        for name in children:
            number = self.inode(path + b"/" + name)
            kind = os.lstat(path + b"/" + name).st_mode >> 12
            table += DIRENT.pack(number, len(names), len(name), kind)
            names += name
        if not children:
            return b""
        return struct.pack("<I", len(children)) + table + names

    def add(self, part: bytes) -> tuple[int, int]:
        """Adds data. Returns its offset and length."""
        if not part:
            return 0, 0
        offset = len(self.data)
        self.data += part
        return offset, len(part)


def xattrs(path: bytes, without: frozenset[str]) -> bytes:
    """The extended attributes of a file."""
    found = [(os.fsencode(name),
              os.getxattr(path, name, follow_symlinks=False))
             for name in sorted(os.listxattr(path, follow_symlinks=False))
             if name not in without]
    if not found:
        return b""
    return struct.pack("<H", len(found)) + b"".join(
        struct.pack("<HH", len(name), len(value)) for name, value in found
    ) + b"".join(name + value for name, value in found)
