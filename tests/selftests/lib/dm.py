# SPDX-License-Identifier: GPL-2.0

"""A disk that fails on command: device-mapper over a loop device."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import disk, fixtures, ktap, loop, mounts, objects
from .disk import BLOCK, Disk

SECTOR = 512
PER_BLOCK = BLOCK // SECTOR

_numbers = itertools.count()


def dmsetup(*arguments: str, table: str | None = None) -> str:
    done = subprocess.run(["dmsetup", "--noudevsync", *arguments],
                          input=table, capture_output=True, text=True,
                          check=False)
    if done.returncode:
        raise AssertionError(f"dmsetup {' '.join(arguments)}: "
                             f"{done.stderr.strip()}")
    return done.stdout.strip()


class Device:
    """A device that passes reads on to a device of the same size."""

    def __init__(self, below: str, size: int) -> None:
        self.below = below
        self.sectors = size // SECTOR
        self.name = f"composefs-{os.getpid()}-{next(_numbers)}"
        dmsetup("create", self.name, table=self._good(0, self.sectors))
        # The kernel makes this name; all others are made by udev.
        self.node = dmsetup("info", "--columns", "--noheadings",
                            "-o", "blkdevname", self.name)
        self.path = f"/dev/{self.node}"

    def _good(self, first: int, count: int) -> str:
        return f"{first} {count} linear {self.below} {first}\n"

    def _load(self, table: str) -> None:
        # Without waiting for pending I/O, and without freezing the file
        # system.
        dmsetup("suspend", "--noflush", "--nolockfs", self.name)
        dmsetup("load", self.name, table=table)
        dmsetup("resume", self.name)

    def work(self) -> None:
        """Makes all reads succeed."""
        self._load(self._good(0, self.sectors))

    def fail(self) -> None:
        """Makes all reads fail."""
        self._load(f"0 {self.sectors} error\n")

    def replace(self, blocks: Iterable[int], target: str) -> None:
        """Maps some blocks to another target. `target` is a line of a table
        without start and length, in which @ stands for the block's sector."""
        table, at = "", 0
        for block in sorted(set(blocks)):
            first = block * PER_BLOCK
            if first > at:
                table += self._good(at, first - at)
            table += f"{first} {PER_BLOCK} " + \
                target.replace("@", str(first)) + "\n"
            at = first + PER_BLOCK
        if at < self.sectors:
            table += self._good(at, self.sectors - at)
        self._load(table)

    def fail_at(self, *blocks: int) -> None:
        """Makes reads of these blocks fail."""
        self.replace(blocks, "error")

    def corrupt_at(self, *blocks: int) -> None:
        """Makes reads of these blocks return a wrong byte."""
        self.replace(blocks, f"flakey {self.below} @ 0 1 "
                             "5 corrupt_bio_byte 100 r 165 0")

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Suspends the device: reads wait until the end of the context."""
        dmsetup("suspend", "--noflush", "--nolockfs", self.name)
        try:
            yield
        finally:
            dmsetup("resume", self.name)

    def _statistics(self) -> list[int]:
        text = Path(f"/sys/block/{self.node}/stat").read_text(
            encoding="ascii")
        return [int(word) for word in text.split()]

    def requests(self) -> int:
        """The number of reads so far."""
        return self._statistics()[0]

    def bytes_read(self) -> int:
        """The number of bytes read so far."""
        return self._statistics()[2] * SECTOR

    def vanish(self) -> None:
        """Removes the device by force: all further I/O fails."""
        subprocess.run(["dmsetup", "--noudevsync", "remove", "--force",
                        "--noflush", "--nolockfs", self.name],
                       capture_output=True, check=False)

    def remove(self) -> None:
        if os.path.exists(f"/sys/block/{self.node}"):
            dmsetup("remove", "--retry", self.name)


class FaultyDisk(Disk):
    """A read-only ext4 on such a device."""

    def __init__(self, image: Path, top: Path, device: Device) -> None:
        super().__init__(image, top)
        self.device = device

    def inode_block(self, path: str | Path) -> int:
        """The number of the block that holds a file's inode."""
        return int(self.inode_at(path) // BLOCK)


@contextmanager
def _prepared(fill_from: list[tuple[Path, str, bool]]) -> Iterator[Path]:
    """An ext4 in a file, with copies of files: source, name, whether
    fs-verity is enabled."""
    image = fixtures.SCRATCH / f"shaky-{next(_numbers)}.img"
    disk.make(image, 64 << 20)
    try:
        with loop.mounted(image) as top:
            store = objects.Store(Path(top))
            for source, name, verity in fill_from:
                path = store.plain(name, source.read_bytes())
                if verity:
                    objects.enable_verity(path)
        yield image
    finally:
        image.unlink()


@contextmanager
def mounted(*files: tuple[Path, str, bool]) -> Iterator[FaultyDisk]:
    """A disk with copies of these files: source, name, whether fs-verity is
    enabled."""
    with _prepared(list(files)) as image, mounts.directory() as top, \
            loop.device(image) as below:
        device = Device(below, image.stat().st_size)
        try:
            subprocess.run(
                ["mount", "-t", "ext4", "-o", "ro,noload,errors=continue",
                 device.path, top], check=True)
            try:
                yield FaultyDisk(image, Path(top), device)
            finally:
                if os.path.ismount(top):
                    mounts.umount(top, mounts.MNT_DETACH)
        finally:
            device.remove()


def require() -> None:
    """Ends the program where there is no device-mapper."""
    ktap.require_programs("dmsetup", "dmsetup")
    subprocess.run(["modprobe", "--quiet", "dm-flakey"], check=False)
    done = subprocess.run(["dmsetup", "targets"], capture_output=True,
                          text=True, check=False)
    missing = [name for name in ("linear", "error", "flakey")
               if name not in done.stdout]
    if missing:
        ktap.skip_all(f"device-mapper has no {', '.join(missing)} target")
