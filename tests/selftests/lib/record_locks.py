# SPDX-License-Identifier: GPL-2.0

"""Record locks of open files: F_OFD_SETLK and F_OFD_GETLK of fcntl(2)."""

from __future__ import annotations

import fcntl
import os
import struct

F_OFD_GETLK, F_OFD_SETLK = 36, 37
# struct flock of 64 bits: type, whence, start, length, process.
_FLOCK = struct.Struct("=hhxxxxqqixxxx")


def set_lock(fd: int, kind: int, start: int = 0, length: int = 0) -> None:
    """Sets a lock of a file, or fails with EAGAIN."""
    fcntl.fcntl(fd, F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, start, length,
                                             0))


def get_lock(fd: int, kind: int, start: int = 0, length: int = 0) -> int:
    """The type of a lock that keeps this one from being set."""
    answer = fcntl.fcntl(fd, F_OFD_GETLK, _FLOCK.pack(
        kind, os.SEEK_SET, start, length, 0))
    return int(_FLOCK.unpack(answer)[0])
