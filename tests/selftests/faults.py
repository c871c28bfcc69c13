#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Damaged images and missing objects: errno, log line and FAN_FS_ERROR event.

Damaged metadata are EUCLEAN, missing or wrong content is EIO. The log line
names the image, the inode and the reason.
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

from lib import (caches, fixtures, kernel_log, ktap, matrix_image, mounts,
                 notify, objects, special_image)
from lib.files import opened

suite = ktap.Suite()

TRACING = Path("/sys/kernel/tracing")
EUCLEAN, EIO = errno.EUCLEAN, errno.EIO
INO_SIZE = 32
# sizeof(struct erofs_inode_compact), and of the extended one.
COMPACT, EXTENDED = 32, 64


class Copy:
    """The bytes of an image, to be damaged."""

    def __init__(self, path: str) -> None:
        self.data = bytearray(Path(path).read_bytes())

    def inode(self, ino: int) -> tuple[int, int, int, int, int]:
        """Offset, length, mode, size and length of the xattrs of an inode."""
        at = ino * INO_SIZE
        form, count, mode = struct.unpack_from("<HHH", self.data, at)
        if form & 1:
            size = struct.unpack_from("<Q", self.data, at + 8)[0]
        else:
            size = struct.unpack_from("<I", self.data, at + 8)[0]
        return at, EXTENDED if form & 1 else COMPACT, mode, size, \
            12 + 4 * (count - 1) if count else 0

    def data_at(self, ino: int) -> int:
        """The offset of the data of an inode."""
        at, length, _, size, xattrs = self.inode(ino)
        form = struct.unpack_from("<H", self.data, at)[0]
        tail = at + length + xattrs
        if form >> 1 & 7 == 2 and size < 4096:
            return tail
        return struct.unpack_from("<I", self.data, at + 16)[0] * 4096


# Damages an inode, given its number.
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
    """Looks up all names that are listed."""
    for name in os.listdir(path):
        os.lstat(f"{path}/{name}")


# The file, its damage, and the call that fails then.
DAMAGES: dict[str, tuple[str, Damage, Callable[[str], None]]] = {
    "an unknown layout": ("sizes/4097", put("<H", 0, 0xff), look_up),
    "an inode without a type": ("sizes/4097", put("<H", 4, 0o170644), look_up),
    "a symbolic link with a NUL": ("types/symlink", put_data("<B", 2, 0),
                                   look_up),
    "a symbolic link that is too long": (
        "types/symlink", put("<I", 8, 70000), look_up),
    "a directory whose first name is out of bounds": (
        "types", put_data("<H", 8, 0xffff), list_names),
    "a directory whose first name overlaps an entry": (
        "types", put_data("<H", 8, 13), list_names),
    "a directory without entries": (
        "types", put_data("<H", 8, 0), list_names),
    "a lookup in a directory whose names are out of bounds": (
        "types", put_data("<H", 8, 0xffff), look_up_in),
    "a name with a slash": ("types/directory", put_data("<B", 12 * 2, 0x2f),
                            list_names),
    "an entry whose inode is beyond the image": (
        "types", put_data("<Q", 12 * 2, 1 << 59), list_and_look),
    "more shared xattrs than fit": (
        "xattrs/shared-0", put_xattr("<B", 4, 0xff), list_xattrs),
    "a shared xattr that is out of bounds": (
        "xattrs/shared-0", put_xattr("<I", 12, 0xfffffff0), list_xattrs),
}


# The log line names the inode that the entry refers to.
NAMED = {"an entry whose inode is beyond the image": 1 << 59}


def numbers(*paths: str) -> dict[str, int]:
    with special_image.mounted() as top:
        return {path: os.lstat(f"{top}/{path}").st_ino for path in paths}


@contextmanager
def damaged(path: str, damage: Damage) -> Iterator[tuple[str, str, int]]:
    """A damaged copy of the image: its path, its mount, and the inode."""
    ino = numbers(path)[path]
    copy = Copy(special_image.image().path)
    mode = copy.inode(ino)[2]
    assert stat.S_IFMT(mode), f"{ino} is not an inode"
    damage(copy, ino)
    with objects.store() as work:
        image = str(work.plain("damaged", bytes(copy.data)))
        with mounts.composefs(image, special_image.image().objects) as top:
            yield image, top, ino


def check_report(
    test: ktap.Test,
    image: str,
    ino: int,
    lines: list[str],
    events: list[notify.Event],
    error: int,
) -> None:
    """Checks the log line and the event."""
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
    kernel_log.reset_ratelimit()
    with damaged(path, damage) as (image, top, ino):
        with kernel_log.watch() as lines, notify.fanotify(
                top, notify.FAN_FS_ERROR) as fd:
            test.fails(EUCLEAN, "the first time", use, f"{top}/{path}")
            events = wait_for_events(fd)
        check_report(test, image, NAMED.get(what, ino), lines, events, EUCLEAN)
        # Nothing else is cached for it.
        test.fails(EUCLEAN, "again", use, f"{top}/{path}")
        caches.drop()
        test.fails(EUCLEAN, "after drop_caches", use, f"{top}/{path}")
        with opened(f"{top}/sizes/64") as fd:
            test.equal(os.read(fd, 100), special_image.data("sizes/64"),
                       "an undamaged file")


def wait_for_events(fd: int) -> list[notify.Event]:
    """The events. A kernel worker delivers them."""
    if not notify.ready(fd):
        return []
    return notify.events(fd)


for a_what in DAMAGES:
    suite.add(f"{a_what}: EUCLEAN, a log line, an event",
              lambda test, what=a_what: check_damage(test, what))


@suite.test(
    "a missing object: EIO, a log line, an event with the file's handle"
)
def missing(test: ktap.Test) -> None:
    kernel_log.reset_ratelimit()
    image = matrix_image.image()
    with objects.store() as store, mounts.composefs(
            image.path, [store.path]) as top:
        ino = os.stat(f"{top}/{matrix_image.FILE}").st_ino
        with kernel_log.watch() as lines, notify.fanotify(
                top, notify.FAN_FS_ERROR) as fd, \
                opened(f"{top}/{matrix_image.FILE}") as file:
            test.fails(EIO, "read", os.read, file, 10)
            events = wait_for_events(fd)
        check_report(test, image.path, ino, lines, events, EIO)


@suite.test("an image that is truncated after the mount: EIO")
def cut_off(test: ktap.Test) -> None:
    """It is not EUCLEAN, as no wrong bytes were read."""
    with objects.store() as work:
        path = work.plain("image",
                          Path(special_image.image().path).read_bytes())
        with mounts.composefs(str(path), special_image.image().objects) as top:
            os.truncate(path, 8192)
            caches.drop()
            test.fails(EIO, "a listing", os.listdir, f"{top}/directories/big")


@suite.test("an image that is overwritten after the mount: an error at worst")
def changing(test: ktap.Test) -> None:
    data = Path(special_image.image().path).read_bytes()
    with objects.store() as work:
        path = work.plain("image", data)
        with mounts.composefs(str(path), special_image.image().objects) as top:
            before = sorted(os.listdir(f"{top}/directories/big"))
            with open(path, "r+b") as file:
                file.seek(4096)
                file.write(b"\xff" * (len(data) - 4096))
            caches.drop()
            try:
                os.listdir(f"{top}/directories/340")
                test.fail("a directory of 0xff was listed")
            except OSError as error:
                test.check(error.errno in (EUCLEAN, EIO), f"{error}")
            path.write_bytes(data)
            caches.drop()
            test.check(sorted(os.listdir(f"{top}/directories/big")) == before,
                       "restored: wrong listing")


@suite.test("log lines are rate-limited")
def limited(test: ktap.Test) -> None:
    kernel_log.reset_ratelimit()
    with matrix_image.mounted(basedirs=[]) as top, \
            kernel_log.watch() as lines:
        for _ in range(5):
            for number in range(matrix_image.FILES):
                with opened(f"{top}/file-{number:02}") as fd:
                    test.fails(EIO, "read", os.read, fd, 1)
    ours = [line for line in lines if "composefs: " in line]
    test.check(0 < len(ours) < 5 * matrix_image.FILES // 2,
               f"{len(ours)} lines for {5 * matrix_image.FILES} errors")


@suite.test("the rate limit of one image does not suppress lines of another")
def own_limits(test: ktap.Test) -> None:
    kernel_log.reset_ratelimit()
    with matrix_image.mounted(basedirs=[]) as noisy, \
            special_image.mounted(basedirs=[]) as quiet, \
            kernel_log.watch() as lines:
        for number in range(matrix_image.FILES):
            with opened(f"{noisy}/file-{number:02}") as fd:
                test.fails(EIO, "read", os.read, fd, 1)
        with opened(f"{quiet}/{special_image.LARGE}") as fd:
            test.fails(EIO, "read of the other image", os.read, fd, 1)
    for image in (matrix_image.image(), special_image.image()):
        test.check(any(f"composefs: {image.path}: " in line for line in lines),
                   f"no line about {image.path}")


@suite.test("a long name in a log line does not displace the reason")
def long_names(test: ktap.Test) -> None:
    with objects.store() as work:
        name = "/".join(["n" * 200, "\n" * 200, "n" * 200, "image"])
        path = work.plain(name, Path(matrix_image.image().path).read_bytes())
        # By a descriptor: a string of fsconfig(2) has 255 bytes at most.
        with opened(str(path)) as image, mounts.composefs(image, []) as top, \
                kernel_log.watch() as lines:
            with opened(f"{top}/{matrix_image.FILE}") as fd:
                test.fails(EIO, "read", os.read, fd, 1)
    test.check(any("...: inode " in line and "object director" in line
                   for line in lines), f"no line with the reason: {lines}")


# Names with line ends, quotes, escapes, terminal control characters, and bytes
# that are not text.
NAMES = (b"line\nline", b"\n" * 255, b'" ino 5 error 0', b"back\\slash",
         b"\\", b'\\"', b"\x1b[31m\a\b", b"\xff\xfe\x85\xa0", b"\r",
         "\u00fc\u2028".encode(), b"a b", b"x" * 255, b"%s%d%n")
# The trace event of a lookup of an absent name.
LOOKED_UP = re.compile(rb'composefs_lookup: dev \d+,\d+ dir \d+ '
                       rb'name "((?:[^"\\]|\\.)*)" ino 0 error 0$')


@suite.test("a name in the trace is escaped within its quotes")
def traced(test: ktap.Test) -> None:
    event = TRACING / "events/composefs/composefs_lookup/enable"
    if not event.exists():
        raise ktap.Skipped(f"no {event}")
    with special_image.mounted() as top:
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
