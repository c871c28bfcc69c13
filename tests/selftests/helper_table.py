#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""mount.composefs and the composefs project's C program of that name, side by
side.

A test is a command line. The C program mounts erofs and overlayfs. Ours runs
twice, the second time with prefer=stack. It has to do what the C program does,
or something else for a reason that the table names. mount.composefs(8) lists
the differences. Nothing may be left afterwards.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import subprocess
import tempfile
from pathlib import Path

from lib import (core, helper_row, helper_rows, helper_rows_mount,
                 helper_scene, ktap, loop, mount_helper, mounts)
from lib.helper_row import Row
from lib.helper_scene import SECOND, Scene
from lib.mount_helper import C_PROGRAM, OURS, Outcome

TABLE = {
    "words": helper_rows.USAGE,
    "options": helper_rows.OPTIONS,
    "basedirs": helper_rows.BASEDIRS,
    "images and mount points": helper_rows.IMAGES,
    "special characters": helper_rows.NAMES,
    "verity": helper_rows_mount.VERITY,
    "digests": helper_rows_mount.DIGESTS,
    "flags": helper_rows_mount.FLAGS,
    "an upper layer": helper_rows_mount.UPPER,
    "owners": helper_rows_mount.OWNERS,
}

suite = ktap.Suite()


def run(test: ktap.Test, scene: Scene, row: Row, program: str,
        *more: str) -> Outcome:
    """Runs a command line, and checks that nothing is left."""
    scene.fresh()
    before = mount_helper.Leftovers(scene)
    outcome = mount_helper.run(program, [*more, *row.words(scene)], scene,
                               row.user)
    before.check(test, " ".join([program, *more]))
    return outcome


def check(test: ktap.Test, scene: Scene, who: str, found: Outcome,
          row: Outcome) -> None:
    expected = dataclasses.replace(row, says=scene.expand(row.says))
    test.check(found.is_as(expected),
               f"{who}: expected {expected}\nfound {found}")


def compare(test: ktap.Test, scene: Scene, row: Row) -> None:
    """Runs a row of the table."""
    alike = row.c_writes_to_mounted and loop.writable_while_mounted()
    check(test, scene, "the C program", run(test, scene, row, C_PROGRAM),
          row.native if alike else row.c)
    check(test, scene, "ours", run(test, scene, row, OURS), row.native)
    check(test, scene, "ours with prefer=stack",
          run(test, scene, row, OURS, "-o", "prefer=stack"), row.stack)
    if row.why and not alike:
        test.note(f"the C program: {row.c}\nours: {row.native}\n"
                  f"why: {row.why}")


def sources(test: ktap.Test, scene: Scene) -> None:
    """The source in the mount table, and the error for a missing object."""
    plain = helper_row.same(helper_rows.PLAIN_LINE, helper_row.mounts())
    image = scene.names["image"]
    for program, more, source, error in (
            (C_PROGRAM, (), "composefs", "ENOENT"),
            (OURS, (), image, "EIO"),
            (OURS, ("-o", "prefer=stack"), image, "ENOENT")):
        what = " ".join((program, *more))
        scene.fresh()
        target = scene.names["target"]
        subprocess.run([program, *more, *plain.words(scene)], check=True)
        try:
            test.equal(mounts.info(target).source, source, f"{what}: source")
            test.equal(ktap.outcome(Path(target, SECOND).read_bytes), error,
                       f"{what}: error")
        finally:
            mounts.umount_soon(target)


def leftovers(test: ktap.Test, scene: Scene) -> None:
    """The checks after each command line notice what they shall notice."""
    scene.fresh()
    before = mount_helper.Leftovers(scene)

    def differs(what: str) -> None:
        test.check(before.state() != before.before, what)

    with open(scene.names["image"], "rb"):
        differs("an open file is not noticed")
    with mounts.bound(scene.names["store"], scene.names["target"]):
        differs("a mount is not noticed")
    with loop.device(scene.names["text"]):
        differs("a loop device is not noticed")
    with tempfile.TemporaryDirectory(prefix=".composefs.", dir="/tmp"):
        differs("a directory is not noticed")
    with mounts.composefs(scene.names["image"], [scene.names["store"]]):
        test.check(mount_helper.in_use(scene.names["image"]),
                   "a mounted image is not noticed")
    before.check(test, "afterwards")


def main() -> None:
    stack = contextlib.ExitStack()
    scene = stack.enter_context(helper_scene.scene())
    for group, rows in TABLE.items():
        for row in rows:
            suite.add(f"{group}: {row.title or row.line or 'none'}",
                      functools.partial(compare, scene=scene, row=row))

    suite.add("the source in the mount table, and a missing object",
              functools.partial(sources, scene=scene))
    suite.add("what is left is noticed",
              functools.partial(leftovers, scene=scene))

    @suite.test("the file system of all these files can be unmounted")
    def unmount(test: ktap.Test) -> None:
        stack.close()
        test.check(not scene.top.exists(), f"{scene.top} is still there")

    with stack:
        suite.run()


core.require_composefs()
mount_helper.require(C_PROGRAM, OURS)
main()
