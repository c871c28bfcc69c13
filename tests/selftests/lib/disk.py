# SPDX-License-Identifier: GPL-2.0

"""A file system in a file, which can be damaged behind its back."""

from __future__ import annotations

import os
import re
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import fixtures, ktap, mounts, slab

BLOCK = 4096

# Where an inode of ext4 has its extents, and struct ext4_extent_header.
_EXTENTS_AT = 40
_EXTENT_MAGIC = 0xf30a
_HEADER = struct.Struct("<HHHHI")
# struct ext4_extent: first block, length, physical block in two parts.
_EXTENT = struct.Struct("<IHHI")


def forget() -> None:
    """Writes everything back and drops what is in memory, twice: the first
    time frees what keeps the rest."""
    os.sync()
    slab.drop_caches()
    slab.drop_caches()


class Disk:
    """An ext4 in the file `image`, mounted at `top`."""

    def __init__(self, image: Path, top: Path) -> None:
        self.image = image
        self.top = top

    def seal(self) -> None:
        """Makes it read-only, so that nothing of it stays in memory for the
        journal's sake or is written over what is damaged."""
        subprocess.run(["mount", "-o", "remount,ro", self.top], check=True)
        forget()

    def debugfs(self, command: str) -> str:
        """What debugfs(8) answers, which reads the file alone."""
        return subprocess.run(["debugfs", "-R", command, self.image],
                              capture_output=True, text=True,
                              check=True).stdout

    def position(self, path: str | Path, block: int) -> int:
        """Where a block of a file is, also one of its fs-verity metadata,
        which follow the content."""
        said = self.debugfs(f"bmap <{os.stat(path).st_ino}> {block}")
        physical = int(said.split()[0])
        if not physical:
            raise AssertionError(f"block {block} of {path} is nowhere")
        return physical * BLOCK

    def blocks(self, path: str | Path) -> list[int]:
        """Where a file without holes is, block by block, with what fs-verity
        adds to it."""
        said = self.debugfs(f"blocks <{os.stat(path).st_ino}>")
        return [int(word) for word in said.split()]

    def overwrite(self, path: Path, by: Path) -> None:
        """Puts all that another file consists of in the place of this one,
        with its fs-verity metadata: it has to have the same layout."""
        ours, theirs = self.blocks(path), self.blocks(by)
        assert len(ours) == len(theirs), (path, by)
        with open(self.image, "r+b") as file:
            for to, source in zip(ours, theirs):
                file.seek(source * BLOCK)
                data = file.read(BLOCK)
                file.seek(to * BLOCK)
                file.write(data)

    def flip(self, path: str | Path, block: int, offset: int = 7) -> None:
        """Changes a bit of a block. Doing so again puts it right."""
        at = self.position(path, block) + offset
        with open(self.image, "r+b") as file:
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 0x01]))

    def inode_at(self, path: str | Path) -> int:
        """Where the inode of a file is."""
        number = os.stat(path).st_ino
        found = re.search(r"block (\d+), offset (0x[0-9a-f]+)",
                          self.debugfs(f"imap <{number}>"))
        if not found:
            raise AssertionError(f"debugfs tells nothing about {path}")
        return int(found[1]) * BLOCK + int(found[2], 16)

    def fill_hole(self, path: str | Path, block: int) -> None:
        """Makes the file system believe that a hole before all content has a
        block, with something in it."""
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
                raise AssertionError(f"{path} has other extents than thought")
            physical = int(free[1])
            file.seek(at)
            file.write(_HEADER.pack(magic, count + 1, most, depth, generation)
                       + _EXTENT.pack(block, 1, physical >> 32,
                                      physical & 0xffffffff) + extents)
            file.seek(physical * BLOCK)
            file.write(b"in the hole".ljust(BLOCK, b"!"))


def make(image: Path, size: int) -> None:
    """An empty ext4 with fs-verity, whose metadata can be changed by hand."""
    with open(image, "wb") as file:
        file.truncate(size)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK),
                    "-O", "verity,^metadata_csum", image], check=True)


@contextmanager
def mounted(size: int = 32 << 20) -> Iterator[Disk]:
    """An empty ext4 on a loop device, gone afterwards."""
    image = fixtures.SCRATCH / "disk.img"
    make(image, size)
    try:
        with mounts.directory() as top:
            subprocess.run(["mount", "-o", "loop", image, top], check=True)
            try:
                yield Disk(image, Path(top))
            finally:
                subprocess.run(["umount", top], check=True)
    finally:
        image.unlink()


def require_tools() -> None:
    """Ends the program where there is nothing to damage a disk with."""
    for tool in ("mke2fs", "debugfs"):
        if subprocess.run(["which", tool], capture_output=True,
                          check=False).returncode:
            ktap.skip_all(f"no {tool}: install e2fsprogs")
