#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Objects that go bad on the disk: every part of one, read in every way.

The objects are on a file system in a file, which is damaged from outside. A
damaged block is EIO to read and SIGBUS to a mapping, also where it is read for
the first time; what was read before stays what it was until it is dropped from
memory; blocks that are whole can be read; and what is put right works again.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import disk, fixtures, ktap, mounts, objects, special
from lib.blocks import WAYS, outcome, read, refusal
from lib.disk import BLOCK, Disk, forget
from lib.special import opened

suite = ktap.Suite()


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an object is damaged."""

    name: str
    # The file, by its name in the image "special-v0".
    file: str
    # Damages the object, or puts it right when it is called again.
    damage: Callable[[Disk, Path], None]
    # A block that cannot be read then, and one that can, if any can.
    bad: int
    good: int | None = 0
    can_be_undone: bool = True


def flips(block: int, offset: int = 7) -> Callable[[Disk, Path], None]:
    return lambda where, path: where.flip(path, block, offset)


# fs-verity's metadata are behind the content, at a multiple of 64 KiB: a root, a
# block for the hashes of 128 blocks each, and a descriptor. The sparse file
# has 16 MiB.
PLACES = (
    Place("a data block", special.LARGE, flips(100), 100),
    Place("a hash block of the Merkle tree", special.LARGE, flips(258), 200),
    Place("the root of the Merkle tree", special.LARGE, flips(256), 0, None),
    Place("the last block", "sizes/4097", flips(1, 0), 1),
    Place("the last block, behind the end of the file", "sizes/4097",
          flips(1, 4000), 1),
    Place("a hole, by its hashes", special.SPARSE, flips(4098), 200),
    Place("a hole that has a block now", special.SPARSE,
          lambda where, path: where.fill_hole(path, 5), 5,
          can_be_undone=False),
)


@contextmanager
def disk_with(file: str) -> Iterator[tuple[Disk, Path, bytes]]:
    """A disk, the path of the object of a file on it, and its content."""
    data = special.data(file)
    with disk.mounted() as where:
        path = objects.Store(where.top).at(
            objects.object_name(objects.digest_of(data)))
        # With its holes.
        subprocess.run(["cp", "--sparse=always",
                        Path(special.image().source or "", file), path],
                       check=True)
        objects.enable_verity(path)
        where.seal()
        yield where, path, data


@contextmanager
def opened_file(where: Disk, file: str) -> Iterator[int]:
    with special.mounted(basedirs=[str(where.top)]) as top, \
            opened(f"{top}/{file}") as fd:
        yield fd


def check_first(test: ktap.Test, where: Disk, place: Place,
                data: bytes) -> None:
    """Damaged before it is opened: each way is the first one in turn."""
    for way in WAYS:
        forget()
        with opened_file(where, place.file) as fd:
            what = f"damaged before it is opened, {way.__name__}"
            test.equal(outcome(way, fd, place.bad, data), refusal(way), what)
            test.equal(outcome(way, fd, place.bad, data), refusal(way),
                       f"{what}, again")
            if place.good is not None:
                test.equal(outcome(way, fd, place.good, data), "the content",
                           f"{what}: a block that is whole")


def check_later(test: ktap.Test, where: Disk, place: Place, path: Path,
                data: bytes) -> None:
    """Damaged while it is open and in memory."""
    with opened_file(where, place.file) as fd:
        for block in {place.bad, place.good or 0}:
            test.equal(outcome(read, fd, block, data), "the content",
                       "before the damage")
        place.damage(where, path)
        for way in WAYS:
            test.equal(outcome(way, fd, place.bad, data), "the content",
                       f"damaged, but in memory, {way.__name__}")
        for way in WAYS:
            forget()
            test.equal(outcome(way, fd, place.bad, data), refusal(way),
                       f"dropped from memory, {way.__name__}")
        place.damage(where, path)
        for way in WAYS:
            forget()
            test.equal(outcome(way, fd, place.bad, data), "the content",
                       f"put right, {way.__name__}")


def check_place(test: ktap.Test, place: Place) -> None:
    with disk_with(place.file) as (where, path, data):
        if place.can_be_undone:
            check_later(test, where, place, path, data)
        place.damage(where, path)
        check_first(test, where, place, data)


for a_place in PLACES:
    suite.add(f"{a_place.name}: EIO or SIGBUS, in every way of reading",
              lambda test, place=a_place: check_place(test, place))


@suite.test("the fs-verity descriptor: the object is refused as a whole")
def descriptor(test: ktap.Test) -> None:
    file, block = special.LARGE, 259
    with disk_with(file) as (where, path, data):
        # In the digest of the root.
        where.flip(path, block, 20)
        forget()
        for way in WAYS:
            with opened_file(where, file) as fd:
                # There is nothing to map: mmap(2) itself fails.
                try:
                    found = outcome(way, fd, 0, data)
                except AssertionError:
                    found = "EIO"
                test.equal(found, "EIO", way.__name__)
        where.flip(path, block, 20)
        forget()
        with opened_file(where, file) as fd:
            for way in WAYS:
                test.equal(outcome(way, fd, 0, data), "the content",
                           f"put right, {way.__name__}")


PROGRAM = "usr/bin/true"


def entry_block(data: bytes) -> int:
    """In which block of a program its first instruction is."""
    entry, headers = struct.unpack_from("<QQ", data, 24)
    count = struct.unpack_from("<H", data, 56)[0]
    for number in range(count):
        kind, _, offset, address, _, size = struct.unpack_from(
            "<IIQQQQ", data, headers + number * 56)
        if kind == 1 and address <= entry < address + size:
            return int((entry - address + offset) // BLOCK)
    raise AssertionError("a program without a first instruction")


def run(path: str) -> str:
    """How a program ends, or why it does not start."""
    try:
        status = subprocess.run([path], check=False).returncode
    except OSError as error:
        return ktap.errno_name(error.errno)
    return signal.Signals(-status).name if status < 0 else f"status {status}"


@suite.test("a program: EIO to start it, SIGBUS in the middle")
def program(test: ktap.Test) -> None:
    image = fixtures.named("debian-v0")
    data = Path("/", PROGRAM).read_bytes()
    text, tree = entry_block(data), -(-len(data) // (16 * BLOCK)) * 16
    test.need(text > 0, "header and text are in one block")
    with disk.mounted() as where:
        path = objects.Store(where.top).verified(
            objects.object_name(objects.digest_of(data)), data)
        where.seal()
        with mounts.composefs(image.path, [str(where.top)]) as top:
            file = f"{top}/{PROGRAM}"
            for what, block, expected in (
                    ("its header", 0, ("EIO",)),
                    ("its first instruction", text, ("SIGBUS",)),
                    # The loader meets it first, in the kernel or not.
                    ("the Merkle tree", tree, ("EIO", "SIGBUS", "SIGSEGV"))):
                test.equal(run(file), "status 0", f"before: {what}")
                where.flip(path, block)
                test.equal(run(file), "status 0", f"in memory: {what}")
                for _ in range(2):
                    forget()
                    found = run(file)
                    test.check(found in expected, f"{what}: {found}")
                where.flip(path, block)
                forget()
                test.equal(run(file), "status 0", f"put right: {what}")


fixtures.require()
objects.require_verity()
disk.require_tools()
if os.geteuid() != 0:
    ktap.skip_all("only root can mount")
suite.run()
