#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""What /proc/mounts shows of a mount, and changing one that there is."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import fixtures, ktap, matrix_image, mounts, objects
from lib.mounts import Context, Options, Value
from lib.objects import Store

suite = ktap.Suite()

# What mount(8) calls flags of the mount; the rest are the file system's.
FLAGS = {"ro", "rw", "relatime", "noatime", "nosuid", "nodev", "noexec"}


def plain(text: str) -> str:
    """Undoes the octal escapes of /proc/mounts."""
    data = re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]),
                  os.fsencode(text))
    return os.fsdecode(data)


def shown(top: str) -> tuple[str, str]:
    """Source and options of a mount, as they are given to mount(2)."""
    with open("/proc/mounts", encoding="utf-8",
              errors="surrogateescape") as file:
        for line in file:
            source, where, kind, options, *_ = line.split(" ")
            if where == top:
                break
        else:
            raise AssertionError(f"nothing at {top}")
    assert kind == "composefs", line
    own = [plain(option) for option in options.split(",")
           if option not in FLAGS]
    return plain(source), ",".join(own)


@contextmanager
def by_mount2(source: str, data: str, flags: int = 0) -> Iterator[str]:
    with mounts.directory() as top:
        mounts.mount(source, top, "composefs", flags, data)
        try:
            yield top
        finally:
            mounts.umount(top)


def again(test: ktap.Test, what: str, options: Options) -> None:
    """Mounts what /proc/mounts shows. A pinned image mounted in the same way
    has the same device number."""
    with mounts.mounted("composefs", options) as top:
        source, data = shown(top)
        try:
            with by_mount2(source, data) as second:
                test.equal(shown(second), (source, data), f"{what}: shown")
                matrix_image.check(test, second, what)
                test.equal(os.stat(second).st_dev, os.stat(top).st_dev,
                           f"{what}: device, with {source!r}, {data!r}")
        except OSError as error:
            test.fail(f"{what}: {source!r}, {data!r}: {error}")


@suite.test("/proc/mounts shows what mounts the same again")
def shows(test: ktap.Test) -> None:
    image = matrix_image.image()
    digests = (image.digest or "", (image.digest or "").partition(":")[2])
    variants: tuple[tuple[tuple[str, Value], ...], ...] = (
        (), (("verity", None),), (("tryverity", None),), (("noverity", None),),
        (("digest", digests[0]),), (("digest", digests[1].upper()),),
        (("digest", digests[0]), ("verity", None)))
    for more in variants:
        again(test, f"{more}", mounts.composefs_options(
            image.path, image.objects, *more))
    again(test, "two object directories", mounts.composefs_options(
        image.path, ["/tmp", *image.objects]))
    fd = os.open(image.objects[0], os.O_PATH)
    image_fd = os.open(image.path, os.O_RDONLY)
    try:
        again(test, "descriptors", [("source", image_fd), ("basedir", fd)])
    finally:
        os.close(fd)
        os.close(image_fd)


@suite.test("/proc/mounts shows it with odd names, too")
def shows_odd(test: ktap.Test) -> None:
    data = Path(matrix_image.image().path).read_bytes()
    with objects.store() as work:
        for name in ("comma,comma", "colon:colon", "back\\slash", "a b",
                     "tab\there", "new\nline", "a=b", "\\,", "\\:", "#",
                     "\\054", "\\\\,", "\udcff\udcfe", "\u00e9"):
            store = Store(work.top / name)
            for file in (matrix_image.FILE, matrix_image.INLINE):
                matrix_image.add_to(store, file)
            image = store.verified("image", data)
            again(test, repr(name), mounts.composefs_options(
                os.fsencode(image), [store.path]))


@contextmanager
def remountable(*more: tuple[str, Value]) -> Iterator[str]:
    image = matrix_image.image()
    with mounts.composefs(image.path, image.objects, *more) as top:
        yield top


def change(top: str, options: Options) -> list[str]:
    """Changes a mount by fspick(2). Returns the errors that were told."""
    with Context.pick(top) as context:
        try:
            for key, value in options:
                context.set(key, value)
            context.reconfigure()
        except OSError as error:
            raise mounts.MountError(error, context.messages()) from None
        return context.messages()


@suite.test("rw is accepted, and does nothing")
def writable(test: ktap.Test) -> None:
    with remountable() as top:
        test.equal(change(top, [("rw", None)]), [], "messages")
        test.check(os.statvfs(top).f_flag & os.ST_RDONLY,
                   "fspick(2) and rw: is not read-only")
        test.fails(errno.EROFS, "open for writing", os.open,
                   f"{top}/{matrix_image.FILE}", os.O_WRONLY)
        mounts.mount(None, top, None, mounts.MS_REMOUNT, None)
        test.check(os.statvfs(top).f_flag & os.ST_RDONLY,
                   "mount(2) without MS_RDONLY: is not read-only")
        test.fails(errno.EROFS, "open for writing", os.open,
                   f"{top}/{matrix_image.FILE}", os.O_WRONLY)
        matrix_image.check(test, top, "then")


@suite.test("the mount's own options are accepted, by both calls")
def own(test: ktap.Test) -> None:
    image = matrix_image.image()
    for more in ((), (("noverity", None),), (("tryverity", None),),
                 (("verity", None),), (("digest", image.digest),)):
        with remountable(*more) as top:
            before = shown(top)
            given = [("basedir", mounts.escape(path))
                     for path in image.objects]
            for options in ([], list(more), [*given], [*given, *more]):
                try:
                    change(top, options)
                except OSError as error:
                    test.fail(f"{options}: {error}")
            for flags in (0, mounts.MS_RDONLY, mounts.MS_RDONLY
                          | mounts.MS_NOSUID):
                test.fails(None, f"{more} by mount(2)", mounts.mount,
                           before[0], top, "composefs",
                           mounts.MS_REMOUNT | flags, before[1])
            test.equal(shown(top), before, f"{more}: shown then")
            matrix_image.check(test, top, f"{more} then")


@suite.test("other options are refused, with a message that names them")
def other(test: ktap.Test) -> None:
    image = matrix_image.image()
    wrong = "0" * 64
    pin: tuple[tuple[str, Value], ...] = (("digest", image.digest),)
    one = mounts.escape(image.objects[0])
    for more, options, word in (
            ((), [("basedir", "/tmp")], "basedir"),
            ((), [("basedir", f"{one}:/tmp")], "basedir"),
            ((), [("basedir", one), ("basedir", "/tmp")], "basedir"),
            ((), [("verity", None)], "verity"),
            ((), [("tryverity", None)], "tryverity"),
            ((), [("noverity", None)], "noverity"),
            ((), list(pin), "digest"),
            (pin, [("digest", wrong)], "digest"),
            (pin, [("noverity", None)], "noverity"),
            ((("verity", None),), [("noverity", None)], "noverity"),
            ((("noverity", None),), [("verity", None)], "verity"),
            ((), [("nonsense", None)], "nonsense"),
            ((), [("digest", "x")], "digest")):
        with remountable(*more) as top:
            before = shown(top)
            what = f"{more}, then {options}"
            try:
                change(top, options)
            except mounts.MountError as error:
                test.equal(ktap.errno_name(error.errno), "EINVAL", what)
                test.check(any(word in line for line in error.messages),
                           f"{what}: no message has {word}: {error.messages}")
            else:
                test.fail(f"{what}: was accepted")
            test.equal(shown(top), before, f"{what}: shown")
            matrix_image.check(test, top, what)


@suite.test("flags of a mount: nosuid, nodev, noexec, bind, by mount(2)")
def flags(test: ktap.Test) -> None:
    image = matrix_image.image()
    with by_mount2(image.path, f"basedir={mounts.escape(image.objects[0])}",
                   mounts.MS_NOSUID) as top, mounts.directory() as bound:
        test.check(os.statvfs(top).f_flag & os.ST_NOSUID, "no nosuid")
        mounts.mount(top, bound, None, mounts.MS_BIND)
        try:
            mounts.mount(None, bound, None, mounts.MS_REMOUNT | mounts.MS_BIND
                         | mounts.MS_RDONLY, None)
            matrix_image.check(test, bound, "a bind mount")
            test.equal(os.stat(bound).st_dev, os.stat(top).st_dev, "device")
            # Without MS_RDONLY: the mount is writable then, what it shows
            # is not.
            mounts.mount(None, bound, None, mounts.MS_REMOUNT
                         | mounts.MS_BIND, None)
            test.fails(errno.EROFS, "open for writing below the bind mount",
                       os.open, f"{bound}/{matrix_image.FILE}", os.O_WRONLY)
        finally:
            mounts.umount(bound)


fixtures.require()
objects.require_verity()
suite.run()
