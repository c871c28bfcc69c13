#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""mmap(2) and execve(2) use the page cache of the objects.

They are compared with overlayfs, and with the content of the tree.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

from lib import (caches, fixtures, ktap, mounts, objects, reference,
                 special_image)
from lib.files import opened
from lib.mounts import libc

suite = ktap.Suite()

READ, WRITE, EXEC = mmap.PROT_READ, mmap.PROT_WRITE, mmap.PROT_EXEC
SHARED, PRIVATE = mmap.MAP_SHARED, mmap.MAP_PRIVATE
PAGE = mmap.PAGESIZE
MADV_POPULATE_READ, MADV_POPULATE_WRITE = 22, 23
AT_EMPTY_PATH = 0x1000

libc.mmap.restype = ctypes.c_void_p


def address(view: mmap.mmap) -> ctypes.c_void_p:
    """The address of a mapping, also of a read-only one."""
    # ctypes.c_char.from_buffer() needs writable memory.
    class Buffer(ctypes.Structure):
        _fields_ = [("buf", ctypes.c_void_p), ("obj", ctypes.py_object),
                    ("len", ctypes.c_ssize_t), ("itemsize", ctypes.c_ssize_t),
                    ("readonly", ctypes.c_int), ("ndim", ctypes.c_int),
                    ("format", ctypes.c_char_p), ("shape", ctypes.c_void_p),
                    ("strides", ctypes.c_void_p),
                    ("suboffsets", ctypes.c_void_p),
                    ("internal", ctypes.c_void_p)]
    buffer = Buffer()
    get = ctypes.pythonapi.PyObject_GetBuffer
    get.argtypes = [ctypes.py_object, ctypes.POINTER(Buffer), ctypes.c_int]
    get(view, ctypes.byref(buffer), 0)
    found = ctypes.c_void_p(buffer.buf)
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))
    return found


def resident(fd: int, size: int) -> int:
    """The number of pages of a file in the page cache, by mincore(2)."""
    with mmap.mmap(fd, size, SHARED, READ) as view:
        pages = (size + PAGE - 1) // PAGE
        room = ctypes.create_string_buffer(pages)
        if libc.mincore(address(view), ctypes.c_size_t(size), room):
            raise OSError(ctypes.get_errno(), "mincore")
        return sum(byte & 1 for byte in room.raw)


def exit_status(function: Callable[[], Any]) -> int:
    """How a child that calls a function ends: 0, or minus the signal."""
    child = os.fork()
    if child == 0:
        try:
            for number in (signal.SIGBUS, signal.SIGSEGV):
                signal.signal(number, signal.SIG_DFL)
            function()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@suite.test("a read of an inline file takes no page of memory, a map takes one")
def inline(test: ktap.Test) -> None:
    expected = special_image.data("sizes/64")
    with special_image.mounted() as top, opened(f"{top}/sizes/64") as fd:
        test.equal(os.pread(fd, 100, 0), expected, "read")
        test.equal(resident(fd, 64), 0, "pages after a read")
        with mmap.mmap(fd, 64, SHARED, READ) as view:
            test.equal(view[:], expected, "map")
        test.equal(resident(fd, 64), 1, "pages after a map")
        test.equal(os.pread(fd, 100, 0), expected, "read after a map")


@suite.test("the last page is filled with zeros, the next one is SIGBUS")
def end(test: ktap.Test) -> None:
    with special_image.mounted() as top:
        for size in (1, 64, 65, 4095, 4096, 4097):
            name = f"sizes/{size}"
            expected = special_image.data(name)
            pages = (size + PAGE - 1) // PAGE
            for kind, protection in ((SHARED, READ), (PRIVATE, READ | WRITE)):
                with opened(f"{top}/{name}") as fd:
                    where = libc.mmap(None, ctypes.c_size_t(
                        (pages + 1) * PAGE), protection, kind, fd,
                        ctypes.c_long(0))
                found = ctypes.string_at(where, pages * PAGE)
                test.check(found == expected.ljust(pages * PAGE, b"\0"),
                           f"{name}, {kind}: wrong content")
                test.equal(
                    exit_status(
                        lambda where=where, pages=pages: ctypes.string_at(
                            where + pages * PAGE, 1
                        )
                    ),
                    -signal.SIGBUS,
                    f"{name}, {kind}: the next page",
                )
                libc.munmap(ctypes.c_void_p(where),
                            ctypes.c_size_t((pages + 1) * PAGE))


def protections(path: str) -> dict[str, str]:
    """The outcomes of mmap(2), mprotect(2) and madvise(2) on a file."""
    found = {}
    with opened(path) as fd:
        size = max(os.fstat(fd).st_size, 1)
        for kind, name in ((SHARED, "shared"), (PRIVATE, "private")):
            for protection in (0, READ, WRITE, READ | WRITE, READ | EXEC):
                what = f"{name} {protection}"
                try:
                    view = mmap.mmap(fd, size, kind, protection)
                except OSError as error:
                    found[what] = ktap.errno_name(error.errno)
                    continue
                found[what] = "success"
                for then in (READ, WRITE, EXEC):
                    code = libc.mprotect(address(view),
                                         ctypes.c_size_t(PAGE), then)
                    found[f"{what}, then {then}"] = ktap.errno_name(
                        ctypes.get_errno() if code else None)
                for advice in (MADV_POPULATE_READ, MADV_POPULATE_WRITE,
                               mmap.MADV_WILLNEED, mmap.MADV_DONTNEED,
                               9, 21):
                    found[f"{what}, advice {advice}"] = ktap.outcome(
                        view.madvise, advice)
                view.close()
    return found


@suite.test("mmap and mprotect allow what they allow on overlayfs")
def protection(test: ktap.Test) -> None:
    reference.require_support()
    with special_image.mounted() as top, \
            reference.mount(special_image.image()) as their_top:
        for name in (special_image.LARGE, "sizes/64"):
            ours = protections(f"{top}/{name}")
            theirs = protections(f"{their_top}/{name}")
            for what, expected in theirs.items():
                test.equal(ours.get(what), expected, f"{name}: {what}")
            test.equal(ours["shared 3"], "EACCES", f"{name}: shared, writable")
            test.equal(ours["shared 1, then 2"], "EACCES",
                       f"{name}: shared, made writable")


@suite.test("writes to a private mapping are not visible elsewhere")
def private(test: ktap.Test) -> None:
    for name in (special_image.LARGE, "sizes/64"):
        expected = special_image.data(name)
        with special_image.mounted() as top, opened(f"{top}/{name}") as fd, \
                mmap.mmap(fd, len(expected), PRIVATE, READ | WRITE) as mine, \
                mmap.mmap(fd, len(expected), SHARED, READ) as other:
            mine[:] = b"x" * len(expected)
            test.check(other[:] == expected,
                       f"{name}: visible in another mapping")
            test.check(os.pread(fd, len(expected), 0) == expected,
                       f"{name}: visible to read(2)")
            test.check(mine[:1] == b"x", f"{name}: not visible in the mapping")


@suite.test("a mapping as the first access, and by a second open file")
def first(test: ktap.Test) -> None:
    expected = special_image.data(special_image.LARGE)
    with special_image.mounted() as top:
        path = f"{top}/{special_image.LARGE}"
        for what in ("the first open file", "a second one"):
            with opened(path) as fd, mmap.mmap(fd, len(expected), SHARED,
                                               READ) as view:
                test.check(view[:] == expected, f"{what}: wrong content")
        caches.drop()
        with opened(path) as fd, mmap.mmap(fd, len(expected), SHARED,
                                           READ) as view:
            test.check(view[:] == expected, "after drop_caches")


@suite.test("a mapping outlives its descriptor and the mount")
def outlives(test: ktap.Test) -> None:
    expected = special_image.data(special_image.LARGE)
    with mounts.directory() as top:
        mounts.mount_at("composefs", mounts.composefs_options(
            special_image.image().path, special_image.image().objects), top)
        try:
            with opened(f"{top}/{special_image.LARGE}") as fd:
                view = mmap.mmap(fd, len(expected), SHARED, READ)
            test.fails(errno.EBUSY, "umount of a mapped file", mounts.umount,
                       top)
        finally:
            mounts.umount(top, mounts.MNT_DETACH)
        caches.drop()
        test.check(view[:] == expected, "wrong content")
        view.close()


@suite.test(
    "read(2) into a mapping of a file, both accessed for the first time"
)
def into_mapping(test: ktap.Test) -> None:
    names = (special_image.LARGE, "sizes/131072", "sizes/64")
    for source in names:
        for target in names:
            what = f"{source} into {target}"
            with (
                special_image.mounted() as top,
                opened(f"{top}/{source}") as fd,
                opened(f"{top}/{target}") as other,
                mmap.mmap(other, 0, PRIVATE, READ | WRITE) as view,
            ):
                expected = special_image.data(source)[:len(view)]
                test.equal(os.preadv(fd, [view], 0), len(expected), what)
                test.check(view[:len(expected)] == expected,
                           f"{what}: wrong content")


@suite.test("/proc/self maps, map_files and fd show the path below the mount")
def proc(test: ktap.Test) -> None:
    for name in (special_image.LARGE, "sizes/64"):
        with special_image.mounted() as top, opened(f"{top}/{name}") as fd:
            path = f"{top}/{name}"
            with mmap.mmap(fd, 0, SHARED, READ) as view:
                where = address(view).value or 0
                test.equal(os.readlink(f"/proc/self/fd/{fd}"), path, "fd")
                with open("/proc/self/maps", encoding="utf-8") as file:
                    line = next(line for line in file
                                if line.startswith(f"{where:x}-"))
                fields = line.split()
                test.equal(fields[5:], [path], "maps")
                found = os.stat(path)
                test.equal(fields[4], str(found.st_ino), "inode in maps")
                test.equal(fields[3], f"{os.major(found.st_dev):02x}:"
                           f"{os.minor(found.st_dev):02x}", "device in maps")
                test.equal(os.readlink(f"/proc/self/map_files/{fields[0]}"),
                           path, "map_files")


@suite.test("two images share the pages of an object")
def common(test: ktap.Test) -> None:
    other = fixtures.named("special-v1")
    size = len(special_image.data(special_image.LARGE))
    pages = size // PAGE
    with special_image.mounted() as one, \
            mounts.composefs(other.path, other.objects) as two:
        paths = {"ours": f"{one}/{special_image.LARGE}",
                 "another image": f"{two}/{special_image.LARGE}",
                 "the object": special_image.object_path(special_image.LARGE)}
        test.check(os.stat(one).st_dev != os.stat(two).st_dev,
                   "the two images share a super block")
        caches.drop()
        for what, path in paths.items():
            with opened(path) as fd:
                count = resident(fd, size)
            test.check(count < pages,
                       f"{what}: all pages are resident before a read")
        with opened(paths["ours"]) as fd:
            os.pread(fd, size, 0)
        for what, path in paths.items():
            with opened(path) as fd:
                test.equal(resident(fd, size), pages, f"{what}: pages")


def run(*command: str) -> tuple[int, str]:
    done = subprocess.run(command, capture_output=True, text=True,
                          check=False)
    return done.returncode, done.stdout + done.stderr


@suite.test("programs run, also in a chroot")
def execute(test: ktap.Test) -> None:
    image = fixtures.named("debian-v0")
    with mounts.composefs(image.path, image.objects,
                          ("digest", image.digest)) as top:
        test.equal(run(f"{top}/usr/bin/echo", "run"), (0, "run\n"), "echo")
        test.equal(run("chroot", top, "/bin/sh", "-c",
                       "exec /usr/bin/env echo $((6 * 7))"), (0, "42\n"),
                   "a shell in a chroot")
        test.equal(run("chroot", top, "/usr/bin/python3", "-c",
                       "import json, ctypes; print(json.dumps([1]))"),
                   (0, "[1]\n"), "Python with its modules in a chroot")
        # A script: its interpreter is a file of the mount.
        test.equal(run("chroot", top, "/usr/bin/ldd", "/bin/true")[0], 0,
                   "a script in a chroot")
        with opened(f"{top}/usr/bin/true") as fd:
            child = os.fork()
            if child == 0:
                try:
                    os.execve(fd, ["true"], {})
                finally:
                    os._exit(127)
            test.equal(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0,
                       "fexecve(3)")


@suite.test("noexec, and files without execute permission")
def no_execute(test: ktap.Test) -> None:
    image = fixtures.named("debian-v0")
    with mounts.composefs(image.path, image.objects) as top:
        test.fails(errno.EACCES, "a file without x", subprocess.run,
                   [f"{top}/etc/passwd"], check=False)
        mounts.mount(None, top, None, mounts.MS_REMOUNT | mounts.MS_BIND
                     | mounts.MS_RDONLY | mounts.MS_NOEXEC, None)
        test.fails(errno.EACCES, "noexec", subprocess.run,
                   [f"{top}/usr/bin/true"], check=False)
        with opened(f"{top}/usr/bin/true") as fd:
            test.fails(errno.EPERM, "an executable mapping, noexec",
                       mmap.mmap, fd, PAGE, PRIVATE, READ | EXEC)


fixtures.require()
objects.require_verity()
suite.run()
