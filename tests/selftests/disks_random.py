#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""A disk below an image whose reads fail at random.

The fault injection of the block layer makes them fail, so this needs a kernel
with CONFIG_FAIL_MAKE_REQUEST, which is the debug kernel.
"""

from __future__ import annotations

from pathlib import Path

from lib import (caches, disk, dm, fixtures, ktap, mounts, objects, probes,
                 special_image)
from lib.probes import Baseline

suite = ktap.Suite()

CONTROL = Path("/sys/kernel/debug/fail_make_request")
ROUNDS = 10


@suite.test("reads that fail at random: the right result, or EIO")
def at_random(test: ktap.Test) -> None:
    for name, value in (("probability", "60"), ("interval", "1"),
                        ("times", "-1"), ("verbose", "0")):
        (CONTROL / name).write_text(value, encoding="ascii")
    image = special_image.image()
    with dm.mounted((Path(image.path), "image", False)) as where, \
            mounts.composefs(str(where.top / "image"), image.objects) as top:
        baseline = Baseline(top, probes.METADATA)
        switch = Path(f"/sys/block/{where.device.node}/make-it-fail")
        outcomes = set()
        for _ in range(ROUNDS):
            switch.write_text("1", encoding="ascii")
            caches.drop_all()
            outcomes |= baseline.check(test, "while it fails", "right", "EIO")
            switch.write_text("0", encoding="ascii")
            baseline.check(test, "working again", "right")
        test.equal(outcomes, {"right", "EIO"}, "outcomes")


fixtures.require()
objects.require_verity()
disk.require_tools()
dm.require()
mounts.require_root()
if not CONTROL.exists():
    ktap.skip_all("the kernel has no fail_make_request")
suite.run()
