#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""An image on a dm-verity device.

A block that dm-verity refuses is EIO, and not reported as a damaged image.
This needs veritysetup(8).
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lib import (caches, fixtures, kernel_log, ktap, loop, matrix_image,
                 mounts, objects, special_image)
from lib.refused import refused

suite = ktap.Suite()

NAME = "composefs-verity-test"
BLOCK, DIGEST = 4096, 32
# A name in a directory of many blocks.
DIRECTORY, ENTRY = "directories/big", b"entry-05000"


class Device:
    """A dm-verity device, and the files with its data and its hash tree."""

    def __init__(self, path: str, data: Path, tree: Path) -> None:
        self.path = path
        self.data = data
        self.tree = tree

    @staticmethod
    def flip(file: Path, offset: int) -> None:
        """Flips a bit of a file below the device. A second call repairs
        it."""
        with open(file, "r+b") as raw:
            raw.seek(offset)
            byte = raw.read(1)
            raw.seek(offset)
            raw.write(bytes([byte[0] ^ 0x01]))
        caches.drop_all()


def veritysetup(*arguments: str | Path) -> str:
    done = subprocess.run(["veritysetup", *arguments], capture_output=True,
                          text=True, check=False)
    if done.returncode:
        raise AssertionError(f"veritysetup {arguments}: {done.stderr}")
    return done.stdout


@contextmanager
def device(image: fixtures.Image, before: Callable[[Path, Path], None]
           | None = None) -> Iterator[Device]:
    """A dm-verity device with an image. `before` may change its files before
    it is set up."""
    with ExitStack() as stack:
        work = stack.enter_context(objects.store())
        content = Path(image.path).read_bytes()
        data = work.plain("data", content.ljust(
            -(-len(content) // BLOCK) * BLOCK, b"\0"))
        tree = work.plain("tree", b"")
        output = veritysetup("format", data, tree)
        found = re.search(r"Root hash:\s*([0-9a-f]+)", output)
        if not found:
            raise AssertionError(f"veritysetup printed no root hash: {output}")
        if before:
            before(data, tree)
        data_loop = stack.enter_context(loop.device(data))
        tree_loop = stack.enter_context(loop.device(tree))
        veritysetup("open", data_loop, NAME, tree_loop, found[1])
        try:
            node = subprocess.run(
                ["dmsetup", "info", "--columns", "--noheadings", "-o",
                 "blkdevname", NAME], capture_output=True, text=True,
                check=True).stdout.strip()
            yield Device(f"/dev/{node}", data, tree)
        finally:
            veritysetup("close", NAME)


@suite.test("an undamaged image on dm-verity")
def good(test: ktap.Test) -> None:
    image = matrix_image.image()
    with device(image) as verity:
        with mounts.composefs(verity.path, image.objects) as top:
            matrix_image.check(test, top, "a path")
        refused(test, "with digest=", errno.ENODATA,
                [("source", verity.path), ("digest", image.digest)],
                "no fs-verity")


def check_damaged(test: ktap.Test, top: str) -> None:
    """Checks that a damaged directory is EIO, and that dm-verity logs it."""
    # dm-verity logs at most ten lines in five seconds, for all devices, and
    # counts at most a hundred blocks of a device. One read of large pages may
    # have as many.
    time.sleep(6)
    for _ in range(10):
        with kernel_log.watch() as lines:
            test.fails(
                errno.EIO, "a listing", os.listdir, f"{top}/{DIRECTORY}"
            )
            test.fails(errno.EIO, "a name", os.stat,
                       f"{top}/{DIRECTORY}/{ENTRY.decode()}")
        test.check(not any("composefs: " in line and "inode" in line
                           for line in lines),
                   f"a failed read is reported as a damaged image: {lines}")
        if any("verity" in line and "corrupted" in line for line in lines):
            return
        time.sleep(1)
    test.fail("no line of dm-verity")


@suite.test(
    "a data block that changes after the mount: EIO, and a line of dm-verity"
)
def data_block(test: ktap.Test) -> None:
    image = special_image.image()
    with device(image) as verity, mounts.composefs(
            verity.path, image.objects) as top:
        offset = verity.data.read_bytes().index(ENTRY)
        verity.flip(verity.data, offset)
        check_damaged(test, top)
        test.equal(Path(top, "sizes/64").read_bytes(),
                   special_image.data("sizes/64"), "another file")
        verity.flip(verity.data, offset)
        test.check(sorted(os.listdir(f"{top}/{DIRECTORY}")) == sorted(
            os.listdir(f"{image.source}/{DIRECTORY}")),
            "repaired: wrong listing")


def spoil_leaf(data: Path, tree: Path) -> None:
    """Changes a leaf of the hash tree. The leaves are at the end of it."""
    block = data.read_bytes().index(ENTRY) // BLOCK
    leaves = -(-(data.stat().st_size // BLOCK) // (BLOCK // DIGEST))
    Device.flip(tree, tree.stat().st_size - leaves * BLOCK + block * DIGEST)


@suite.test("a wrong digest in the hash tree: EIO, and a line of dm-verity")
def tree_block(test: ktap.Test) -> None:
    image = special_image.image()
    # Before the device is set up: the kernel caches the tree.
    with device(image, spoil_leaf) as verity, mounts.composefs(
            verity.path, image.objects) as top:
        check_damaged(test, top)


@suite.test("a damaged super block: the mount is EIO, with a message")
def super_block(test: ktap.Test) -> None:
    image = matrix_image.image()
    with device(image) as verity:
        verity.flip(verity.data, 1024)
        refused(test, "the mount", errno.EIO,
                mounts.composefs_options(verity.path, image.objects),
                verity.path, "cannot be read", "input/output error")
        verity.flip(verity.data, 1024)
        with mounts.composefs(verity.path, image.objects) as top:
            matrix_image.check(test, top, "repaired")


@suite.test("without dm-verity the same change is not noticed")
def unchecked(test: ktap.Test) -> None:
    """Shows that the other tests test dm-verity."""
    image = special_image.image()
    with objects.store() as work:
        data = bytearray(Path(image.path).read_bytes())
        data[data.index(ENTRY) + len(ENTRY) - 1] ^= 0x0f
        with loop.device(work.plain("data", bytes(data))) as path, \
                mounts.composefs(path, image.objects) as top:
            names = os.listdir(f"{top}/{DIRECTORY}")
            test.check(ENTRY.decode() not in names, "the change is not seen")


fixtures.require()
objects.require_verity()
ktap.require_programs("cryptsetup-bin", "veritysetup")
suite.run()
