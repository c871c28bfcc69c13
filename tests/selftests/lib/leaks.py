# SPDX-License-Identifier: GPL-2.0

"""Checks at the end of a program that composefs left nothing behind."""

from __future__ import annotations

from . import kernel_log, ktap, module, slab


def check_none(test: ktap.Test) -> None:
    """Checks that no mount, no module reference and no inode is left.
    Reloads the module: the kernel logs it when a slab cache is destroyed that
    still holds objects."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        left = [line for line in file if " - composefs " in line]
    test.equal(left, [], "mounts")
    with kernel_log.watch() as lines:
        module.unload()
    test.equal([line for line in lines if slab.CACHE in line], [],
               "lines of the log")
    test.equal(module.slab_caches(), [], "caches")
    module.load()
