#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Memory that cannot be reclaimed is charged to the cgroup that uses it.

Otherwise a container could make the kernel use memory beyond its limit. This
needs a memory cgroup.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from lib import caches, cgroup, fixtures, ktap, mounts, objects, special_image
from lib.mounts import Context

suite = ktap.Suite()

INO_SIZE, MODE_AT = 32, 4

# The least memory that an inode needs for a file that was opened.
BOX = 32
CONTEXTS, BASEDIRS, NAME_LEN = 10, 500, 200
MOUNTS = 30


def charged(use: Callable[[], object]) -> int:
    """The unreclaimable bytes that a child is charged for by a call, while the
    result of the call exists."""
    def unreclaimable(group: Path) -> int:
        # It lags behind by 64 pages for each processor, until the kernel sums
        # up, every two seconds.
        if mmap.PAGESIZE > 4096:
            time.sleep(3)
        for line in (group / "memory.stat").read_text("ascii").splitlines():
            name, _, value = line.partition(" ")
            if name == "slab_unreclaimable":
                return int(value)
        raise ktap.Skipped("memory.stat has no slab_unreclaimable")

    with cgroup.memory() as group:
        def run() -> int:
            before = unreclaimable(group)
            kept = use()
            after = unreclaimable(group)
            del kept
            return after - before
        return int(cgroup.run(group, run))


def at_least(test: ktap.Test, what: str, found: int, expected: int) -> None:
    test.note(f"{what}: {found} bytes are charged, {expected} are in use")
    test.check(found >= expected, f"{what}: {found} bytes are charged, fewer "
                                  f"than {expected}")


@suite.test("the data of inodes whose files were opened")
def opened(test: ktap.Test) -> None:
    with special_image.mounted() as top:
        caches.drop()
        directory = f"{top}/directories/big"
        names = os.listdir(directory)

        def use() -> None:
            for name in names:
                os.close(os.open(f"{directory}/{name}", os.O_RDONLY))
        at_least(test, f"{len(names)} files", charged(use), BOX * len(names))


@suite.test("options of fs contexts that are not mounted")
def contexts(test: ktap.Test) -> None:
    def use() -> list[Context]:
        kept = []
        for _ in range(CONTEXTS):
            kept.append(Context.open("composefs"))
            kept[-1].set("source", "/" + "s" * NAME_LEN)
            for _ in range(BASEDIRS):
                kept[-1].set("basedir", "/" + "b" * NAME_LEN)
        return kept
    at_least(test, "contexts", charged(use), CONTEXTS * BASEDIRS * NAME_LEN)


def as_files(image: bytearray, inodes: list[int]) -> None:
    """Turns symbolic links into inline files of the same bytes."""
    for ino in inodes:
        at = ino * INO_SIZE + MODE_AT
        mode, = struct.unpack_from("<H", image, at)
        assert stat.S_ISLNK(mode), f"inode {ino} is not a symbolic link"
        struct.pack_into("<H", image, at, stat.S_IFREG | 0o444)


def check_links(
    test: ktap.Test, what: str, change: bool, use: Callable[[str], object]
) -> None:
    """Uses all symbolic links of an image without fs-verity, so that its
    mounts share nothing."""
    image = special_image.image()
    with special_image.mounted() as top:
        found = {f"links/{name}": os.lstat(f"{top}/links/{name}")
                 for name in os.listdir(f"{top}/links")}
    data = bytearray(Path(image.path).read_bytes())
    if change:
        as_files(data, [info.st_ino for info in found.values()])
    size = sum(info.st_size for info in found.values())
    with objects.store() as work, ExitStack() as stack:
        copy = work.plain("image", data)
        tops = [stack.enter_context(mounts.composefs(str(copy), []))
                for _ in range(MOUNTS)]
        caches.drop()

        def run() -> None:
            for top in tops:
                for name in found:
                    use(f"{top}/{name}")
        at_least(test, what, charged(run), size * MOUNTS)


@suite.test("targets of symbolic links")
def links(test: ktap.Test) -> None:
    check_links(test, "targets", False, os.readlink)


@suite.test("content of inline files")
def content(test: ktap.Test) -> None:
    check_links(test, "content", True,
                lambda path: os.close(os.open(path, os.O_RDONLY)))


fixtures.require()
objects.require_verity()
suite.run()
