#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Writes that a read-only mount allows, as they do not change it.

These are writes to devices, to FIFOs, and to files that are mounted over
others.

Each is tried on composefs and on erofs + overlayfs.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import fixtures, ktap, mounts, objects, reference, special_image
from lib.files import opened

suite = ktap.Suite()

NULL = "types/char-1-3"
FIFO, SOCKET = "types/fifo", "types/socket"


@contextmanager
def both() -> Iterator[list[tuple[str, str]]]:
    reference.require_support()
    with special_image.mounted() as ours, \
            reference.mount(special_image.image()) as theirs:
        yield [("composefs", ours), ("erofs + overlayfs", theirs)]


def on_both(function: Callable[[ktap.Test, str, str], None]) -> Callable[
        [ktap.Test], None]:
    def run(test: ktap.Test) -> None:
        with both() as tops:
            for what, top in tops:
                function(test, what, top)
    return run


@suite.test("a device can be read and written, with all flags of open(2)")
@on_both
def device(test: ktap.Test, what: str, top: str) -> None:
    path = f"{top}/{NULL}"
    for flags in (os.O_RDWR, os.O_WRONLY, os.O_WRONLY | os.O_APPEND,
                  os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_CREAT):
        with opened(path, flags) as fd:
            test.equal(os.write(fd, b"into nothing"), 12,
                       f"{what}: {flags:#x}")
    with opened(path, os.O_RDWR) as fd:
        test.equal(os.read(fd, 10), b"", f"{what}: /dev/null is not empty")
    test.fails(errno.ENXIO, f"{what}: a device that does not exist", os.open,
               f"{top}/types/char-4095-1048575", os.O_RDWR)


@suite.test("a FIFO connects a reader and a writer")
@on_both
def fifo(test: ktap.Test, what: str, top: str) -> None:
    path = f"{top}/{FIFO}"
    test.fails(errno.ENXIO, f"{what}: no reader", os.open, path,
               os.O_WRONLY | os.O_NONBLOCK)
    with opened(path, os.O_RDONLY | os.O_NONBLOCK) as reader, \
            opened(path, os.O_WRONLY | os.O_NONBLOCK) as writer:
        os.write(writer, b"through")
        test.equal(os.read(reader, 100), b"through", what)


@suite.test("connecting to a socket without a listener is ECONNREFUSED")
@on_both
def unix_socket(test: ktap.Test, what: str, top: str) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        test.fails(errno.ECONNREFUSED, what, end.connect, f"{top}/{SOCKET}")
    with socket.socket(socket.AF_UNIX) as end:
        test.fails(errno.EADDRINUSE, f"{what}: bind", end.bind,
                   f"{top}/{SOCKET}")
    with socket.socket(socket.AF_UNIX) as end:
        test.fails(errno.EROFS, f"{what}: bind to a new name", end.bind,
                   f"{top}/types/new")


@suite.test("a FIFO does not connect to that of another mount of the image")
def whose(test: ktap.Test) -> None:
    with (
        special_image.mounted() as top,
        reference.mount(special_image.image()) as other,
    ):
        with opened(f"{top}/{FIFO}", os.O_RDONLY | os.O_NONBLOCK):
            test.fails(errno.ENXIO, "the FIFO of the reference", os.open,
                       f"{other}/{FIFO}", os.O_WRONLY | os.O_NONBLOCK)


@suite.test("a directory that is mounted over another one can be written to")
@on_both
def directory(test: ktap.Test, what: str, top: str) -> None:
    with objects.store() as work:
        place = f"{top}/types/directory"
        with mounts.bound(work.path, place):
            target = work.top / "target"
            (work.top / "link").symlink_to("target")
            for flags in (os.O_CREAT | os.O_EXCL, 0, os.O_CREAT, os.O_TRUNC):
                with opened(f"{place}/target", os.O_WRONLY | flags) as fd:
                    os.write(fd, b"written")
                test.equal(target.read_bytes(), b"written",
                           f"{what}: {flags:#x}")
            Path(place, "link").write_bytes(b"by the link")
            test.equal(target.read_bytes(), b"by the link", what)
        test.fails(errno.EROFS, f"{what}: after umount",
                   Path(place, "target").write_bytes, b"")


@suite.test("a file that is mounted over another one can be written to")
@on_both
def over(test: ktap.Test, what: str, top: str) -> None:
    before = special_image.data("sizes/4097")
    with objects.store() as work:
        target = work.plain("target", b"before")
        place = f"{top}/sizes/4097"
        with mounts.bound(target, place):
            for flags in (0, os.O_CREAT, os.O_TRUNC):
                with opened(place, os.O_WRONLY | flags) as fd:
                    os.write(fd, b"after!")
                test.equal(target.read_bytes(), b"after!",
                           f"{what}: {flags:#x}")
    test.check(Path(place).read_bytes() == before,
               f"{what}: the file below has changed")


fixtures.require()
objects.require_verity()
suite.run()
