#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""A block that went bad on the disk, below an object that was verified.

The objects are on a file system in a file, which can be damaged from outside.
"""

from __future__ import annotations

import errno
import mmap
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import fixtures, ktap, mounts, objects
from lib.access import pread

suite = ktap.Suite()

FILE = "file-00"
BLOCK = 4096
# The block that is damaged, of the five that the file has.
BAD = 2


@contextmanager
def disk() -> Iterator[tuple[Path, Path]]:
    """A file with an ext4 in it, and where that is mounted."""
    image = fixtures.SCRATCH / "damage.img"
    with open(image, "wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-O", "verity",
                    "-b", str(BLOCK), image], check=True)
    with mounts.directory() as top:
        subprocess.run(["mount", "-o", "loop", image, top], check=True)
        try:
            yield image, Path(top)
        finally:
            subprocess.run(["umount", top], check=True)
            image.unlink()


def drop_caches() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")


def damage(image: Path, path: Path, block: int) -> None:
    """Changes a byte of a file's block behind the file system's back."""
    said = subprocess.run(["filefrag", "-v", "-e", f"-b{BLOCK}", path],
                          capture_output=True, text=True, check=True).stdout
    for logical, last, physical in re.findall(
            r"^\s*\d+:\s*(\d+)\.\.\s*(\d+):\s*(\d+)\.\.", said, re.MULTILINE):
        if int(logical) <= block <= int(last):
            at = (int(physical) + block - int(logical)) * BLOCK + 7
            with open(image, "r+b") as file:
                file.seek(at)
                byte = file.read(1)
                file.seek(at)
                file.write(bytes([byte[0] ^ 0x01]))
            return
    raise AssertionError(f"block {block} of {path} is nowhere: {said}")


def touch(path: str, block: int) -> int:
    """Reads a byte of a mapping in a child. Returns how the child ended."""
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGBUS, signal.SIG_DFL)
            fd = os.open(path, os.O_RDONLY)
            view = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
            os._exit(0 if view[block * BLOCK:block * BLOCK + 1] else 1)
        except BaseException:  # pylint: disable=broad-except
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@suite.test("a damaged block is EIO to read and SIGBUS to a mapping")
def damaged(test: ktap.Test) -> None:
    image = fixtures.named("matrix")
    data = Path(image.source or "", FILE).read_bytes()
    name = objects.object_name(objects.digest_of(data))
    with disk() as (below, top):
        path = objects.Store(top).verified(name, data)
        with mounts.composefs(image.path, [str(top)]) as mount:
            file = f"{mount}/{FILE}"
            fd = os.open(file, os.O_RDONLY)
            try:
                test.equal(pread(fd, len(data)), data, "before the damage")
                test.equal(touch(file, BAD), 0, "a mapping before the damage")
                drop_caches()
                damage(below, path, BAD)
                drop_caches()
                test.fails(errno.EIO, "a read of the block", os.pread, fd,
                           10, BAD * BLOCK)
                test.equal(os.pread(fd, BLOCK, 0), data[:BLOCK],
                           "a read of a good block")
                test.equal(touch(file, BAD), -signal.SIGBUS,
                           "a mapping of the block")
                test.equal(touch(file, 0), 0, "a mapping of a good block")
            finally:
                os.close(fd)


fixtures.require()
objects.require_verity()
if os.geteuid() != 0:
    ktap.skip_all("only root can mount")
suite.run()
