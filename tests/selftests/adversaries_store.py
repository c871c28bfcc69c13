#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Who can write the object store, and what they can do with it.

Each test says what it promises. "Verifying" modes are all but noverity.
verity_matrix.py has what is found wrong at the first access, adversaries.py
those who can write an image, a disk, or choose options.
"""

from __future__ import annotations

import errno
import mmap
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

from lib import access, fixtures, ktap, matrix, mounts, objects
from lib.disk import forget
from lib.modes import (EIO, GOOD, MODES, OTHER, VERIFYING, mounted, other,
                       outcome, outcome_of, read)
from lib.objects import Store
from lib.special import opened

suite = ktap.Suite()

RACES = 120


def put_symlink(store: Store, name: str) -> None:
    store.verified("elsewhere", other(matrix.data()))
    store.at(name).symlink_to(store.top / "elsewhere")


def put_link(store: Store, name: str) -> None:
    """The object of another file, under this name."""
    path = store.verified("elsewhere", other(matrix.data()))
    os.link(path, store.at(name))


def put_device(store: Store, name: str) -> None:
    os.mknod(store.at(name), stat.S_IFCHR | 0o666, os.makedev(1, 5))


# What is put in the place of a good object, and what a reader of noverity gets
# who opens the file then.
SWAPS: dict[str, tuple[Callable[[Store, str], object], str]] = {
    "other content with fs-verity": (
        lambda store, name: store.verified(name, other(matrix.data())),
        OTHER),
    "other content": (
        lambda store, name: store.plain(name, other(matrix.data())), OTHER),
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
        name = matrix.add_to(store)
        with opened(file) as old:
            test.equal(outcome_of(old, access.pread, matrix.data()), GOOD,
                       f"{mode}: before")
            put(store, name)
            test.equal(outcome_of(old, access.pread, matrix.data()), GOOD,
                       f"{mode}: who had it open")
            # What was verified is the right one, also without its name.
            allowed = {GOOD, EIO}
            if mode == "noverity":
                allowed.add(unverified)
            found = read(file)
            test.check(found in allowed, f"{mode}: who opens it: {found}")
        forget()
        test.equal(read(file), unverified if mode == "noverity" else EIO,
                   f"{mode}: dropped from memory")
        matrix.add_to(store)
        test.equal(read(file), GOOD, f"{mode}: put right")


for a_what in SWAPS:
    def of_swap(test: ktap.Test, what: str = a_what) -> None:
        """Who can write the store cannot change what is read of a file whose
        object was verified, nor have anything else read in a verifying mode;
        they can have reads fail. Under noverity they choose the content."""
        for mode in MODES:
            check_swap(test, what, mode)
    suite.add(f"{a_what} in the place of an object", of_swap)


@suite.test("an object in use cannot be written to")
def write_in_place(test: ktap.Test) -> None:
    """In a verifying mode nobody can change an object that is read: it has
    fs-verity. Under noverity, without it, they can, also while it is
    mapped."""
    data = matrix.data()
    with objects.store() as store:
        path = store.top / matrix.add_to(store)
        for mode in VERIFYING:
            with mounted(mode, store.path) as file, opened(file) as fd:
                test.equal(read(file), GOOD, f"{mode}: before")
                test.fails(errno.EPERM, f"{mode}: open to write", os.open,
                           path, os.O_WRONLY)
                test.fails(errno.EPERM, f"{mode}: truncate", os.truncate,
                           path, 0)
                test.equal(outcome_of(fd, access.pread, data), GOOD,
                           f"{mode}: then")
        path = store.plain(matrix.object_name(), data)
        with mounted("noverity", store.path) as file, opened(file) as fd, \
                mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ) as view:
            test.check(view[:] == data, "noverity: before")
            with open(path, "r+b") as out:
                out.write(other(data))
            test.equal(outcome_of(fd, access.pread, data), OTHER,
                       "noverity: a read")
            test.check(view[:] == other(data), "noverity: a mapping")


@suite.test("a mount over an object, or over its directory")
def mount_over(test: ktap.Test) -> None:
    """Who can mount over the store, or in it, does not reach the mounts that
    are there, and mounts that come find nothing there, in any mode."""
    with objects.store() as store, objects.store() as elsewhere:
        name = matrix.add_to(store)
        elsewhere.verified(name, other(matrix.data()))
        for mode in MODES:
            for over in (name, name.partition("/")[0]):
                with mounted(mode, store.path) as file:
                    mounts.mount(str(elsewhere.top / over),
                                 str(store.top / over), None, mounts.MS_BIND)
                    try:
                        test.equal(read(file), GOOD, f"{mode}: {over}")
                        with mounted(mode, store.path) as new:
                            found = read(new)
                            test.check(found in (GOOD, EIO),
                                       f"{mode}: a new mount: {found}")
                    finally:
                        mounts.umount(str(store.top / over))


@suite.test("a good and a bad object, swapped while they are read")
def race(test: ktap.Test) -> None:
    """No moment between an object's being found, opened and compared can be
    used: in a verifying mode a read gives the content or EIO."""
    data = matrix.data()
    for mode in MODES:
        with objects.store() as store, mounted(mode, store.path) as file:
            name = matrix.add_to(store)
            bad = store.verified("bad", other(data))
            child = swap_for_ever(store.top / name, bad)
            found = set()
            try:
                for number in range(RACES):
                    way = list(access.WAYS.values())[number % 7]
                    found.add(outcome(file, way, data))
                    if number % 15 == 0:
                        forget()
            finally:
                os.kill(child, signal.SIGKILL)
                _, status = os.waitpid(child, 0)
            test.check(os.WIFSIGNALED(status), f"{mode}: nothing was swapped")
            test.note(f"{mode}: {sorted(found)}")
            allowed = {GOOD, EIO} | ({OTHER} if mode == "noverity" else set())
            test.check(found <= allowed, f"{mode}: {found}")


def swap_for_ever(first: Path, second: Path) -> int:
    """Exchanges two files in a child, which is returned."""
    child = os.fork()
    if child:
        return child
    try:
        rename_exchange = mounts.libc.renameat2
        while not rename_exchange(mounts.AT_FDCWD, os.fsencode(first),
                                  mounts.AT_FDCWD, os.fsencode(second), 2):
            pass
    finally:
        os._exit(1)


fixtures.require()
objects.require_verity()
if os.geteuid() != 0:
    ktap.skip_all("only root can mount")
suite.run()
