#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Object directories on file systems of all kinds.

Where opening an object may have to wait for somebody, or to look names up, it
cannot be done under the lock of a memory map: such a file has to be opened
when open(2) is called. On each, all ways of reading are the first one in turn,
and a second open is made whose only access is by mmap(2).
"""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
from pathlib import Path

from lib import access, fixtures, fuse, ktap, matrix, mounts, objects, slab
from lib.mounts import Value
from lib.objects import Store

suite = ktap.Suite()

OFF: tuple[str, Value] = ("noverity", None)


def check_store(test: ktap.Test, path: str,
                *options: tuple[str, Value]) -> None:
    """Reads the one file of the store."""
    expected = matrix.data()
    image = matrix.image()
    for name, way in access.WAYS.items():
        with mounts.composefs(image.path, [path], *options) as top:
            for what in (name, f"{name}, opened again"):
                fd = os.open(f"{top}/{matrix.FILE}", os.O_RDONLY)
                try:
                    test.check(way(fd, len(expected)) == expected,
                               f"{what}: another content")
                except OSError as error:
                    test.fail(f"{what}: {ktap.errno_name(error.errno)}")
                finally:
                    os.close(fd)
            check_mapping(test, f"{top}/{matrix.FILE}", f"mmap after {name}")
            slab.drop_caches()
            check_mapping(test, f"{top}/{matrix.FILE}",
                          f"mmap after {name} and drop_caches")


def check_mapping(test: ktap.Test, path: str, what: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        with mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ) as view:
            test.check(view[:] == matrix.data(), f"{what}: another content")
    except OSError as error:
        test.fail(f"{what}: {ktap.errno_name(error.errno)}")
    finally:
        os.close(fd)


@suite.test("on ext4, verified")
def on_ext4(test: ktap.Test) -> None:
    with objects.store() as store:
        matrix.add_to(store)
        check_store(test, store.path, ("verity", None))


@suite.test("on tmpfs")
def on_tmpfs(test: ktap.Test) -> None:
    with mounts.mounted("tmpfs", [("source", "store")]) as top:
        Store(Path(top)).plain(matrix.object_name(), matrix.data())
        check_store(test, top, OFF)


@suite.test("on overlayfs")
def on_overlay(test: ktap.Test) -> None:
    with objects.store() as lower, objects.store() as other:
        matrix.add_to(lower)
        with mounts.mounted("overlay", [
                ("source", "store"), ("lowerdir+", lower.path),
                ("lowerdir+", other.path)]) as top:
            check_store(test, top, OFF)


@suite.test("on a FUSE file system, whose names are valid for no time")
def on_fuse(test: ktap.Test) -> None:
    with fuse.mounted({matrix.object_name(): matrix.data()}) as top:
        check_store(test, top, OFF)
        check_store(test, top, ("tryverity", None))
        with mounts.composefs(matrix.image().path, [top]) as ours, \
                open(f"{ours}/{matrix.FILE}", "rb", buffering=0) as file:
            test.fails(errno.EIO, "verified", file.read, 1)


@suite.test("on btrfs, verified")
def on_btrfs(test: ktap.Test) -> None:
    subprocess.run(["modprobe", "--quiet", "btrfs"], check=False)
    known = Path("/proc/filesystems").read_text(encoding="ascii").split()
    if "btrfs" not in known:
        raise ktap.Skipped("the kernel has no btrfs")
    with objects.store() as work, mounts.directory() as top:
        disk = work.top / "disk"
        with open(disk, "wb") as file:
            file.truncate(200 << 20)
        subprocess.run(["mkfs.btrfs", "-q", disk], check=True)
        subprocess.run(["mount", "-t", "btrfs", "-o", "loop", disk, top],
                       check=True)
        try:
            matrix.add_to(Store(Path(top)))
            check_store(test, top, ("verity", None))
        finally:
            subprocess.run(["umount", top], check=True)


@suite.test("on composefs itself")
def on_composefs(test: ktap.Test) -> None:
    """The tree of an image as the store of another one."""
    image = fixtures.named("store")
    with mounts.composefs(image.path, image.objects) as store:
        check_store(test, store, OFF)
        check_store(test, store, ("tryverity", None))


@suite.test("a file without any object directory: open(2) succeeds, EIO then")
def nowhere(test: ktap.Test) -> None:
    with mounts.composefs(matrix.image().path, []) as top:
        fd = os.open(f"{top}/{matrix.FILE}", os.O_RDONLY)
        try:
            for _ in range(2):
                test.fails(errno.EIO, "read", os.pread, fd, 1, 0)
                test.fails(errno.EIO, "mmap", mmap.mmap, fd, 0,
                           mmap.MAP_SHARED, mmap.PROT_READ)
                test.fails(errno.EIO, "SEEK_DATA", os.lseek, fd, 0,
                           os.SEEK_DATA)
            test.equal(os.lseek(fd, 0, os.SEEK_END), len(matrix.data()),
                       "SEEK_END")
            test.equal(os.fstat(fd).st_size, len(matrix.data()), "size")
        finally:
            os.close(fd)
        test.fails(errno.EIO, "open with O_DIRECT", os.open,
                   f"{top}/{matrix.FILE}", os.O_RDONLY | os.O_DIRECT)


@suite.test("an object that comes later, through a descriptor of before")
def later(test: ktap.Test) -> None:
    with fuse.mounted({}) as empty, objects.store() as store, \
            mounts.composefs(matrix.image().path, [empty, store.path],
                             OFF) as top:
        fd = os.open(f"{top}/{matrix.FILE}", os.O_RDONLY)
        try:
            test.fails(errno.EIO, "before", os.pread, fd, 1, 0)
            store.plain(matrix.object_name(), matrix.data())
            test.check(access.pread(fd, len(matrix.data())) == matrix.data(),
                       "then: another content")
        finally:
            os.close(fd)


@suite.test("an object that is unlinked after open(2), before any read")
def unlinked(test: ktap.Test) -> None:
    with objects.store() as store, mounts.composefs(
            matrix.image().path, [store.path]) as top:
        name = matrix.add_to(store)
        fd = os.open(f"{top}/{matrix.FILE}", os.O_RDONLY)
        try:
            store.remove(name)
            # Either it is found to be gone, or it is the one that it was.
            try:
                test.check(access.pread(fd, len(matrix.data()))
                           == matrix.data(), "another content")
            except OSError as error:
                test.equal(error.errno, errno.EIO, "error")
            matrix.add_to(store)
            test.check(access.pread(fd, len(matrix.data())) == matrix.data(),
                       "when it is back: another content")
        finally:
            os.close(fd)


@suite.test("an object that changes its size under noverity")
def resized(test: ktap.Test) -> None:
    data = matrix.data()
    with objects.store() as store, mounts.composefs(
            matrix.image().path, [store.path], OFF) as top:
        path = store.plain(matrix.object_name(), data)
        file = Path(top, matrix.FILE)
        test.check(file.read_bytes() == data, "before: another content")
        for change in (data + b"more", data[:-1], b""):
            path.write_bytes(change)
            fd = os.open(file, os.O_RDONLY)
            try:
                test.fails(errno.EIO, f"{len(change)} bytes: read", os.pread,
                           fd, 1, 0)
                test.fails(errno.EIO, f"{len(change)} bytes: mmap",
                           mmap.mmap, fd, 4096, mmap.MAP_SHARED,
                           mmap.PROT_READ)
            finally:
                os.close(fd)
        path.write_bytes(data)
        test.check(file.read_bytes() == data, "in the end: another content")


fixtures.require()
objects.require_verity()
suite.run()
