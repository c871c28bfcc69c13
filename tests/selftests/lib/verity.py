# SPDX-License-Identifier: GPL-2.0

"""fs-verity of a file: include/uapi/linux/fsverity.h."""

from __future__ import annotations

import array
import fcntl
import os
import struct
from pathlib import Path

from .image import ALGORITHMS

FS_IOC_ENABLE_VERITY = 0x40806685
FS_IOC_MEASURE_VERITY = 0xc0046686

# struct fsverity_enable_arg: version, algorithm, block size, size of the salt,
# salt, no signature.
_ENABLE = struct.Struct("=IIIIQIIQ88x")
_MEASURE = struct.Struct("=HH64s")


def enable_verity(path: str | Path, algorithm: str = "sha256",
                  block_size: int = 4096, salt: bytes = b"") -> None:
    """FS_IOC_ENABLE_VERITY."""
    room = array.array("B", salt or b"\0")
    address, _ = room.buffer_info()
    argument = _ENABLE.pack(1, ALGORITHMS[algorithm], block_size, len(salt),
                            address if salt else 0, 0, 0, 0)
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, FS_IOC_ENABLE_VERITY, argument)
    finally:
        os.close(fd)


def measure_verity(path: str | Path) -> str:
    """FS_IOC_MEASURE_VERITY. Returns the digest as "sha256:..."."""
    fd = os.open(path, os.O_RDONLY)
    try:
        answer = fcntl.ioctl(fd, FS_IOC_MEASURE_VERITY,
                             _MEASURE.pack(0, 64, b""))
    finally:
        os.close(fd)
    algorithm, size, digest = _MEASURE.unpack(answer)
    name = {number: name for name, number in ALGORITHMS.items()}[algorithm]
    return f"{name}:{digest[:size].hex()}"
