#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Disks that fail below an image, or below the objects.

EIO where something has to be read that cannot be, and never another answer;
nothing of a failure is kept: when the disk is back, so is all that is on it. A
failed read is not taken for damage of the image.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import (disk, dm, fixtures, kernel_log, ktap, mounts, objects,
                 questions, special)
from lib.blocks import (WAYS, Way, map_shared, outcome, read, read_direct,
                        refusal)
from lib.disk import forget
from lib.dm import Shaky
from lib.questions import Answers
from lib.special import opened

suite = ktap.Suite()

# struct ext4's FS_IOC_SHUTDOWN, and to write nothing back before.
SHUTDOWN, NO_FLUSH = 0x8004587d, struct.pack("=I", 2)

# Into so many parts the blocks of an image are dealt, like cards: in each round
# those of one part fail, so that a listing fails in the middle.
PARTS = 12


def image_path() -> Path:
    return Path(special.image().path)


@contextmanager
def image_on_disk(*options: tuple[str, mounts.Value], verity: bool = False
                  ) -> Iterator[tuple[Shaky, Path, str]]:
    """A disk with the image, where it is there, and where it is mounted."""
    with dm.mounted((image_path(), "image", verity)) as where:
        path = where.top / "image"
        with mounts.composefs(str(path), special.image().objects,
                              *options) as top:
            yield where, path, top


@contextmanager
def store_on_disk(file: str) -> Iterator[tuple[Shaky, Path, str, bytes]]:
    """A disk with the object of a file, where it is there, where the image is
    mounted with it, and the content."""
    data = special.data(file)
    name = objects.object_name(objects.digest_of(data))
    source = Path(special.image().source or "", file)
    with dm.mounted((source, name, True)) as where, \
            special.mounted(basedirs=[str(where.top)]) as top:
        yield where, where.top / name, f"{top}/{file}", data


@suite.test("the image's disk fails: EIO for all, and all is back with it")
def image_fails(test: ktap.Test) -> None:
    with image_on_disk() as (where, path, top):
        answers = Answers(top, questions.EVERYTHING)
        answers.check(test, "while it works", "right")
        where.device.fail()
        forget()
        with kernel_log.watch() as lines:
            for _ in range(2):
                answers.check(test, "while it fails", "EIO",
                              but=questions.OF_MEMORY)
            try:
                os.close(mounts.new_mount("composefs", [
                    ("source", str(path))]))
                test.fail("it was mounted once more")
            except mounts.MountError as error:
                test.equal(error.errno, errno.EIO, "another mount")
        test.equal([line for line in lines if "composefs: " in line], [],
                   "lines about a damaged image")
        where.device.work()
        answers.check(test, "when it works again", "right")


@suite.test("the image on two disks: a mount fails with its own disk alone")
def one_of_two_fails(test: ktap.Test) -> None:
    digest = ("digest", special.image().digest)
    with image_on_disk(digest, verity=True) as (where, path, top), \
            image_on_disk(digest, verity=True) as (_, other_path, other):
        with special.mounted(digest) as third, mounts.composefs(
                str(path), special.image().objects, digest) as again:
            test.equal(len({os.stat(name).st_dev
                            for name in (top, other, third, again)}), 3,
                       "super blocks of four mounts from three disks")
        theirs = Answers(top, questions.EVERYTHING)
        good = Answers(other, questions.EVERYTHING)
        where.device.fail()
        forget()
        good.check(test, "from the other disk", "right")
        theirs.check(test, "from the disk that failed", "EIO",
                     but=questions.OF_MEMORY)
        # Not the one that fails is joined.
        with mounts.composefs(str(other_path), special.image().objects,
                              digest) as later:
            forget()
            Answers(later, questions.EVERYTHING).check(
                test, "mounted later", "right")


@suite.test("some blocks of the image fail: EIO where they are needed")
def image_blocks_fail(test: ktap.Test) -> None:
    with image_on_disk() as (where, path, top):
        answers = Answers(top, questions.OF_IMAGE)
        blocks = where.blocks(path)
        failed = set()
        for part in range(PARTS):
            where.device.fail_at(*blocks[part::PARTS])
            forget()
            for name, found in answers.ask_all():
                test.check(found in ("right", "EIO"), f"{name}: {found}")
                if found == "EIO":
                    failed.add(name)
            where.device.work()
            answers.check(test, f"part {part} works again", "right")
        test.equal(set(answers.questions) - failed,
                   set(questions.OF_MEMORY), "what never failed")


@suite.test("blocks of a pinned image are read wrongly: EIO where needed")
def image_is_corrupted(test: ktap.Test) -> None:
    digest = ("digest", special.image().digest)
    with image_on_disk(digest, verity=True) as (where, path, top):
        answers = Answers(top, questions.OF_IMAGE)
        # With those of its Merkle tree.
        blocks = where.blocks(path)
        failed = set()
        for part in range(PARTS):
            where.device.corrupt_at(*blocks[part::PARTS])
            forget()
            for name, found in answers.ask_all():
                test.check(found in ("right", "EIO"), f"{name}: {found}")
                if found == "EIO":
                    failed.add(name)
        test.equal(set(answers.questions) - failed,
                   set(questions.OF_MEMORY), "what never failed")
        where.device.work()
        forget()
        answers.check(test, "when it works again", "right")


@suite.test("the objects' disk fails before a file is read: EIO, and back")
def store_fails_first(test: ktap.Test) -> None:
    with store_on_disk(special.LARGE) as (where, _, file, data):
        for way in WAYS:
            where.device.fail()
            forget()
            with opened(file) as fd:
                # There is nothing to map: mmap(2) itself fails.
                found = attempt(way, fd, data)
                test.equal(found, "EIO", f"{way.__name__}, failing")
                where.device.work()
                if refusal(way) != "SIGBUS":
                    test.equal(attempt(way, fd, data), "the content",
                               f"{way.__name__}, when it works, old open")
            with opened(file) as fd:
                test.equal(attempt(way, fd, data), "the content",
                           f"{way.__name__}, when it works, new open")


def attempt(way: Way, fd: int, data: bytes) -> str:
    """As outcome(); a mapping that cannot be made is EIO."""
    try:
        return outcome(way, fd, 0, data)
    except AssertionError:
        return "EIO"


@suite.test("the objects' disk fails while a file is open: EIO or SIGBUS")
def store_fails_later(test: ktap.Test) -> None:
    with store_on_disk(special.LARGE) as (where, _, file, data), \
            opened(file) as fd:
        for way in WAYS:
            test.equal(outcome(way, fd, 0, data), "the content",
                       f"{way.__name__}, before")
            where.device.fail()
            test.equal(outcome(way, fd, 0, data), "the content",
                       f"{way.__name__}, failing, but in memory")
            forget()
            for _ in range(2):
                test.equal(outcome(way, fd, 0, data), refusal(way),
                           f"{way.__name__}, failing")
            where.device.work()
            test.equal(outcome(way, fd, 0, data), "the content",
                       f"{way.__name__}, when it works again")


@suite.test("one block of an object fails: its own content is EIO, no other")
def store_block_fails(test: ktap.Test) -> None:
    with store_on_disk(special.LARGE) as (where, path, file, data), \
            opened(file) as fd:
        test.equal(outcome(read, fd, 0, data), "the content", "before")
        where.device.fail_at(where.blocks(path)[100])
        for way in WAYS:
            forget()
            test.equal(outcome(way, fd, 100, data), refusal(way),
                       f"{way.__name__}, the block")
            test.equal(outcome(way, fd, 0, data), "the content",
                       f"{way.__name__}, another one")
        where.device.work()
        test.equal(outcome(read, fd, 100, data), "the content", "then")


@suite.test("what leads to an object fails: names, inode, fs-verity metadata")
def store_metadata_fail(test: ktap.Test) -> None:
    with store_on_disk(special.LARGE) as (where, path, file, data):
        # Root of the tree and two blocks of hashes, descriptor, its length.
        blocks = where.blocks(path)
        pages = len(data) // disk.BLOCK
        for what, block in {
                "the directory": where.blocks(path.parent)[0],
                "the inode": where.inode_block(path),
                "the root of the tree": blocks[pages],
                "hashes": blocks[pages + 1],
                "the descriptor": blocks[-1]}.items():
            for way in (read, read_direct, map_shared):
                where.device.fail_at(block)
                forget()
                with opened(file) as fd:
                    found = attempt(way, fd, data)
                    test.check(found in ("EIO", refusal(way)),
                               f"{what}, {way.__name__}: {found}")
                where.device.work()
                with opened(file) as fd:
                    test.equal(attempt(way, fd, data), "the content",
                               f"{what}, {way.__name__}, when it works")


@suite.test("the disk of both vanishes: EIO, and all can be unmounted")
def vanishes(test: ktap.Test) -> None:
    data = special.data(special.LARGE)
    name = objects.object_name(objects.digest_of(data))
    source = Path(special.image().source or "", special.LARGE)
    with dm.mounted((image_path(), "image", True),
                    (source, name, True)) as where:
        with mounts.composefs(str(where.top / "image"), [str(where.top)]
                              ) as top:
            answers = Answers(top, {
                **questions.OF_IMAGE,
                "a large file": questions.EVERYTHING["a large file"]})
            with opened(f"{top}/{special.LARGE}") as fd:
                os.pread(fd, 10, 0)
                where.device.vanish()
                # Also from the tree of mounts.
                mounts.umount(str(where.top), mounts.MNT_DETACH)
                test.equal(outcome(read, fd, 0, data), "the content",
                           "what is in memory")
                forget()
                for way in WAYS:
                    test.equal(outcome(way, fd, 0, data), refusal(way),
                               f"{way.__name__}, when it is gone")
            answers.check(test, "when it is gone", "EIO",
                          but=questions.OF_MEMORY)


@suite.test("the file system of both is shut down: EIO, and it is unmounted")
def shut_down(test: ktap.Test) -> None:
    data = special.data(special.LARGE)
    name = objects.object_name(objects.digest_of(data))
    source = Path(special.image().source or "", special.LARGE)
    with dm.mounted((image_path(), "image", True),
                    (source, name, True)) as where:
        with mounts.composefs(str(where.top / "image"), [str(where.top)]
                              ) as top:
            answers = Answers(top, questions.OF_IMAGE)
            with opened(f"{top}/{special.LARGE}") as fd:
                test.check(os.pread(fd, 10, 0) == data[:10], "before")
                with opened(str(where.top)) as directory:
                    fcntl.ioctl(directory, SHUTDOWN, NO_FLUSH)
                forget()
                answers.check(test, "then", "EIO", but=questions.OF_MEMORY)
                test.fails(errno.EIO, "a read", os.pread, fd, 10, 0)
            with opened(top) as fd:
                test.equal(os.fstat(fd).st_ino, os.stat(top).st_ino,
                           "the root, which is in memory")


fixtures.require()
objects.require_verity()
disk.require_tools()
dm.require()
if os.geteuid() != 0:
    ktap.skip_all("only root can mount")
suite.run()
