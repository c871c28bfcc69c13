#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Disks that fail below an image, or below the objects.

A read of a failing block is EIO, and never returns anything else. Nothing of a
failure is cached: when the disk works again, so does everything on it. A
failed read is not reported as a damaged image. device-mapper makes the disks
fail, by its targets error and flakey.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import (caches, disk, dm, fixtures, kernel_log, ktap, mounts, objects,
                 probes, special_image)
from lib.dm import FaultyDisk
from lib.files import opened
from lib.probes import Baseline
from lib.read_block import (WAYS, Way, map_shared, outcome, read, read_direct,
                            expected_error)

suite = ktap.Suite()

# EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH.
SHUTDOWN, NO_FLUSH = 0x8004587d, struct.pack("=I", 2)

# In each of PARTS rounds every PARTS-th block of an image fails, so that a
# listing fails in the middle.
PARTS = 12


def image_path() -> Path:
    return Path(special_image.image().path)


@contextmanager
def image_on_disk(*options: tuple[str, mounts.Value], verity: bool = False
                  ) -> Iterator[tuple[FaultyDisk, Path, str]]:
    """A disk with the image, the image's path on it, and its mount."""
    with dm.mounted((image_path(), "image", verity)) as where:
        path = where.top / "image"
        with mounts.composefs(str(path), special_image.image().objects,
                              *options) as top:
            yield where, path, top


@contextmanager
def store_on_disk(file: str) -> Iterator[tuple[FaultyDisk, Path, str, bytes]]:
    """A disk with the object of a file, the object's path on it, the file's
    path in a mount with that object, and its content."""
    data = special_image.data(file)
    name = objects.object_name(objects.digest_of(data))
    source = Path(special_image.image().source or "", file)
    with dm.mounted((source, name, True)) as where, \
            special_image.mounted(basedirs=[str(where.top)]) as top:
        yield where, where.top / name, f"{top}/{file}", data


@suite.test("the image's disk fails: EIO, until it works again")
def image_fails(test: ktap.Test) -> None:
    with image_on_disk() as (where, path, top):
        baseline = Baseline(top, probes.ALL)
        baseline.check(test, "while it works", "right")
        where.device.fail()
        caches.drop_all()
        with kernel_log.watch() as lines:
            for _ in range(2):
                baseline.check(test, "while it fails", "EIO",
                               unaffected=probes.CACHED)
            try:
                os.close(mounts.new_mount("composefs", [
                    ("source", str(path))]))
                test.fail("another mount succeeded")
            except mounts.MountError as error:
                test.equal(error.errno, errno.EIO, "another mount")
        test.equal([line for line in lines if "composefs: " in line], [],
                   "log lines about a damaged image")
        where.device.work()
        baseline.check(test, "when it works again", "right")


@suite.test("copies of an image on two disks: a mount depends on its own disk")
def one_of_two_fails(test: ktap.Test) -> None:
    digest = ("digest", special_image.image().digest)
    with image_on_disk(digest, verity=True) as (where, path, top), \
            image_on_disk(digest, verity=True) as (_, other_path, other):
        with special_image.mounted(digest) as third, mounts.composefs(
                str(path), special_image.image().objects, digest) as again:
            test.equal(len({os.stat(name).st_dev
                            for name in (top, other, third, again)}), 3,
                       "super blocks of four mounts from three disks")
        failing = Baseline(top, probes.ALL)
        working = Baseline(other, probes.ALL)
        where.device.fail()
        caches.drop_all()
        working.check(test, "from the other disk", "right")
        failing.check(test, "from the disk that failed", "EIO",
                      unaffected=probes.CACHED)
        # It shares the super block of the disk that works.
        with mounts.composefs(str(other_path), special_image.image().objects,
                              digest) as later:
            caches.drop_all()
            Baseline(later, probes.ALL).check(
                test, "mounted later", "right")


def failing_probes(test: ktap.Test, baseline: Baseline) -> set[str]:
    """Runs all probes. Returns the names of those that end with EIO. The
    others have to be right."""
    outcomes = dict(baseline.run_all())
    for name, found in outcomes.items():
        test.check(found in ("right", "EIO"), f"{name}: {found}")
    return {name for name, found in outcomes.items() if found == "EIO"}


@suite.test("some blocks of an image fail: EIO where they are needed")
def image_blocks_fail(test: ktap.Test) -> None:
    with image_on_disk() as (where, path, top):
        baseline = Baseline(top, probes.METADATA)
        blocks = where.blocks(path)
        failed: set[str] = set()
        for part in range(PARTS):
            where.device.fail_at(*blocks[part::PARTS])
            caches.drop_all()
            failed |= failing_probes(test, baseline)
            where.device.work()
            baseline.check(test, f"part {part} works again", "right")
        test.equal(set(baseline.probes) - failed,
                   set(probes.CACHED), "probes that never failed")


@suite.test(
    "some blocks of a pinned image are corrupted: EIO where they are needed"
)
def image_is_corrupted(test: ktap.Test) -> None:
    digest = ("digest", special_image.image().digest)
    with image_on_disk(digest, verity=True) as (where, path, top):
        baseline = Baseline(top, probes.METADATA)
        # The blocks of its Merkle tree included.
        blocks = where.blocks(path)
        failed: set[str] = set()
        for part in range(PARTS):
            where.device.corrupt_at(*blocks[part::PARTS])
            caches.drop_all()
            failed |= failing_probes(test, baseline)
        test.equal(set(baseline.probes) - failed,
                   set(probes.CACHED), "probes that never failed")
        where.device.work()
        caches.drop_all()
        baseline.check(test, "when it works again", "right")


@suite.test(
    "the objects' disk fails before the first access: EIO, until it works"
)
def store_fails_first(test: ktap.Test) -> None:
    with store_on_disk(special_image.LARGE) as (where, _, file, data):
        for way in WAYS:
            where.device.fail()
            caches.drop_all()
            with opened(file) as fd:
                # mmap(2) itself fails, since the object cannot be opened.
                found = attempt(way, fd, data)
                test.equal(found, "EIO", f"{way.__name__}, failing")
                where.device.work()
                if expected_error(way) != "SIGBUS":
                    test.equal(attempt(way, fd, data), "the content",
                               f"{way.__name__}, working again, old open file")
            with opened(file) as fd:
                test.equal(attempt(way, fd, data), "the content",
                           f"{way.__name__}, working again, new open file")


def attempt(way: Way, fd: int, data: bytes) -> str:
    """As outcome(), with EIO if mmap(2) fails."""
    try:
        return outcome(way, fd, 0, data)
    except AssertionError:
        return "EIO"


@suite.test("the objects' disk fails while a file is open: EIO or SIGBUS")
def store_fails_later(test: ktap.Test) -> None:
    with store_on_disk(special_image.LARGE) as (where, _, file, data), \
            opened(file) as fd:
        for way in WAYS:
            test.equal(outcome(way, fd, 0, data), "the content",
                       f"{way.__name__}, before")
            where.device.fail()
            test.equal(outcome(way, fd, 0, data), "the content",
                       f"{way.__name__}, failing, but cached")
            caches.drop_all()
            for _ in range(2):
                test.equal(outcome(way, fd, 0, data), expected_error(way),
                           f"{way.__name__}, failing")
            where.device.work()
            test.equal(outcome(way, fd, 0, data), "the content",
                       f"{way.__name__}, when it works again")


@suite.test("one block of an object fails: only that block is EIO")
def store_block_fails(test: ktap.Test) -> None:
    with store_on_disk(special_image.LARGE) as (where, path, file, data), \
            opened(file) as fd:
        test.equal(outcome(read, fd, 0, data), "the content", "before")
        where.device.fail_at(where.blocks(path)[100])
        for way in WAYS:
            caches.drop_all()
            test.equal(outcome(way, fd, 100, data), expected_error(way),
                       f"{way.__name__}, the block")
            test.equal(outcome(way, fd, 0, data), "the content",
                       f"{way.__name__}, another one")
        where.device.work()
        test.equal(outcome(read, fd, 100, data), "the content",
                   "working again")


@suite.test("directory, inode or fs-verity metadata of an object fail: EIO")
def store_metadata_fail(test: ktap.Test) -> None:
    with store_on_disk(special_image.LARGE) as (where, path, file, data):
        # The root of the Merkle tree and two blocks of hashes, the descriptor,
        # its length.
        blocks = where.blocks(path)
        pages = len(data) // disk.BLOCK
        for what, block in {
                "the directory": where.blocks(path.parent)[0],
                "the inode": where.inode_block(path),
                "the root of the Merkle tree": blocks[pages],
                "a block of hashes": blocks[pages + 1],
                "the descriptor": blocks[-1]}.items():
            for way in (read, read_direct, map_shared):
                where.device.fail_at(block)
                caches.drop_all()
                with opened(file) as fd:
                    found = attempt(way, fd, data)
                    test.check(found in ("EIO", expected_error(way))
                               or is_kept(path, found, data),
                               f"{what}, {way.__name__}: {found}")
                where.device.work()
                with opened(file) as fd:
                    test.equal(attempt(way, fd, data), "the content",
                               f"{what}, {way.__name__}, when it works")


def is_kept(path: Path, found: str, data: bytes) -> bool:
    """Whether a failing block is in memory nevertheless, so that the object
    itself can be read. Where pages are larger than blocks, ext4 may use another
    block of the page."""
    if mmap.PAGESIZE == disk.BLOCK or found != "the content":
        return False
    caches.drop_all()
    try:
        with opened(path) as fd:
            return outcome(read, fd, 0, data) == found
    except OSError:
        return False


@contextmanager
def both_on_disk() -> Iterator[tuple[FaultyDisk, str, bytes]]:
    """A disk with the image and the object of its large file, the image's
    mount, and the content of the large file."""
    data = special_image.data(special_image.LARGE)
    name = objects.object_name(objects.digest_of(data))
    source = Path(special_image.image().source or "", special_image.LARGE)
    with dm.mounted((image_path(), "image", True),
                    (source, name, True)) as where, mounts.composefs(
                        str(where.top / "image"), [str(where.top)]) as top:
        yield where, top, data


@suite.test("the disk of image and objects is removed: EIO, umount succeeds")
def vanishes(test: ktap.Test) -> None:
    with both_on_disk() as (where, top, data):
        baseline = Baseline(top, {
            **probes.METADATA,
            "a large file": probes.ALL["a large file"]})
        with opened(f"{top}/{special_image.LARGE}") as fd:
            os.pread(fd, 10, 0)
            where.device.vanish()
            # Also remove its mount.
            mounts.umount(str(where.top), mounts.MNT_DETACH)
            test.equal(outcome(read, fd, 0, data), "the content",
                       "cached")
            caches.drop_all()
            for way in WAYS:
                test.equal(outcome(way, fd, 0, data), expected_error(way),
                           f"{way.__name__}, removed")
        baseline.check(test, "removed", "EIO", unaffected=probes.CACHED)


@suite.test("the file system of image and objects is shut down: EIO")
def shut_down(test: ktap.Test) -> None:
    with both_on_disk() as (where, top, data):
        baseline = Baseline(top, probes.METADATA)
        with opened(f"{top}/{special_image.LARGE}") as fd:
            test.check(os.pread(fd, 10, 0) == data[:10], "before")
            with opened(str(where.top)) as directory:
                fcntl.ioctl(directory, SHUTDOWN, NO_FLUSH)
            caches.drop_all()
            baseline.check(test, "shut down", "EIO", unaffected=probes.CACHED)
            test.fails(errno.EIO, "a read", os.pread, fd, 10, 0)
        with opened(top) as fd:
            test.equal(os.fstat(fd).st_ino, os.stat(top).st_ino,
                       "the root, which is cached")


fixtures.require()
objects.require_verity()
disk.require_tools()
dm.require()
mounts.require_root()
suite.run()
