# SPDX-License-Identifier: GPL-2.0

"""An ext4 in a file, whose blocks can be changed while it is mounted."""

from __future__ import annotations

import os
import re
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import caches, fixtures, ktap, loop

BLOCK = 4096

# The offset of the extents in struct ext4_inode, and struct
# ext4_extent_header.
_EXTENTS_AT = 40
_EXTENT_MAGIC = 0xf30a
_HEADER = struct.Struct("<HHHHI")
# struct ext4_extent: first block, length, physical block in two parts.
_EXTENT = struct.Struct("<IHHI")


class Disk:
    """An ext4 in the file `image`, mounted at `top`."""

    def __init__(self, image: Path, top: Path) -> None:
        self.image = image
        self.top = top

    def seal(self) -> None:
        """Makes it read-only, so that the journal keeps nothing in memory and
        no write replaces what a test has damaged."""
        subprocess.run(["mount", "-o", "remount,ro", self.top], check=True)
        caches.drop_all()

    def debugfs(self, command: str) -> str:
        """Returns the output of debugfs(8), which reads the file only."""
        return subprocess.run(["debugfs", "-R", command, self.image],
                              capture_output=True, text=True,
                              check=True).stdout

    def position(self, path: str | Path, block: int) -> int:
        """The offset of a block of a file in the image. The blocks of its
        fs-verity metadata follow those of its content."""
        output = self.debugfs(f"bmap <{os.stat(path).st_ino}> {block}")
        physical = int(output.split()[0])
        if not physical:
            raise AssertionError(f"block {block} of {path} is a hole")
        return physical * BLOCK

    def blocks(self, path: str | Path) -> list[int]:
        """The numbers of the blocks of a file without holes, with those of
        its fs-verity metadata."""
        output = self.debugfs(f"blocks <{os.stat(path).st_ino}>")
        return [int(word) for word in output.split()]

    def overwrite(self, path: Path, by: Path) -> None:
        """Overwrites the blocks of a file with those of another one of the
        same layout, fs-verity metadata included."""
        targets, sources = self.blocks(path), self.blocks(by)
        assert len(targets) == len(sources), (path, by)
        with open(self.image, "r+b") as file:
            for to, source in zip(targets, sources):
                file.seek(source * BLOCK)
                data = file.read(BLOCK)
                file.seek(to * BLOCK)
                file.write(data)

    def flip(self, path: str | Path, block: int, offset: int = 7) -> None:
        """Flips a bit of a block. A second call repairs it."""
        at = self.position(path, block) + offset
        with open(self.image, "r+b") as file:
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 0x01]))

    def inode_at(self, path: str | Path) -> int:
        """The offset of a file's inode in the image."""
        number = os.stat(path).st_ino
        found = re.search(r"block (\d+), offset (0x[0-9a-f]+)",
                          self.debugfs(f"imap <{number}>"))
        if not found:
            raise AssertionError(f"debugfs does not find the inode of {path}")
        return int(found[1]) * BLOCK + int(found[2], 16)

    def fill_hole(self, path: str | Path, block: int) -> None:
        """Adds an extent to a file, so that a hole before all of its content
        becomes a block with other bytes."""
        free = re.search(r"found: (\d+)", self.debugfs("ffb 1"))
        if not free:
            raise AssertionError("debugfs finds no free block")
        at = self.inode_at(path) + _EXTENTS_AT
        with open(self.image, "r+b") as file:
            file.seek(at)
            magic, count, most, depth, generation = _HEADER.unpack(
                file.read(_HEADER.size))
            extents = file.read(count * _EXTENT.size)
            first = _EXTENT.unpack_from(extents)[0]
            if magic != _EXTENT_MAGIC or depth or count == most \
                    or first <= block:
                raise AssertionError(f"{path} has unexpected extents")
            physical = int(free[1])
            file.seek(at)
            file.write(_HEADER.pack(magic, count + 1, most, depth, generation)
                       + _EXTENT.pack(block, 1, physical >> 32,
                                      physical & 0xffffffff) + extents)
            file.seek(physical * BLOCK)
            file.write(b"in the hole".ljust(BLOCK, b"!"))


def make(image: Path, size: int) -> None:
    """Makes an empty ext4 with fs-verity. It has no metadata checksums, so
    that a test may change metadata."""
    with open(image, "wb") as file:
        file.truncate(size)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK),
                    "-O", "verity,^metadata_csum", image], check=True)


@contextmanager
def mounted(size: int = 32 << 20) -> Iterator[Disk]:
    """A new, empty ext4 on a loop device."""
    image = fixtures.SCRATCH / "disk.img"
    make(image, size)
    try:
        with loop.mounted(image) as top:
            yield Disk(image, Path(top))
    finally:
        image.unlink()


def require_tools() -> None:
    """Ends the program where a disk cannot be made or damaged."""
    ktap.require_programs("e2fsprogs", "mke2fs", "debugfs")
