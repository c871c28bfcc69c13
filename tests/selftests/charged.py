#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Memory that somebody has the kernel keep is charged to who does that.

What cannot be reclaimed by itself grows without bound otherwise, outside of
the limit of the container that makes it grow.
"""

from __future__ import annotations

import os
import stat
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lib import fixtures, ktap, mounts, objects, process, slab, special
from lib.mounts import Context

suite = ktap.Suite()

CGROUPS = Path("/sys/fs/cgroup")
INO_SIZE, MODE_AT = 32, 4

# The least that is kept for a file that was opened: a box of some words.
BOX = 32
CONTEXTS, BASEDIRS, NAME_LEN = 10, 500, 200
MOUNTS = 30


@contextmanager
def cgroup() -> Iterator[Path]:
    """A memory cgroup, for a child."""
    control = CGROUPS / "cgroup.subtree_control"
    try:
        control.write_text("+memory\n", encoding="ascii")
        top = tempfile.mkdtemp(prefix="charged-", dir=CGROUPS)
    except OSError as error:
        raise ktap.Skipped(f"no memory cgroup below {CGROUPS}: {error}") \
            from None
    try:
        yield Path(top)
    finally:
        os.rmdir(top)


def charged(use: Callable[[], object]) -> int:
    """How many bytes that cannot be reclaimed a child is charged for; while
    what it has opened is open."""
    def unreclaimable(top: Path) -> int:
        for line in (top / "memory.stat").read_text("ascii").splitlines():
            name, _, value = line.partition(" ")
            if name == "slab_unreclaimable":
                return int(value)
        raise ktap.Skipped("memory.stat has no slab_unreclaimable")

    with cgroup() as top:
        def run() -> int:
            (top / "cgroup.procs").write_text(f"{os.getpid()}\n",
                                              encoding="ascii")
            before = unreclaimable(top)
            # It is kept until here.
            kept = use()
            after = unreclaimable(top)
            del kept
            return after - before
        return process.in_child(run)


def at_least(test: ktap.Test, what: str, found: int, expected: int) -> None:
    test.note(f"{what}: {found} bytes, {expected} are kept at least")
    test.check(found >= expected, f"{what}: {found} bytes are charged, of "
                                  f"{expected} at least")


@suite.test("what is kept of files that were opened")
def opened(test: ktap.Test) -> None:
    with special.mounted() as top:
        slab.drop_caches()
        directory = f"{top}/directories/big"
        names = os.listdir(directory)

        def use() -> None:
            for name in names:
                os.close(os.open(f"{directory}/{name}", os.O_RDONLY))
        at_least(test, f"{len(names)} files", charged(use), BOX * len(names))


@suite.test("options of contexts that are not mounted")
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
    """Makes symbolic links files with the same bytes."""
    for ino in inodes:
        at = ino * INO_SIZE + MODE_AT
        mode, = struct.unpack_from("<H", image, at)
        assert stat.S_ISLNK(mode), f"inode {ino} is no symbolic link"
        struct.pack_into("<H", image, at, stat.S_IFREG | 0o444)


def of_image(test: ktap.Test, what: str, change: bool,
             use: Callable[[str], object]) -> None:
    """Uses all symbolic links of an image, on mounts that share nothing."""
    image = special.image()
    with special.mounted() as top:
        found = {f"links/{name}": os.lstat(f"{top}/links/{name}")
                 for name in os.listdir(f"{top}/links")}
    data = bytearray(Path(image.path).read_bytes())
    if change:
        as_files(data, [info.st_ino for info in found.values()])
    size = sum(info.st_size for info in found.values())
    with objects.store() as work, ExitStack() as all_:
        copy = work.plain("image", data)
        tops = [all_.enter_context(mounts.composefs(str(copy), []))
                for _ in range(MOUNTS)]
        slab.drop_caches()

        def run() -> None:
            for top in tops:
                for name in found:
                    use(f"{top}/{name}")
        at_least(test, what, charged(run), size * MOUNTS)


@suite.test("targets of symbolic links")
def links(test: ktap.Test) -> None:
    of_image(test, "targets", False, os.readlink)


@suite.test("content that is in the image")
def content(test: ktap.Test) -> None:
    of_image(test, "content", True,
             lambda path: os.close(os.open(path, os.O_RDONLY)))


fixtures.require()
objects.require_verity()
suite.run()
