#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""O_DIRECT, and changes of flags by fcntl(2).

A file has to behave as its object does. A file without an object has nothing
to pass O_DIRECT on to, and is read through the page cache, as on erofs.
"""

from __future__ import annotations

import fcntl
import mmap
import os

from lib import (fixtures, ktap, loop, matrix_image, mounts, objects,
                 read_whole, special_image)
from lib.compare_object import Call, brief, check_same, file_and_object
from lib.files import opened

suite = ktap.Suite()

O_DIRECT = os.O_DIRECT


def read_direct(fd: int) -> bytes:
    """Reads into aligned memory."""
    with mmap.mmap(-1, 65536) as room:
        count = os.preadv(fd, [room], 4096)
        return room[:count]


@suite.test("O_DIRECT, on an object with and without fs-verity")
def direct(test: ktap.Test) -> None:
    expected = special_image.data(special_image.LARGE)[4096:4096 + 65536]
    with file_and_object(special_image.LARGE, os.O_RDONLY | O_DIRECT) as fds:
        check_same(test, "an object with fs-verity", fds, read_direct)
        test.check(ktap.result(read_direct, fds[0]) == expected,
                   "wrong content")
        test.check(fcntl.fcntl(fds[0], fcntl.F_GETFL) & O_DIRECT,
                   "O_DIRECT is not set")
    with objects.store() as store:
        name = objects.object_name(objects.digest_of(special_image.data(
            special_image.LARGE)))
        path = store.plain(name, special_image.data(special_image.LARGE))
        os.sync()
        with (
            special_image.mounted(("noverity", None),
                                  basedirs=[store.path]) as top,
            opened(f"{top}/{special_image.LARGE}", O_DIRECT) as fd,
            opened(str(path), O_DIRECT) as theirs,
        ):
            check_same(test, "an object without fs-verity", (fd, theirs),
                       read_direct)
            # It does not go through the page cache, so alignment matters.
            check_same(test, "not aligned", (fd, theirs),
                       lambda fd: os.preadv(fd, [bytearray(100)], 7))


def check_direct_ignored(test: ktap.Test, path: str, expected: bytes) -> None:
    """Reads a file without an object: O_DIRECT is accepted, and has no
    effect."""
    for what, flags, later in (("O_DIRECT", O_DIRECT, 0),
                               ("O_DIRECT from fcntl(2)", 0, O_DIRECT),
                               ("without it from fcntl(2)", O_DIRECT, 0)):
        for name, way in read_whole.WAYS.items():
            if not expected and name.startswith("map"):
                continue
            try:
                with opened(path, os.O_RDONLY | flags) as fd:
                    fcntl.fcntl(fd, fcntl.F_SETFL, later or flags)
                    test.check(fcntl.fcntl(fd, fcntl.F_GETFL) & O_DIRECT,
                               f"{path}, {what}: not set")
                    if what.startswith("without"):
                        fcntl.fcntl(fd, fcntl.F_SETFL, 0)
                    found = way(fd, len(expected))
            except OSError as error:
                found = ktap.errno_name(error.errno)
            test.check(found == expected,
                       f"{path}, {what}, {name}: {brief(found)!r}")
    with opened(path, os.O_RDONLY | O_DIRECT) as fd:
        # Neither offset nor memory has to be aligned.
        room = bytearray(100)
        count = os.preadv(fd, [memoryview(room)[1:]], 1)
        test.equal(bytes(room[1:1 + count]), expected[1:100],
                   f"{path}: not aligned")
        test.equal(os.preadv(fd, [room], len(expected)), 0,
                   f"{path}: at the end")


@suite.test("O_DIRECT has no effect on files without an object")
def direct_without_object(test: ktap.Test) -> None:
    names = [f"sizes/{size}" for size in special_image.INLINE_SIZES]
    with special_image.mounted() as top:
        for name in names:
            check_direct_ignored(test, f"{top}/{name}",
                                 special_image.data(name))
    with matrix_image.without_content() as image, \
            mounts.composefs(image.path, []) as top:
        check_direct_ignored(test, f"{top}/{matrix_image.FILE}",
                             bytes(len(matrix_image.data())))
    # erofs on a device does the same.
    with (
        loop.device(special_image.image().path, "--read-only") as device,
        mounts.mounted("erofs", [("source", device), ("ro", None)]) as top,
    ):
        for name in names:
            with opened(f"{top}/{name}", os.O_RDONLY | O_DIRECT) as fd, \
                    mmap.mmap(-1, 65536) as room:
                count = os.preadv(fd, [room], 0)
                test.equal(room[:count], special_image.data(name),
                           f"{name}: erofs on a loop device")


@suite.test("fcntl(2) F_SETFL: flags on and off, as on the object")
def set_flags(test: ktap.Test) -> None:
    def change(flag: int, on: bool) -> Call:
        def run(fd: int) -> bool:
            flags = fcntl.fcntl(fd, fcntl.F_GETFL)
            fcntl.fcntl(fd, fcntl.F_SETFL,
                        flags | flag if on else flags & ~flag)
            return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & flag)
        return run

    expected = special_image.data(special_image.LARGE)[4096:4096 + 65536]
    for first in (0, O_DIRECT, os.O_NONBLOCK):
        for read_before in (False, True):
            with file_and_object(special_image.LARGE,
                                 os.O_RDONLY | first) as fds:
                if read_before:
                    read_direct(fds[0])
                for flag, name in ((O_DIRECT, "O_DIRECT"),
                                   (os.O_NONBLOCK, "O_NONBLOCK"),
                                   (os.O_NOATIME, "O_NOATIME"),
                                   (os.O_APPEND, "O_APPEND")):
                    for on in (True, False, True, False):
                        what = f"opened with {first:#o}, read " \
                               f"{read_before}, {name} {on}"
                        check_same(test, what, fds, change(flag, on))
                        test.check(
                            ktap.result(read_direct, fds[0]) == expected,
                            f"{what}: wrong content",
                        )


fixtures.require()
objects.require_verity()
suite.run()
