#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""The credentials that apply: those of the mounter, or those of the reader.

The image and the objects are looked up and read with the mounter's
credentials. A reader needs permissions on the file of the mount, and no
others. This is compared with erofs + overlayfs.
"""

from __future__ import annotations

import dataclasses
import mmap
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import (caches, fixtures, ktap, matrix_image, mounts, objects,
                 process, reference)
from lib.files import opened
from lib.objects import Store

suite = ktap.Suite()

USER = 1000


def use_opened(path: str, use: Callable[[int], bytes]) -> bytes:
    with opened(path) as fd:
        return use(fd)


def by_mmap(fd: int) -> bytes:
    with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as area:
        return area[:]


def by_splice(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    reader, writer = os.pipe()
    try:
        os.splice(fd, writer, min(size, 4096))
        return os.read(reader, size)
    finally:
        os.close(reader)
        os.close(writer)


def by_sendfile(fd: int) -> bytes:
    out = os.memfd_create("out")
    try:
        os.sendfile(out, fd, 0, os.fstat(fd).st_size)
        return os.pread(out, os.fstat(out).st_size, 0)
    finally:
        os.close(out)


WAYS: dict[str, Callable[[int], bytes]] = {
    "read(2)": lambda fd: os.pread(fd, 1 << 20, 0),
    "mmap(2)": by_mmap,
    "splice(2)": by_splice,
    "sendfile(2)": by_sendfile,
}


def as_user(use: Callable[[], bytes]) -> bytes | str:
    """The result for a user who is neither owner nor in the group."""
    found: bytes | str = ktap.result(process.as_user, USER, use)
    return found


@contextmanager
def closed_store(mode: int = 0o600) -> Iterator[Store]:
    """An object directory that only root may search, with one object."""
    with objects.store() as store:
        name = matrix_image.add_to(store)
        os.chmod(store.top / name, mode)
        for path in (store.top, (store.top / name).parent):
            os.chmod(path, 0o700)
        yield store


@contextmanager
def both(store: Store) -> Iterator[list[tuple[str, str]]]:
    """The image with this object directory, on composefs and the reference."""
    image = dataclasses.replace(matrix_image.image(), objects=[store.path])
    with mounts.composefs(image.path, image.objects) as ours, \
            reference.mount(image, verity=True) as theirs:
        yield [("composefs", ours), ("erofs + overlayfs", theirs)]


@suite.test(
    "an object directory that only the mounter may search: a user reads"
)
def searched(test: ktap.Test) -> None:
    for way, use in WAYS.items():
        with closed_store() as store, both(store) as tops:
            # Without the mount the user cannot read the object.
            name = matrix_image.object_name()
            test.equal(as_user((store.top / name).read_bytes), "EACCES",
                       "the object itself")
            for what, top in tops:
                path = f"{top}/{matrix_image.FILE}"
                expected = matrix_image.data()
                found = as_user(lambda p=path, u=use: use_opened(p, u))
                if way == "splice(2)":
                    expected = expected[:4096]
                test.check(found == expected, f"{what}, {way}: {found!r:.60}")


@suite.test("an object that appears there after open(2): a user reads it")
def comes_later(test: ktap.Test) -> None:
    name = matrix_image.object_name()
    with closed_store() as store:
        away = store.top / "away"
        os.rename(store.top / name, away)
        with matrix_image.mounted(basedirs=[store.path]) as top:
            heard, asks = os.pipe()
            told, tells = os.pipe()

            def read() -> bytes:
                def use(fd: int) -> bytes:
                    os.write(asks, b"x")
                    os.read(told, 1)
                    return os.pread(fd, 1 << 20, 0)
                return use_opened(f"{top}/{matrix_image.FILE}", use)

            mover = os.fork()
            if mover == 0:
                os.close(asks)
                os.read(heard, 1)
                os.rename(away, store.top / name)
                os.write(tells, b"x")
                os._exit(0)
            found = as_user(read)
            os.close(asks)
            os.waitpid(mover, 0)
            for fd in (told, tells, heard):
                os.close(fd)
            test.check(found == matrix_image.data(), f"{found!r:.60}")


def change_fsuid() -> None:
    """Drops the capabilities over files of others, but not CAP_SYS_ADMIN."""
    process.libc.setfsuid(USER)


@suite.test(
    "an object directory that the mounter may not search: EIO for root"
)
def not_searched(test: ktap.Test) -> None:
    with closed_store(0o644) as store:
        # As a descriptor: the mounter could not look up the path.
        basedir = os.open(store.path, os.O_PATH)
        try:
            options: mounts.Options = [("source", matrix_image.image().path),
                                       ("basedir", basedir)]
            with mounts.directory() as top:
                def run() -> None:
                    change_fsuid()
                    mounts.attach(mounts.new_mount("composefs", options), top)
                process.in_child(run)
                try:
                    found = ktap.result(
                        Path(top, matrix_image.FILE).read_bytes
                    )
                    test.check(found == "EIO", f"root: {found!r:.60}")
                    found = ktap.result(
                        Path(top, matrix_image.INLINE).read_bytes
                    )
                    test.check(found == matrix_image.data(matrix_image.INLINE),
                               f"in the image: {found!r:.60}")
                finally:
                    mounts.umount(top)
        finally:
            os.close(basedir)


@suite.test("an image that only the mounter may read: a user uses the mount")
def image_closed(test: ktap.Test) -> None:
    with objects.store() as work, closed_store() as store:
        copy = work.top / "image.cfs"
        shutil.copyfile(matrix_image.image().path, copy)
        os.chmod(copy, 0o600)
        image = dataclasses.replace(matrix_image.image(), path=str(copy),
                                    objects=[store.path])
        with mounts.composefs(image.path, image.objects) as ours, \
                reference.mount(image, verity=True) as theirs:
            for what, top in (("composefs", ours),
                              ("erofs + overlayfs", theirs)):
                caches.drop()
                found = process.as_user(
                    USER, lambda t=top: sorted(os.listdir(t)))
                test.check(matrix_image.FILE in found, f"{what}: {found}")
                found = as_user(Path(top, matrix_image.INLINE).read_bytes)
                test.check(found == matrix_image.data(matrix_image.INLINE),
                           f"{what}: {found!r:.60}")


@suite.test(
    "a file that a user may not read, whose object is readable: EACCES"
)
def file_closed(test: ktap.Test) -> None:
    """Objects are shared by images. The modes that apply are in the image."""
    image = fixtures.named("rights")
    with mounts.composefs(image.path, image.objects) as ours, \
            reference.mount(image) as theirs:
        seen = []
        for top in (ours, theirs):
            found = {}
            for path in sorted(Path(image.source or "").rglob("*")):
                name = str(path.relative_to(image.source or ""))
                if path.is_file() and not path.is_symlink():
                    result = as_user(Path(top, name).read_bytes)
                    found[name] = result if isinstance(result, str) else "data"
            seen.append(found)
        test.equal(seen[0], seen[1], "composefs and the reference")
        test.check("EACCES" in seen[0].values(),
                   f"no file is EACCES: {seen[0]}")


fixtures.require()
reference.require_support()
objects.require_verity()
suite.run()
