#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""mount.composefs on a kernel without composefs, and older than the file
systems' newer interfaces.

A test is a command line of helper_table.py. Ours has to do what the table says
of it, or what the composefs project's C program does on this kernel. Nothing
may be left afterwards: no mount, loop device, directory or open file.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import platform

from lib import (helper_rows, helper_rows_mount, helper_scene, ktap,
                 mount_helper, mounts)
from lib.helper_row import VERIFIES, Row, cannot, of_c_program
from lib.helper_scene import Scene
from lib.mount_helper import Outcome

C_PROGRAM = "/usr/libexec/composefs-c/mount.composefs"
OURS = "/usr/sbin/mount.composefs"
TABLE = {
    "basedirs": helper_rows.BASEDIRS,
    "images and mount points": helper_rows.IMAGES,
    "special characters": helper_rows.NAMES,
    "verity": helper_rows_mount.VERITY,
    "digests": helper_rows_mount.DIGESTS,
    "flags": helper_rows_mount.FLAGS,
    "an upper layer": helper_rows_mount.UPPER,
    "owners": helper_rows_mount.OWNERS,
}
VERSION = tuple(int(word) for word in platform.release().split(".")[:2])

suite = ktap.Suite()


def run(test: ktap.Test, scene: Scene, row: Row, program: str) -> Outcome:
    """Runs a command line, and checks that nothing is left."""
    scene.fresh()
    before = mount_helper.Leftovers(scene)
    outcome = mount_helper.run(program, row.words(scene), scene, row.user)
    before.check(test, program)
    return outcome


def by_table(scene: Scene, row: Row) -> Outcome:
    """What the table says of ours. Objects can be verified since Linux 6.6."""
    expected = row.stack
    if VERSION < (6, 6) and expected.reads == VERIFIES:
        image = "sha512" if "{sha512}" in row.line else "image"
        expected = cannot(image, helper_rows.INVALID)
    return dataclasses.replace(expected, says=scene.expand(expected.says))


def compare(test: ktap.Test, scene: Scene, row: Row) -> None:
    """Runs a row of the table."""
    ours = run(test, scene, row, OURS)
    expected = by_table(scene, row)
    if ours.is_as(expected):
        test.check(True, "as the table says")
        return
    by_c = run(test, scene, row, C_PROGRAM)
    test.check(of_c_program(ours).is_as(by_c),
               f"the table: {expected}\nthe C program: {by_c}\n"
               f"found {ours}")


def main() -> None:
    with helper_scene.scene() as scene:
        for group, rows in TABLE.items():
            for row in rows:
                # What of a cut image can be read depends on the kernel.
                if "{cut}" in row.line:
                    continue
                suite.add(f"{group}: {row.title or row.line}",
                          functools.partial(compare, scene=scene, row=row))
        suite.run()


mounts.require_root()
for path in (C_PROGRAM, OURS):
    if not os.access(path, os.X_OK):
        ktap.skip_all(f"no {path}")
main()
