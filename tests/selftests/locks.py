#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Locks and leases on files of a mount.

They do not apply to the objects. Leases are compared with erofs.
"""

from __future__ import annotations

import errno
import fcntl
import os

from lib import fixtures, ktap, process, reference, special_image
from lib.files import opened
from lib.record_locks import get_lock, set_lock

suite = ktap.Suite()

FILES = (special_image.LARGE, "sizes/64", "sizes")


@suite.test("flock(2): shared and exclusive, on files and directories")
def flock(test: ktap.Test) -> None:
    with special_image.mounted() as top:
        for name in FILES:
            with opened(f"{top}/{name}") as one, \
                    opened(f"{top}/{name}") as other:
                fcntl.flock(one, fcntl.LOCK_SH | fcntl.LOCK_NB)
                test.fails(None, f"{name}: shared twice", fcntl.flock, other,
                           fcntl.LOCK_SH | fcntl.LOCK_NB)
                test.fails(errno.EAGAIN, f"{name}: exclusive", fcntl.flock,
                           other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.flock(one, fcntl.LOCK_UN)
                test.fails(None, f"{name}: exclusive after the unlock",
                           fcntl.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                test.fails(errno.EAGAIN, f"{name}: shared while exclusive",
                           fcntl.flock, one, fcntl.LOCK_SH | fcntl.LOCK_NB)


@suite.test("record locks, of processes and of open files")
def ranges(test: ktap.Test) -> None:
    with special_image.mounted() as top:
        for name in FILES[:2]:
            with opened(f"{top}/{name}") as one, \
                    opened(f"{top}/{name}") as other:
                set_lock(one, fcntl.F_RDLCK, 10, 10)
                test.fails(None, f"{name}: read twice", set_lock, other,
                           fcntl.F_RDLCK, 15, 10)
                # A write lock needs a file that is open for writing.
                test.fails(errno.EBADF, f"{name}: write", set_lock, other,
                           fcntl.F_WRLCK, 0, 5)
                fcntl.lockf(one, fcntl.LOCK_SH | fcntl.LOCK_NB, 5)
                test.fails(errno.EBADF, f"{name}: exclusive", fcntl.lockf,
                           one, fcntl.LOCK_EX | fcntl.LOCK_NB, 5)

                def in_other(path: str = f"{top}/{name}") -> int:
                    with opened(path) as fd:
                        return get_lock(fd, fcntl.F_WRLCK, 0, 3)

                test.equal(process.in_child(in_other), fcntl.F_RDLCK,
                           f"{name}: F_OFD_GETLK in another process")


def leases(path: str) -> dict[str, str]:
    """The outcomes of F_SETLEASE and F_GETLEASE."""
    found = {}
    with opened(path) as fd:
        for kind, name in ((fcntl.F_RDLCK, "read"), (fcntl.F_WRLCK, "write"),
                           (fcntl.F_UNLCK, "none")):
            found[name] = ktap.outcome(fcntl.fcntl, fd, fcntl.F_SETLEASE,
                                       kind)
            found[f"{name}: has"] = str(fcntl.fcntl(fd, fcntl.F_GETLEASE))
    return found


@suite.test("leases: granted as on erofs")
def lease(test: ktap.Test) -> None:
    reference.require_support()
    with special_image.mounted() as top, \
            reference.erofs(special_image.image()) as their_top:
        for name in FILES:
            ours, theirs = leases(f"{top}/{name}"), \
                leases(f"{their_top}/{name}")
            test.equal(ours, theirs, name)
        test.equal(leases(f"{top}/sizes/64")["read"], "success",
                   "a read lease")


@suite.test("a read lease is not broken by readers")
def unbroken(test: ktap.Test) -> None:
    with special_image.mounted() as top:
        for name in FILES[:2]:
            path = f"{top}/{name}"
            with opened(path) as fd:
                fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
                test.fails(None, f"{name}: open", lambda path=path: os.close(
                    os.open(path, os.O_RDONLY | os.O_NONBLOCK)))
                test.fails(errno.EROFS, f"{name}: open for writing", os.open,
                           path, os.O_WRONLY | os.O_NONBLOCK)
                test.equal(fcntl.fcntl(fd, fcntl.F_GETLEASE), fcntl.F_RDLCK,
                           f"{name}: the lease afterwards")


fixtures.require()
suite.run()
