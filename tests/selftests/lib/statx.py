# SPDX-License-Identifier: GPL-2.0

"""statx(2), with the fields that os.stat() lacks."""

from __future__ import annotations

import ctypes
import os
import struct

from .mounts import AT_FDCWD, libc

AT_SYMLINK_NOFOLLOW = 0x100
# All fields that there are now, and those to come.
STATX_EVERYTHING = 0x7fffffff

_NUMBERS = ("mask", "blksize", "attributes", "nlink", "uid", "gid", "mode",
            "ino", "size", "blocks", "attributes_mask")
_TIMES = ("atime", "btime", "ctime", "mtime")
_MORE = ("rdev_major", "rdev_minor", "dev_major", "dev_minor", "mnt_id",
         "dio_mem_align", "dio_offset_align", "subvol",
         "atomic_write_unit_min", "atomic_write_unit_max",
         "atomic_write_segments_max", "dio_read_offset_align",
         "atomic_write_unit_max_opt")


def raw(path: str, flags: int, mask: int) -> bytes:
    """struct statx of a path. Symbolic links are not followed."""
    room = ctypes.create_string_buffer(256)
    if libc.statx(AT_FDCWD, os.fsencode(path), flags | AT_SYMLINK_NOFOLLOW,
                  mask, room):
        number = ctypes.get_errno()
        raise OSError(number, f"statx({path}): {os.strerror(number)}")
    return room.raw


def fields(path: str, mask: int = STATX_EVERYTHING) -> dict[str, int]:
    """All fields. Times are in nanoseconds."""
    room = raw(path, 0, mask)
    found = dict(zip(_NUMBERS, struct.unpack_from("=IIQIIIHxxQQQQ", room)))
    for number, name in enumerate(_TIMES):
        seconds, rest = struct.unpack_from("=qI", room, 64 + 16 * number)
        found[name] = seconds * 10 ** 9 + rest
    found.update(zip(_MORE, struct.unpack_from("=IIIIQIIQIIIII", room, 128)))
    return found
