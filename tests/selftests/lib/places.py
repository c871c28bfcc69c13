# SPDX-License-Identifier: GPL-2.0

"""Files on file systems of all kinds."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import fixtures, fuse, ktap, mounts, objects

# How one is made, and as large as it has to be.
MAKE = {"ext4": ("mke2fs", "-q", "-F", "-t", "ext4", "-O", "verity"),
        "xfs": ("mkfs.xfs", "-q", "-f"), "btrfs": ("mkfs.btrfs", "-q", "-f")}
SIZE = 320 << 20

KINDS = (*MAKE, "tmpfs", "overlayfs", "fuse")


def known(kind: str) -> bool:
    """Whether the kernel has a file system, perhaps as a module."""
    subprocess.run(["modprobe", "--quiet", kind], check=False)
    return kind in Path("/proc/filesystems").read_text(
        encoding="ascii").split()


@contextmanager
def _on_disk(kind: str) -> Iterator[str]:
    if not known(kind):
        raise ktap.Skipped(f"the kernel has no {kind}")
    with objects.store() as work, mounts.directory() as top:
        disk = work.top / "disk"
        with open(disk, "wb") as file:
            file.truncate(SIZE)
        subprocess.run([*MAKE[kind], disk], check=True,
                       stdout=subprocess.DEVNULL)
        subprocess.run(["mount", "-t", kind, "-o", "loop", disk, top],
                       check=True)
        try:
            yield top
        finally:
            subprocess.run(["umount", top], check=True)


def _fill(top: str, files: dict[str, bytes]) -> None:
    store = objects.Store(Path(top))
    for name, data in files.items():
        store.plain(name, data)


@contextmanager
def of_kind(kind: str, files: dict[str, bytes],
            asked: Callable[[int], object] = lambda pid: None
            ) -> Iterator[str]:
    """A file system with these files. `asked` is as for fuse.mounted()."""
    if kind == "fuse":
        with fuse.mounted(files, asked) as top:
            yield top
    elif kind == "tmpfs":
        with mounts.mounted("tmpfs", [("source", "files")]) as top:
            _fill(top, files)
            yield top
    elif kind == "overlayfs":
        with objects.store(fixtures.SCRATCH) as lower, \
                objects.store(fixtures.SCRATCH) as other:
            _fill(lower.path, files)
            with mounts.mounted("overlay", [
                    ("source", "files"), ("lowerdir+", lower.path),
                    ("lowerdir+", other.path)]) as top:
                yield top
    else:
        with _on_disk(kind) as top:
            _fill(top, files)
            yield top
