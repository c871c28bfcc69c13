#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""The bytes read from the disk for an image that is not in the page cache.

They are compared with erofs + overlayfs on the same image, which reads a page
at a time, and more by readahead where it reads in order.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from lib import (caches, cgroup, dm, fixtures, ktap, mounts, objects,
                 reference, special_image)
from lib.dm import FaultyDisk
from lib.probes import BIG
from lib.tree import names

suite = ktap.Suite()

KIB = 1024
THREADS = 32
# The sparse test looks up RUN names in every STEP-th directory.
RUN, STEP = 20, 20

# Mounts an image by its path.
Mounter = Callable[[fixtures.Image], AbstractContextManager[str]]


def composefs(image: fixtures.Image) -> AbstractContextManager[str]:
    return mounts.composefs(image.path, image.objects)


@contextmanager
def on_disk(image: fixtures.Image, mounter: Mounter
            ) -> Iterator[tuple[FaultyDisk, str]]:
    """A disk that holds nothing but the image, and the image's mount."""
    with reference.whole_pages(image.path) as path, \
            dm.mounted((Path(path), "image", False)) as where:
        with mounter(image.at(where.top / "image")) as top:
            yield where, top


def stacks() -> list[tuple[str, Mounter]]:
    return [("erofs + overlayfs", reference.mount), ("composefs", composefs)]


def bytes_for(where: FaultyDisk, action: Callable[[], object]) -> int:
    """The bytes that an action reads from the disk."""
    before = where.device.bytes_read()
    action()
    return where.device.bytes_read() - before


def stat_together(where: FaultyDisk, paths: list[str]) -> None:
    """Looks up all paths at once, each in a thread, while the disk is
    suspended. Then resumes the disk, and waits for the threads."""
    start = threading.Barrier(len(paths) + 1)

    def look(path: str) -> None:
        start.wait()
        os.stat(path)
    threads = [threading.Thread(target=look, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    with where.device.stalled():
        start.wait()
        time.sleep(2)
    for thread in threads:
        thread.join()


@suite.test(f"{THREADS} threads that miss the same block read it once")
def herd(test: ktap.Test) -> None:
    image = fixtures.many()
    for what, mounter in stacks():
        with on_disk(image, mounter) as (where, top):
            directory = f"{top}/directory-100"
            some = sorted(os.listdir(directory))[:THREADS]
            found = {}
            for count in (1, THREADS):
                caches.drop_all()
                os.stat(directory)
                found[count] = bytes_for(where, lambda n=count: stat_together(
                    where, [f"{directory}/{name}" for name in some[:n]]))
            test.note(f"{what}: {found}")
            limit = max(2 * found[1], 128 * KIB)
            test.check(0 < found[THREADS] <= limit,
                       f"{what}: {found[THREADS]} bytes, expected at most "
                       f"{limit}")


@suite.test("scattered lookups do not read the whole image")
def sparse(test: ktap.Test) -> None:
    image = fixtures.many()
    with composefs(image) as top:
        directories = sorted(os.listdir(top))[::STEP]
        wanted = [f"{directory}/{name}" for directory in directories
                  for name in sorted(os.listdir(f"{top}/{directory}"))[:RUN]]
    found = {}
    for what, mounter in stacks():
        with on_disk(image, mounter) as (where, top):
            caches.drop_all()
            found[what] = bytes_for(where, lambda: [
                os.lstat(f"{top}/{path}") for path in wanted])
    size = os.path.getsize(image.path)
    test.note(f"{len(wanted)} names: {found}, of an image of {size}")
    # For each block, composefs reads 16 KiB, and erofs a page.
    times = 3 if mmap.PAGESIZE < 16 * KIB else 2
    limit = max(times * found["erofs + overlayfs"], 512 * KIB)
    test.need(limit < size, "the image is too small for this test")
    test.check(0 < found["composefs"] <= limit,
               f"{found['composefs']} bytes, expected at most {limit}")


@suite.test("a walk of a whole tree reads the image in large requests")
def walk(test: ktap.Test) -> None:
    image = fixtures.many()
    with on_disk(image, composefs) as (where, top):
        caches.drop_all()
        before = where.device.requests()
        count = sum(1 for path, _, _ in names(top)
                    if os.lstat(os.fsencode(top) + path))
        requests = where.device.requests() - before
    size = os.path.getsize(image.path)
    test.note(f"{count} names in {requests} requests")
    # Requests of 256 KiB, and the extent blocks of ext4.
    limit = size // (256 * KIB) + 10
    test.check(requests <= limit, f"{requests} requests, expected at most "
                                  f"{limit}")


@suite.test("reclaim in one memory cgroup does not evict another's cache")
def reclaim(test: ktap.Test) -> None:
    def give_back(group: Path, number: int) -> None:
        # Dentries of its own, so that its reclaim scans this mount.
        for absent in range(200):
            os.path.exists(f"{top}/{BIG}/absent-{number}-{absent}")
        try:
            (group / "memory.reclaim").write_text("20M\n", encoding="ascii")
        except BlockingIOError:
            pass  # It had less memory to reclaim.

    def look_up(number: int) -> None:
        # A lookup of an absent name has to read the directory. It raises in
        # the child: a child's checks would be lost with it.
        for directory in (BIG, "types", "modes"):
            if os.path.exists(f"{top}/{directory}/no-{number}"):
                raise RuntimeError(f"{directory}/no-{number} exists")

    for what, mounter in stacks():
        with on_disk(special_image.image(), mounter) as (where, top), \
                cgroup.memory() as ours, cgroup.memory() as theirs:
            caches.drop_all()
            # All reads are charged to the other cgroup.
            cgroup.run(theirs, lambda: subprocess.run(
                ["ls", "-lR", top], stdout=subprocess.DEVNULL, check=False))
            cgroup.run(theirs, lambda: look_up(0))
            again = 0
            for number in range(1, 9):
                cgroup.run(ours, lambda n=number: give_back(ours, n))
                again += bytes_for(where, lambda n=number: cgroup.run(
                    theirs, lambda: look_up(n)))
            test.equal(again, 0, f"{what}: bytes that were read again")


def count_in(file: Path, name: str) -> int:
    """A count in a file of a cgroup."""
    return next(int(line.split()[1])
                for line in file.read_text(encoding="ascii").splitlines()
                if line.split()[0] == name)


def cached(group: Path) -> int:
    """The page cache that is charged to a cgroup, in bytes."""
    return count_in(group / "memory.stat", "file")


@suite.test("a cgroup at its limit gets the cache of an image")
def at_limit(test: ktap.Test) -> None:
    free = 4 << 20

    def fill() -> int:
        for _ in range(2):
            subprocess.run(["ls", "-lR", top], stdout=subprocess.DEVNULL,
                           check=False)
        # Not the inodes, which reclaim can get as well: erofs then has no
        # page cache of directories either.
        caches.drop_names()
        full = cached(group)
        used = int((group / "memory.current").read_text(encoding="ascii"))
        (group / "memory.max").write_text(f"{used + free}\n",
                                          encoding="ascii")
        # There is room for this only where the cache is now.
        block = mmap.mmap(-1, free + full * 3 // 4,
                          mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for at in range(0, len(block), mmap.PAGESIZE):
            block[at] = 1
        return full

    for what, mounter in stacks():
        with on_disk(special_image.image(), mounter) as (_, top), \
                cgroup.memory() as group:
            caches.drop_all()
            # A child's checks would be lost with it.
            full = cgroup.run(group, fill)
            test.check(mounter is not composefs or full >= 512 * KIB,
                       f"{what}: {full} bytes are charged")
            killed = count_in(group / "memory.events", "oom_kill")
            test.equal(killed, 0, f"{what}: processes that were killed")


@suite.test("drop_caches and reclaim get the cache of an image")
def given_back(test: ktap.Test) -> None:
    def walk() -> None:
        subprocess.run(["ls", "-lR", top], stdout=subprocess.DEVNULL,
                       check=False)

    for what, mounter in stacks():
        with on_disk(special_image.image(), mounter) as (where, top), \
                cgroup.memory() as group:
            caches.drop_all()
            cold = bytes_for(where, walk)
            # The second walk finds all in the cache, the third nothing.
            test.equal(bytes_for(where, walk), 0, f"{what}: a warm walk")
            caches.drop()
            again = bytes_for(where, walk)
            test.check(again >= cold * 3 // 4,
                       f"{what}: {again} of {cold} bytes are read again")

            caches.drop_all()
            cgroup.run(group, walk)
            full = cached(group)
            test.check(full >= cold // 2, f"{what}: {full} bytes are charged")
            # The first pass finds that they were used.
            for _ in range(4):
                with contextlib.suppress(BlockingIOError):
                    (group / "memory.reclaim").write_text(
                        "64M\n", encoding="ascii")
                time.sleep(0.2)
            left = cached(group)
            test.check(left <= full // 8,
                       f"{what}: {left} of {full} bytes are left")


fixtures.require()
objects.require_verity()
dm.require()
reference.require_support()
suite.run()
