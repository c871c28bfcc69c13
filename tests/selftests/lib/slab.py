# SPDX-License-Identifier: GPL-2.0

"""How many inodes of composefs are in memory."""

from __future__ import annotations

from pathlib import Path

from . import ktap

CACHE = "composefs_inode"
SHRINK = Path(f"/sys/kernel/slab/{CACHE}/shrink")


def inodes() -> int:
    """Objects in use, as far as the allocator knows: it counts those that a
    processor has at hand, and that KASAN keeps, unless it is told to shrink."""
    if SHRINK.exists():
        SHRINK.write_text("1\n", encoding="ascii")
    with open("/proc/slabinfo", encoding="ascii") as file:
        for line in file:
            if line.split()[0] == CACHE:
                return int(line.split()[1])
    raise ktap.Skipped(f"/proc/slabinfo has no {CACHE}")


def all_inodes() -> int:
    """Inodes of all file systems. It is exact, where slabinfo still counts
    those that wait for the end of a grace period."""
    with open("/proc/sys/fs/inode-nr", encoding="ascii") as file:
        return int(file.read().split()[0])


def drop_caches() -> None:
    Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")
