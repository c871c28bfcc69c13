#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Small objects share one open file among all who read them.

The tracepoint of an object's open shows how often that happens. What a file
returns, and its flags, must be as if each had its own.
"""

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

from lib import caches, fixtures, ktap, module, mounts, special_image
from lib.files import opened

suite = ktap.Suite()

TRACING = Path("/sys/kernel/tracing")
EVENT = TRACING / "events/composefs/composefs_object_open"

# The largest object that is shared, one that is not, and more shared ones.
SHARED, ALONE = "sizes/131072", special_image.LARGE
SMALL = ("sizes/65", "sizes/4097", SHARED)


class Opens:
    """Counts opens of objects in the trace."""

    def __init__(self) -> None:
        self.path = TRACING / "trace"

    def take(self) -> int:
        """The number of opens since the last call."""
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


@suite.test("two opens of an object serve any number of reads")
def often(test: ktap.Test) -> None:
    with traced() as opens, special_image.mounted() as top:
        for name in SMALL:
            for _ in range(7):
                test.equal(read(f"{top}/{name}"), special_image.data(name),
                           name)
            test.equal(opens.take(), 2, f"{name}: opens of the object")
        for _ in range(7):
            read(f"{top}/{ALONE}")
        test.equal(opens.take(), 7, f"{ALONE}: opens of the object")


@suite.test("sendfile(2) uses the shared file, mmap(2) does not")
def ways(test: ktap.Test) -> None:
    with traced() as opens, special_image.mounted() as top:
        path, data = f"{top}/{SHARED}", special_image.data(SHARED)
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


@suite.test("O_DIRECT, O_NONBLOCK and fadvise apply to one open file alone")
def flags(test: ktap.Test) -> None:
    with special_image.mounted() as top:
        path, data = f"{top}/{SHARED}", special_image.data(SHARED)
        read(path)
        read(path)
        with opened(path) as one, opened(path) as two:
            os.posix_fadvise(one, 0, 0, os.POSIX_FADV_RANDOM)
            fcntl.fcntl(one, fcntl.F_SETFL, os.O_DIRECT | os.O_NONBLOCK)
            # O_DIRECT would need an aligned address and length.
            test.equal(os.pread(two, 33, 1), data[1:34], "the other open file")
            buffer = mmap.mmap(-1, 8192)
            test.equal(os.preadv(one, [buffer], 4096), 8192, "O_DIRECT")
            test.equal(buffer[:], data[4096:12288], "O_DIRECT, content")


@suite.test("toggling O_DIRECT by fcntl(2) does not affect other readers")
def race(test: ktap.Test) -> None:
    with special_image.mounted() as top:
        path, data = f"{top}/{SHARED}", special_image.data(SHARED)
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


@suite.test("a mount shares at most shared_objects files")
def bounded(test: ktap.Test) -> None:
    names = [f"sizes/{size}" for size in special_image.OBJECT_SIZES[:8]]
    with (
        module.loaded_with("shared_objects=3"),
        special_image.mounted() as top,
        traced() as opens,
    ):
        for name in names:
            for _ in range(2):
                read(f"{top}/{name}")
        test.equal(opens.take(), 2 * len(names), "opens, read twice")
        for _ in range(3):
            for name in names:
                test.equal(read(f"{top}/{name}"), special_image.data(name),
                           name)
        test.equal(opens.take(), 3 * (len(names) - 3), "opens, read again")
        caches.drop_all()
        for name in names[-3:]:
            for _ in range(2):
                read(f"{top}/{name}")
        test.equal(opens.take(), 6,
                   "opens, after the other inodes were dropped")
        for name in names[-3:]:
            read(f"{top}/{name}")
        test.equal(opens.take(), 0, "opens, read again")
    with (
        module.loaded_with("shared_objects=0"),
        special_image.mounted() as top,
        traced() as opens,
    ):
        for _ in range(5):
            read(f"{top}/{SHARED}")
        test.equal(opens.take(), 5, "opens, with shared_objects=0")


fixtures.require()
mounts.require_root()
suite.run()
