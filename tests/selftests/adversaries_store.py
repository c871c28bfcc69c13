#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Attackers who can write an object directory.

The docstring of each test says what composefs promises against that attacker.
"Verifying" modes are all but noverity. verity_matrix.py has the objects that
are wrong at the first access, adversaries.py the attackers who can write an
image or a disk, or choose mount options.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections.abc import Callable
from pathlib import Path

from lib import (caches, fixtures, ktap, matrix_image, mounts, objects,
                 process, read_whole)
from lib.files import opened
from lib.objects import Store
from lib.verity_modes import (EIO, GOOD, MODES, OTHER, VERIFYING, mounted,
                              other, outcome, read_open, read)

suite = ktap.Suite()

RACES = 120


def put_symlink(store: Store, name: str) -> None:
    store.verified("elsewhere", other(matrix_image.data()))
    store.at(name).symlink_to(store.top / "elsewhere")


def put_link(store: Store, name: str) -> None:
    """A hard link to the object of another file."""
    path = store.verified("elsewhere", other(matrix_image.data()))
    os.link(path, store.at(name))


def put_device(store: Store, name: str) -> None:
    os.mknod(store.at(name), stat.S_IFCHR | 0o666, os.makedev(1, 5))


# What replaces an object, and the outcome of a read under noverity by a new
# open file.
SWAPS: dict[str, tuple[Callable[[Store, str], object], str]] = {
    "other content with fs-verity": (
        lambda store, name: store.verified(name, other(matrix_image.data())),
        OTHER,
    ),
    "other content": (lambda store,
                      name: store.plain(name, other(matrix_image.data())),
                      OTHER),
    "a hard link to another object": (put_link, OTHER),
    "a symbolic link": (put_symlink, EIO),
    "a fifo": (lambda store, name: os.mkfifo(store.at(name)), EIO),
    "a device": (put_device, EIO),
    "a directory": (lambda store, name: store.at(name).mkdir(), EIO),
    "nothing": (lambda store, name: store.remove(name), EIO),
}


def check_swap(test: ktap.Test, what: str, mode: str) -> None:
    put, unverified = SWAPS[what]
    with objects.store() as store, mounted(mode, store.path) as file:
        name = matrix_image.add_to(store)
        with opened(file) as old:
            test.equal(read_open(old, read_whole.pread, matrix_image.data()),
                       GOOD, f"{mode}: before")
            put(store, name)
            test.equal(read_open(old, read_whole.pread, matrix_image.data()),
                       GOOD, f"{mode}: an old open file")
            # The verified object may stay in use without its name.
            allowed = {GOOD, EIO}
            if mode == "noverity":
                allowed.add(unverified)
            found = read(file)
            test.check(found in allowed, f"{mode}: a new open file: {found}")
        caches.drop_all()
        test.equal(read(file), unverified if mode == "noverity" else EIO,
                   f"{mode}: after drop_caches")
        matrix_image.add_to(store)
        test.equal(read(file), GOOD, f"{mode}: repaired")


for a_what in SWAPS:
    def of_swap(test: ktap.Test, what: str = a_what) -> None:
        """In a verifying mode the attacker can make reads fail, but not return
        wrong content. Under noverity the attacker chooses the content."""
        for mode in MODES:
            check_swap(test, what, mode)
    suite.add(f"an object is replaced by {a_what}", of_swap)


@suite.test("an object with fs-verity cannot be written to")
def write_in_place(test: ktap.Test) -> None:
    """fs-verity makes an object immutable. Under noverity an object without
    fs-verity can be changed, also while it is mapped."""
    data = matrix_image.data()
    with objects.store() as store:
        path = store.top / matrix_image.add_to(store)
        for mode in VERIFYING:
            with mounted(mode, store.path) as file, opened(file) as fd:
                test.equal(read(file), GOOD, f"{mode}: before")
                test.fails(errno.EPERM, f"{mode}: open to write", os.open,
                           path, os.O_WRONLY)
                test.fails(errno.EPERM, f"{mode}: truncate", os.truncate,
                           path, 0)
                test.equal(read_open(fd, read_whole.pread, data), GOOD,
                           f"{mode}: afterwards")
        path = store.plain(matrix_image.object_name(), data)
        with mounted("noverity", store.path) as file, opened(file) as fd, \
                mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ) as view:
            test.check(view[:] == data, "noverity: before")
            with open(path, "r+b") as out:
                out.write(other(data))
            test.equal(read_open(fd, read_whole.pread, data), OTHER,
                       "noverity: a read of a changed object")
            test.check(view[:] == other(data),
                       "noverity: a mapping of a changed object")


@suite.test("a mount over an object or its directory is not followed")
def mount_over(test: ktap.Test) -> None:
    """A mount over an object or a directory does not affect a composefs mount
    that exists. A new composefs mount finds no object there. This holds in
    every mode."""
    with objects.store() as store, objects.store() as elsewhere:
        name = matrix_image.add_to(store)
        elsewhere.verified(name, other(matrix_image.data()))
        for mode in MODES:
            for over in (name, name.partition("/")[0]):
                with mounted(mode, store.path) as file:
                    with mounts.bound(elsewhere.top / over, store.top / over):
                        test.equal(read(file), GOOD, f"{mode}: {over}")
                        with mounted(mode, store.path) as new:
                            found = read(new)
                            test.check(found in (GOOD, EIO),
                                       f"{mode}: a new mount: {found}")


@suite.test("an object and a wrong one are exchanged during reads")
def race(test: ktap.Test) -> None:
    """Lookup, open and comparison of the digest are of one file: in a
    verifying mode a read returns the right content or EIO, at any time."""
    data = matrix_image.data()
    for mode in MODES:
        with objects.store() as store, mounted(mode, store.path) as file:
            name = matrix_image.add_to(store)
            bad = store.verified("bad", other(data))
            first = store.top / name
            found = set()
            with process.running(lambda: exchange_forever(first, bad)):
                for number in range(RACES):
                    way = list(read_whole.WAYS.values())[number % 7]
                    found.add(outcome(file, way, data))
                    if number % 15 == 0:
                        caches.drop_all()
            test.note(f"{mode}: {sorted(found)}")
            allowed = {GOOD, EIO} | ({OTHER} if mode == "noverity" else set())
            test.check(found <= allowed, f"{mode}: {found}")


def exchange_forever(first: Path, second: Path) -> None:
    """Exchanges two files until that fails."""
    rename_exchange = mounts.libc.renameat2
    while not rename_exchange(mounts.AT_FDCWD, os.fsencode(first),
                              mounts.AT_FDCWD, os.fsencode(second), 2):
        pass


fixtures.require()
objects.require_verity()
mounts.require_root()
suite.run()
