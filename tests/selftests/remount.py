#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""The options that /proc/mounts shows, and remounts.

Mounting again with the shown options has to give the same super block.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from lib import fixtures, ktap, loop, matrix_image, mounts, objects
from lib.files import opened
from lib.mounts import Context, Options, Value
from lib.objects import Store
from lib.shown import check_mount_again, shown

suite = ktap.Suite()

@suite.test("/proc/mounts shows options that mount the same again")
def shows(test: ktap.Test) -> None:
    image = matrix_image.image()
    digests = (image.digest or "", (image.digest or "").partition(":")[2])
    variants: tuple[tuple[tuple[str, Value], ...], ...] = (
        (), (("verity", None),), (("tryverity", None),), (("noverity", None),),
        (("digest", digests[0]),), (("digest", digests[1].upper()),),
        (("digest", digests[0]), ("verity", None)))
    for more in variants:
        check_mount_again(test, f"{more}", mounts.composefs_options(
            image.path, image.objects, *more))
    check_mount_again(test, "two object directories", mounts.composefs_options(
        image.path, ["/tmp", *image.objects]))
    fd = os.open(image.objects[0], os.O_PATH)
    image_fd = os.open(image.path, os.O_RDONLY)
    try:
        check_mount_again(test, "descriptors",
                          [("source", image_fd), ("basedir", fd)])
    finally:
        os.close(fd)
        os.close(image_fd)


@suite.test("/proc/mounts escapes special characters in names")
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
            check_mount_again(test, repr(name), mounts.composefs_options(
                os.fsencode(image), [store.path]))


def change(top: str, options: Options) -> list[str]:
    """Remounts by fspick(2). Returns the messages."""
    with Context.pick(top) as context:
        try:
            for key, value in options:
                context.set(key, value)
            context.reconfigure()
        except OSError as error:
            raise mounts.MountError(error, context.messages()) from None
        return context.messages()


def check_refused(test: ktap.Test, what: str, top: str, options: Options,
                  word: str) -> None:
    """Checks that a remount fails, and that a message has a word."""
    try:
        change(top, options)
    except mounts.MountError as error:
        test.equal(ktap.errno_name(error.errno), "EINVAL", what)
        test.check(any(word in line for line in error.messages),
                   f"{what}: no message has {word}: {error.messages}")
    else:
        test.fail(f"{what}: the remount succeeded")


@suite.test("a remount with rw succeeds and has no effect")
def writable(test: ktap.Test) -> None:
    with matrix_image.mounted() as top:
        test.equal(change(top, [("rw", None)]), [], "messages")
        test.check(os.statvfs(top).f_flag & os.ST_RDONLY,
                   "fspick(2) and rw: not read-only")
        test.fails(errno.EROFS, "open for writing", os.open,
                   f"{top}/{matrix_image.FILE}", os.O_WRONLY)
        mounts.mount(None, top, None, mounts.MS_REMOUNT, None)
        test.check(os.statvfs(top).f_flag & os.ST_RDONLY,
                   "mount(2) without MS_RDONLY: not read-only")
        test.fails(errno.EROFS, "open for writing", os.open,
                   f"{top}/{matrix_image.FILE}", os.O_WRONLY)
        matrix_image.check(test, top, "afterwards")


@suite.test("a remount with the same options succeeds, by both system calls")
def own(test: ktap.Test) -> None:
    image = matrix_image.image()
    for more in ((), (("noverity", None),), (("tryverity", None),),
                 (("verity", None),), (("digest", image.digest),)):
        with matrix_image.mounted(*more) as top:
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
            test.equal(shown(top), before, f"{more}: shown afterwards")
            matrix_image.check(test, top, f"{more} afterwards")


@suite.test(
    "a remount with other options is EINVAL, with a message that names them"
)
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
        with matrix_image.mounted(*more) as top:
            before = shown(top)
            what = f"{more}, then {options}"
            check_refused(test, what, top, options, word)
            test.equal(shown(top), before, f"{what}: shown")
            matrix_image.check(test, top, what)


@suite.test("a remount with descriptors compares directories, not names")
def directories(test: ktap.Test) -> None:
    image = matrix_image.image()
    path = image.objects[0]
    with objects.store() as work, mounts.directory() as bound, \
            mounts.bound(path, bound):
        link = f"{work.path}/link"
        os.symlink(path, link)
        for spelled in (link, bound, f"{path}/.", f"//{path}"):
            with (
                mounts.composefs(image.path, [spelled, "/tmp"]) as top,
                opened(path, os.O_PATH) as fd,
                opened("/tmp") as other,
            ):
                before = shown(top)
                same: list[tuple[str, Value]] = [("basedir", fd)]
                for given in ([*same, ("basedir", other)],
                              [*same, ("basedir", "/tmp")],
                              [("basedir", mounts.escape(spelled)),
                               ("basedir", other)]):
                    test.fails(None, f"{spelled}: {given}", change, top, given)
                for given in (same, [("basedir", other), *same],
                              [*same, *same], [*same, ("basedir", other),
                                               ("basedir", other)],
                              [("basedir", mounts.escape(path)),
                               ("basedir", other)]):
                    check_refused(test, f"{spelled}: {given}", top, given,
                                  "basedir")
                test.equal(shown(top), before, f"{spelled}: shown afterwards")
                matrix_image.check(test, top, spelled)


@suite.test("a remount with a descriptor of the image compares files")
def images(test: ktap.Test) -> None:
    image = matrix_image.image()
    with objects.store() as work:
        link = f"{work.path}/link"
        os.symlink(image.path, link)
        copy = work.verified("copy", Path(image.path).read_bytes())
        for mounted in ([("source", link)],
                        [("source", "label"), ("image", link)]):
            with mounts.mounted("composefs", mounted) as top:
                for flags in (os.O_RDONLY, os.O_PATH):
                    with opened(image.path, flags) as fd:
                        test.fails(None, f"{mounted}: the image", change, top,
                                   [("image", fd)])
                # The path would be accepted as text, even if it leads to
                # another file.
                test.fails(None, f"{mounted}: the name", change, top,
                           [("image", link)])
                with opened(copy) as fd:
                    check_refused(test, f"{mounted}: a copy", top,
                                  [("image", fd)], "image")
                with opened(work.path) as fd:
                    check_refused(test, f"{mounted}: a directory", top,
                                  [("image", fd)], "image")
    with loop.device(image.path, "--read-only") as device, \
            loop.device(image.path, "--read-only") as second, \
            mounts.mounted("composefs", [("source", device)]) as top, \
            mounts.mounted("tmpfs", [("source", "devices")]) as nodes:
        os.mknod(f"{nodes}/device", 0o600 | stat.S_IFBLK,
                 os.stat(device).st_rdev)
        for path in (device, f"{nodes}/device"):
            with opened(path) as fd:
                test.fails(None, path, change, top, [("image", fd)])
        with opened(second) as fd:
            check_refused(test, "another device", top, [("image", fd)],
                          "image")


@suite.test("nosuid and bind remounts by mount(2)")
def flags(test: ktap.Test) -> None:
    image = matrix_image.image()
    with (
        mounts.mounted_by_mount2(image.path,
                                 f"basedir={mounts.escape(image.objects[0])}",
                                 mounts.MS_NOSUID) as top,
        mounts.directory() as bound,
    ):
        test.check(os.statvfs(top).f_flag & os.ST_NOSUID, "no nosuid")
        with mounts.bound(top, bound):
            mounts.mount(None, bound, None, mounts.MS_REMOUNT | mounts.MS_BIND
                         | mounts.MS_RDONLY, None)
            matrix_image.check(test, bound, "a bind mount")
            test.equal(os.stat(bound).st_dev, os.stat(top).st_dev, "device")
            # Without MS_RDONLY the mount is writable, but the super block is
            # not.
            mounts.mount(None, bound, None, mounts.MS_REMOUNT
                         | mounts.MS_BIND, None)
            test.fails(errno.EROFS, "open for writing below the bind mount",
                       os.open, f"{bound}/{matrix_image.FILE}", os.O_WRONLY)


fixtures.require()
objects.require_verity()
suite.run()
