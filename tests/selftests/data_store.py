#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Object directories on file systems of many kinds.

Where open(2) of an object may block or look up names again, mmap(2) may not do
it with mmap_lock held: such an object has to be opened when the file is. On
each file system, each way of reading is tried as the first access. A second
open file is accessed by mmap(2) only.
"""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

from lib import (caches, file_systems, fixtures, fuse, ktap, matrix_image,
                 mounts, objects, read_whole)
from lib.files import opened
from lib.mounts import Value
from lib.objects import Store

suite = ktap.Suite()

OFF: tuple[str, Value] = ("noverity", None)


def the_object() -> dict[str, bytes]:
    """The object of FILE: its name and content."""
    return {matrix_image.object_name(): matrix_image.data()}


def check_store(test: ktap.Test, path: str,
                *options: tuple[str, Value]) -> None:
    """Reads FILE, whose object is in the directory, in each way."""
    expected = matrix_image.data()
    image = matrix_image.image()
    for name, way in read_whole.WAYS.items():
        with mounts.composefs(image.path, [path], *options) as top:
            for what in (name, f"{name}, opened again"):
                with opened(f"{top}/{matrix_image.FILE}") as fd:
                    found = ktap.result(way, fd, len(expected))
                test.check(found == expected, f"{what}: {found!r:.60}")
            check_mapping(test, f"{top}/{matrix_image.FILE}",
                          f"mmap after {name}")
            caches.drop()
            check_mapping(test, f"{top}/{matrix_image.FILE}",
                          f"mmap after {name} and drop_caches")


def check_mapping(test: ktap.Test, path: str, what: str) -> None:
    """Maps FILE as the first access by an open file."""
    def read_mapping() -> bytes:
        with opened(path) as fd, mmap.mmap(
                fd, 0, mmap.MAP_SHARED, mmap.PROT_READ) as view:
            return view[:]

    found = ktap.result(read_mapping)
    test.check(found == matrix_image.data(), f"{what}: {found!r:.60}")


@suite.test("on ext4, verified")
def on_ext4(test: ktap.Test) -> None:
    with objects.store() as store:
        matrix_image.add_to(store)
        check_store(test, store.path, ("verity", None))


@suite.test("on tmpfs")
def on_tmpfs(test: ktap.Test) -> None:
    with file_systems.mounted("tmpfs", the_object()) as top:
        check_store(test, top, OFF)


@suite.test("on overlayfs")
def on_overlay(test: ktap.Test) -> None:
    with file_systems.mounted("overlayfs", the_object()) as top:
        check_store(test, top, OFF)


@suite.test("on FUSE, whose dentries are revalidated each time")
def on_fuse(test: ktap.Test) -> None:
    with file_systems.mounted("fuse", the_object()) as top:
        check_store(test, top, OFF)
        check_store(test, top, ("tryverity", None))
        with matrix_image.mounted(basedirs=[top]) as ours, \
                open(f"{ours}/{matrix_image.FILE}", "rb", buffering=0) as file:
            test.fails(errno.EIO, "verified", file.read, 1)


@suite.test("on btrfs, verified")
def on_btrfs(test: ktap.Test) -> None:
    with file_systems.mounted("btrfs", {}) as top:
        matrix_image.add_to(Store(Path(top)))
        check_store(test, top, ("verity", None))


@suite.test("on composefs itself")
def on_composefs(test: ktap.Test) -> None:
    """The tree of an image as the object directory of another one."""
    image = fixtures.named("store")
    with mounts.composefs(image.path, image.objects) as store:
        check_store(test, store, OFF)
        check_store(test, store, ("tryverity", None))


@suite.test("no object directory: open(2) succeeds, all else is EIO")
def nowhere(test: ktap.Test) -> None:
    with matrix_image.mounted(basedirs=[]) as top:
        with opened(f"{top}/{matrix_image.FILE}") as fd:
            for _ in range(2):
                test.fails(errno.EIO, "read", os.pread, fd, 1, 0)
                test.fails(errno.EIO, "mmap", mmap.mmap, fd, 0,
                           mmap.MAP_SHARED, mmap.PROT_READ)
                test.fails(errno.EIO, "SEEK_DATA", os.lseek, fd, 0,
                           os.SEEK_DATA)
            test.equal(os.lseek(fd, 0, os.SEEK_END), len(matrix_image.data()),
                       "SEEK_END")
            test.equal(os.fstat(fd).st_size, len(matrix_image.data()), "size")
        test.fails(errno.EIO, "open with O_DIRECT", os.open,
                   f"{top}/{matrix_image.FILE}", os.O_RDONLY | os.O_DIRECT)


@suite.test("an object that appears after open(2) is read")
def later(test: ktap.Test) -> None:
    with fuse.mounted({}) as empty, objects.store() as store, \
            matrix_image.mounted(OFF, basedirs=[empty, store.path]) as top:
        with opened(f"{top}/{matrix_image.FILE}") as fd:
            test.fails(errno.EIO, "before it appears", os.pread, fd, 1, 0)
            store.plain(matrix_image.object_name(), matrix_image.data())
            test.check(
                read_whole.pread(fd, len(matrix_image.data()))
                == matrix_image.data(),
                "wrong content",
            )


@suite.test("an object that is unlinked after open(2), before the first read")
def unlinked(test: ktap.Test) -> None:
    with (
        objects.store() as store,
        matrix_image.mounted(basedirs=[store.path]) as top,
    ):
        name = matrix_image.add_to(store)
        with opened(f"{top}/{matrix_image.FILE}") as fd:
            store.remove(name)
            # Both are right: the object is not found, or it was found before.
            try:
                test.check(read_whole.pread(fd, len(matrix_image.data()))
                           == matrix_image.data(), "wrong content")
            except OSError as error:
                test.equal(error.errno, errno.EIO, "error")
            matrix_image.add_to(store)
            test.check(
                read_whole.pread(fd, len(matrix_image.data()))
                == matrix_image.data(),
                "restored: wrong content",
            )


@suite.test("an object that changes its size under noverity is EIO")
def resized(test: ktap.Test) -> None:
    data = matrix_image.data()
    with (
        objects.store() as store,
        matrix_image.mounted(OFF, basedirs=[store.path]) as top,
    ):
        path = store.plain(matrix_image.object_name(), data)
        file = Path(top, matrix_image.FILE)
        test.check(file.read_bytes() == data, "before: wrong content")
        for change in (data + b"more", data[:-1], b""):
            path.write_bytes(change)
            with opened(file) as fd:
                test.fails(errno.EIO, f"{len(change)} bytes: read", os.pread,
                           fd, 1, 0)
                test.fails(errno.EIO, f"{len(change)} bytes: mmap",
                           mmap.mmap, fd, 4096, mmap.MAP_SHARED,
                           mmap.PROT_READ)
        path.write_bytes(data)
        test.check(file.read_bytes() == data, "restored: wrong content")


fixtures.require()
objects.require_verity()
suite.run()
