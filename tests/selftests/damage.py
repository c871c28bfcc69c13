#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Objects that are damaged on the disk.

The objects are on an ext4 in a file, whose blocks the test changes: each part
of an object is damaged, and read in each way. A damaged block is EIO to a read
and SIGBUS to a mapping, also at the first access. Pages in memory stay valid
until they are dropped. Undamaged blocks in other pages can be read; those in
the page of a damaged one, where pages are larger than blocks, as the file
system of the object gives them. A repaired block can be read again. This needs
debugfs(8).
"""

from __future__ import annotations

import dataclasses
import mmap
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import (caches, disk, elf, fixtures, ktap, mounts, objects,
                 special_image)
from lib.disk import BLOCK, Disk
from lib.files import opened
from lib.read_block import WAYS, outcome, read, expected_error

suite = ktap.Suite()


@dataclasses.dataclass(frozen=True)
class Place:
    """A part of an object that is damaged."""

    name: str
    # The file, by its name in the image "special-v0".
    file: str
    # Damages the object. A second call repairs it.
    damage: Callable[[Disk, Path], None]
    # A block that cannot be read then, and one that still can, if any.
    bad: int
    good: int | None = 0
    can_be_repaired: bool = True


def flips(block: int, offset: int = 7) -> Callable[[Disk, Path], None]:
    return lambda where, path: where.flip(path, block, offset)


# fs-verity metadata follow the content at a multiple of 64 KiB: the root
# block, a block of hashes for each 128 data blocks, and the descriptor. The
# sparse file has 16 MiB.
PLACES = (
    Place("a data block", special_image.LARGE, flips(100), 100),
    Place("a hash block of the Merkle tree", special_image.LARGE, flips(258),
          200),
    Place("the root of the Merkle tree", special_image.LARGE, flips(256), 0,
          None),
    Place("the last block", "sizes/4097", flips(1, 0), 1),
    Place("the last block, behind the end of the file", "sizes/4097",
          flips(1, 4000), 1),
    Place("a hole, by its hashes", special_image.SPARSE, flips(4098), 200),
    Place("a hole that has a block now", special_image.SPARSE, lambda where,
          path: where.fill_hole(path, 5), 5, can_be_repaired=False),
)


@contextmanager
def disk_with(file: str) -> Iterator[tuple[Disk, Path, bytes]]:
    """A disk, the path of the object of a file on it, and its content."""
    data = special_image.data(file)
    with disk.mounted() as where:
        path = objects.Store(where.top).at(
            objects.object_name(objects.digest_of(data)))
        # Keep the holes.
        subprocess.run(["cp", "--sparse=always",
                        Path(special_image.image().source or "", file), path],
                       check=True)
        objects.enable_verity(path)
        where.seal()
        yield where, path, data


@contextmanager
def opened_file(where: Disk, file: str) -> Iterator[int]:
    with special_image.mounted(basedirs=[str(where.top)]) as top, \
            opened(f"{top}/{file}") as fd:
        yield fd


def check_first(test: ktap.Test, where: Disk, place: Place,
                data: bytes) -> None:
    """Damages the object before open(2). Each way is the first access."""
    for way in WAYS:
        caches.drop_all()
        with opened_file(where, place.file) as fd:
            what = f"damaged before it is opened, {way.__name__}"
            test.equal(outcome(way, fd, place.bad, data), expected_error(way),
                       what)
            test.equal(outcome(way, fd, place.bad, data), expected_error(way),
                       f"{what}, again")
            if place.good is not None and not in_one_page(place):
                test.equal(outcome(way, fd, place.good, data), "the content",
                           f"{what}: an undamaged block")


def in_one_page(place: Place) -> bool:
    """Whether the undamaged block shares a page with the damaged one."""
    return place.good is not None and (place.good * BLOCK // mmap.PAGESIZE
                                       == place.bad * BLOCK // mmap.PAGESIZE)


def check_in_one_page(test: ktap.Test, where: Disk, place: Place, path: Path,
                      data: bytes) -> None:
    """A page is read as a whole, so whether an undamaged block of it can be
    read is up to the file system that has the object."""
    assert place.good is not None
    for way in WAYS:
        caches.drop_all()
        with opened(path) as fd:
            expected = outcome(way, fd, place.good, data)
        caches.drop_all()
        with opened_file(where, place.file) as fd:
            test.equal(outcome(way, fd, place.good, data), expected,
                       f"an undamaged block in the same page, {way.__name__}")


def check_later(test: ktap.Test, where: Disk, place: Place, path: Path,
                data: bytes) -> None:
    """Damages the object while it is open and in memory."""
    with opened_file(where, place.file) as fd:
        for block in {place.bad, place.good or 0}:
            test.equal(outcome(read, fd, block, data), "the content",
                       "before the damage")
        place.damage(where, path)
        for way in WAYS:
            test.equal(outcome(way, fd, place.bad, data), "the content",
                       f"damaged, but in memory, {way.__name__}")
        for way in WAYS:
            caches.drop_all()
            test.equal(outcome(way, fd, place.bad, data), expected_error(way),
                       f"dropped from memory, {way.__name__}")
        place.damage(where, path)
        for way in WAYS:
            caches.drop_all()
            test.equal(outcome(way, fd, place.bad, data), "the content",
                       f"repaired, {way.__name__}")


def check_place(test: ktap.Test, place: Place) -> None:
    with disk_with(place.file) as (where, path, data):
        if place.can_be_repaired:
            check_later(test, where, place, path, data)
        place.damage(where, path)
        check_first(test, where, place, data)
        if in_one_page(place):
            check_in_one_page(test, where, place, path, data)


for a_place in PLACES:
    suite.add(f"{a_place.name}: EIO or SIGBUS, for each way to read it",
              lambda test, place=a_place: check_place(test, place))


@suite.test("a damaged fs-verity descriptor: the whole object is EIO")
def descriptor(test: ktap.Test) -> None:
    file, block = special_image.LARGE, 259
    with disk_with(file) as (where, path, data):
        # In its root hash.
        where.flip(path, block, 20)
        caches.drop_all()
        for way in WAYS:
            with opened_file(where, file) as fd:
                # mmap(2) itself fails, since the object cannot be opened.
                try:
                    found = outcome(way, fd, 0, data)
                except AssertionError:
                    found = "EIO"
                test.equal(found, "EIO", way.__name__)
        where.flip(path, block, 20)
        caches.drop_all()
        with opened_file(where, file) as fd:
            for way in WAYS:
                test.equal(outcome(way, fd, 0, data), "the content",
                           f"repaired, {way.__name__}")


# Its first instruction is more than 64 KiB behind its header.
PROGRAM = "usr/bin/bash"


def run(path: str) -> str:
    """How a program ends, or the error of execve(2)."""
    try:
        status = subprocess.run([path], stdin=subprocess.DEVNULL,
                                check=False).returncode
    except OSError as error:
        return ktap.errno_name(error.errno)
    return signal.Signals(-status).name if status < 0 else f"status {status}"


@suite.test("a damaged program: EIO from execve, SIGBUS while it runs")
def program(test: ktap.Test) -> None:
    image = fixtures.named("debian-v0")
    data = Path("/", PROGRAM).read_bytes()
    text, tree = (elf.entry_offset(data) // BLOCK,
                  -(-len(data) // (16 * BLOCK)) * 16)
    test.need(text * BLOCK >= mmap.PAGESIZE,
              "the header and the first instruction are in one page")
    with disk.mounted() as where:
        path = objects.Store(where.top).verified(
            objects.object_name(objects.digest_of(data)), data)
        where.seal()
        with mounts.composefs(image.path, [str(where.top)]) as top:
            file = f"{top}/{PROGRAM}"
            for what, block, expected in (
                ("its header", 0, ("EIO",)),
                ("its first instruction", text, ("SIGBUS",)),
                # The kernel or the dynamic loader may be the first to read it.
                ("the Merkle tree", tree, ("EIO", "SIGBUS", "SIGSEGV")),
            ):
                test.equal(run(file), "status 0", f"before: {what}")
                where.flip(path, block)
                test.equal(run(file), "status 0", f"in memory: {what}")
                for _ in range(2):
                    caches.drop_all()
                    found = run(file)
                    test.check(found in expected, f"{what}: {found}")
                where.flip(path, block)
                caches.drop_all()
                test.equal(run(file), "status 0", f"repaired: {what}")


fixtures.require()
objects.require_verity()
disk.require_tools()
mounts.require_root()
suite.run()
