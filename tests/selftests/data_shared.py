#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Small objects are opened once for all who read them; nobody notices."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import disk, fixtures, ktap, module, special
from lib.special import opened

suite = ktap.Suite()

TRACING = Path("/sys/kernel/tracing")
EVENT = TRACING / "events/composefs/composefs_object_open"

# The largest object that is shared, one that is not, and two between pages.
SHARED, ALONE = "sizes/131072", special.LARGE
SMALL = ("sizes/65", "sizes/4097", SHARED)


class Opens:
    """How often objects were opened since."""

    def __init__(self) -> None:
        self.path = TRACING / "trace"

    def take(self) -> int:
        text = self.path.read_text()
        self.path.write_text("")
        return text.count("composefs_object_open:")


@contextmanager
def traced() -> Iterator[Opens]:
    opens = Opens()
    (EVENT / "enable").write_text("1")
    try:
        opens.take()
        yield opens
    finally:
        (EVENT / "enable").write_text("0")


def read(path: str) -> bytes:
    with opened(path) as fd:
        return os.read(fd, 2 << 20)


@suite.test("opened to be verified, opened to be kept, and never again")
def often(test: ktap.Test) -> None:
    with traced() as opens, special.mounted() as top:
        for name in SMALL:
            for _ in range(7):
                test.equal(read(f"{top}/{name}"), special.data(name), name)
            test.equal(opens.take(), 2, f"{name}: opens of the object")
        for _ in range(7):
            read(f"{top}/{ALONE}")
        test.equal(opens.take(), 7, f"{ALONE}: opens of the object")


@suite.test("sendfile(2) and splice(2) take part, mmap(2) does not")
def ways(test: ktap.Test) -> None:
    with traced() as opens, special.mounted() as top:
        path, data = f"{top}/{SHARED}", special.data(SHARED)
        read(path)
        read(path)
        opens.take()
        left, right = socket.socketpair()
        with opened(path) as fd:
            test.equal(os.sendfile(left.fileno(), fd, 0, 4096), 4096, "sent")
            test.equal(right.recv(4096), data[:4096], "sendfile")
        test.equal(opens.take(), 0, "sendfile: opens of the object")
        with opened(path) as fd, mmap.mmap(
                fd, 0, mmap.MAP_SHARED, mmap.PROT_READ) as view:
            test.equal(view[:], data, "mmap")
            test.equal(os.pread(fd, 9, 5), data[5:14], "read beside mmap")
            maps = Path("/proc/self/maps").read_text()
            test.check(path in maps, "/proc/self/maps lacks the path")
        test.equal(opens.take(), 1, "mmap: opens of the object")


@suite.test("O_DIRECT, advice and O_NONBLOCK of one are not those of another")
def flags(test: ktap.Test) -> None:
    with special.mounted() as top:
        path, data = f"{top}/{SHARED}", special.data(SHARED)
        read(path)
        read(path)
        with opened(path) as one, opened(path) as two:
            os.posix_fadvise(one, 0, 0, os.POSIX_FADV_RANDOM)
            fcntl.fcntl(one, fcntl.F_SETFL, os.O_DIRECT | os.O_NONBLOCK)
            # Neither the address nor the length suit O_DIRECT.
            test.equal(os.pread(two, 33, 1), data[1:34], "the other one")
            buffer = mmap.mmap(-1, 8192)
            test.equal(os.preadv(one, [buffer], 4096), 8192, "O_DIRECT")
            test.equal(buffer[:], data[4096:12288], "O_DIRECT, content")


@suite.test("fcntl(2) that turns O_DIRECT on and off leads nobody astray")
def race(test: ktap.Test) -> None:
    with special.mounted() as top:
        path, data = f"{top}/{SHARED}", special.data(SHARED)
        read(path)
        read(path)
        stop = threading.Event()

        def toggle() -> None:
            with opened(path) as fd:
                while not stop.is_set():
                    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_DIRECT)
                    try:
                        os.pread(fd, 100, 1)
                    except OSError as error:
                        test.equal(error.errno, errno.EINVAL, "O_DIRECT")
                    fcntl.fcntl(fd, fcntl.F_SETFL, 0)

        thread = threading.Thread(target=toggle)
        thread.start()
        try:
            for at in range(3000):
                with opened(path) as fd:
                    test.equal(os.pread(fd, 77, at), data[at:at + 77],
                               f"at {at}")
        finally:
            stop.set()
            thread.join()


@suite.test("a mount keeps so many open and no more, until inodes go")
def bounded(test: ktap.Test) -> None:
    names = [f"sizes/{size}" for size in special.OBJECT_SIZES[:8]]
    with module.loaded_with("shared_objects=3"), special.mounted() as top, \
            traced() as opens:
        for name in names:
            for _ in range(2):
                read(f"{top}/{name}")
        test.equal(opens.take(), 2 * len(names), "opens, read twice")
        for _ in range(3):
            for name in names:
                test.equal(read(f"{top}/{name}"), special.data(name), name)
        test.equal(opens.take(), 3 * (len(names) - 3), "opens, read again")
        disk.forget()
        for name in names[-3:]:
            for _ in range(2):
                read(f"{top}/{name}")
        test.equal(opens.take(), 6, "opens, when the others have gone")
        for name in names[-3:]:
            read(f"{top}/{name}")
        test.equal(opens.take(), 0, "opens of those that are kept now")
    with module.loaded_with("shared_objects=0"), special.mounted() as top, \
            traced() as opens:
        for _ in range(5):
            read(f"{top}/{SHARED}")
        test.equal(opens.take(), 5, "opens, where none is kept")


fixtures.require()
if os.geteuid() != 0:
    ktap.skip_all("only root can mount")
suite.run()
