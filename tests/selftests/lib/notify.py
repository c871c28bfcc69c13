# SPDX-License-Identifier: GPL-2.0

"""inotify(7) and fanotify(7)."""

from __future__ import annotations

import ctypes
import os
import select
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from .handles import Handle
from .mounts import AT_FDCWD, libc

IN_ACCESS, IN_MODIFY, IN_ATTRIB, IN_CLOSE_NOWRITE, IN_OPEN = (
    0x1, 0x2, 0x4, 0x10, 0x20)
IN_ISDIR, IN_ALL_EVENTS = 0x40000000, 0xfff

FAN_ACCESS, FAN_OPEN, FAN_OPEN_EXEC, FAN_CLOSE_NOWRITE = (
    0x1, 0x20, 0x1000, 0x10)
FAN_FS_ERROR, FAN_OPEN_PERM, FAN_ACCESS_PERM, FAN_ONDIR = (
    0x8000, 0x10000, 0x20000, 0x40000000)
FAN_OPEN_EXEC_PERM = 0x40000
FAN_CLOEXEC, FAN_NONBLOCK, FAN_CLASS_CONTENT = 1, 2, 4
FAN_REPORT_FID, FAN_REPORT_DIR_FID, FAN_REPORT_NAME = 0x200, 0x400, 0x800
FAN_REPORT_DFID_NAME = FAN_REPORT_DIR_FID | FAN_REPORT_NAME
FAN_MARK_ADD, FAN_MARK_FILESYSTEM, FAN_MARK_MOUNT = 1, 0x100, 0x10

_INFO_FID, _INFO_DFID_NAME, _INFO_DFID, _INFO_ERROR = 1, 2, 3, 5
_INOTIFY = struct.Struct("=iIII")
_METADATA = struct.Struct("=IBBHQii")


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


class Inotify:
    """An inotify instance."""

    def __init__(self) -> None:
        self.fd = _check(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC),
                         "inotify_init1")

    def watch(self, path: str, mask: int) -> None:
        _check(libc.inotify_add_watch(self.fd, os.fsencode(path), mask),
               f"inotify_add_watch({path})")

    def events(self) -> list[tuple[int, bytes]]:
        """Mask and name of each pending event."""
        found = []
        try:
            data = os.read(self.fd, 65536)
        except BlockingIOError:
            return []
        at = 0
        while at < len(data):
            _, mask, _, length = _INOTIFY.unpack_from(data, at)
            at += _INOTIFY.size
            found.append((mask, data[at:at + length].rstrip(b"\0")))
            at += length
        return found


class Event(NamedTuple):
    """An event of fanotify(7)."""

    mask: int
    # The file, and the directory and name by which it was used.
    file: Handle | None
    directory: Handle | None
    name: bytes
    # FAN_FS_ERROR: the errno, and how often it was reported.
    error: int
    count: int


def new_group(path: str, mask: int, flags: int,
              mark: int = FAN_MARK_FILESYSTEM) -> int:
    """fanotify_init(2) and one fanotify_mark(2). Returns the descriptor."""
    fd = _check(libc.fanotify_init(flags | FAN_CLOEXEC, os.O_RDONLY),
                "fanotify_init")
    try:
        _check(libc.fanotify_mark(fd, FAN_MARK_ADD | mark,
                                  ctypes.c_ulong(mask), AT_FDCWD,
                                  os.fsencode(path)),
               f"fanotify_mark({path}, {mask:#x})")
    except OSError:
        os.close(fd)
        raise
    return fd


@contextmanager
def fanotify(path: str, mask: int, flags: int = FAN_REPORT_FID,
             mark: int = FAN_MARK_FILESYSTEM) -> Iterator[int]:
    """Gives a descriptor for events(). Reading it does not block."""
    fd = new_group(path, mask, flags | FAN_NONBLOCK, mark)
    try:
        yield fd
    finally:
        os.close(fd)


class PermissionEvent(NamedTuple):
    """A request that has to be answered."""

    mask: int
    # The file, opened for the listener.
    fd: int
    # The process that made the request.
    pid: int


def permission_events(data: bytes) -> Iterator[PermissionEvent]:
    """The requests in what was read from a fanotify descriptor."""
    at = 0
    while at < len(data):
        length, _, _, _, mask, fd, pid = _METADATA.unpack_from(data, at)
        yield PermissionEvent(mask, fd, pid)
        at += length


def _handle(data: bytes) -> tuple[Handle, bytes]:
    """The handle that follows the file system's id, and the rest."""
    size, kind = struct.unpack_from("=Ii", data, 8)
    return Handle(kind, data[16:16 + size]), data[16 + size:]


def events(fd: int) -> list[Event]:
    """All pending events."""
    found: list[Event] = []
    while True:
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return found
        at = 0
        while at < len(data):
            length, _, _, head, mask, event_fd, _ = _METADATA.unpack_from(
                data, at)
            if event_fd >= 0:
                os.close(event_fd)
            found.append(_event(mask, data[at + head:at + length]))
            at += length


def ready(fd: int, seconds: float = 10) -> bool:
    """Waits for an event. Returns whether there is one."""
    return bool(select.select([fd], [], [], seconds)[0])


def _event(mask: int, infos: bytes) -> Event:
    file, directory, name, error, count = None, None, b"", 0, 0
    at = 0
    while at < len(infos):
        kind, _, length = struct.unpack_from("=BBH", infos, at)
        body = infos[at + 4:at + length]
        if kind == _INFO_FID:
            file, _ = _handle(body)
        elif kind in (_INFO_DFID, _INFO_DFID_NAME):
            directory, rest = _handle(body)
            name = rest.partition(b"\0")[0]
        elif kind == _INFO_ERROR:
            error, count = struct.unpack_from("=iI", body)
        at += length
    return Event(mask, file, directory, name, error, count)
