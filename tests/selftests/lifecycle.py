#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Mounting, unmounting, loading and unloading, often and at bad moments.

No mount, no inode and no reference to the module may be left. Tests that
unload composefs are skipped where it is built in.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import (caches, fixtures, kernel_log, ktap, matrix_image, module,
                 mounts, objects, slab, special_image)
from lib.mounts import Context, Options
from lib.tree import names

suite = ktap.Suite()

# A kernel with many checks is slow, but does not need many rounds.
MOUNTS, LOADS = (48, 5) if ktap.IS_SLOW else (200, 20)
# 200 mounts have 8,000 inodes, and 48 have 1,900.
MOST_INODES = 1000


def count_mounts() -> int:
    return len(mounts.mountinfo())


def use_all(top: str) -> None:
    """Looks up all names of the image, and reads two files."""
    for name in sorted(os.listdir(top)):
        os.lstat(f"{top}/{name}")
    for name in (matrix_image.FILE, matrix_image.INLINE):
        with open(f"{top}/{name}", "rb") as file:
            file.read()


@contextmanager
def attached(options: Options) -> Iterator[str]:
    """As mounts.mounted(), but does not unmount."""
    with mounts.directory() as top:
        mounts.mount_at("composefs", options, top)
        yield top


@suite.test(f"mounted and unmounted {MOUNTS} times")
def mounted_often(test: ktap.Test) -> None:
    with objects.store() as work:
        # Only mounts of an image with fs-verity share a super block.
        copy = work.plain("copy", Path(matrix_image.image().path).read_bytes())
        ways = (
            matrix_image.options(),
            matrix_image.options(("digest", matrix_image.image().digest)),
            mounts.composefs_options(str(copy), matrix_image.image().objects,
                                     ("noverity", None)),
        )
        before = count_mounts()
        counts = []
        for number in range(MOUNTS):
            with mounts.mounted("composefs", ways[number % 3]) as top:
                use_all(top)
            if number % (MOUNTS // 4) == MOUNTS // 4 - 1:
                caches.drop()
                counts.append(slab.inodes())
        test.equal(count_mounts(), before, "mounts")
        test.note(f"inodes after each quarter: {counts}")
        # Per-CPU lists count as used: a few hundred.
        test.check(counts[-1] < MOST_INODES,
                   f"the number of inodes grows: {counts}")


@suite.test(f"loaded, used and unloaded {LOADS} times")
def loaded_often(test: ktap.Test) -> None:
    module.require_loaded()
    for number in range(LOADS):
        test.equal(module.try_unload(), "", f"unload {number}")
        module.load()
        test.check(module.is_loaded(), f"load {number}")
        with mounts.mounted("composefs", matrix_image.options()) as top:
            use_all(top)
            test.check(module.try_unload() != "",
                       "unloading succeeded while mounted")
            matrix_image.check(test, top, f"round {number}")
    with open("/proc/filesystems", encoding="ascii") as file:
        test.equal(file.read().split().count("composefs"), 1,
                   "lines of /proc/filesystems")


@suite.test("failed mounts leave nothing behind")
def failed(test: ktap.Test) -> None:
    module.require_loaded()
    image = matrix_image.image()
    with objects.store() as work:
        data = Path(image.path).read_bytes()
        bad: dict[str, Options] = {
            "a missing image": [("source", f"{work.path}/missing")],
            "a directory": [("source", work.path)],
            "noise": [("source", str(work.plain("noise", bytes(8192))))],
            "cut off": [("source", str(work.plain("cut", data[:1152])))],
            "no root": [
                (
                    "source",
                    str(
                        work.plain("root",
                                   data[:1152] + bytes(len(data) - 1152))
                    ),
                )
            ],
            "a missing store": matrix_image.options(("basedir", "/missing")),
            "a file as store": matrix_image.options(
                ("basedir", "/etc/passwd")
            ),
            "a wrong digest": matrix_image.options(("digest", "0" * 64)),
            "bad options": matrix_image.options(("digest", image.digest),
                                                ("noverity", None)),
            "no image": [("basedir", "/tmp")],
        }
        before = count_mounts()
        for _ in range(10):
            for what, options in bad.items():
                try:
                    os.close(mounts.new_mount("composefs", options))
                    test.fail(f"{what}: the mount succeeded")
                except OSError:
                    test.check(True, what)
                with Context.open("composefs") as context:
                    # A context that is closed before FSCONFIG_CMD_CREATE.
                    for key, value in options:
                        context.set(key, value)
        test.equal(count_mounts(), before, "mounts")
    test.equal(module.try_unload(), "", "unload")
    module.load()
    with mounts.mounted("composefs", matrix_image.options()) as top:
        matrix_image.check(test, top, "afterwards")


@suite.test(
    "contexts and detached mounts that are closed leave nothing behind"
)
def nowhere(test: ktap.Test) -> None:
    module.require_loaded()
    for _ in range(20):
        with Context.open("composefs") as context:
            for key, value in matrix_image.options():
                context.set(key, value)
            context.create()
        os.close(mounts.new_mount("composefs", matrix_image.options()))
    test.equal(module.try_unload(), "", "unload")
    module.load()


@suite.test("an open context or detached mount keeps the module loaded")
def held(test: ktap.Test) -> None:
    module.require_loaded()
    with Context.open("composefs"):
        test.check(module.try_unload() != "",
                   "unloading succeeded with an open context")
    fd = mounts.new_mount("composefs", matrix_image.options())
    test.check(module.try_unload() != "",
               "unloading succeeded with a detached mount")
    os.close(fd)
    test.equal(module.try_unload(), "", "unload")
    module.load()


@suite.test("open and mapped files keep a mount busy")
def busy(test: ktap.Test) -> None:
    with mounts.mounted("composefs", matrix_image.options()) as top:
        for name in (matrix_image.FILE, matrix_image.INLINE, "."):
            fd = os.open(f"{top}/{name}", os.O_RDONLY)
            try:
                test.fails(errno.EBUSY, f"{name}, open", mounts.umount, top)
                if name == ".":
                    continue
                os.pread(fd, 10, 0)
                test.fails(errno.EBUSY, f"{name}, read", mounts.umount, top)
                with mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ):
                    os.close(fd)
                    fd = -1
                    test.fails(errno.EBUSY, f"{name}, mapped", mounts.umount,
                               top)
            finally:
                if fd >= 0:
                    os.close(fd)
        matrix_image.check(test, top, "afterwards")


@suite.test("MNT_DETACH: open files keep working, also those not read before")
def lazy(test: ktap.Test) -> None:
    module.require_loaded()
    with attached(matrix_image.options()) as top:
        fds = {name: os.open(f"{top}/{name}", os.O_RDONLY)
               for name in (matrix_image.FILE, "file-01", matrix_image.INLINE)}
        directory = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
        os.pread(fds[matrix_image.FILE], 10, 0)
        mounts.umount(top, mounts.MNT_DETACH)
        caches.drop()
        test.equal(os.listdir(top), [], "the mount point")
        for name, fd in fds.items():
            test.check(os.pread(fd, 100000, 0) == matrix_image.data(name),
                       f"{name}: wrong content")
        test.equal(len(os.listdir(directory)), matrix_image.FILES + 1,
                   "entries")
        fd = os.open("file-02", os.O_RDONLY, dir_fd=directory)
        test.check(os.pread(fd, 100000, 0) == matrix_image.data("file-02"),
                   "a file that is opened afterwards: wrong content")
        test.check(module.try_unload() != "",
                   "unloading succeeded with open files")
        for number in (fd, directory, *fds.values()):
            os.close(number)
    test.equal(module.try_unload(), "", "unload")
    module.load()


@suite.test("a mount inside another mount")
def nested(test: ktap.Test) -> None:
    with special_image.mounted() as outer:
        inside = f"{outer}/types/directory"
        mounts.mount_at("composefs", matrix_image.options(), inside)
        try:
            matrix_image.check(test, inside, "inside")
            test.fails(errno.EBUSY, "umount of the outer one", mounts.umount,
                       outer)
        finally:
            mounts.umount(inside)
        test.equal(os.listdir(inside), [], "afterwards")


@suite.test("no inode of a large tree is left after umount")
def inodes(test: ktap.Test) -> None:
    module.require_loaded()
    caches.drop()
    before = slab.inodes()
    for _ in range(2):
        with special_image.mounted() as top:
            for path, _, _ in names(top):
                os.lstat(os.fsencode(top) + path)
            with open(f"{top}/{special_image.LARGE}", "rb") as file:
                file.read()
            count = slab.inodes() - before
        test.check(count > 10_000, f"{count} inodes after a walk")
    # Unloading destroys the cache, and the kernel logs it if an inode is left.
    with kernel_log.watch() as lines:
        test.equal(module.try_unload(), "", "unload")
    test.equal([line for line in lines if slab.CACHE in line], [],
               "log lines")
    module.load()


@suite.test("drop_caches during a walk does not change the tree")
def under_pressure(test: ktap.Test) -> None:
    with special_image.mounted() as top:
        first = sorted(path for path, _, _ in names(top))
        for number, path in enumerate(first[::23]):
            if number % 10 == 0:
                caches.drop()
            os.lstat(os.fsencode(top) + path)
        test.equal(sorted(path for path, _, _ in names(top)) == first, True,
                   "the tree differs")


fixtures.require()
objects.require_verity()
suite.run()
