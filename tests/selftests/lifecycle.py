#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Mounting and unmounting, loading and unloading, often and in bad moments.

Nothing may be left: no mount, no inode, no use of the module.
"""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import (fixtures, kernel_log, ktap, matrix, mounts, objects, slab,
                 special)
from lib.mounts import Context, Options, Value
from lib.tree import names

suite = ktap.Suite()

MODULE = "composefs"
MOUNTS, LOADS = 200, 20


def standard(*more: tuple[str, Value]) -> Options:
    image = matrix.image()
    return mounts.composefs_options(image.path, image.objects, *more)


def is_loaded() -> bool:
    with open("/proc/modules", encoding="ascii") as file:
        return any(line.split()[0] == MODULE for line in file)


def load() -> None:
    subprocess.run(["modprobe", MODULE], check=True)


def unload() -> str:
    """What is said against it, if it fails."""
    done = subprocess.run(["modprobe", "--remove", MODULE],
                          capture_output=True, text=True, check=False)
    if done.returncode or is_loaded():
        return done.stderr.strip() or "it is there still"
    return ""


def need_module() -> None:
    if not is_loaded():
        raise ktap.Skipped("composefs is no module that is loaded")


def count_mounts() -> int:
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return sum(1 for line in file)


def use_all(top: str) -> None:
    """Looks at all that a mount of the matrix has."""
    for name in sorted(os.listdir(top)):
        os.lstat(f"{top}/{name}")
    for name in (matrix.FILE, matrix.INLINE):
        with open(f"{top}/{name}", "rb") as file:
            file.read()


@contextmanager
def attached(options: Options) -> Iterator[str]:
    """As mounts.mounted, without unmounting."""
    with mounts.directory() as top:
        fd = mounts.new_mount("composefs", options)
        mounts.attach(fd, top)
        os.close(fd)
        yield top


@suite.test(f"mounted and unmounted {MOUNTS} times")
def mounted_often(test: ktap.Test) -> None:
    with objects.store() as work:
        # One with a digest of its own, one without: another way through.
        copy = work.plain("copy", Path(matrix.image().path).read_bytes())
        ways = (standard(), standard(("digest", matrix.image().digest)),
                mounts.composefs_options(str(copy), matrix.image().objects,
                                         ("noverity", None)))
        before = count_mounts()
        counts = []
        for number in range(MOUNTS):
            with mounts.mounted("composefs", ways[number % 3]) as top:
                use_all(top)
            if number % 50 == 49:
                slab.drop_caches()
                counts.append(slab.inodes())
        test.equal(count_mounts(), before, "mounts")
        test.note(f"inodes after every 50: {counts}")
        # What a processor has at hand counts as used: a few hundred.
        test.check(counts[-1] < MOUNTS * matrix.FILES // 8,
                   f"inodes grow: {counts}")


@suite.test(f"loaded and unloaded {LOADS} times, used between")
def loaded_often(test: ktap.Test) -> None:
    need_module()
    for number in range(LOADS):
        test.equal(unload(), "", f"unload {number}")
        load()
        test.check(is_loaded(), f"load {number}")
        with mounts.mounted("composefs", standard()) as top:
            use_all(top)
            test.check(unload() != "", "unloaded while mounted")
            matrix.is_right(test, top, f"round {number}")
    with open("/proc/filesystems", encoding="ascii") as file:
        test.equal(file.read().split().count("composefs"), 1,
                   "file systems of the name")


@suite.test("failed mounts of all kinds leave nothing behind")
def failed(test: ktap.Test) -> None:
    need_module()
    image = matrix.image()
    with objects.store() as work:
        data = Path(image.path).read_bytes()
        bad: dict[str, Options] = {
            "a missing image": [("source", f"{work.path}/missing")],
            "a directory": [("source", work.path)],
            "noise": [("source", str(work.plain("noise", bytes(8192))))],
            "cut off": [("source", str(work.plain("cut", data[:1152])))],
            "no root": [("source", str(work.plain(
                "root", data[:1152] + bytes(len(data) - 1152))))],
            "a missing store": standard(("basedir", "/missing")),
            "a file as store": standard(("basedir", "/etc/passwd")),
            "a wrong digest": standard(("digest", "0" * 64)),
            "bad options": standard(("digest", image.digest),
                                    ("noverity", None)),
            "no image": [("basedir", "/tmp")],
        }
        before = count_mounts()
        for _ in range(10):
            for what, options in bad.items():
                try:
                    os.close(mounts.new_mount("composefs", options))
                    test.fail(f"{what}: was mounted")
                except OSError:
                    test.check(True, what)
                with Context.open("composefs") as context:
                    # Given up before it was tried.
                    for key, value in options:
                        context.set(key, value)
        test.equal(count_mounts(), before, "mounts")
    test.equal(unload(), "", "unload then")
    load()
    with mounts.mounted("composefs", standard()) as top:
        matrix.is_right(test, top, "then")


@suite.test("contexts and mounts that are nowhere are given up")
def nowhere(test: ktap.Test) -> None:
    need_module()
    for _ in range(20):
        with Context.open("composefs") as context:
            for key, value in standard():
                context.set(key, value)
            context.create()
        os.close(mounts.new_mount("composefs", standard()))
    test.equal(unload(), "", "unload then")
    load()


@suite.test("an open context or mount keeps the module")
def held(test: ktap.Test) -> None:
    need_module()
    with Context.open("composefs"):
        test.check(unload() != "", "unloaded with an open context")
    fd = mounts.new_mount("composefs", standard())
    test.check(unload() != "", "unloaded with a mount that is nowhere")
    os.close(fd)
    test.equal(unload(), "", "unload then")
    load()


@suite.test("open files keep a mount busy: of objects, of the image, mapped")
def busy(test: ktap.Test) -> None:
    with mounts.mounted("composefs", standard()) as top:
        for name in (matrix.FILE, matrix.INLINE, "."):
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
        matrix.is_right(test, top, "then")


@suite.test("unmounted lazily: what is open works on, also what was not read")
def lazy(test: ktap.Test) -> None:
    need_module()
    with attached(standard()) as top:
        fds = {name: os.open(f"{top}/{name}", os.O_RDONLY)
               for name in (matrix.FILE, "file-01", matrix.INLINE)}
        directory = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
        os.pread(fds[matrix.FILE], 10, 0)
        mounts.umount(top, mounts.MNT_DETACH)
        slab.drop_caches()
        test.equal(os.listdir(top), [], "the place of the mount")
        for name, fd in fds.items():
            test.check(os.pread(fd, 100000, 0) == matrix.data(name),
                       f"{name}: another content")
        test.equal(len(os.listdir(directory)), matrix.FILES + 1, "entries")
        fd = os.open("file-02", os.O_RDONLY, dir_fd=directory)
        test.check(os.pread(fd, 100000, 0) == matrix.data("file-02"),
                   "a file that is opened then: another content")
        test.check(unload() != "", "unloaded with open files")
        for number in (fd, directory, *fds.values()):
            os.close(number)
    test.equal(unload(), "", "unload then")
    load()


@suite.test("a mount inside of a mount, and over it")
def nested(test: ktap.Test) -> None:
    with special.mounted() as outer:
        inside = f"{outer}/types/directory"
        fd = mounts.new_mount("composefs", standard())
        mounts.attach(fd, inside)
        os.close(fd)
        try:
            matrix.is_right(test, inside, "inside")
            test.fails(errno.EBUSY, "umount of the outer one", mounts.umount,
                       outer)
        finally:
            mounts.umount(inside)
        test.equal(os.listdir(inside), [], "then")


@suite.test("walks of a large tree leave no inodes when it is unmounted")
def inodes(test: ktap.Test) -> None:
    need_module()
    slab.drop_caches()
    before = slab.inodes()
    for _ in range(2):
        with special.mounted() as top:
            for path, _, _ in names(top):
                os.lstat(os.fsencode(top) + path)
            with open(f"{top}/{special.LARGE}", "rb") as file:
                file.read()
            count = slab.inodes() - before
        test.check(count > 10_000, f"{count} inodes after a walk")
    # Only now all are counted exactly: the cache is destroyed, and the kernel
    # says if there is something in it.
    with kernel_log.watch() as lines:
        test.equal(unload(), "", "unload")
    test.equal([line for line in lines if slab.CACHE in line], [],
               "lines of the log")
    load()


@suite.test("drop_caches while a tree is walked changes nothing")
def under_pressure(test: ktap.Test) -> None:
    with special.mounted() as top:
        first = sorted(path for path, _, _ in names(top))
        for number, path in enumerate(first[::23]):
            if number % 10 == 0:
                slab.drop_caches()
            os.lstat(os.fsencode(top) + path)
        test.equal(sorted(path for path, _, _ in names(top)) == first, True,
                   "another tree")


fixtures.require()
objects.require_verity()
suite.run()
