# SPDX-License-Identifier: GPL-2.0

"""getdents64(2). os.scandir() hides d_off, "." and ".."."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from typing import NamedTuple

from . import syscalls
from .mounts import libc

SYS_GETDENTS64 = syscalls.number("getdents64")

_HEAD = struct.Struct("<QqHB")

# d_type by the type of a mode: include/linux/fs_types.h.
DT_UNKNOWN = 0
DT_OF_MODE = {stat.S_IFIFO: 1, stat.S_IFCHR: 2, stat.S_IFDIR: 4,
              stat.S_IFBLK: 6, stat.S_IFREG: 8, stat.S_IFLNK: 10,
              stat.S_IFSOCK: 12}


class Dirent(NamedTuple):
    """struct linux_dirent64"""

    name: bytes
    ino: int
    # The position of the next entry.
    off: int
    type: int


class Buffer:
    """A buffer for getdents64(2)."""

    def __init__(self, size: int = 65536) -> None:
        self.room = ctypes.create_string_buffer(size)

    def read(self, fd: int) -> list[Dirent]:
        """One call. Returns an empty list at the end of the directory."""
        count = libc.syscall(SYS_GETDENTS64, fd, self.room,
                             ctypes.c_uint(len(self.room)))
        if count < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"getdents64: {os.strerror(number)}")
        entries = []
        data = self.room.raw[:count]
        at = 0
        while at < count:
            ino, off, length, kind = _HEAD.unpack_from(data, at)
            name = data[at + _HEAD.size:at + length].split(b"\0", 1)[0]
            entries.append(Dirent(name, ino, off, kind))
            at += length
        return entries

    def read_all(self, fd: int) -> list[Dirent]:
        """Reads from the descriptor's position to the end."""
        entries = []
        while some := self.read(fd):
            entries += some
        return entries


def read(path: str | bytes) -> list[Dirent]:
    """All entries of a directory, in order, with "." and ".."."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return Buffer().read_all(fd)
    finally:
        os.close(fd)
