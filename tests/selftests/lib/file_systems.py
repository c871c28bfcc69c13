# SPDX-License-Identifier: GPL-2.0

"""File systems of many kinds, with given files."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import fuse, ktap, loop, mounts, objects, overlayfs

# mkfs(8) of those that need a disk.
MKFS = {"ext4": ("mke2fs", "-q", "-F", "-t", "ext4", "-O", "verity"),
        "xfs": ("mkfs.xfs", "-q", "-f"), "btrfs": ("mkfs.btrfs", "-q", "-f")}
# The least that mkfs.xfs(8) accepts is 300 MiB.
SIZE = 320 << 20

# All kinds: those that test kernels have built in, and those that are modules.
BUILT_IN = ("ext4", "tmpfs", "overlayfs", "fuse")
MODULES = ("xfs", "btrfs")


def is_available(kind: str) -> bool:
    """Whether the kernel has a file system. Loads its module."""
    subprocess.run(["modprobe", "--quiet", kind], check=False)
    return kind in Path("/proc/filesystems").read_text(
        encoding="ascii").split()


@contextmanager
def _on_disk(kind: str) -> Iterator[str]:
    if not is_available(kind):
        raise ktap.Skipped(f"the kernel has no {kind}")
    with objects.store() as work:
        disk = work.top / "disk"
        with open(disk, "wb") as file:
            file.truncate(SIZE)
        subprocess.run([*MKFS[kind], disk], check=True,
                       stdout=subprocess.DEVNULL)
        with loop.mounted(disk, kind) as top:
            yield top


def _fill(top: str, files: dict[str, bytes]) -> None:
    store = objects.Store(Path(top))
    for name, data in files.items():
        store.plain(name, data)


@contextmanager
def mounted(kind: str, files: dict[str, bytes],
            before_answer: Callable[[int], object] = lambda pid: None
            ) -> Iterator[str]:
    """Mounts a file system of one of these kinds that holds these files.
    `before_answer` is as for fuse.mounted()."""
    if kind == "fuse":
        with fuse.mounted(files, before_answer) as top:
            yield top
    elif kind == "tmpfs":
        with mounts.mounted("tmpfs", [("source", "files")]) as top:
            _fill(top, files)
            yield top
    elif kind == "overlayfs":
        with objects.store() as lower, objects.store() as other:
            _fill(lower.path, files)
            with overlayfs.read_only(lower.path, other.path) as top:
                yield top
    else:
        with _on_disk(kind) as top:
            _fill(top, files)
            yield top
