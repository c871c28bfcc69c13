#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""mount.composefs on a kernel without composefs: it mounts erofs and
overlayfs, and refuses what it refuses otherwise."""

from __future__ import annotations

import contextlib
import functools

from lib import core, helper_scene, ktap, module, mount_helper, util_linux
from lib.helper_row import TRUSTS, VERIFIES
from lib.util_linux import mounts_below, run

suite = ktap.Suite()
core.require_composefs()
mount_helper.require(mount_helper.OURS)
stack = contextlib.ExitStack()
scene = stack.enter_context(helper_scene.scene())
names = scene.names
nothing_left = functools.partial(util_linux.nothing_left, scene)


def mount(more: str = "", *words: str, image: str = "image"
          ) -> util_linux.Done:
    return run("mount", *words, "-t", "composefs", "-o",
               scene.expand(f"basedir={{store}}{more}"), names[image],
               names["target"])


def mount_both(test: ktap.Test, more: str, image: str = "image"
               ) -> util_linux.Done:
    """Mounts with and without the module, which has to print the same."""
    with nothing_left(test):
        first = mount(more, image=image)
    with nothing_left(test), module.absent():
        second = mount(more, image=image)
        test.equal(mounts_below(scene.top), [], f"{more}: mounts")
    lines = [done.says.partition("\n")[0] for done in (first, second)]
    test.equal((second.status, lines[1]), (first.status, lines[0]), more)
    return second


@suite.test("it mounts erofs and overlayfs, and -v says why")
def falls_back(test: ktap.Test) -> None:
    with nothing_left(test), module.absent():
        done = mount("", "-v")
        test.equal(done.status, 0, done.says)
        for word in ("erofs", "overlayfs", "no file system composefs"):
            test.check(word in done.says, f"no {word} in {done.says!r}")
        test.equal([mount.type for mount in mounts_below(scene.top)],
                   ["overlay"], "mounts")
        test.equal(mount_helper.readable(names["target"]), TRUSTS, "files")


@suite.test("an image that ends within a page of memory is mounted, too")
def ends_within_page(test: ktap.Test) -> None:
    with nothing_left(test), module.absent():
        done = mount(image="unpadded")
        test.equal(done.status, 0, done.says)
        test.equal(mount_helper.readable(names["target"]), TRUSTS, "files")


@suite.test("verity and digest= are as strict as with the module")
def strict(test: ktap.Test) -> None:
    for more in (",verity", ",digest={digest}", ",digest=sha256:{digest}",
                 ",tryverity"):
        with nothing_left(test), module.absent():
            done = mount(more)
            test.equal(done.status, 0, f"{more}: {done.says}")
            test.equal(mount_helper.readable(names["target"]), VERIFIES,
                       f"{more}: files")


@suite.test("a wrong digest gives the same message, and mounts nothing")
def wrong_digest(test: ktap.Test) -> None:
    done = mount_both(test, ",digest={wrong}")
    test.check("Image has wrong fs-verity" in done.says, done.says)


@suite.test("an image without fs-verity gives the same message")
def no_verity(test: ktap.Test) -> None:
    done = mount_both(test, ",digest={digest}", "unsealed")
    test.check("Image has no fs-verity" in done.says, done.says)


@suite.test("other mistakes give the same message")
def mistakes(test: ktap.Test) -> None:
    for more, image in ((",nonsense", "image"), ("", "missing"),
                        ("", "store"), (":{missing}", "image")):
        mount_both(test, more, image)


@suite.test("a refused image or option is not tried on the stack")
def no_downgrade(test: ktap.Test) -> None:
    for more, image in ((",digest={wrong}", "image"), ("", "newer"),
                        (",digest={digest}", "unsealed")):
        with nothing_left(test):
            done = mount(more, image=image)
            test.check(done.status, f"{more}, {image}: success")
            test.equal(mounts_below(scene.top), [], "mounts")
    # The stack mounts what composefs does not know.
    with nothing_left(test):
        done = mount(",prefer=stack", image="newer")
        test.equal(done.status, 0, f"newer: {done.says}")


with stack:
    suite.run()
