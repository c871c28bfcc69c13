#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""An image on a dm-verity device, whose blocks are checked below us: what it
refuses to read is EIO, and never taken for something else."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lib import (disk, fixtures, kernel_log, ktap, matrix, mounts, objects,
                 special)
from lib.refused import refused

suite = ktap.Suite()

NAME = "composefs-verity-test"
BLOCK, DIGEST = 4096, 32
# A name in a directory of many blocks, far from the root.
DIRECTORY, ENTRY = "directories/big", b"entry-05000"


class Device:
    """A dm-verity device, and the files that it is made of."""

    def __init__(self, path: str, data: Path, tree: Path) -> None:
        self.path = path
        self.data = data
        self.tree = tree

    @staticmethod
    def flip(file: Path, offset: int) -> None:
        """Changes a byte behind the device's back. Doing so again puts it
        right."""
        with open(file, "r+b") as raw:
            raw.seek(offset)
            byte = raw.read(1)
            raw.seek(offset)
            raw.write(bytes([byte[0] ^ 0x01]))
        disk.forget()


def veritysetup(*arguments: str | Path) -> str:
    done = subprocess.run(["veritysetup", *arguments], capture_output=True,
                          text=True, check=False)
    if done.returncode:
        raise AssertionError(f"veritysetup {arguments}: {done.stderr}")
    return done.stdout


@contextmanager
def loop(path: Path) -> Iterator[str]:
    device = subprocess.run(["losetup", "--find", "--show", path],
                            capture_output=True, text=True,
                            check=True).stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@contextmanager
def device(image: fixtures.Image, before: Callable[[Path, Path], None]
           | None = None) -> Iterator[Device]:
    """The image on a device, of files that may be changed before."""
    with ExitStack() as stack:
        work = stack.enter_context(objects.store())
        content = Path(image.path).read_bytes()
        data = work.plain("data", content.ljust(
            -(-len(content) // BLOCK) * BLOCK, b"\0"))
        tree = work.plain("tree", b"")
        said = veritysetup("format", data, tree)
        found = re.search(r"Root hash:\s*([0-9a-f]+)", said)
        if not found:
            raise AssertionError(f"veritysetup tells no root hash: {said}")
        if before:
            before(data, tree)
        data_loop = stack.enter_context(loop(data))
        tree_loop = stack.enter_context(loop(tree))
        veritysetup("open", data_loop, NAME, tree_loop, found[1])
        try:
            node = subprocess.run(
                ["dmsetup", "info", "--columns", "--noheadings", "-o",
                 "blkdevname", NAME], capture_output=True, text=True,
                check=True).stdout.strip()
            yield Device(f"/dev/{node}", data, tree)
        finally:
            veritysetup("close", NAME)


@suite.test("an image on dm-verity, all of whose blocks are right")
def good(test: ktap.Test) -> None:
    image = matrix.image()
    with device(image) as verity:
        with mounts.composefs(verity.path, image.objects) as top:
            matrix.is_right(test, top, "a path")
        refused(test, "with digest=", errno.ENODATA,
                [("source", verity.path), ("digest", image.digest)],
                "no fs-verity")


def is_refused(test: ktap.Test, top: str) -> None:
    """Checks that a damaged directory is EIO and no more."""
    # The lines of dm-verity are limited to ten in five seconds, of all devices.
    for _ in range(10):
        with kernel_log.watch() as lines:
            test.fails(errno.EIO, "a listing", os.listdir, f"{top}/{DIRECTORY}")
            test.fails(errno.EIO, "a name", os.stat,
                       f"{top}/{DIRECTORY}/{ENTRY.decode()}")
        if any("verity" in line and "corrupted" in line for line in lines):
            return
        time.sleep(1)
    test.fail("no line of dm-verity")
    test.check(not any("composefs: " in line and "inode" in line
                       for line in lines),
               f"a failed read is taken for a damaged image: {lines}")


@suite.test("a block that changes under a mount: EIO, and a line of dm-verity")
def data_block(test: ktap.Test) -> None:
    image = special.image()
    with device(image) as verity, mounts.composefs(
            verity.path, image.objects) as top:
        offset = verity.data.read_bytes().index(ENTRY)
        verity.flip(verity.data, offset)
        is_refused(test, top)
        test.equal(Path(top, "sizes/64").read_bytes(),
                   special.data("sizes/64"), "a file beside it")
        verity.flip(verity.data, offset)
        test.check(sorted(os.listdir(f"{top}/{DIRECTORY}")) == sorted(
            os.listdir(f"{image.source}/{DIRECTORY}")),
            "when it is right again: another listing")


def spoil_leaf(data: Path, tree: Path) -> None:
    """Changes the digest of a block in the tree: leaves are last in it."""
    block = data.read_bytes().index(ENTRY) // BLOCK
    leaves = -(-(data.stat().st_size // BLOCK) // (BLOCK // DIGEST))
    Device.flip(tree, tree.stat().st_size - leaves * BLOCK + block * DIGEST)


@suite.test("a wrong digest in the tree: EIO, and a line of dm-verity")
def tree_block(test: ktap.Test) -> None:
    image = special.image()
    # The kernel keeps what it has read of the tree.
    with device(image, spoil_leaf) as verity, mounts.composefs(
            verity.path, image.objects) as top:
        is_refused(test, top)


@suite.test("a super block that is damaged: the mount is EIO, and says so")
def super_block(test: ktap.Test) -> None:
    image = matrix.image()
    with device(image) as verity:
        verity.flip(verity.data, 1024)
        refused(test, "the mount", errno.EIO,
                mounts.composefs_options(verity.path, image.objects),
                verity.path, "cannot be read", "input/output error")
        verity.flip(verity.data, 1024)
        with mounts.composefs(verity.path, image.objects) as top:
            matrix.is_right(test, top, "when it is right again")


@suite.test("changed bytes are read where nothing checks them")
def unchecked(test: ktap.Test) -> None:
    """What the device is for: the same change is believed without it."""
    image = special.image()
    with objects.store() as work:
        data = bytearray(Path(image.path).read_bytes())
        data[data.index(ENTRY) + len(ENTRY) - 1] ^= 0x0f
        with loop(work.plain("data", bytes(data))) as path, \
                mounts.composefs(path, image.objects) as top:
            names = os.listdir(f"{top}/{DIRECTORY}")
            test.check(ENTRY.decode() not in names, "the change is not seen")


fixtures.require()
objects.require_verity()
if subprocess.run(["which", "veritysetup"], capture_output=True,
                  check=False).returncode:
    ktap.skip_all("no veritysetup: install cryptsetup-bin")
suite.run()
