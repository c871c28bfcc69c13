# SPDX-License-Identifier: GPL-2.0

"""Somebody who is asked for permission, and looks at who asks first.

What is looked at needs the lock of the memory map: who asks while holding it
waits for ever. /proc/PID/maps does so in some kernels only, the rest always.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from . import ktap, mounts, notify

FAN_ALLOW = 1


def look_at(pid: int) -> None:
    """Reads the memory map of a process."""
    for name in ("maps", "smaps_rollup", "cmdline"):
        try:
            with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
                while file.read(65536):
                    pass
        except (FileNotFoundError, ProcessLookupError):
            pass


def _answer(fd: int, count: mmap.mmap) -> None:
    while True:
        data = os.read(fd, 4096)
        at = 0
        while at < len(data):
            length, _, _, _, _, number, pid = struct.unpack_from(
                "=IBBHQii", data, at)
            at += length
            count[:8] = struct.pack("=Q", struct.unpack("=Q", count[:8])[0]
                                    + 1)
            if pid != os.getpid():
                look_at(pid)
            os.write(fd, struct.pack("=iI", number, FAN_ALLOW))
            os.close(number)


@contextmanager
def listener(path: str, mask: int = notify.FAN_OPEN_PERM
             | notify.FAN_ACCESS_PERM) -> Iterator[Callable[[], int]]:
    """A child that permits all that is asked on the file system at `path`.
    Gives a function that tells how often it was asked."""
    fd = mounts.libc.fanotify_init(
        notify.FAN_CLASS_CONTENT | notify.FAN_CLOEXEC, os.O_RDONLY)
    if fd < 0 or mounts.libc.fanotify_mark(
            fd, notify.FAN_MARK_ADD | notify.FAN_MARK_FILESYSTEM,
            notify.ctypes.c_ulong(mask), mounts.AT_FDCWD,
            os.fsencode(path)):
        raise ktap.Skipped("the kernel has no permission events")
    count = mmap.mmap(-1, mmap.PAGESIZE)
    child = os.fork()
    if child == 0:
        try:
            _answer(fd, count)
        finally:
            os._exit(1)
    os.close(fd)
    try:
        yield lambda: int(struct.unpack("=Q", count[:8])[0])
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        count.close()
