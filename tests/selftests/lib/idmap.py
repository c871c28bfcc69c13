# SPDX-License-Identifier: GPL-2.0

"""Clones of mounts with other attributes: mount_setattr(2)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from . import mounts
from .mounts import libc
from .userns import Range, namespace

SYS_MOUNT_SETATTR = 442
AT_EMPTY_PATH = 0x1000
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, \
    MOUNT_ATTR_IDMAP = 0x1, 0x2, 0x4, 0x8, 0x100000

# struct mount_attr: what to set, what to clear, propagation, user namespace.
_ATTR = struct.Struct("=QQQQ")


def set_attributes(fd: int, attributes: int, userns: int = 0) -> None:
    """mount_setattr(2) of a mount, given a descriptor of its root."""
    packed = _ATTR.pack(attributes, 0, 0, userns)
    if libc.syscall(SYS_MOUNT_SETATTR, fd, b"", AT_EMPTY_PATH, packed,
                    len(packed)):
        number = ctypes.get_errno()
        raise OSError(number, f"mount_setattr: {os.strerror(number)}")


@contextmanager
def clone(path: str, attributes: int, userns: int = 0) -> Iterator[str]:
    """Clones a mount, with attributes of its own. Gives the clone's path."""
    fd = mounts.new_tree(path)
    try:
        set_attributes(fd, attributes, userns)
    except OSError:
        os.close(fd)
        raise
    with mounts.attached(fd) as top:
        yield top


@contextmanager
def mapped(path: str, ranges: Sequence[Range]) -> Iterator[str]:
    """Clones a mount as an idmapped one. An id of the file system that is
    `inside` a range becomes the `outside` one."""
    with namespace(ranges) as userns, clone(
            path, MOUNT_ATTR_IDMAP, userns) as top:
        yield top
