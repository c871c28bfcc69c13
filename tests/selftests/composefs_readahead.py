#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""composefs-readahead: objects are written anew while they are in use, and
what is interrupted leaves the store whole.

The program is tools/composefs-readahead.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from lib import core, ktap, scratch
from lib.store import SECONDS, Store, read_all, tool

FILES = 200
WORDS = [f"file {number}" for number in range(FILES)]

suite = ktap.Suite()


class Ordered(Store):
    """A store with an image, and a list of all its objects."""

    def __init__(self, top: Path) -> None:
        super().__init__(top)
        self.digest, _ = self.add("image", WORDS)
        self.list = top / "list"
        lines = [f"object 0 4096 {name}\n" for name in sorted(self.objects())]
        self.list.write_text("composefs-readahead 1\n" + "".join(lines))

    def readahead(self, command: str) -> subprocess.Popen[str]:
        """Starts the program."""
        return subprocess.Popen(
            [tool("composefs-readahead"), command, self.path / "objects",
             self.list], text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)

    def inodes(self) -> dict[str, int]:
        """The inode number of each object."""
        return {name: (self.path / "objects" / name).stat().st_ino
                for name in self.objects()}


def drop_caches() -> None:
    Path("/proc/sys/vm/drop_caches").write_text("3")


@suite.test("objects in use are written anew, and stay what they are")
def order(test: ktap.Test) -> None:
    with scratch.ext4() as top:
        store = Ordered(top)
        before = store.inodes()
        with store.mounted(store.digest) as mount:
            held = open(f"{mount}/usr/000", "rb")
            with held, store.readahead("order") as process:
                told, errors = process.communicate(timeout=SECONDS)
                test.equal(told, f"{FILES} objects were written anew\n",
                           errors)
                test.equal(held.read(6), b"file 0", "an open file")
            drop_caches()
            read_all(mount, WORDS)
            after = store.inodes()
            test.equal(after.keys(), before.keys(), "the objects")
            # The image is mounted, and is not touched.
            test.equal([name for name in after if after[name] == before[name]],
                       [f"{store.digest[:2]}/{store.digest[2:]}"],
                       "objects that are the same file")
            with store.readahead("run") as process:
                test.equal(process.communicate(timeout=SECONDS), ("", ""),
                           "run")
                test.equal(process.returncode, 0, "run")


@suite.test("killed at any time, it leaves every object whole")
def killed(test: ktap.Test) -> None:
    with scratch.ext4() as top:
        store = Ordered(top)
        objects = store.objects()
        interrupted = 0
        with store.mounted(store.digest) as mount:
            for number in range(8):
                with store.readahead("order") as process:
                    time.sleep(0.05 + 0.1 * number)
                    process.kill()
                    interrupted += process.wait() != 0
                test.equal(store.objects(), objects, "the objects")
                drop_caches()
                read_all(mount, WORDS)
        test.check(interrupted, "it was never interrupted")
        test.equal(store.run("clean")[0], "0 objects with 0 bytes removed",
                   "clean")
        test.equal(list((store.path / "objects").glob(".tmp*")), [],
                   "what is left over")


@suite.test("what is no list is refused, and nothing is done")
def refused(test: ktap.Test) -> None:
    with scratch.ext4() as top:
        store = Ordered(top)
        before = store.inodes()
        for line in "object 0 1 ../list\n", "other 0 1 a\n", "object 0 x a\n":
            store.list.write_text(f"composefs-readahead 1\n{line}")
            for command in "order", "run":
                with store.readahead(command) as process:
                    _, errors = process.communicate(timeout=SECONDS)
                test.equal(process.returncode, 1, f"{command}: {line}")
                test.check(f"{store.list}" in errors and line.strip() in errors,
                           f"{command}: {errors}")
        test.equal(store.inodes(), before, "the objects")


core.require_composefs()
tool("composefs-store")
tool("composefs-readahead")
suite.run()
