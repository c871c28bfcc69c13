#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Deadlocks: an image and its objects on file systems of many kinds.

Programs fault in pages of a mount while the kernel holds locks of the same
mount, and the other way round. The server of a FUSE file system, and a
listener for permission events, read the memory map of the process that they
serve. Nothing may hang. A kernel with lockdep, which judges each lock order
that it has seen once, may not report anything. The program lock_order_disks.py
does the same on file systems that are modules.
"""

from __future__ import annotations

import errno
import mmap
import os
from contextlib import AbstractContextManager
from pathlib import Path

from lib import (file_systems, fixtures, ktap, mounts, objects,
                 permission_listener, special_image, watchdog)
from lib.files import opened
from lib.lock_programs import (DATA, PROGRAMS, READ, SHARED, add_kinds, load,
                               map_and_touch, object_files, on, options)
from lib.permission_listener import Requests, read_memory_map

suite = ktap.Suite()
add_kinds(suite, file_systems.BUILT_IN)


def scanner(path: str) -> AbstractContextManager[Requests]:
    return permission_listener.listening(path, before_answer=read_memory_map)


@suite.test("a listener on the store that reads the opener's memory map")
def listener_on_store(test: ktap.Test) -> None:
    with on("ext4", "ext4") as (top, store), \
            scanner(store) as requests:
        for program in PROGRAMS:
            watchdog.finishes(test, program.__name__, lambda: program(top))
        test.check(requests.count() > 0, "no permission event")


@suite.test("a listener that comes between open and mmap: EAGAIN, no hang")
def listener_after_open(test: ktap.Test) -> None:
    def late() -> None:
        with on("ext4", "ext4") as (top, store):
            # The first open(2) of a file opens the object. Later ones leave
            # that to mmap(2).
            with opened(f"{top}/{special_image.LARGE}") as first:
                with opened(f"{top}/{special_image.LARGE}") as fd:
                    with scanner(store):
                        test.fails(errno.EAGAIN, "mmap", mmap.mmap, fd, 0,
                                   SHARED, READ)
                        test.fails(None, "mmap of the first", mmap.mmap,
                                   first, 0, SHARED, READ)
                        test.equal(os.pread(fd, 10, 0),
                                   DATA[special_image.LARGE][:10], "a read")
                        with mmap.mmap(fd, 0, SHARED, READ) as view:
                            test.check(view[:] == DATA[special_image.LARGE],
                                       "mmap after a read: wrong content")
            map_and_touch(top, 1)
        if test.failures:
            raise AssertionError("see above")
    watchdog.finishes(test, "a listener that comes late", late)


@suite.test("a listener on the mount, and one on the image's file system")
def listener_on_mount(test: ktap.Test) -> None:
    content = {"image": Path(special_image.image().path).read_bytes()}
    with file_systems.mounted("ext4", content) as image, \
            file_systems.mounted("ext4", object_files()) as store, \
            mounts.mounted("composefs", options(image, store)) as top, \
            scanner(top) as requests, scanner(image):
        for program in PROGRAMS:
            watchdog.finishes(test, program.__name__, lambda: program(top))
        test.check(requests.count() > 0, "no permission event")


fixtures.require()
objects.require_verity()
mounts.require_root()
load()
suite.run()
