#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Objects that are put right, or go away, under a mount that goes on."""

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


class Bench:
    """A mount whose objects a test makes."""

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


def bench_test(name: str) -> Callable[[Callable[[Bench], None]], None]:
    """A test that is given a bench."""
    def decorate(function: Callable[[Bench], None]) -> None:
        def run(test: ktap.Test) -> None:
            image = fixtures.named("matrix")
            with objects.store() as store, mounts.composefs(
                    image.path, [store.path]) as top:
                bench = Bench(test, store, top)
                try:
                    function(bench)
                finally:
                    for fd in bench.opened:
                        os.close(fd)
        suite.add(name, run)
    return decorate


@bench_test("a missing object that comes is read, through a new open")
def comes(bench: Bench) -> None:
    bench.refused(bench.open(), "while it is missing")
    bench.store.verified(bench.name, bench.data)
    bench.good(bench.open(), "when it is there")


@bench_test("a missing object that comes is read, through an old open")
def comes_late(bench: Bench) -> None:
    fd = bench.open()
    bench.refused(fd, "while it is missing")
    bench.store.verified(bench.name, bench.data)
    bench.good(fd, "when it is there")


@bench_test("an object that gets fs-verity is read, through old and new opens")
def gets_verity(bench: Bench) -> None:
    path = bench.store.plain(bench.name, bench.data)
    fd = bench.open()
    bench.refused(fd, "without fs-verity")
    objects.enable_verity(path)
    bench.good(fd, "with fs-verity, old open")
    bench.good(bench.open(), "with fs-verity, new open")


@bench_test("a wrong object that is replaced is read, through a new open")
def replaced(bench: Bench) -> None:
    bench.store.verified(bench.name, bench.data[::-1])
    bench.refused(bench.open(), "while it is wrong")
    bench.store.verified(bench.name, bench.data)
    bench.good(bench.open(), "when it was replaced")


@bench_test("a wrong object that is moved away is not looked at again")
def moved_away(bench: Bench) -> None:
    bench.store.verified(bench.name, bench.data[::-1])
    bench.refused(bench.open(), "while it is wrong")
    # It still has a name, and is still not the object.
    (bench.store.top / bench.name).rename(bench.store.top / "elsewhere")
    bench.store.verified(bench.name, bench.data)
    with mmap.mmap(bench.open(), len(bench.data), mmap.MAP_SHARED,
                   mmap.PROT_READ) as view:
        bench.test.equal(view[:], bench.data, "mmap of a new open")
    bench.good(bench.open(), "read of a new open")


@bench_test("an object that is gone stays where it is open")
def goes(bench: Bench) -> None:
    bench.store.verified(bench.name, bench.data)
    fd = bench.open()
    bench.good(fd, "while it is there")
    bench.store.remove(bench.name)
    bench.good(fd, "when it is gone")


@bench_test("a good object that becomes a wrong one: who reads on has the old")
def swapped(bench: Bench) -> None:
    bench.store.verified(bench.name, bench.data)
    old = bench.open()
    bench.good(old, "before")
    bench.store.verified(bench.name, bench.data[::-1])
    bench.good(old, "after, old open")
    new = bench.open()
    # Either is right: the object that was verified, or none. Never the new.
    try:
        bench.test.equal(pread(new, len(bench.data)), bench.data,
                         "after, new open")
    except OSError as error:
        bench.test.equal(error.errno, errno.EIO, "after, new open")


@bench_test("an mmap as the first access finds an object that came after open")
def mapped_late(bench: Bench) -> None:
    fd = bench.open()
    bench.store.verified(bench.name, bench.data)
    # No name is looked up under the lock of the memory map.
    bench.test.fails(errno.EIO, "mmap", mmap.mmap, fd, 4096, mmap.MAP_SHARED,
                     mmap.PROT_READ)
    bench.good(fd, "read")
    with mmap.mmap(fd, len(bench.data), mmap.MAP_SHARED,
                   mmap.PROT_READ) as view:
        bench.test.equal(view[:], bench.data, "mmap after a read")


fixtures.require()
objects.require_verity()
suite.run()
