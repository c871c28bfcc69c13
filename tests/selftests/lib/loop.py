# SPDX-License-Identifier: GPL-2.0

"""Loop devices, and file systems on them."""

from __future__ import annotations

import errno
import functools
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import mounts, scratch


def attach(path: str | Path, *options: str) -> str:
    """losetup(8). Returns the path of the device."""
    return subprocess.run(
        ["losetup", "--find", "--show", *options, path], check=True,
        capture_output=True, text=True).stdout.strip()


def detach(device: str) -> None:
    subprocess.run(["losetup", "--detach", device], check=True)


def attached() -> str:
    """All loop devices and their files, as losetup(8) lists them."""
    return subprocess.run(["losetup", "--all"], capture_output=True,
                          text=True, check=True).stdout


@contextmanager
def device(path: str | Path, *options: str) -> Iterator[str]:
    """A loop device for a file, detached at the end of the context."""
    found = attach(path, *options)
    try:
        yield found
    finally:
        detach(found)


@contextmanager
def mounted(path: str | Path, kind: str = "ext4") -> Iterator[str]:
    """Mounts the file system in a file. Gives the path of the mount."""
    with mounts.directory() as top:
        subprocess.run(["mount", "-t", kind, "-o", "loop", path, top],
                       check=True)
        try:
            yield top
        finally:
            subprocess.run(["umount", top], check=True)


@functools.cache
def writable_while_mounted() -> bool:
    """Whether a device can be opened for writing while it is mounted, as with
    CONFIG_BLK_DEV_WRITE_MOUNTED."""
    with tempfile.NamedTemporaryFile(prefix="composefs-") as disk:
        scratch.make(disk.name, 4 << 20)
        with device(disk.name) as found, mounts.mounted(
                "ext4", [("source", found)]):
            try:
                os.close(os.open(found, os.O_WRONLY))
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                return False
            return True
