#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""A disk below an image whose reads fail at random.

The kernel's own fault injection makes them fail, so this needs one that has
CONFIG_FAIL_MAKE_REQUEST: the debug kernel.
"""

from __future__ import annotations

import os
from pathlib import Path

from lib import disk, dm, fixtures, ktap, mounts, objects, questions, special
from lib.disk import forget
from lib.questions import Answers

suite = ktap.Suite()

CONTROL = Path("/sys/kernel/debug/fail_make_request")
ROUNDS = 10


@suite.test("reads fail at random: the right answer, or EIO")
def at_random(test: ktap.Test) -> None:
    for name, value in (("probability", "60"), ("interval", "1"),
                        ("times", "-1"), ("verbose", "0")):
        (CONTROL / name).write_text(value, encoding="ascii")
    image = special.image()
    with dm.mounted((Path(image.path), "image", False)) as where, \
            mounts.composefs(str(where.top / "image"), image.objects) as top:
        answers = Answers(top, questions.OF_IMAGE)
        switch = Path(f"/sys/block/{where.device.node}/make-it-fail")
        outcomes = set()
        for _ in range(ROUNDS):
            switch.write_text("1", encoding="ascii")
            forget()
            outcomes |= answers.check(test, "while it fails", "right", "EIO")
            switch.write_text("0", encoding="ascii")
            answers.check(test, "then", "right")
        test.equal(outcomes, {"right", "EIO"}, "outcomes")


fixtures.require()
objects.require_verity()
disk.require_tools()
dm.require()
if os.geteuid() != 0:
    ktap.skip_all("only root can mount")
if not CONTROL.exists():
    ktap.skip_all("the kernel has no fail_make_request")
suite.run()
