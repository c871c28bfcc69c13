#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""getdents64(2): entries, positions, seeking, several readers.

lseek(2) to a d_off continues behind that entry, through any descriptor, also
after drop_caches. Entries and positions are those of erofs.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lib import caches, fixtures, ktap, reference, special_image
from lib.dirents import Buffer, Dirent
from lib.dirents import read as read_directory
from lib.files import opened

suite = ktap.Suite()

# Small directories, one that just fills a block, one of two blocks.
DIRECTORIES = ("directories/empty", "directories/one", "directories/40",
               "directories/340", "directories/341", "names", "whiteouts", ".")
BIG = "directories/big"
BIG_COUNT = 10_000
END = (1 << 63) - 1


@contextmanager
def directory(name: str) -> Iterator[int]:
    with special_image.mounted() as top, \
            opened(f"{top}/{name}", os.O_RDONLY | os.O_DIRECTORY) as fd:
        yield fd


def from_position(fd: int, position: int, size: int = 4096) -> list[Dirent]:
    """The entries of one call from a position on."""
    os.lseek(fd, position, os.SEEK_SET)
    return Buffer(size).read(fd)


@suite.test("each entry is returned once, with buffers of all sizes")
def sizes(test: ktap.Test) -> None:
    for name in (*DIRECTORIES, BIG):
        with directory(name) as fd:
            expected = Buffer(1 << 20).read_all(fd)
            names = [dirent.name for dirent in expected]
            test.equal(len(names), len(set(names)), f"{name}: names")
            test.check(b"." in names and b".." in names, f"{name}: dots")
            if name == BIG:
                test.equal(len(names), BIG_COUNT + 2, "count")
            for size in (280, 300, 1000, 4096, 32768):
                if name == BIG and size < 4096:
                    continue
                os.lseek(fd, 0, os.SEEK_SET)
                test.check(Buffer(size).read_all(fd) == expected,
                           f"{name}: wrong entries with {size} bytes")


@suite.test("a buffer that is too small is EINVAL, and no entry is lost")
def too_small(test: ktap.Test) -> None:
    with directory("names") as fd:
        expected = Buffer().read_all(fd)
        os.lseek(fd, 0, os.SEEK_SET)
        test.fails(errno.EINVAL, "16 bytes", Buffer(16).read, fd)
        test.check(Buffer().read_all(fd) == expected,
                   "wrong entries afterwards")
        os.lseek(fd, 0, os.SEEK_SET)
        found: list[Dirent] = []
        while True:
            # It has room for most names, but not for the longest.
            try:
                some = Buffer(100).read(fd)
            except OSError as error:
                test.equal(error.errno, errno.EINVAL, "a long name")
                some = Buffer(300).read(fd)
            if not some:
                break
            found += some
        test.check(found == expected,
                   "wrong entries with buffers of two sizes")


@suite.test("positions are unique and ascending, and the last one is the end")
def positions(test: ktap.Test) -> None:
    for name in (*DIRECTORIES, BIG):
        with directory(name) as fd:
            entries = Buffer().read_all(fd)
            offs = [dirent.off for dirent in entries]
            test.equal(len(set(offs)), len(offs), f"{name}: positions")
            test.equal(sorted(offs), offs, f"{name}: order of positions")
            test.check(all(0 < off < END for off in offs), f"{name}: range")
            test.equal(from_position(fd, offs[-1]), [], f"{name}: the end")
            test.equal(os.lseek(fd, 0, os.SEEK_CUR), offs[-1],
                       f"{name}: position at the end")


@suite.test("lseek(2) to each d_off continues behind the entry")
def seek(test: ktap.Test) -> None:
    for name in DIRECTORIES:
        with directory(name) as fd:
            entries = Buffer().read_all(fd)
            for number, dirent in enumerate(entries):
                rest = entries[number + 1:]
                os.lseek(fd, dirent.off, os.SEEK_SET)
                test.check(Buffer().read_all(fd) == rest,
                           f"{name}: after {dirent}")


@suite.test("lseek(2) to each d_off of a big directory, in random order")
def seek_big(test: ktap.Test) -> None:
    with directory(BIG) as fd:
        entries = Buffer().read_all(fd)
        # A prime as the step visits all entries, in an order without
        # readahead.
        for number in range(len(entries)):
            number = number * 7919 % len(entries)
            found = from_position(fd, entries[number].off, 100)
            wanted = entries[number + 1:number + 1 + len(found)]
            test.check(found == wanted and (found or number
                                            == len(entries) - 1),
                       f"after {entries[number]}: {found}")


@suite.test("lseek(2) to 0, in the middle and at the end")
def rewind(test: ktap.Test) -> None:
    with directory(BIG) as fd:
        first = Buffer(1000).read(fd)
        for _ in range(2):
            os.lseek(fd, 0, os.SEEK_SET)
            test.equal(Buffer(1000).read(fd), first, "after the beginning")
        rest = Buffer().read_all(fd)
        test.equal(len(first) + len(rest), BIG_COUNT + 2, "count")
        test.equal(Buffer().read_all(fd), [], "at the end")
        os.lseek(fd, 0, os.SEEK_SET)
        test.equal(Buffer(1000).read(fd), first, "after the end")


@suite.test("lseek(2) to any other position continues at some entry")
def garbage(test: ktap.Test) -> None:
    for name in DIRECTORIES:
        with directory(name) as fd:
            entries = Buffer().read_all(fd)
            names = [dirent.name for dirent in entries]
            size = os.fstat(fd).st_size
            for position in {*range(0, 200), 4095, 4096, 4097, 4108,
                             size - 1, size, size + 1, size * 2, 1 << 31,
                             1 << 32, (1 << 32) + 12, 1 << 62, END - 1, END,
                             *(dirent.off + 1 for dirent in entries[:50]),
                             *(dirent.off - 1 for dirent in entries[:50])}:
                if position < 0:
                    continue
                try:
                    os.lseek(fd, position, os.SEEK_SET)
                except OSError as error:
                    # Beyond s_maxbytes.
                    test.check(error.errno == errno.EINVAL
                               and position > 1 << 61,
                               f"{name}: lseek to {position}: {error}")
                    continue
                found = [dirent.name for dirent in Buffer().read_all(fd)]
                test.check(found == names[len(names) - len(found):],
                           f"{name}: from {position}: {found[:3]}")
                if position >= max(size, entries[-1].off):
                    test.equal(found, [], f"{name}: from {position}")
            for position in (-1, -4096, -1 << 63):
                test.fails(errno.EINVAL, f"{name}: lseek to {position}",
                           os.lseek, fd, position, os.SEEK_SET)


@suite.test("two descriptors have positions of their own")
def two(test: ktap.Test) -> None:
    with special_image.mounted() as top, opened(f"{top}/{BIG}") as one, \
            opened(f"{top}/{BIG}") as other:
        expected = read_directory(f"{top}/{BIG}")
        found: tuple[list[Dirent], list[Dirent]] = ([], [])
        ended = [False, False]
        while not all(ended):
            for number, (fd, size) in enumerate(((one, 5000), (other, 777))):
                some = Buffer(size).read(fd)
                found[number].extend(some)
                ended[number] = not some
        test.check(found[0] == expected and found[1] == expected,
                   "wrong entries")


@suite.test("a position is valid after drop_caches, and in another mount")
def survives(test: ktap.Test) -> None:
    with directory(BIG) as fd:
        entries = Buffer().read_all(fd)
        for number in range(0, len(entries), 1500):
            caches.drop()
            found = from_position(fd, entries[number].off, 500)
            test.check(found and found == entries[number + 1:number + 1
                                                  + len(found)],
                       f"after {entries[number]}: {found}")
    with special_image.mounted(("noverity", None)) as top, \
            opened(f"{top}/{BIG}") as fd:
        test.check(Buffer().read_all(fd) == entries,
                   "another mount: wrong entries or positions")


@suite.test("entries, their order and positions are those of erofs")
def as_erofs(test: ktap.Test) -> None:
    reference.require_support()
    with special_image.mounted() as top, \
            reference.erofs(special_image.image()) as their_top:
        for name in (*DIRECTORIES, BIG):
            if name in (".", "whiteouts"):
                # composefs does not list whiteouts, and stubs of the root.
                continue
            ours = read_directory(f"{top}/{name}")
            theirs = read_directory(f"{their_top}/{name}")
            for what, get in (("names", lambda entry: entry.name),
                              ("types", lambda entry: entry.type),
                              ("inode numbers", lambda entry: entry.ino),
                              ("positions", lambda entry: entry.off)):
                compare(test, f"{name}: {what}", ours, theirs, get)


def compare(test: ktap.Test, what: str, ours: list[Dirent],
            theirs: list[Dirent], get: Callable[[Dirent], object]) -> None:
    found, expected = [get(entry) for entry in ours], \
        [get(entry) for entry in theirs]
    test.check(found == expected,
               f"{what}: {found[:4]}..., erofs {expected[:4]}...")


@suite.test("calls on a directory that fail")
def errors(test: ktap.Test) -> None:
    with directory(".") as fd:
        test.fails(errno.EISDIR, "read", os.read, fd, 10)
        test.fails(errno.EISDIR, "pread", os.pread, fd, 10, 0)
        test.fails(None, "fsync", os.fsync, fd)
    with special_image.mounted() as top, opened(f"{top}/sizes/64") as fd:
        test.fails(errno.ENOTDIR, "getdents64 of a file", Buffer().read, fd)
    with directory("types/directory") as fd:
        test.equal(sorted(dirent.name for dirent in Buffer().read_all(fd)),
                   [b".", b".."], "an empty directory")


fixtures.require()
suite.run()
