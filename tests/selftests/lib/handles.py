# SPDX-License-Identifier: GPL-2.0

"""name_to_handle_at(2) and open_by_handle_at(2)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from .mounts import AT_FDCWD, libc

AT_HANDLE_CONNECTABLE, AT_HANDLE_FID = 0x2, 0x200
AT_EMPTY_PATH = 0x1000

_HEAD = struct.Struct("=Ii")
_MOST = 128


class Handle(NamedTuple):
    """struct file_handle"""

    kind: int
    data: bytes

    def packed(self) -> bytes:
        return _HEAD.pack(len(self.data), self.kind) + self.data


def of_open(fd: int) -> Handle:
    """The handle of an open file."""
    return of(b"", AT_EMPTY_PATH, fd)


def of(path: str | bytes, flags: int = 0, at: int = AT_FDCWD) -> Handle:
    """The handle of a file. A symbolic link is not followed."""
    room = ctypes.create_string_buffer(_HEAD.pack(_MOST, 0), _HEAD.size
                                       + _MOST)
    mount = ctypes.c_int()
    if libc.name_to_handle_at(at, os.fsencode(path), room,
                              ctypes.byref(mount), flags):
        number = ctypes.get_errno()
        raise OSError(number, f"name_to_handle_at: {os.strerror(number)}")
    size, kind = _HEAD.unpack_from(room.raw)
    return Handle(kind, room.raw[_HEAD.size:_HEAD.size + size])


@contextmanager
def opened(mount: int, handle: Handle,
           flags: int = os.O_PATH) -> Iterator[int]:
    """As open_by(), and closes the file at the end of the context."""
    fd = open_by(mount, handle, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def open_by(mount: int, handle: Handle, flags: int = os.O_PATH) -> int:
    """Opens a file by its handle; `mount` is a descriptor of the mount."""
    fd = libc.open_by_handle_at(mount, handle.packed(), flags)
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"open_by_handle_at: {os.strerror(number)}")
    return int(fd)
