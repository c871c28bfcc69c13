#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""What is read of an image that is in no memory yet, or no longer.

erofs + overlayfs on the same image is the control: it reads 4 KiB at a time,
and readahead where an image is read in order.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from lib import dm, fixtures, ktap, mounts, objects, reference, special
from lib.disk import forget
from lib.dm import Shaky
from lib.process import in_child
from lib.questions import BIG
from lib.tree import names

suite = ktap.Suite()

KIB = 1024
THREADS = 32
# So many names in one of so many directories.
RUN, STEP = 20, 20
CGROUPS = Path("/sys/fs/cgroup")

# Mounts an image by its path.
Mounter = Callable[[fixtures.Image], AbstractContextManager[str]]


def composefs(image: fixtures.Image) -> AbstractContextManager[str]:
    return mounts.composefs(image.path, image.objects)


@contextmanager
def on_disk(image: fixtures.Image, mounter: Mounter
            ) -> Iterator[tuple[Shaky, str]]:
    """A disk that has the image and nothing else that is read, and where the
    image is mounted."""
    with dm.mounted((Path(image.path), "image", False)) as where:
        with mounter(image.at(where.top / "image")) as top:
            yield where, top


def stacks() -> list[tuple[str, Mounter]]:
    return [("erofs + overlayfs", reference.mount), ("composefs", composefs)]


def bytes_for(where: Shaky, action: Callable[[], object]) -> int:
    """What is read from the disk meanwhile."""
    before = where.device.bytes_read()
    action()
    return where.device.bytes_read() - before


def stat_together(where: Shaky, paths: list[str]) -> None:
    """Looks all up at once, each in a thread of its own, while the disk does
    not answer; then it does."""
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


@suite.test(f"{THREADS} threads that miss the same place read it once")
def herd(test: ktap.Test) -> None:
    image = fixtures.many()
    for what, mounter in stacks():
        with on_disk(image, mounter) as (where, top):
            directory = f"{top}/directory-100"
            some = sorted(os.listdir(directory))[:THREADS]
            found = {}
            for count in (1, THREADS):
                forget()
                os.stat(directory)
                found[count] = bytes_for(where, lambda n=count: stat_together(
                    where, [f"{directory}/{name}" for name in some[:n]]))
            test.note(f"{what}: {found}")
            limit = max(2 * found[1], 128 * KIB)
            test.check(0 < found[THREADS] <= limit,
                       f"{what}: {found[THREADS]} bytes, expected at most "
                       f"{limit}")


@suite.test("a few names here and there do not read the whole image")
def sparse(test: ktap.Test) -> None:
    image = fixtures.many()
    with composefs(image) as top:
        directories = sorted(os.listdir(top))[::STEP]
        wanted = [f"{directory}/{name}" for directory in directories
                  for name in sorted(os.listdir(f"{top}/{directory}"))[:RUN]]
    found = {}
    for what, mounter in stacks():
        with on_disk(image, mounter) as (where, top):
            forget()
            found[what] = bytes_for(where, lambda: [
                os.lstat(f"{top}/{path}") for path in wanted])
    size = os.path.getsize(image.path)
    test.note(f"{len(wanted)} names: {found}, of an image of {size}")
    limit = max(3 * found["erofs + overlayfs"], 512 * KIB)
    test.need(limit < size, "the image is too small to tell")
    test.check(0 < found["composefs"] <= limit,
               f"{found['composefs']} bytes, expected at most {limit}")


@suite.test("a walk of a whole tree reads it in large pieces")
def walk(test: ktap.Test) -> None:
    image = fixtures.many()
    with on_disk(image, composefs) as (where, top):
        forget()
        before = where.device.requests()
        count = sum(1 for path, _, _ in names(top)
                    if os.lstat(os.fsencode(top) + path))
        requests = where.device.requests() - before
    size = os.path.getsize(image.path)
    test.note(f"{count} names in {requests} requests")
    # Pieces of 256 KiB, and what ext4 reads to find the image's blocks.
    limit = size // (256 * KIB) + 10
    test.check(requests <= limit, f"{requests} requests, expected at most "
                                  f"{limit}")


@contextmanager
def cgroup(name: str) -> Iterator[Path]:
    """A memory cgroup, gone afterwards."""
    control = CGROUPS / "cgroup.subtree_control"
    if not control.exists():
        raise ktap.Skipped("no cgroup2 at /sys/fs/cgroup")
    try:
        control.write_text("+memory\n", encoding="ascii")
    except OSError as error:
        raise ktap.Skipped(f"no memory controller: {error}") from None
    path = CGROUPS / f"composefs-{name}"
    path.mkdir()
    try:
        yield path
    finally:
        # A process that has ended may still be leaving.
        for _ in range(50):
            try:
                path.rmdir()
                break
            except OSError:
                time.sleep(0.1)


def in_cgroup(path: Path, action: Callable[[], object]) -> None:
    def run() -> None:
        (path / "cgroup.procs").write_text("0\n", encoding="ascii")
        action()
    in_child(run)


@suite.test("what one memory cgroup gives back is not read again by others")
def reclaim(test: ktap.Test) -> None:
    def give_back(group: Path, number: int) -> None:
        # Dentries of its own, so that its reclaim looks at this mount.
        for absent in range(200):
            os.path.exists(f"{top}/{BIG}/absent-{number}-{absent}")
        try:
            (group / "memory.reclaim").write_text("20M\n", encoding="ascii")
        except BlockingIOError:
            pass  # There was not as much.

    def look_up(number: int) -> None:
        # Absent names: each is looked for in the image.
        for directory in (BIG, "types", "modes"):
            test.check(not os.path.exists(f"{top}/{directory}/no-{number}"),
                       f"{directory}/no-{number} exists")

    for what, mounter in stacks():
        with on_disk(special.image(), mounter) as (where, top), \
                cgroup("a") as ours, cgroup("b") as theirs:
            forget()
            # All that is read is charged to the others.
            in_cgroup(theirs, lambda: subprocess.run(
                ["ls", "-lR", top], stdout=subprocess.DEVNULL, check=False))
            in_cgroup(theirs, lambda: look_up(0))
            again = 0
            for number in range(1, 9):
                in_cgroup(ours, lambda n=number: give_back(ours, n))
                again += bytes_for(where, lambda n=number: in_cgroup(
                    theirs, lambda: look_up(n)))
            test.equal(again, 0, f"{what}: bytes that are read again")


fixtures.require()
objects.require_verity()
dm.require()
reference.require_support()
suite.run()
