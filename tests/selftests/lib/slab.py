# SPDX-License-Identifier: GPL-2.0

"""Counts inodes in memory."""

from __future__ import annotations

from pathlib import Path

from . import ktap

CACHE = "composefs_inode"
SHRINK = Path(f"/sys/kernel/slab/{CACHE}/shrink")


def inodes() -> int:
    """The inodes of composefs, as /proc/slabinfo counts them. It also counts
    free ones in per-CPU lists and in KASAN's quarantine, so the cache is
    shrunk first."""
    if SHRINK.exists():
        SHRINK.write_text("1\n", encoding="ascii")
    with open("/proc/slabinfo", encoding="ascii") as file:
        for line in file:
            if line.split()[0] == CACHE:
                return int(line.split()[1])
    raise ktap.Skipped(f"/proc/slabinfo has no {CACHE}")


def all_inodes() -> int:
    """The inodes of all file systems. This count is exact, where slabinfo
    still counts inodes that wait for an RCU grace period."""
    with open("/proc/sys/fs/inode-nr", encoding="ascii") as file:
        return int(file.read().split()[0])
