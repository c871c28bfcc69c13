# SPDX-License-Identifier: GPL-2.0

"""What has to be true when all is over."""

from __future__ import annotations

import subprocess

from . import kernel_log, ktap, slab


def unload() -> None:
    done = subprocess.run(["modprobe", "--remove", "composefs"],
                          capture_output=True, text=True, check=False)
    if done.returncode:
        raise ktap.Skipped(f"composefs cannot be unloaded: {done.stderr}")


def slab_caches() -> list[str]:
    with open("/proc/slabinfo", encoding="ascii") as file:
        return [line.split()[0] for line in file
                if line.startswith("composefs")]


def nothing_is_left(test: ktap.Test) -> None:
    """No mount, no use of the module, no inode. Loads the module anew: the
    kernel says it if a cache is destroyed that has something in it."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        left = [line for line in file if " - composefs " in line]
    test.equal(left, [], "mounts")
    with kernel_log.watch() as lines:
        unload()
    test.equal([line for line in lines if slab.CACHE in line], [],
               "lines of the log")
    test.equal(slab_caches(), [], "caches")
    subprocess.run(["modprobe", "composefs"], check=True)
