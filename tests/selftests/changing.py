#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Images without fs-verity that change while they are mounted.

What is in memory may stay visible as it was. What is read again is right or an
error. When the image is restored, all results are right again: neither a
result nor an error outlives the bytes that it came from. faults.py damages
single fields.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import (caches, dirents, disk, fixtures, ktap, loop, mounts, objects,
                 probes, process, special_image)
from lib.files import opened
from lib.mounts import libc
from lib.probes import Baseline

suite = ktap.Suite()

BLOCK = disk.BLOCK
PUNCH_HOLE_KEEP_SIZE = 3

# The errors that a changed image may cause.
ERRORS = {errno.EUCLEAN, errno.EIO, errno.ENOENT, errno.ENOTDIR, errno.ELOOP,
          errno.ENODATA, errno.ESTALE, errno.EISDIR, errno.EACCES,
          errno.ENXIO, errno.EINVAL, errno.EOPNOTSUPP, errno.ENAMETOOLONG,
          errno.EOVERFLOW, errno.ERANGE}

# The number of rounds in which an image is written to during a walk, and the
# most names of a walk: a changed directory may contain itself.
ROUNDS, MOST_NAMES = 12, 600
SEED = 20261123


def content() -> bytes:
    return Path(special_image.image().path).read_bytes()


@contextmanager
def changeable() -> Iterator[tuple[Path, Baseline]]:
    """A copy of the image, and its baseline where it is mounted."""
    with objects.store() as work:
        path = work.plain("image", content())
        with mounted_baseline(str(path)) as baseline:
            yield path, baseline


@contextmanager
def mounted_baseline(source: mounts.Value) -> Iterator[Baseline]:
    with mounts.composefs(source, special_image.image().objects) as top:
        yield Baseline(top, probes.ALL)


def restore(path: Path) -> None:
    """Restores the content of the image, in the same file."""
    with open(path, "r+b") as file:
        file.write(content())
        file.truncate()


def check_restored(test: ktap.Test, path: Path, baseline: Baseline) -> None:
    restore(path)
    caches.drop_all()
    baseline.check(test, "restored", "right")


@suite.test("truncated: EIO behind the new end, until it is restored")
def truncated(test: ktap.Test) -> None:
    size = len(content())
    with changeable() as (path, baseline):
        for length in (0, 1, BLOCK, size // 2 + 100, size - BLOCK):
            os.truncate(path, length)
            baseline.check(test, f"{length} bytes, in memory", "right", "EIO")
            caches.drop_all()
            for _ in range(2):
                outcomes = baseline.check(
                    test, f"{length} bytes", "right", "EIO",
                    unaffected=probes.CACHED)
                test.check("EIO" in outcomes,
                           f"{length} bytes: no probe failed")
                if length < BLOCK:
                    baseline.check(test, f"{length} bytes", "EIO",
                                   unaffected=probes.CACHED)
            check_restored(test, path, baseline)


@suite.test("truncated and extended: zeros are damage")
def emptied(test: ktap.Test) -> None:
    with changeable() as (path, baseline):
        size = path.stat().st_size
        os.truncate(path, 0)
        os.truncate(path, size)
        caches.drop_all()
        for name, found in baseline.run_all():
            if name not in probes.CACHED:
                test.check(found in ("EUCLEAN", "EIO", "ENOENT", "ENODATA")
                           or (name == "a lookup of an absent name"
                               and found == "right"), f"{name}: {found}")
        check_restored(test, path, baseline)


@suite.test("extended: nothing changes")
def longer(test: ktap.Test) -> None:
    with changeable() as (path, baseline):
        with open(path, "ab") as file:
            file.write(b"\xff" * 100_000)
        caches.drop_all()
        baseline.check(test, "longer", "right")


@suite.test("deleted: the mount keeps the file")
def deleted(test: ktap.Test) -> None:
    with changeable() as (path, baseline):
        path.unlink()
        caches.drop_all()
        baseline.check(test, "deleted", "right")
        test.fails(errno.ENOENT, "another mount", mounts.new_mount,
                   "composefs", [("source", str(path))])


@suite.test("replaced by another file: the mount keeps the old one")
def replaced(test: ktap.Test) -> None:
    with changeable() as (path, baseline):
        other = path.with_name("other")
        other.write_bytes(Path(fixtures.named("matrix").path).read_bytes())
        os.rename(other, path)
        caches.drop_all()
        baseline.check(test, "replaced", "right")
        with mounts.composefs(str(path), []) as top:
            test.check("file-00" in os.listdir(top),
                       "a new mount shows the old image")


@suite.test("holes punched: EUCLEAN or EIO, until it is restored")
def punched(test: ktap.Test) -> None:
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long,
                               ctypes.c_long]
    with changeable() as (path, baseline):
        blocks = path.stat().st_size // BLOCK
        outcomes = set()
        for first in range(1, 8):
            with open(path, "r+b") as file:
                for block in range(first, blocks, 7):
                    if libc.fallocate(file.fileno(), PUNCH_HOLE_KEEP_SIZE,
                                      block * BLOCK, BLOCK):
                        raise ktap.Skipped(
                            "the file system cannot punch holes"
                        )
            caches.drop_all()
            # A directory of zeros may be valid, and lack a name.
            for name, found in baseline.run_all():
                test.check(found != "wrong result"
                           or name not in ("a file in an object",
                                           "a large file"),
                           f"{name}: {found}")
                outcomes.add(found)
            check_restored(test, path, baseline)
        test.check(outcomes & {"EUCLEAN", "EIO"}, f"outcomes: {outcomes}")


def look(directory: int, name: bytes) -> None:
    """Reads the file of a name. Its type may have changed."""
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    path = os.fsencode(f"/proc/self/fd/{directory}/") + name
    for xattr in os.listxattr(path, follow_symlinks=False)[:20]:
        os.getxattr(path, xattr, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        os.readlink(name, dir_fd=directory)
    elif stat.S_ISREG(found.st_mode):
        # It may have become a FIFO or a device.
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW,
                     dir_fd=directory)
        try:
            os.pread(fd, 65536, 0)
        finally:
            os.close(fd)


def attempt(errors: dict[str, int], call: Callable[[], object]) -> object:
    """Returns what a call returns. Counts its error, and returns None."""
    try:
        return call()
    except OSError as error:
        name = ktap.errno_name(error.errno)
        errors[name] = errors.get(name, 0) + 1
        return None


def walk(top: str, errors: dict[str, int]) -> int:
    """Reads some names of a tree that may be damaged. Returns how many."""
    seen, pending = 0, [os.fsencode(top)]
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_NOFOLLOW
    while pending and seen < MOST_NAMES:
        path = pending.pop(0)
        fd = attempt(errors, lambda path=path: os.open(path, flags))
        if not isinstance(fd, int):
            continue
        try:
            some = attempt(errors, lambda fd=fd: dirents.Buffer().read(fd))
            for entry in (some or [])[:60]:  # type: ignore[index]
                if entry.name in (b".", b".."):
                    continue
                seen += 1
                attempt(errors, lambda fd=fd, name=entry.name:
                        look(fd, name))
                if entry.type == dirents.DT_OF_MODE[stat.S_IFDIR] and \
                        path.count(b"/") < 12:
                    pending.append(path + b"/" + entry.name)
        finally:
            os.close(fd)
    return seen


def scribble(path: Path, seed: int) -> None:
    """Writes random bytes, and copies of other parts, to an image forever."""
    choose = random.Random(seed)
    size = path.stat().st_size
    with open(path, "r+b", buffering=0) as file:
        while True:
            at = choose.randrange(BLOCK, size - 600)
            file.seek(choose.randrange(0, size - 600))
            piece = file.read(512)
            file.seek(at)
            file.write(piece if choose.random() < 0.3 else
                       choose.randbytes(choose.choice((1, 2, 4, 8))))


@suite.test("written to during reads: an error at worst, right when restored")
def scribbled(test: ktap.Test) -> None:
    test.note(f"seed {SEED}")
    errors: dict[str, int] = {}
    seen = 0
    with objects.store() as work:
        path = work.plain("image", content())
        # With nodev, since a file may become a device.
        with mounts.composefs(str(path), special_image.image().objects) as top:
            mounts.mount(None, top, None, mounts.MS_REMOUNT | mounts.MS_BIND
                         | mounts.MS_RDONLY | mounts.MS_NODEV)
            baseline = Baseline(top, probes.ALL)
            for number in range(ROUNDS):
                with process.running(
                    lambda n=number: scribble(path, SEED + n)
                ):
                    for _ in range(2):
                        caches.drop_all()
                        seen += walk(top, errors)
                check_restored(test, path, baseline)
    test.note(f"{seen} names, errors: {errors}")
    test.check(seen > ROUNDS, f"{seen} names")
    test.equal(set(errors) - {ktap.errno_name(number) for number in ERRORS},
               set(), "unexpected errors")
    test.check(errors, "no probe failed")


@suite.test("overwritten by another image during readdir: readdir ends")
def other_image(test: ktap.Test) -> None:
    other = Path(fixtures.named("matrix").path).read_bytes()
    with changeable() as (path, baseline):
        size = path.stat().st_size
        for offset in (0, 100, 5000):
            with opened(f"{baseline.top}/{probes.BIG}",
                        os.O_RDONLY | os.O_DIRECTORY) as fd:
                room = dirents.Buffer(4096)
                test.check(room.read(fd), "no entry before the change")
                os.lseek(fd, offset, os.SEEK_CUR)
                with open(path, "r+b") as file:
                    file.write(other.ljust(size, b"\0"))
                caches.drop_all()
                entries = 0
                try:
                    while some := room.read(fd):
                        entries += len(some)
                        test.need(entries < size, "readdir does not end")
                except OSError as error:
                    test.check(error.errno in ERRORS, f"{error}")
            errors: dict[str, int] = {}
            walk(baseline.top, errors)
            test.equal(set(errors) - {ktap.errno_name(number)
                                      for number in ERRORS},
                       set(), "unexpected errors")
            check_restored(test, path, baseline)


@suite.test("a memfd that is truncated and restored")
def in_memory(test: ktap.Test) -> None:
    fd = os.memfd_create("image")
    try:
        os.write(fd, content())
        with mounted_baseline(fd) as baseline:
            os.truncate(fd, BLOCK)
            caches.drop_all()
            outcomes = baseline.check(test, "short", "right", "EIO",
                                      unaffected=probes.CACHED)
            test.check("EIO" in outcomes, "no probe failed")
            os.pwrite(fd, content(), 0)
            caches.drop_all()
            baseline.check(test, "restored", "right")
    finally:
        os.close(fd)


@suite.test("a block device that shrinks, and is detached")
def device(test: ktap.Test) -> None:
    with objects.store() as work:
        path = work.plain("image", content())
        found = loop.attach(path)
        try:
            with mounted_baseline(found) as baseline:
                os.truncate(path, 2 * BLOCK)
                subprocess.run(["losetup", "--set-capacity", found],
                               check=True)
                caches.drop_all()
                outcomes = baseline.check(test, "short", "right", "EIO",
                                          unaffected=probes.CACHED)
                test.check("EIO" in outcomes, "no probe failed")
                restore(path)
                subprocess.run(["losetup", "--set-capacity", found],
                               check=True)
                caches.drop_all()
                baseline.check(test, "restored", "right")
                # The device is removed when it is no longer in use.
                loop.detach(found)
                caches.drop_all()
                baseline.check(test, "detached", "right")
        finally:
            subprocess.run(["losetup", "--detach", found], check=False,
                           capture_output=True)
        test.check(str(path) not in loop.attached(),
                   "the device is still in use")


fixtures.require()
objects.require_verity()
mounts.require_root()
suite.run()
