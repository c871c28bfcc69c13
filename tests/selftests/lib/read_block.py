# SPDX-License-Identifier: GPL-2.0

"""The ways to read one block of a file, and how each fails.

read_whole.py has the ways to read all of a file.
"""

from __future__ import annotations

import errno
import mmap
import os
import signal
import warnings
from collections.abc import Callable

from . import ktap, uring
from .disk import BLOCK
from .files import opened

# io_uring starts kernel threads, which os.fork() warns of without need.
warnings.filterwarnings("ignore", ".*multi-threaded.*", DeprecationWarning)

# Reads a block of an open file.
Way = Callable[[int, int], bytes]

# The exit status of the child that reads a mapping, after an exception.
FAILED = 99


def read(fd: int, block: int) -> bytes:
    return os.pread(fd, BLOCK, block * BLOCK)


def read_direct(fd: int, block: int) -> bytes:
    path = f"/proc/self/fd/{fd}"
    with opened(path, os.O_RDONLY | os.O_DIRECT) as direct, \
            mmap.mmap(-1, BLOCK) as room:
        count = os.preadv(direct, [room], block * BLOCK)
        return room[:count]


def read_uring(fd: int, block: int) -> bytes:
    """Reads by io_uring(7), after readahead."""
    os.posix_fadvise(fd, block * BLOCK, BLOCK, os.POSIX_FADV_WILLNEED)
    ring = uring.Ring(1)
    try:
        found = ring.read(fd, [(block * BLOCK, BLOCK)])[0]
    finally:
        ring.close()
    if isinstance(found, int):
        raise OSError(found, "io_uring")
    return found


def splice(fd: int, block: int) -> bytes:
    reader, writer = os.pipe()
    try:
        count = os.splice(fd, writer, BLOCK, offset_src=block * BLOCK)
        return os.read(reader, count) if count else b""
    finally:
        os.close(reader)
        os.close(writer)


def sendfile(fd: int, block: int) -> bytes:
    out = os.memfd_create("out")
    try:
        os.sendfile(out, fd, block * BLOCK, BLOCK)
        return os.pread(out, BLOCK, 0)
    finally:
        os.close(out)


def mapped(fd: int, block: int, kind: int, protection: int) -> bytes:
    """Reads through a mapping, in a child: a fault kills it. SIGBUS becomes
    EFAULT."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGBUS, signal.SIG_DFL)
            view = mmap.mmap(fd, 0, kind, protection)
            at = block * BLOCK
            if protection & mmap.PROT_WRITE:
                view[at] = view[at]
            os.write(writer, view[at:at + BLOCK])
            os._exit(0)
        finally:
            os._exit(FAILED)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        found = answer.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == -signal.SIGBUS:
        raise OSError(errno.EFAULT, "SIGBUS")
    if status:
        raise AssertionError(f"the child ended with {status}")
    return found


def map_shared(fd: int, block: int) -> bytes:
    return mapped(fd, block, mmap.MAP_SHARED, mmap.PROT_READ)


def map_private(fd: int, block: int) -> bytes:
    return mapped(fd, block, mmap.MAP_PRIVATE,
                  mmap.PROT_READ | mmap.PROT_WRITE)


WAYS: tuple[Way, ...] = (read, read_direct, read_uring, splice, sendfile,
                         map_shared, map_private)


def outcome(way: Way, fd: int, block: int, data: bytes) -> str:
    """How reading a block ends: "the content", "wrong content", "SIGBUS" or
    the name of an error. `data` is the content of the file."""
    try:
        found = way(fd, block)
    except OSError as error:
        if error.errno == errno.EFAULT:
            return "SIGBUS"
        return ktap.errno_name(error.errno)
    expected = data[block * BLOCK:(block + 1) * BLOCK]
    # A mapping has zeros behind the end of the file.
    if found.rstrip(b"\0") == expected.rstrip(b"\0"):
        return "the content"
    return f"wrong content ({len(found)} bytes)"


def expected_error(way: Way) -> str:
    """The outcome for a block that cannot be read."""
    return "SIGBUS" if way in (map_shared, map_private) else "EIO"
