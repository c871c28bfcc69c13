# SPDX-License-Identifier: GPL-2.0

"""The ways to read all of a file.

Each takes an open file and its size and returns the content, or raises
OSError. read_block.py has the ways to read one block.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable

Way = Callable[[int, int], bytes]

CHUNK = 1 << 16


def read(fd: int, size: int) -> bytes:
    found = b""
    while some := os.read(fd, size + 1):
        found += some
    return found


def pread(fd: int, size: int) -> bytes:
    return b"".join(os.pread(fd, CHUNK, at) for at in range(0, size, CHUNK))


def preadv(fd: int, size: int) -> bytes:
    first, second = bytearray(100), bytearray(max(size - 100, 0))
    count = os.preadv(fd, [first, second], 0)
    return bytes(first + second)[:count]


def read_after_fadvise(fd: int, size: int) -> bytes:
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)
    return pread(fd, size)


def map_shared(fd: int, size: int) -> bytes:
    with mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ) as view:
        return view[:]


def map_private(fd: int, size: int) -> bytes:
    with mmap.mmap(fd, size, mmap.MAP_PRIVATE,
                   mmap.PROT_READ | mmap.PROT_WRITE) as view:
        found = view[:]
        # Write to the private copy, which no other reader may see.
        view[0:1] = bytes([view[0] ^ 0xff])
        return found


def map_populated(fd: int, size: int) -> bytes:
    with mmap.mmap(fd, size, mmap.MAP_SHARED | mmap.MAP_POPULATE,
                   mmap.PROT_READ) as view:
        return view[:]


def sendfile(fd: int, size: int) -> bytes:
    with tempfile.TemporaryFile() as out:
        at = 0
        while count := os.sendfile(out.fileno(), fd, at, size):
            at += count
        out.seek(0)
        return out.read()


def splice(fd: int, size: int) -> bytes:
    # A pipe holds 64 KiB; more would block.
    found = b""
    reader, writer = os.pipe()
    try:
        while count := os.splice(fd, writer, CHUNK, offset_src=len(found)):
            found += os.read(reader, count)
    finally:
        os.close(reader)
        os.close(writer)
    return found


WAYS: dict[str, Way] = {
    way.__name__: way
    for way in (read, pread, preadv, read_after_fadvise, map_shared,
                map_private, map_populated, sendfile, splice)
}
