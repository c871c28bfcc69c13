#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Objects that are repaired, or removed, while a mount uses them.

Old and new open files are read after that.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable
from pathlib import Path

from lib import fixtures, ktap, mounts, objects
from lib.read_whole import pread

suite = ktap.Suite()

FILE = "file-00"


class Setup:
    """A mount, and its empty object directory."""

    def __init__(self, test: ktap.Test, store: objects.Store,
                 top: str) -> None:
        self.test = test
        self.store = store
        self.path = f"{top}/{FILE}"
        image = fixtures.named("matrix")
        self.data = Path(image.source or "", FILE).read_bytes()
        self.name = objects.object_name(objects.digest_of(self.data))
        self.opened: list[int] = []

    def open(self) -> int:
        fd = os.open(self.path, os.O_RDONLY)
        self.opened.append(fd)
        return fd

    def good(self, fd: int, what: str) -> None:
        try:
            self.test.equal(pread(fd, len(self.data)), self.data, what)
        except OSError as error:
            self.test.fail(f"{what}: {ktap.errno_name(error.errno)}")

    def refused(self, fd: int, what: str) -> None:
        self.test.fails(errno.EIO, f"read {what}", os.pread, fd, 1, 0)
        self.test.fails(errno.EIO, f"mmap {what}", mmap.mmap, fd, 4096,
                        mmap.MAP_SHARED, mmap.PROT_READ)


def setup_test(name: str) -> Callable[[Callable[[Setup], None]], None]:
    """A test that takes a Setup."""
    def decorate(function: Callable[[Setup], None]) -> None:
        def run(test: ktap.Test) -> None:
            image = fixtures.named("matrix")
            with objects.store() as store, mounts.composefs(
                    image.path, [store.path]) as top:
                setup = Setup(test, store, top)
                try:
                    function(setup)
                finally:
                    for fd in setup.opened:
                        os.close(fd)
        suite.add(name, run)
    return decorate


@setup_test("a missing object that appears is read by a new open file")
def comes(setup: Setup) -> None:
    setup.refused(setup.open(), "while it is missing")
    setup.store.verified(setup.name, setup.data)
    setup.good(setup.open(), "when it exists")


@setup_test("a missing object that appears is read by an old open file")
def comes_late(setup: Setup) -> None:
    fd = setup.open()
    setup.refused(fd, "while it is missing")
    setup.store.verified(setup.name, setup.data)
    setup.good(fd, "when it exists")


@setup_test("an object that gets fs-verity is read by old and new open files")
def gets_verity(setup: Setup) -> None:
    path = setup.store.plain(setup.name, setup.data)
    fd = setup.open()
    setup.refused(fd, "without fs-verity")
    objects.enable_verity(path)
    setup.good(fd, "with fs-verity, old open file")
    setup.good(setup.open(), "with fs-verity, new open file")


@setup_test("a wrong object that is replaced is read by a new open file")
def replaced(setup: Setup) -> None:
    setup.store.verified(setup.name, setup.data[::-1])
    setup.refused(setup.open(), "while it is wrong")
    setup.store.verified(setup.name, setup.data)
    setup.good(setup.open(), "when it is replaced")


@setup_test("a wrong object that is renamed is not used again")
def moved_away(setup: Setup) -> None:
    setup.store.verified(setup.name, setup.data[::-1])
    setup.refused(setup.open(), "while it is wrong")
    # The wrong object still has a name, but not that of the object.
    (setup.store.top / setup.name).rename(setup.store.top / "elsewhere")
    setup.store.verified(setup.name, setup.data)
    with mmap.mmap(setup.open(), len(setup.data), mmap.MAP_SHARED,
                   mmap.PROT_READ) as view:
        setup.test.equal(view[:], setup.data, "mmap of a new open file")
    setup.good(setup.open(), "read of a new open file")


@setup_test("an object that is removed stays readable by an old open file")
def goes(setup: Setup) -> None:
    setup.store.verified(setup.name, setup.data)
    fd = setup.open()
    setup.good(fd, "while it exists")
    setup.store.remove(setup.name)
    setup.good(fd, "when it is removed")


@setup_test(
    "an object that is replaced by a wrong one: an old open file keeps it"
)
def swapped(setup: Setup) -> None:
    setup.store.verified(setup.name, setup.data)
    old = setup.open()
    setup.good(old, "before")
    setup.store.verified(setup.name, setup.data[::-1])
    setup.good(old, "after, old open file")
    new = setup.open()
    # The verified object or EIO are right, the wrong object is not.
    try:
        setup.test.equal(pread(new, len(setup.data)), setup.data,
                         "after, new open file")
    except OSError as error:
        setup.test.equal(error.errno, errno.EIO, "after, new open file")


@setup_test("mmap does not look up an object that appears after open(2)")
def mapped_late(setup: Setup) -> None:
    fd = setup.open()
    setup.store.verified(setup.name, setup.data)
    # Names are not looked up with mmap_lock held.
    setup.test.fails(errno.EIO, "mmap", mmap.mmap, fd, 4096, mmap.MAP_SHARED,
                     mmap.PROT_READ)
    setup.good(fd, "read")
    with mmap.mmap(fd, len(setup.data), mmap.MAP_SHARED,
                   mmap.PROT_READ) as view:
        setup.test.equal(view[:], setup.data, "mmap after a read")


fixtures.require()
objects.require_verity()
suite.run()
