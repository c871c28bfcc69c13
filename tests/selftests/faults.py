#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Damaged images and objects: the error, the line in the log, the event.

What is wrong with metadata is EUCLEAN, what is wrong with content EIO. Each is
a line with the image, the inode and the reason, and a FAN_FS_ERROR event.
"""

from __future__ import annotations

import codecs
import errno
import os
import re
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import (fixtures, kernel_log, ktap, matrix, mounts, notify, objects,
                 slab, special)
from lib.special import opened

suite = ktap.Suite()

TRACING = Path("/sys/kernel/tracing")
EUCLEAN, EIO = errno.EUCLEAN, errno.EIO
INO_SIZE = 32
# struct erofs_inode_compact and its longer form.
COMPACT, EXTENDED = 32, 64


class Copy:
    """An image that can be damaged, without fs-verity."""

    def __init__(self, path: str) -> None:
        self.data = bytearray(Path(path).read_bytes())

    def inode(self, ino: int) -> tuple[int, int, int, int, int]:
        """Offset, length, mode, size and xattrs' length of an inode."""
        at = ino * INO_SIZE
        form, count, mode = struct.unpack_from("<HHH", self.data, at)
        if form & 1:
            size = struct.unpack_from("<Q", self.data, at + 8)[0]
        else:
            size = struct.unpack_from("<I", self.data, at + 8)[0]
        return at, EXTENDED if form & 1 else COMPACT, mode, size, \
            12 + 4 * (count - 1) if count else 0

    def data_at(self, ino: int) -> int:
        """Where the data of an inode begin in the image."""
        at, length, _, size, xattrs = self.inode(ino)
        form = struct.unpack_from("<H", self.data, at)[0]
        tail = at + length + xattrs
        if form >> 1 & 7 == 2 and size < 4096:
            return tail
        return struct.unpack_from("<I", self.data, at + 16)[0] * 4096


# Damages the image; given the copy, and the number of the inode that the
# damage is to be in.
Damage = Callable[[Copy, int], None]


def put(form: str, offset: int, value: int) -> Damage:
    """Changes a field of the inode."""
    def damage(copy: Copy, ino: int) -> None:
        struct.pack_into(form, copy.data, ino * INO_SIZE + offset, value)
    return damage


def put_data(form: str, offset: int, value: int) -> Damage:
    """Changes a number in the data of the inode."""
    def damage(copy: Copy, ino: int) -> None:
        struct.pack_into(form, copy.data, copy.data_at(ino) + offset, value)
    return damage


def put_xattr(form: str, offset: int, value: int) -> Damage:
    """Changes a number in the xattrs of the inode."""
    def damage(copy: Copy, ino: int) -> None:
        at, length, _, _, xattrs = copy.inode(ino)
        assert xattrs, "no xattrs to damage"
        struct.pack_into(form, copy.data, at + length + offset, value)
    return damage


def look_up(path: str) -> None:
    os.lstat(path)


def list_names(path: str) -> None:
    os.listdir(path)


def list_xattrs(path: str) -> None:
    os.listxattr(path, follow_symlinks=False)


def look_up_in(path: str) -> None:
    os.lstat(f"{path}/absent")


def list_and_look(path: str) -> None:
    """Looks at all that is listed."""
    for name in os.listdir(path):
        os.lstat(f"{path}/{name}")


# File, how it is damaged, and what fails then.
DAMAGES: dict[str, tuple[str, Damage, Callable[[str], None]]] = {
    "an unknown layout": ("sizes/4097", put("<H", 0, 0xff), look_up),
    "no type": ("sizes/4097", put("<H", 4, 0o170644), look_up),
    "a symbolic link with a NUL": ("types/symlink", put_data("<B", 2, 0),
                                   look_up),
    "a symbolic link that is too long": (
        "types/symlink", put("<I", 8, 70000), look_up),
    "a directory whose first name is nowhere": (
        "types", put_data("<H", 8, 0xffff), list_names),
    "a directory whose first name is in an entry": (
        "types", put_data("<H", 8, 13), list_names),
    "a directory without entries": (
        "types", put_data("<H", 8, 0), list_names),
    "a search in a directory whose names are nowhere": (
        "types", put_data("<H", 8, 0xffff), look_up_in),
    "a name with a slash": ("types/directory", put_data("<B", 12 * 2, 0x2f),
                            list_names),
    "an entry that leads out of the image": (
        "types", put_data("<Q", 12 * 2, 1 << 59), list_and_look),
    "more shared xattrs than there is room for": (
        "xattrs/shared-0", put_xattr("<B", 4, 0xff), list_xattrs),
    "a shared xattr that is nowhere": (
        "xattrs/shared-0", put_xattr("<I", 12, 0xfffffff0), list_xattrs),
}


# The line names the inode that is not one, where that is what is wrong.
NAMED = {"an entry that leads out of the image": 1 << 59}


def numbers(*paths: str) -> dict[str, int]:
    with special.mounted() as top:
        return {path: os.lstat(f"{top}/{path}").st_ino for path in paths}


@contextmanager
def damaged(path: str, damage: Damage) -> Iterator[tuple[str, str, int]]:
    """A damaged copy: its name, where it is mounted, and the inode."""
    ino = numbers(path)[path]
    copy = Copy(special.image().path)
    mode = copy.inode(ino)[2]
    assert stat.S_IFMT(mode), f"{ino} is no inode"
    damage(copy, ino)
    with objects.store() as work:
        image = str(work.plain("damaged", bytes(copy.data)))
        with mounts.composefs(image, special.image().objects) as top:
            yield image, top, ino


def told(test: ktap.Test, image: str, ino: int, lines: list[str],
         events: list[notify.Event], error: int) -> None:
    """Checks the line of the log and the event."""
    ours = [line for line in lines if line.startswith("composefs: ")]
    test.check(any(f"{image}: inode {ino}: " in line and
                   len(line.split(f"inode {ino}: ")[1]) > 10
                   for line in ours),
               f"no line names {image}, inode {ino} and the reason: {ours}")
    errors = [event for event in events
              if event.mask & notify.FAN_FS_ERROR]
    test.check(errors, f"no event: {events}")
    for event in errors:
        test.equal(ktap.errno_name(event.error), ktap.errno_name(error),
                   "error of the event")
        test.check(event.count > 0, "count of the event is 0")


def check_damage(test: ktap.Test, what: str) -> None:
    path, damage, use = DAMAGES[what]
    kernel_log.forget_limits()
    with damaged(path, damage) as (image, top, ino):
        with kernel_log.watch() as lines, notify.fanotify(
                top, notify.FAN_FS_ERROR) as fd:
            test.fails(EUCLEAN, "the first time", use, f"{top}/{path}")
            events = wait_for_events(fd)
        told(test, image, NAMED.get(what, ino), lines, events, EUCLEAN)
        # It is not remembered as anything else.
        test.fails(EUCLEAN, "again", use, f"{top}/{path}")
        slab.drop_caches()
        test.fails(EUCLEAN, "after drop_caches", use, f"{top}/{path}")
        with opened(f"{top}/sizes/64") as fd:
            test.equal(os.read(fd, 100), special.data("sizes/64"),
                       "a file that is whole")


def wait_for_events(fd: int) -> list[notify.Event]:
    """The events; a worker of the kernel delivers them."""
    if not notify.ready(fd):
        return []
    return notify.events(fd)


for a_what in DAMAGES:
    suite.add(f"{a_what}: EUCLEAN, a line, an event",
              lambda test, what=a_what: check_damage(test, what))


@suite.test("a missing object: EIO, a line, an event with the file's handle")
def missing(test: ktap.Test) -> None:
    kernel_log.forget_limits()
    image = matrix.image()
    with objects.store() as store, mounts.composefs(
            image.path, [store.path]) as top:
        ino = os.stat(f"{top}/{matrix.FILE}").st_ino
        with kernel_log.watch() as lines, notify.fanotify(
                top, notify.FAN_FS_ERROR) as fd, \
                opened(f"{top}/{matrix.FILE}") as file:
            test.fails(EIO, "read", os.read, file, 10)
            events = wait_for_events(fd)
        told(test, image.path, ino, lines, events, EIO)


@suite.test("an image that is cut off after it was mounted: EIO")
def cut_off(test: ktap.Test) -> None:
    """Not EUCLEAN: nothing was read that could be wrong."""
    with objects.store() as work:
        path = work.plain("image", Path(special.image().path).read_bytes())
        with mounts.composefs(str(path), special.image().objects) as top:
            os.truncate(path, 8192)
            slab.drop_caches()
            test.fails(EIO, "a listing", os.listdir, f"{top}/directories/big")


@suite.test("an image that changes under its mount: never more than an error")
def changing(test: ktap.Test) -> None:
    data = Path(special.image().path).read_bytes()
    with objects.store() as work:
        path = work.plain("image", data)
        with mounts.composefs(str(path), special.image().objects) as top:
            before = sorted(os.listdir(f"{top}/directories/big"))
            with open(path, "r+b") as file:
                file.seek(4096)
                file.write(b"\xff" * (len(data) - 4096))
            slab.drop_caches()
            try:
                os.listdir(f"{top}/directories/340")
                test.fail("0xff is a directory")
            except OSError as error:
                test.check(error.errno in (EUCLEAN, EIO), f"{error}")
            path.write_bytes(data)
            slab.drop_caches()
            test.check(sorted(os.listdir(f"{top}/directories/big")) == before,
                       "when it is as it was: another listing")


@suite.test("lines are limited in their rate, and come from the image alone")
def limited(test: ktap.Test) -> None:
    kernel_log.forget_limits()
    with mounts.composefs(matrix.image().path, []) as top, \
            kernel_log.watch() as lines:
        for _ in range(5):
            for number in range(matrix.FILES):
                with opened(f"{top}/file-{number:02}") as fd:
                    test.fails(EIO, "read", os.read, fd, 1)
    ours = [line for line in lines if "composefs: " in line]
    test.check(0 < len(ours) < 5 * matrix.FILES // 2,
               f"{len(ours)} lines for {5 * matrix.FILES} errors")


@suite.test("an image about which much is said does not silence another")
def own_limits(test: ktap.Test) -> None:
    kernel_log.forget_limits()
    with mounts.composefs(matrix.image().path, []) as noisy, \
            special.mounted(basedirs=[]) as quiet, \
            kernel_log.watch() as lines:
        for number in range(matrix.FILES):
            with opened(f"{noisy}/file-{number:02}") as fd:
                test.fails(EIO, "read", os.read, fd, 1)
        with opened(f"{quiet}/{special.LARGE}") as fd:
            test.fails(EIO, "read of the other", os.read, fd, 1)
    for image in (matrix.image(), special.image()):
        test.check(any(f"composefs: {image.path}: " in line for line in lines),
                   f"no line about {image.path}")


@suite.test("a long name in the log leaves room for what is wrong")
def long_names(test: ktap.Test) -> None:
    with objects.store() as work:
        name = "/".join(["n" * 200, "\n" * 200, "n" * 200, "image"])
        path = work.plain(name, Path(matrix.image().path).read_bytes())
        # A string may have 255 bytes.
        with opened(str(path)) as image, mounts.composefs(image, []) as top, \
                kernel_log.watch() as lines:
            with opened(f"{top}/{matrix.FILE}") as fd:
                test.fails(EIO, "read", os.read, fd, 1)
    test.check(any("...: inode " in line and "object director" in line
                   for line in lines), f"not said: {lines}")


# Of bytes that end a line, a string or an escape, that a terminal obeys, or
# that are no text.
NAMES = (b"line\nline", b"\n" * 255, b'" ino 5 error 0', b"back\\slash",
         b"\\", b'\\"', b"\x1b[31m\a\b", b"\xff\xfe\x85\xa0", b"\r",
         "\u00fc\u2028".encode(), b"a b", b"x" * 255, b"%s%d%n")
# What the tracepoint says of a name that there is not.
LOOKED_UP = re.compile(rb'composefs_lookup: dev \d+,\d+ dir \d+ '
                       rb'name "((?:[^"\\]|\\.)*)" ino 0 error 0$')


@suite.test("a name in the trace stays between its quotes, in its line")
def traced(test: ktap.Test) -> None:
    event = TRACING / "events/composefs/composefs_lookup/enable"
    if not event.exists():
        raise ktap.Skipped(f"no {event}")
    with special.mounted() as top:
        (TRACING / "trace").write_text("")
        event.write_text("1")
        try:
            for name in NAMES:
                test.fails(errno.ENOENT, repr(name), os.lstat,
                           os.fsencode(top) + b"/" + name)
        finally:
            event.write_text("0")
        lines = (TRACING / "trace").read_bytes().splitlines()
    found = set()
    for line in lines:
        if line.startswith(b"#") or not line:
            continue
        matched = LOOKED_UP.search(line)
        if test.check(matched and line.isascii(), f"a line: {line!r}") \
                and matched:
            text = matched[1].replace(b"\\e", b"\\x1b").decode("ascii")
            found.add(codecs.decode(text, "unicode_escape").encode("latin-1"))
    for name in NAMES:
        test.check(name in found, f"{name!r} is not in the trace")


fixtures.require()
objects.require_verity()
suite.run()
