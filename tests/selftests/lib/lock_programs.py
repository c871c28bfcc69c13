# SPDX-License-Identifier: GPL-2.0

"""Programs that may hang on a mount if locks are taken in the wrong order.

They fault in pages of a mount while the kernel holds locks of the same mount,
and the other way round.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import (caches, file_systems, ktap, mounts, objects, special_image,
               uring, watchdog)
from .dirents import SYS_GETDENTS64
from .files import opened
from .mounts import libc
from .permission_listener import read_memory_map

FILES = (special_image.LARGE, "sizes/131072", "sizes/4097", "hardlinks/a/file")
SHARED, PRIVATE = mmap.MAP_SHARED, mmap.MAP_PRIVATE
READ, WRITE = mmap.PROT_READ, mmap.PROT_WRITE
PAGE = mmap.PAGESIZE
# Where in a mapping a system call writes: in a page of its own, whatever the
# size of pages.
ROOM = 64 << 10
# lockdep judges an order that it has seen once.
MAPPERS, TIMES = (2, 2) if ktap.IS_SLOW else (3, 4)

DATA: dict[str, bytes] = {}


def load() -> None:
    """Reads the expected contents. This has to be done before a fork."""
    for name in FILES:
        DATA[name] = special_image.data(name)


def map_and_touch(top: str, seed: int) -> None:
    """Makes the first access to each file one through a mapping."""
    names = list(FILES)
    random.Random(seed).shuffle(names)
    for name in names:
        data = DATA[name]
        for kind, protection in ((SHARED, READ), (PRIVATE, READ | WRITE)):
            with opened(f"{top}/{name}") as fd, \
                    mmap.mmap(fd, 0, kind, protection) as view:
                assert view[:PAGE] == data[:PAGE], name
                assert view[-PAGE:] == data[-PAGE:], name
                if protection & WRITE:
                    view[0:1] = b"x"


def together(*functions: Callable[[], object]) -> None:
    """Runs functions in threads, which share one memory map."""
    failures: list[BaseException] = []

    def run(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:  # pylint: disable=broad-except
            failures.append(error)
    threads = [threading.Thread(target=run, args=(function,))
               for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def mapped_first(top: str) -> None:
    """Threads map files, read the memory map, and drop the caches."""
    def look() -> None:
        for _ in range(TIMES):
            read_memory_map(os.getpid())
            caches.drop()
    together(look, *(lambda seed=seed: map_and_touch(top, seed)
                     for seed in range(MAPPERS)))


def into_mappings(top: str) -> None:
    """System calls that write to a mapping that has no pages yet: they fault
    while they hold their locks."""
    links = os.readlink(f"{top}/links/4095")
    value = os.getxattr(f"{top}/xattrs/long", "user.long-20000")

    def fresh(call: Callable[[int], int], expected: bytes | None) -> None:
        caches.drop()
        with opened(f"{top}/{special_image.LARGE}") as fd, \
                mmap.mmap(fd, 0, PRIVATE, READ | WRITE) as view:
            # Only the address: this does not touch the page.
            room = ctypes.c_char.from_buffer(view, ROOM)
            count = call(ctypes.addressof(room))
            del room
            assert count > 0, os.strerror(ctypes.get_errno())
            if expected is not None:
                found = view[ROOM:ROOM + count]
                assert found == expected[:count], "wrong result"

    with opened(f"{top}/directories/big", os.O_RDONLY) as directory, \
            opened(f"{top}/sizes/131072") as other, \
            opened(f"{top}/sizes/64") as inline:
        fresh(lambda at: libc.syscall(SYS_GETDENTS64, directory,
                                      ctypes.c_void_p(at), 100_000), None)
        fresh(lambda at: libc.getxattr(
            f"{top}/xattrs/long".encode(), b"user.long-20000",
            ctypes.c_void_p(at), ctypes.c_size_t(20000)), value)
        fresh(lambda at: libc.readlink(
            f"{top}/links/4095".encode(), ctypes.c_void_p(at),
            ctypes.c_size_t(4095)), links.encode())
        fresh(lambda at: libc.read(other, ctypes.c_void_p(at),
                                   ctypes.c_size_t(131072)),
              DATA["sizes/131072"])
        fresh(lambda at: libc.read(inline, ctypes.c_void_p(at),
                                   ctypes.c_size_t(64)), None)
        # Into a mapping of itself.
        with opened(f"{top}/{special_image.LARGE}") as same:
            fresh(lambda at: libc.read(same, ctypes.c_void_p(at),
                                       ctypes.c_size_t(300_000)),
                  DATA[special_image.LARGE])


def out_of_mappings(top: str) -> None:
    """System calls whose arguments are in a mapping."""
    reader, writer = os.pipe()
    try:
        for name in FILES:
            caches.drop()
            with opened(f"{top}/{name}") as fd, \
                    mmap.mmap(fd, 0, SHARED, READ) as view:
                os.write(writer, memoryview(view)[:PAGE])
                assert os.read(reader, PAGE) == DATA[name][:PAGE], name
    finally:
        os.close(reader)
        os.close(writer)


def by_uring(top: str) -> None:
    """Reads through io_uring(7): several at once, as the first access."""
    ring = uring.Ring(8)
    try:
        for name in FILES:
            caches.drop()
            with opened(f"{top}/{name}") as fd:
                pieces = [(at, 8192) for at in range(
                    0, min(len(DATA[name]), 8 * 8192), 8192)]
                for (at, size), found in zip(pieces, ring.read(fd, pieces),
                                             strict=True):
                    assert found == DATA[name][at:at + size], (name, found)
    finally:
        ring.close()


PROGRAMS: tuple[Callable[[str], None], ...] = (
    mapped_first, into_mappings, out_of_mappings, by_uring)


def object_files() -> dict[str, bytes]:
    return {objects.object_name(objects.digest_of(data)): data
            for data in DATA.values()}


def options(image: str, store: str) -> mounts.Options:
    return mounts.composefs_options(f"{image}/image", [store],
                                    ("noverity", None))


@contextmanager
def on(image: str, store: str) -> Iterator[tuple[str, str]]:
    """Mounts an image on a file system of one kind with objects on one of
    another kind. Gives the path of the mount and of the objects. A FUSE server
    reads the memory map of its clients."""
    content = {"image": Path(special_image.image().path).read_bytes()}
    with (
        file_systems.mounted(image, content, read_memory_map) as image_top,
        file_systems.mounted(store, object_files(),
                             read_memory_map) as store_top,
        mounts.mounted("composefs", options(image_top, store_top)) as top,
    ):
        yield top, store_top


def check(test: ktap.Test, image: str, store: str) -> None:
    with on(image, store) as (top, _):
        for program in PROGRAMS:
            watchdog.finishes(test, program.__name__, lambda: program(top))


def add_kinds(suite: ktap.Suite, kinds: tuple[str, ...]) -> None:
    """Adds tests of images and objects on file systems of these kinds."""
    for kind in kinds:
        suite.add(f"image and objects on {kind}",
                  lambda test, kind=kind: check(test, kind, kind))
        if kind != "ext4":
            suite.add(f"an image on {kind}, its objects on ext4",
                      lambda test, kind=kind: check(test, kind, "ext4"))
            suite.add(f"an image on ext4, its objects on {kind}",
                      lambda test, kind=kind: check(test, "ext4", kind))
