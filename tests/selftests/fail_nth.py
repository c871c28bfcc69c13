#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Fault injection: each allocation of a system call fails once.

Each time the result is right or an error. The next call without a fault is
right: nothing of the failure is cached. The system calls are those on a
mounted image, fail_nth_mount.py has mounting. This needs CONFIG_FAILSLAB and
CONFIG_FAIL_PAGE_ALLOC.
"""

from __future__ import annotations

import errno
import functools
import mmap
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lib import (dirents, fail_nth, fixtures, handles, kernel_log, ktap, leaks,
                 mounts, objects, probes, special_image)
from lib.fail_nth import Tally, injector
from lib.files import opened

suite = ktap.Suite()

ENOMEM, EIO, ESTALE = errno.ENOMEM, errno.EIO, errno.ESTALE
MADV_POPULATE_READ = 22

# Its pages are populated: a page fault that fails would make a read short.
ROOM = mmap.mmap(-1, 65536)
ROOM.write(bytes(len(ROOM)))


def map_and_touch(path: str) -> bytes:
    """Populates the mapping by a system call, which returns an error where a
    page fault would raise a signal."""
    with opened(path) as fd, mmap.mmap(fd, 0, mmap.MAP_SHARED,
                                       mmap.PROT_READ) as view:
        view.madvise(MADV_POPULATE_READ)
        return view[:]


def read(path: str, flags: int = os.O_RDONLY) -> list[bytes]:
    """Reads twice."""
    with opened(path, flags) as fd:
        return [ROOM[:os.preadv(fd, [ROOM], 0)] for _ in range(2)]


def read_direct(path: str) -> list[bytes]:
    return read(path, os.O_RDONLY | os.O_DIRECT)


def splice(path: str) -> bytes:
    reader, writer = os.pipe()
    try:
        with opened(path) as fd:
            os.splice(fd, writer, 4096)
        return ROOM[:os.readv(reader, [ROOM])]
    finally:
        os.close(reader)
        os.close(writer)


def file_probe(function: Callable[[str], Any]) -> probes.Probe:
    return lambda top: function(f"{top}/sizes/8192")


def big_directory(top: str) -> Any:
    """Reads the first names only: there are 10,000."""
    with opened(f"{top}/{probes.BIG}") as fd:
        return dirents.Buffer(4096).read(fd)


# The probes, and the errors that they may fail with besides ENOMEM.
PROBES: dict[str, tuple[probes.Probe, tuple[int, ...]]] = {
    # fs-verity returns EIO if it cannot allocate memory.
    "open and read": (file_probe(read), (EIO,)),
    "open and map": (file_probe(map_and_touch), (EIO,)),
    "O_DIRECT": (file_probe(read_direct), (EIO,)),
    # pipe(2) may return ENFILE.
    "splice": (file_probe(splice), (EIO, errno.ENFILE)),
    "measure": (file_probe(objects.measure_verity), (EIO,)),
    "where data are": (file_probe(lambda path: seek_data(path)), (EIO,)),
    "handle": (lambda top: handles.of(f"{top}/sizes/64"), ()),
    "getdents": (big_directory, ()),
    **{name: (probes.METADATA[name], ()) for name in (
        "a small listing", "a lookup", "a lookup of an absent name",
        "an xattr", "a long xattr", "names of xattrs",
        "an access control list", "a long link", "an inline file",
        "statfs")},
}


def seek_data(path: str) -> int:
    with opened(path) as fd:
        return os.lseek(fd, 0, os.SEEK_DATA)


# Probes of an image on ext4, where reading it allocates pages of ext4. When
# those fail, composefs reads a smaller piece.
ON_DISK = ("open and read", "a small listing")


@contextmanager
def image_for(name: str) -> Iterator[str]:
    """The image on ext4, or on tmpfs, where only allocations of composefs
    fail."""
    image = special_image.image().path
    if name in ON_DISK:
        yield image
        return
    with mounts.mounted("tmpfs", [("source", "image")]) as top:
        yield shutil.copy(image, f"{top}/image")


def mount_special(image: str, top: str) -> None:
    mounts.mount_at("composefs", mounts.composefs_options(
        image, special_image.image().objects), top)


def check_probe(test: ktap.Test, name: str) -> None:
    """Runs a probe on a new mount each time, so that its caches are empty."""
    probe, more = PROBES[name]
    # A fault in the caller's buffer is EFAULT.
    errors = (None, ENOMEM, errno.EFAULT, *more)
    tally = Tally(name)
    with image_for(name) as image, mounts.directory() as top:
        mount_special(image, top)
        expected = probe(top)

        def prepare() -> Callable[[], Any]:
            mounts.umount(top)
            mount_special(image, top)
            drop_object()
            return lambda: probe(top)

        try:
            with injector() as inject, kernel_log.watch() as lines:
                for outcome in inject.each(prepare):
                    tally.add(outcome)
                    test.check(outcome.error in errors, f"{name}: {outcome}")
                    test.check(outcome.error is not None
                               or outcome.result == expected,
                               f"{name}: wrong result")
                    test.check(probe(top) == expected,
                               f"{name}: wrong result without a fault")
        finally:
            mounts.umount(top)
    tally.report(test)
    damaged = [line for line in lines if "composefs: " in line
               and "(at byte" in line]
    test.equal(damaged, [], "log lines about a damaged image")


def drop_object() -> None:
    """Drops the page cache of the object."""
    with opened(object_path()) as fd:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


@functools.cache
def object_path() -> str:
    return special_image.object_path("sizes/8192")


for a_name in PROBES:
    suite.add(f"probe: {a_name}",
              lambda test, name=a_name: check_probe(test, name))


@suite.test("probe: open_by_handle_at")
def by_handle(test: ktap.Test) -> None:
    tally = Tally("open_by_handle_at")
    with image_for("a handle") as image, mounts.directory() as top:
        mount_special(image, top)
        handle = handles.of(f"{top}/hardlinks/b/file")
        number = os.stat(f"{top}/hardlinks/b/file").st_ino

        def prepare() -> Callable[[], Any]:
            mounts.umount(top)
            mount_special(image, top)
            return by

        def by() -> int:
            with opened(top) as mount, handles.opened(mount, handle) as fd:
                return os.fstat(fd).st_ino
        try:
            with injector() as inject:
                for outcome in inject.each(prepare):
                    tally.add(outcome)
                    # exportfs turns some ENOMEM into ESTALE.
                    test.check(outcome.error in (None, ENOMEM, ESTALE),
                               f"{outcome}")
                    test.check(outcome.error is not None
                               or outcome.result == number, "wrong file")
                    test.equal(by(), number, "without a fault")
        finally:
            mounts.umount(top)
    tally.report(test)


@suite.test("at the end no mount and no inode is left")
def in_the_end(test: ktap.Test) -> None:
    leaks.check_none(test)
    test.note(f"figure: faults injected, mounted = {fail_nth.total}")


fixtures.require()
mounts.require_root()
fail_nth.require()
suite.run()
