#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Images without fs-verity that change under their mount.

What is in memory may go on being seen as it was. What has to be read again is
right or an error, and when the image is as it was, so is all that is seen: no
success and no failure outlives what it came from. faults.py has the damage of
single fields.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import (dirents, disk, fixtures, ktap, mounts, objects, questions,
                 special)
from lib.disk import forget
from lib.mounts import libc
from lib.questions import Answers
from lib.special import opened

suite = ktap.Suite()

BLOCK = disk.BLOCK
PUNCH_HOLE_KEEP_SIZE = 3

# What asking a changed image may give besides answers.
ERRORS = {errno.EUCLEAN, errno.EIO, errno.ENOENT, errno.ENOTDIR, errno.ELOOP,
          errno.ENODATA, errno.ESTALE, errno.EISDIR, errno.EACCES,
          errno.ENXIO, errno.EINVAL, errno.EOPNOTSUPP, errno.ENAMETOOLONG,
          errno.EOVERFLOW, errno.ERANGE}

# Rounds in which an image is written to while it is walked, and how many names
# a walk looks at: a changed directory may hold itself.
ROUNDS, MOST_NAMES = 12, 600
SEED = 20261123


def content() -> bytes:
    return Path(special.image().path).read_bytes()


@contextmanager
def changeable() -> Iterator[tuple[Path, Answers]]:
    """A copy of the image, mounted, and what it answers."""
    with objects.store() as work:
        path = work.plain("image", content())
        with special_of(str(path)) as answers:
            yield path, answers


@contextmanager
def special_of(source: mounts.Value) -> Iterator[Answers]:
    with mounts.composefs(source, special.image().objects) as top:
        yield Answers(top, questions.EVERYTHING)


def put_back(path: Path) -> None:
    """In place, so that it stays the same file."""
    with open(path, "r+b") as file:
        file.write(content())
        file.truncate()


def then_right(test: ktap.Test, path: Path, answers: Answers) -> None:
    put_back(path)
    forget()
    answers.check(test, "as it was again", "right")


@suite.test("truncated: EIO behind the new end, and back")
def truncated(test: ktap.Test) -> None:
    size = len(content())
    with changeable() as (path, answers):
        for length in (0, 1, BLOCK, size // 2 + 100, size - BLOCK):
            os.truncate(path, length)
            answers.check(test, f"{length} bytes, in memory", "right", "EIO")
            forget()
            for _ in range(2):
                outcomes = answers.check(
                    test, f"{length} bytes", "right", "EIO",
                    but=questions.OF_MEMORY)
                test.check("EIO" in outcomes, f"{length} bytes: all is right")
                if length < BLOCK:
                    answers.check(test, f"{length} bytes", "EIO",
                                  but=questions.OF_MEMORY)
            then_right(test, path, answers)


@suite.test("truncated and then longer: zeros are damage, and no old answer")
def emptied(test: ktap.Test) -> None:
    with changeable() as (path, answers):
        size = path.stat().st_size
        os.truncate(path, 0)
        os.truncate(path, size)
        forget()
        for name, found in answers.ask_all():
            if name not in questions.OF_MEMORY:
                test.check(found in ("EUCLEAN", "EIO", "ENOENT", "ENODATA")
                           or (name == "a lookup of what is not there"
                               and found == "right"), f"{name}: {found}")
        then_right(test, path, answers)


@suite.test("longer than it was: nothing changes")
def longer(test: ktap.Test) -> None:
    with changeable() as (path, answers):
        with open(path, "ab") as file:
            file.write(b"\xff" * 100_000)
        forget()
        answers.check(test, "longer", "right")


@suite.test("deleted: the mount goes on")
def deleted(test: ktap.Test) -> None:
    with changeable() as (path, answers):
        path.unlink()
        forget()
        answers.check(test, "deleted", "right")
        test.fails(errno.ENOENT, "another mount", mounts.new_mount,
                   "composefs", [("source", str(path))])


@suite.test("replaced by another file: the mount goes on with the old one")
def replaced(test: ktap.Test) -> None:
    with changeable() as (path, answers):
        other = path.with_name("other")
        other.write_bytes(Path(fixtures.named("matrix").path).read_bytes())
        os.rename(other, path)
        forget()
        answers.check(test, "replaced", "right")
        with mounts.composefs(str(path), []) as top:
            test.check("file-00" in os.listdir(top), "a new mount is old")


@suite.test("holes punched into it: EUCLEAN or EIO, and back")
def punched(test: ktap.Test) -> None:
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long,
                               ctypes.c_long]
    with changeable() as (path, answers):
        blocks = path.stat().st_size // BLOCK
        outcomes = set()
        for first in range(1, 8):
            with open(path, "r+b") as file:
                for block in range(first, blocks, 7):
                    if libc.fallocate(file.fileno(), PUNCH_HOLE_KEEP_SIZE,
                                      block * BLOCK, BLOCK):
                        raise ktap.Skipped("no holes here")
            forget()
            # A hole may well be a directory that has no such name.
            for name, found in answers.ask_all():
                test.check(found != "another answer"
                           or name not in ("a file in an object",
                                           "a large file"),
                           f"{name}: {found}")
                outcomes.add(found)
            then_right(test, path, answers)
        test.check(outcomes & {"EUCLEAN", "EIO"}, f"outcomes: {outcomes}")


def look(directory: int, name: bytes) -> None:
    """At everything of a name, whatever it is by now."""
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    path = os.fsencode(f"/proc/self/fd/{directory}/") + name
    for xattr in os.listxattr(path, follow_symlinks=False)[:20]:
        os.getxattr(path, xattr, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        os.readlink(name, dir_fd=directory)
    elif stat.S_ISREG(found.st_mode):
        # It may be a fifo or a device by now.
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW,
                     dir_fd=directory)
        try:
            os.pread(fd, 65536, 0)
        finally:
            os.close(fd)


def attempt(errors: dict[str, int], call: Callable[[], object]) -> object:
    """What a call returns. Its error is counted."""
    try:
        return call()
    except OSError as error:
        name = ktap.errno_name(error.errno)
        errors[name] = errors.get(name, 0) + 1
        return None


def walk(top: str, errors: dict[str, int]) -> int:
    """Looks at some names of a tree that may be none. Gives how many."""
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
    """Writes to an image without end: bytes, copies of other parts."""
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


@contextmanager
def scribbling(path: Path, seed: int) -> Iterator[None]:
    child = os.fork()
    if child == 0:
        try:
            scribble(path, seed)
        finally:
            os._exit(1)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@suite.test("written to all the time: answers or errors, and right when back")
def scribbled(test: ktap.Test) -> None:
    test.note(f"seed {SEED}")
    errors: dict[str, int] = {}
    seen = 0
    with objects.store() as work:
        path = work.plain("image", content())
        # What is a device by now is not to be opened.
        with mounts.composefs(str(path), special.image().objects) as top:
            mounts.mount(None, top, None, mounts.MS_REMOUNT | mounts.MS_BIND
                         | mounts.MS_RDONLY | mounts.MS_NODEV)
            answers = Answers(top, questions.EVERYTHING)
            for number in range(ROUNDS):
                with scribbling(path, SEED + number):
                    for _ in range(2):
                        forget()
                        seen += walk(top, errors)
                then_right(test, path, answers)
    test.note(f"{seen} names, errors: {errors}")
    test.check(seen > ROUNDS, f"{seen} names")
    test.equal(set(errors) - {ktap.errno_name(number) for number in ERRORS},
               set(), "other errors")
    test.check(errors, "no error at all")


@suite.test("another image in its place while a directory is read: it ends")
def other_image(test: ktap.Test) -> None:
    other = Path(fixtures.named("matrix").path).read_bytes()
    with changeable() as (path, answers):
        size = path.stat().st_size
        for offset in (0, 100, 5000):
            with opened(f"{answers.top}/{questions.BIG}",
                        os.O_RDONLY | os.O_DIRECTORY) as fd:
                room = dirents.Buffer(4096)
                test.check(room.read(fd), "no entry before")
                os.lseek(fd, offset, os.SEEK_CUR)
                with open(path, "r+b") as file:
                    file.write(other.ljust(size, b"\0"))
                forget()
                entries = 0
                try:
                    while some := room.read(fd):
                        entries += len(some)
                        test.need(entries < size, "it does not end")
                except OSError as error:
                    test.check(error.errno in ERRORS, f"{error}")
            errors: dict[str, int] = {}
            walk(answers.top, errors)
            test.equal(set(errors) - {ktap.errno_name(number)
                                      for number in ERRORS},
                       set(), "other errors")
            then_right(test, path, answers)


@suite.test("a memfd that shrinks and grows")
def in_memory(test: ktap.Test) -> None:
    fd = os.memfd_create("image")
    try:
        os.write(fd, content())
        with special_of(fd) as answers:
            os.truncate(fd, BLOCK)
            forget()
            outcomes = answers.check(test, "short", "right", "EIO",
                                     but=questions.OF_MEMORY)
            test.check("EIO" in outcomes, "all is right")
            os.pwrite(fd, content(), 0)
            forget()
            answers.check(test, "as it was", "right")
    finally:
        os.close(fd)


@suite.test("a block device that shrinks, and is detached while it is mounted")
def device(test: ktap.Test) -> None:
    with objects.store() as work:
        path = work.plain("image", content())
        loop = subprocess.run(
            ["losetup", "--find", "--show", path],
            capture_output=True, text=True, check=True).stdout.strip()
        try:
            with special_of(loop) as answers:
                os.truncate(path, 2 * BLOCK)
                subprocess.run(["losetup", "--set-capacity", loop],
                               check=True)
                forget()
                outcomes = answers.check(test, "short", "right", "EIO",
                                         but=questions.OF_MEMORY)
                test.check("EIO" in outcomes, "all is right")
                put_back(path)
                subprocess.run(["losetup", "--set-capacity", loop],
                               check=True)
                forget()
                answers.check(test, "as it was", "right")
                # It goes when nobody uses it any more.
                subprocess.run(["losetup", "--detach", loop], check=True)
                forget()
                answers.check(test, "detached", "right")
        finally:
            subprocess.run(["losetup", "--detach", loop], check=False,
                           capture_output=True)
        test.check(str(path) not in subprocess.run(
            ["losetup", "--all"], capture_output=True, text=True,
            check=True).stdout, "the device is in use still")


fixtures.require()
objects.require_verity()
if os.geteuid() != 0:
    ktap.skip_all("only root can mount")
suite.run()
