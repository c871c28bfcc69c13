#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Every allocation fails once, of what is asked of a mounted image.

For each question the first allocation fails, then the second, until there is
none left. Each time the answer is right or an error, and right when it is asked
for again: nothing of the failure is kept. fail_nth_mount.py has mounting.
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

from lib import (aftermath, dirents, fail_nth, fixtures, handles, kernel_log,
                 ktap, mounts, objects, questions, special)
from lib.fail_nth import Tally, injector
from lib.special import opened

suite = ktap.Suite()

ENOMEM, EIO, ESTALE = errno.ENOMEM, errno.EIO, errno.ESTALE
MADV_POPULATE_READ = 22

# Its pages are there: a buffer that cannot be had makes a read a short one.
ROOM = mmap.mmap(-1, 65536)
ROOM.write(bytes(len(ROOM)))


def map_and_touch(path: str) -> bytes:
    """The fault is that of a system call, so that an error is none of a
    signal's."""
    with opened(path) as fd, mmap.mmap(fd, 0, mmap.MAP_SHARED,
                                       mmap.PROT_READ) as view:
        view.madvise(MADV_POPULATE_READ)
        return view[:]


def read(path: str, flags: int = os.O_RDONLY) -> list[bytes]:
    """Twice."""
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


def in_object(function: Callable[[str], Any]) -> questions.Question:
    return lambda top: function(f"{top}/sizes/8192")


def big_directory(top: str) -> Any:
    """Only its first names: it has many."""
    with opened(f"{top}/{questions.BIG}") as fd:
        return dirents.Buffer(4096).read(fd)


# What is asked, and how it may fail besides ENOMEM.
QUESTIONS: dict[str, tuple[questions.Question, tuple[int, ...]]] = {
    # What fs-verity cannot read for lack of memory it gives as EIO.
    "open and read": (in_object(read), (EIO,)),
    "open and map": (in_object(map_and_touch), (EIO,)),
    "O_DIRECT": (in_object(read_direct), (EIO,)),
    # ENFILE is of the pipe.
    "splice": (in_object(splice), (EIO, errno.ENFILE)),
    "measure": (in_object(objects.measure_verity), (EIO,)),
    "where data are": (in_object(lambda path: seek_data(path)), (EIO,)),
    "handle": (lambda top: handles.of(f"{top}/sizes/64"), ()),
    "getdents": (big_directory, ()),
    **{name: (questions.OF_IMAGE[name], ()) for name in (
        "a small listing", "a lookup", "a lookup of what is not there",
        "an xattr", "a long xattr", "names of xattrs",
        "an access control list", "a long link", "a file in the image",
        "the file system")},
}


def seek_data(path: str) -> int:
    with opened(path) as fd:
        return os.lseek(fd, 0, os.SEEK_DATA)


# Asked of an image on ext4, too, where reading it takes pages of ext4's: those
# fail one by one, and it is read again in a smaller piece.
ON_DISK = ("open and read", "a small listing")


@contextmanager
def image_for(name: str) -> Iterator[str]:
    """The image on ext4, or in memory, so that only our own allocations are
    to fail."""
    image = special.image().path
    if name in ON_DISK:
        yield image
        return
    with mounts.mounted("tmpfs", [("source", "image")]) as top:
        yield shutil.copy(image, f"{top}/image")


def attach_special(image: str, top: str) -> None:
    fd = mounts.new_mount("composefs", mounts.composefs_options(
        image, special.image().objects))
    mounts.attach(fd, top)
    os.close(fd)


def check_question(test: ktap.Test, name: str) -> None:
    """Each time of a new mount, whose caches are empty."""
    question, more = QUESTIONS[name]
    # EFAULT is of the buffer of who asks.
    errors = (None, ENOMEM, errno.EFAULT, *more)
    tally = Tally(name)
    with image_for(name) as image, mounts.directory() as top:
        attach_special(image, top)
        right = question(top)

        def prepare() -> Callable[[], Any]:
            mounts.umount(top)
            attach_special(image, top)
            drop_object()
            return lambda: question(top)

        try:
            with injector() as inject, kernel_log.watch() as lines:
                for outcome in inject.each(prepare):
                    tally.add(outcome)
                    test.check(outcome.error in errors, f"{name}: {outcome}")
                    test.check(outcome.error is not None
                               or outcome.result == right,
                               f"{name}: another answer")
                    test.check(question(top) == right,
                               f"{name}: another answer then")
        finally:
            mounts.umount(top)
    tally.tell(test)
    damaged = [line for line in lines if "composefs: " in line
               and "(at byte" in line]
    test.equal(damaged, [], "lines about a damaged image")


def drop_object() -> None:
    """What is in memory of the object that is read."""
    with opened(object_path()) as fd:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


@functools.cache
def object_path() -> str:
    return special.object_path("sizes/8192")


for a_name in QUESTIONS:
    suite.add(f"asking: {a_name}",
              lambda test, name=a_name: check_question(test, name))


@suite.test("asking: opening by a handle")
def by_handle(test: ktap.Test) -> None:
    tally = Tally("open_by_handle_at")
    with image_for("a handle") as image, mounts.directory() as top:
        attach_special(image, top)
        handle = handles.of(f"{top}/hardlinks/b/file")
        number = os.stat(f"{top}/hardlinks/b/file").st_ino

        def prepare() -> Callable[[], Any]:
            mounts.umount(top)
            attach_special(image, top)
            return by

        def by() -> int:
            with opened(top) as mount:
                fd = handles.open_by(mount, handle)
            found = os.fstat(fd).st_ino
            os.close(fd)
            return found
        try:
            with injector() as inject:
                for outcome in inject.each(prepare):
                    tally.add(outcome)
                    # exportfs knows ENOMEM from other errors, not always.
                    test.check(outcome.error in (None, ENOMEM, ESTALE),
                               f"{outcome}")
                    test.check(outcome.error is not None
                               or outcome.result == number, "another file")
                    test.equal(by(), number, "then")
        finally:
            mounts.umount(top)
    tally.tell(test)


@suite.test("in the end nothing is mounted, and the slab is empty")
def in_the_end(test: ktap.Test) -> None:
    aftermath.nothing_is_left(test)
    test.note(f"figure: faults injected, mounted = {fail_nth.total}")


fixtures.require()
if os.geteuid() != 0:
    ktap.skip_all("only root can mount")
fail_nth.require()
suite.run()
