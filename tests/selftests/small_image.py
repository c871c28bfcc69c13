#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Memory that a mount of a small image takes, beside erofs + overlayfs.

With large pages, each page that is kept needlessly costs a lot: a machine may
have hundreds of such mounts, one for each container.
"""

from __future__ import annotations

import mmap
import os
import stat
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from lib import caches, fixtures, image, ktap, mounts, objects, reference
from lib.fixtures import Image

suite = ktap.Suite()

MOUNTS = 32
DIRECTORIES = 4
FILES = 14
# In bytes. The image fills the last of its blocks only in part.
IMAGE_SIZE = 16 << 10


class Memory(NamedTuple):
    """KiB of memory at one moment."""

    slab: int
    page_cache: int


def memory() -> Memory:
    # Adds the counts of each processor to the sums.
    Path("/proc/sys/vm/stat_refresh").write_text("1", encoding="ascii")
    with open("/proc/meminfo", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file)
    return Memory(*(int(fields[name].split()[0])
                    for name in ("Slab", "Cached")))


def make_image(number: int, path: Path) -> Image:
    """Writes an image that no other one is equal to."""
    root = image.directory({
        f"directory-{outer}": image.directory({
            f"file-{number}-{outer}-{inner}": image.external(
                5000, f"/ab/{number:032x}{outer:08x}{inner:08x}", bytes(32))
            for inner in range(FILES)})
        for outer in range(DIRECTORIES)})
    image.write(root, path)
    size = os.stat(path).st_size
    if not IMAGE_SIZE - image.BLOCK < size <= IMAGE_SIZE:
        raise AssertionError(f"the image has {size} bytes")
    # erofs needs whole pages: see lib/reference.py.
    os.truncate(path, size + -size % mmap.PAGESIZE)
    version, has_acl = fixtures.read_header(str(path))
    return Image(name=path.name, path=str(path), version=version,
                 has_acl=has_acl, objects=[str(path.parent)])


def walk(top: str) -> int:
    """Looks at all files. Returns their number."""
    count = 0
    for directory, _, names in os.walk(top):
        for name in names:
            mode = os.lstat(f"{directory}/{name}").st_mode
            count += stat.S_ISREG(mode)
    return count


def measure(test: ktap.Test, images: list[Image], what: str,
            enter: Callable[[ExitStack, Image], str]) -> Memory:
    """KiB for each mount, after a walk."""
    caches.drop_all()
    # Inodes are freed after a grace period of RCU.
    time.sleep(1)
    before = memory()
    with ExitStack() as stack:
        for one in images:
            test.equal(walk(enter(stack, one)), DIRECTORIES * FILES, "files")
        after = memory()
    used = Memory(*((end - begin) // len(images)
                    for end, begin in zip(after, before)))
    test.note(f"figure: KiB of slabs, {what} = {used.slab}")
    test.note(f"figure: KiB of page cache, {what} = {used.page_cache}")
    return used


@suite.test("a mount keeps no more of a small image than there is")
def small(test: ktap.Test) -> None:
    with objects.store() as work:
        images = [make_image(number, work.at(f"{number}.cfs"))
                  for number in range(MOUNTS)]
        size = os.stat(images[0].path).st_size
        test.note(f"{size} bytes, pages of {mmap.PAGESIZE}")

        def ours(stack: ExitStack, one: Image) -> str:
            return stack.enter_context(
                mounts.composefs(one.path, one.objects))

        def theirs(stack: ExitStack, one: Image) -> str:
            return stack.enter_context(reference.mount(one))

        # What is loaded at the first mount does not count.
        for enter in (ours, theirs):
            with ExitStack() as stack:
                walk(enter(stack, images[0]))
        mine = measure(test, images, "composefs", ours)
        other = measure(test, images, "erofs + overlayfs", theirs)
        # Other programs may read a page meanwhile.
        most = (size >> 10) + 8
        test.check(mine.page_cache <= most,
                   f"{mine.page_cache} KiB of page cache for an image of "
                   f"{size >> 10} KiB in pages")
        test.check(mine.page_cache <= other.page_cache,
                   f"{mine.page_cache} KiB of page cache, and "
                   f"{other.page_cache} with erofs + overlayfs")
        test.check(mine.slab <= other.slab,
                   f"{mine.slab} KiB of slabs, and {other.slab} with erofs + "
                   "overlayfs")


reference.require_support()
suite.run()
