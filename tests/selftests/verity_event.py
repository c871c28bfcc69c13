#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""FAN_FS_ERROR events for objects that are refused.

A listener on the file system gets an event with the file's handle, and no
other events.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable

from lib import fixtures, handles, ktap, matrix_image, mounts, notify, objects
from lib.files import opened
from lib.objects import Store

suite = ktap.Suite()

Make = Callable[[Store, str, bytes], object]
# Adds an object that is wrong, given its right name and content.
WRONG: dict[str, Make] = {
    "is missing": lambda store, name, data: None,
    "has no fs-verity": lambda store, name, data: store.plain(name, data),
    "has another digest": lambda store, name, data: store.verified(
        name, data[::-1]),
    "has another algorithm": lambda store, name, data: store.verified(
        name, data, "sha512"),
    "has another salt": lambda store, name, data: store.verified(
        name, data, salt=b"salt"),
    "is too long": lambda store, name, data: store.verified(
        name, data + b"more"),
    "is empty": lambda store, name, data: store.verified(name, b""),
    "is a directory": lambda store, name, data: store.at(name).mkdir(),
}


def read(fd: int) -> None:
    os.pread(fd, 1, 0)


def map_it(fd: int) -> None:
    mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ).close()


def measure(fd: int) -> None:
    objects.measure_verity(f"/proc/self/fd/{fd}")


def refused(test: ktap.Test, what: str) -> None:
    image = matrix_image.image()
    for use in (read, map_it, measure):
        with objects.store() as store:
            WRONG[what](store, matrix_image.object_name(), matrix_image.data())
            matrix_image.add_to(store, "file-01")
            with mounts.composefs(image.path, [store.path]) as top, \
                    opened(top) as mount, \
                    notify.fanotify(top, notify.FAN_FS_ERROR) as listener:
                path = f"{top}/{matrix_image.FILE}"
                with opened(path) as fd:
                    test.equal(notify.events(listener), [],
                               "events of open(2)")
                    test.fails(errno.EIO, use.__name__, use, fd)
                if not test.check(notify.ready(listener),
                                  f"{use.__name__}: no event"):
                    continue
                for event in notify.events(listener):
                    test.equal(event.mask, notify.FAN_FS_ERROR, "mask")
                    test.equal(ktap.errno_name(event.error), "EIO", "error")
                    test.check(event.count > 0, "count")
                    test.equal(event.file, handles.of(path, flags=0),
                               f"{use.__name__}: handle")
                    if event.file:
                        with handles.opened(mount, event.file) as found:
                            test.equal(os.fstat(found).st_ino,
                                       os.stat(path).st_ino, "inode")
                with opened(f"{top}/file-01") as fd:
                    use(fd)
                test.equal(
                    notify.events(listener),
                    [],
                    f"{use.__name__}: events of a file with a right object",
                )


for _what in WRONG:
    suite.add(
        f"an object that {_what}: EIO, and an event with the file's handle",
        lambda test, what=_what: refused(test, what),
    )


@suite.test("errors are counted until a listener reads the event")
def counted(test: ktap.Test) -> None:
    image = matrix_image.image()
    with objects.store() as store, mounts.composefs(
            image.path, [store.path]) as top, \
            notify.fanotify(top, notify.FAN_FS_ERROR) as listener:
        for number in range(matrix_image.FILES):
            with opened(f"{top}/file-{number:02}") as fd:
                test.fails(errno.EIO, "read", read, fd)
        total = 0
        while total < matrix_image.FILES and notify.ready(listener, 5):
            total += sum(event.count for event in notify.events(listener))
        test.check(total >= matrix_image.FILES,
                   f"{total} for {matrix_image.FILES} files")


@suite.test("an object that is unlinked while in use: no event")
def name_is_gone(test: ktap.Test) -> None:
    image = matrix_image.image()
    with objects.store() as store:
        matrix_image.add_to(store)
        with mounts.composefs(image.path, [store.path]) as top, \
                notify.fanotify(top, notify.FAN_FS_ERROR) as listener, \
                opened(f"{top}/{matrix_image.FILE}") as first:
            test.equal(os.pread(first, 9, 0), matrix_image.data()[:9],
                       "before")
            store.remove(matrix_image.object_name())
            try:
                with opened(f"{top}/{matrix_image.FILE}") as second:
                    test.equal(os.pread(second, 9, 0), matrix_image.data()[:9],
                               "after")
            finally:
                test.equal(notify.events(listener), [], "events")


@suite.test("a listener on another mount gets no event")
def apart(test: ktap.Test) -> None:
    image = matrix_image.image()
    with objects.store() as store, mounts.composefs(
            image.path, [store.path]) as top, mounts.composefs(
                image.path, image.objects) as other, \
            notify.fanotify(other, notify.FAN_FS_ERROR) as elsewhere, \
            notify.fanotify(top, notify.FAN_FS_ERROR) as here:
        with opened(f"{top}/{matrix_image.FILE}") as fd:
            test.fails(errno.EIO, "read", read, fd)
        test.check(notify.ready(here), "no event")
        test.equal(notify.events(elsewhere), [], "events of the other mount")


@suite.test("a file that was opened by its handle causes an event")
def by_handle(test: ktap.Test) -> None:
    image = matrix_image.image()
    with objects.store() as store, mounts.composefs(
            image.path, [store.path]) as top, opened(top) as mount, \
            notify.fanotify(top, notify.FAN_FS_ERROR) as listener:
        with handles.opened(mount, handles.of(f"{top}/{matrix_image.FILE}"),
                            os.O_RDONLY) as fd:
            test.fails(errno.EIO, "read", read, fd)
        test.check(notify.ready(listener), "no event")


fixtures.require()
objects.require_verity()
suite.run()
