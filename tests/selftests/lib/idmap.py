# SPDX-License-Identifier: GPL-2.0

"""Idmapped mounts: open_tree(2) and mount_setattr(2)."""

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
    """mount_setattr(2) of the mount that a descriptor is the root of."""
    packed = _ATTR.pack(attributes, 0, 0, userns)
    if libc.syscall(SYS_MOUNT_SETATTR, fd, b"", AT_EMPTY_PATH, packed,
                    len(packed)):
        number = ctypes.get_errno()
        raise OSError(number, f"mount_setattr: {os.strerror(number)}")


@contextmanager
def clone(path: str, attributes: int) -> Iterator[str]:
    """Another mount of the same thing, with attributes of its own."""
    fd = mounts.new_tree(path)
    try:
        set_attributes(fd, attributes)
        with mounts.directory() as top:
            mounts.attach(fd, top)
            try:
                yield top
            finally:
                mounts.umount(top, mounts.MNT_DETACH)
    finally:
        os.close(fd)


@contextmanager
def mapped(path: str, ranges: Sequence[Range]) -> Iterator[str]:
    """Another mount of the same thing, in which an id of the file system is
    that which the ranges have outside."""
    fd = mounts.new_tree(path)
    try:
        with namespace(ranges) as userns:
            set_attributes(fd, MOUNT_ATTR_IDMAP, userns)
        with mounts.directory() as top:
            mounts.attach(fd, top)
            try:
                yield top
            finally:
                mounts.umount(top, mounts.MNT_DETACH)
    finally:
        os.close(fd)
