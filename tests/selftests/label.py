#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""image=, which makes the source a label, any text.

source.py has mounts whose source is the image.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import (fixtures, kernel_log, ktap, loop, matrix_image, mounts,
                 objects)
from lib.files import opened
from lib.mounts import Context, Options, Value
from lib.objects import Store
from lib.refused import refused
from lib.shown import check_mount_again, shown

suite = ktap.Suite()

LABEL = "composefs:0123456789abcdef"


def options(image: Value, label: str | None = LABEL,
            *more: tuple[str, Value]) -> Options:
    """The options of a mount of the matrix image."""
    source: Options = [] if label is None else [("source", label)]
    return [*source, ("image", image),
            *(("basedir", mounts.escape(path))
              for path in matrix_image.image().objects), *more]


def check_mount(test: ktap.Test, what: str, given: Options, label: str,
                image: str) -> None:
    """Checks that the image can be mounted, and what is shown."""
    try:
        with mounts.mounted("composefs", given) as top:
            matrix_image.check(test, top, what)
            source, data = shown(top)
            test.equal(source, label, f"{what}: source")
            test.equal(data.split(",")[0], f"image={image}",
                       f"{what}: the first option")
    except mounts.MountError as error:
        test.fail(f"{what}: {error}")


@suite.test("the image as a path, or a descriptor: O_RDONLY, O_PATH, O_RDWR")
def kinds(test: ktap.Test) -> None:
    image = matrix_image.image()
    pin = ("digest", image.digest)
    check_mount(test, "a path", options(image.path, LABEL, pin), LABEL,
                image.path)
    for flags in (os.O_RDONLY, os.O_PATH):
        with opened(image.path, flags) as fd:
            check_mount(test, f"a descriptor, flags {flags:#o}",
                        options(fd, LABEL, pin), LABEL, image.path)
    with objects.store() as work:
        copy = work.plain("copy", Path(image.path).read_bytes())
        with opened(copy, os.O_RDWR) as fd:
            check_mount(test, "a descriptor for writing", options(fd), LABEL,
                        str(copy))
    with loop.device(image.path, "--read-only") as device:
        check_mount(test, "a device", options(device), LABEL, device)
        with opened(device) as fd:
            check_mount(test, "a descriptor of a device", options(fd), LABEL,
                        device)


@suite.test("any text is a label, also one that names nothing or another file")
def labels(test: ktap.Test) -> None:
    image = matrix_image.image().path
    for label in ("x", "/nowhere", "/dev/null", "a b", "a,b", "none", "#",
                  "composefs:" + "f" * 200, image, "\u00e9", "a\\040b"):
        check_mount(test, repr(label), options(image, label), label, image)


@suite.test("the order of source and image does not matter")
def order(test: ktap.Test) -> None:
    image = matrix_image.image().path
    given = options(image)
    check_mount(test, "image first", [given[1], given[0], *given[2:]], LABEL,
                image)
    with opened(image) as fd:
        given = options(fd)
        check_mount(test, "image first, a descriptor",
                    [given[1], given[0], *given[2:]], LABEL, image)


@suite.test("without a source, the image is shown as the source")
def no_label(test: ktap.Test) -> None:
    image = matrix_image.image().path
    check_mount(test, "a path", options(image, None), image, image)
    with opened(image) as fd:
        check_mount(test, "a descriptor", options(fd, None), image, image)
    check_mount_again(test, "again", options(image, None))
    refused(test, "an empty source", errno.EINVAL, options(image, ""),
            "source", "empty")


@suite.test("mount(2), with a label or without a source")
def by_mount2(test: ktap.Test) -> None:
    image = matrix_image.image()
    data = f"image={image.path},basedir={image.objects[0]}"
    for source, expected in ((LABEL, LABEL), (None, image.path)):
        with mounts.directory() as top:
            mounts.mount(source, top, "composefs", 0, data)
            try:
                test.equal(shown(top), (expected, data), f"{source}: shown")
                matrix_image.check(test, top, f"{source}")
            finally:
                mounts.umount(top)


@suite.test("the line in /proc/mounts mounts the same again")
def again(test: ktap.Test) -> None:
    image = matrix_image.image()
    for more in ((), (("noverity", None),), (("digest", image.digest),)):
        check_mount_again(test, f"{more}", options(image.path, LABEL, *more))
    with opened(image.path) as fd:
        check_mount_again(test, "a descriptor", options(fd))


@suite.test("special characters in the image's name, and a long name")
def odd_names(test: ktap.Test) -> None:
    data = Path(matrix_image.image().path).read_bytes()
    with objects.store() as work:
        for name in ("comma,comma", "colon:colon", "back\\slash", "a b",
                     "tab\there", "new\nline", "a=b", "\\,", "\\:", "#",
                     "\\054", "\\\\,", "end\\", "\udcff\udcfe", "\u00e9",
                     "/".join(["long" * 20] * 5)):
            store = Store((work.top / name).parent)
            image = os.fsencode(store.verified(os.path.basename(name), data))
            with opened(os.fsdecode(image)) as fd:
                check_mount_again(test, f"{name!r}, a descriptor",
                                  options(fd))
            # fsconfig(2) takes 255 bytes.
            if len(image) <= 255:
                escaped = mounts.escape(os.fsdecode(image))
                check_mount_again(test, repr(name), options(escaped))
                # Only a backslash needs a backslash.
                escaped = os.fsdecode(image).replace("\\", "\\\\")
                check_mount_again(test, f"{name!r}, escaped less",
                                  options(escaped))


@suite.test("malformed names of images are EINVAL")
def malformed(test: ktap.Test) -> None:
    for name in ("", "\\", "/image\\", "\\\\\\"):
        refused(test, repr(name), errno.EINVAL, options(name), "image")


@suite.test("more than one image is EINVAL")
def two_images(test: ktap.Test) -> None:
    image = matrix_image.image().path
    with opened(image) as fd:
        for first in (image, fd):
            for second in (image, fd):
                refused(test, f"{first!r}, {second!r}", errno.EINVAL,
                        [("image", first), ("image", second)],
                        "image", "more than one")
            for pair in ([("image", first), ("source", fd)],
                         [("source", fd), ("image", first)]):
                refused(test, f"{pair}", errno.EINVAL, pair, "source",
                        "image", "more than one")


@suite.test("a refused image does not change the context")
def goes_on(test: ktap.Test) -> None:
    image = matrix_image.image().path
    with Context.open("composefs") as context, opened(image) as fd:
        for value in ("", "/nowhere\\", None):
            test.fails(errno.EINVAL, f"{value!r}", context.set, "image", value)
        for key, value in options(fd):
            context.set(key, value)
        test.fails(errno.EINVAL, "a second one", context.set, "image", "/x")
        context.create()
        with mounts.attached(context.mount()) as top:
            matrix_image.check(test, top, "after refused options")
            test.equal(shown(top)[0], LABEL, "source")


@suite.test("errors name the image, not the label")
def messages(test: ktap.Test) -> None:
    with objects.store() as work:
        text = str(work.plain("text", b"not an image\n" * 1000))
        os.mkfifo(work.at("fifo"))
        for path, number in ((f"{work.path}/missing", errno.ENOENT),
                             (f"{work.path}/fifo", errno.EINVAL),
                             (text, errno.EUCLEAN)):
            refused(test, path, number, options(path), f"image {path}: ")
        with opened(text) as fd:
            refused(test, "a descriptor", errno.EUCLEAN, options(fd),
                    f"image {text}: ")
            refused(test, "digest=", errno.ENODATA,
                    options(fd, LABEL, ("digest", "0" * 64)),
                    f"image {text}: ")


@suite.test("lines of the kernel log name the image, not the label")
def logged(test: ktap.Test) -> None:
    image = matrix_image.image().path
    kernel_log.reset_ratelimit()
    with objects.store() as empty, kernel_log.watch() as lines, \
            mounts.mounted("composefs", [
                ("source", LABEL), ("image", image),
                ("basedir", empty.path)]) as top:
        test.fails(errno.EIO, "a missing object",
                   Path(top, matrix_image.FILE).read_bytes)
    ours = kernel_log.of_composefs(lines)
    test.check(any(f"composefs: {image}: inode" in line for line in ours),
               f"no line names the image: {ours}")
    test.check(not any(LABEL in line for line in ours),
               f"a line names the label: {ours}")


@contextmanager
def two_mounts(first: Options, second: Options
               ) -> Iterator[tuple[str, str, bool]]:
    """Two mounts, and whether they share a super block."""
    with mounts.mounted("composefs", first) as one, \
            mounts.mounted("composefs", second) as two:
        yield one, two, os.stat(one).st_dev == os.stat(two).st_dev


# The label belongs to the mount, not to the super block.
@suite.test("mounts with other labels share, and each shows its own")
def shares(test: ktap.Test) -> None:
    image = matrix_image.image().path
    with two_mounts(options(image, "one"), options(image, "two")) as (
            one, two, shared):
        test.check(shared, "not shared")
        test.equal([shown(one)[0], shown(two)[0]], ["one", "two"], "sources")
        test.equal(shown(one)[1], shown(two)[1], "options")
        with mounts.directory() as bound, mounts.bound(two, bound):
            test.equal(shown(bound)[0], "two", "a bind mount: source")


@suite.test("mounts that show another image= do not share")
def not_shared(test: ktap.Test) -> None:
    image = matrix_image.image().path
    with two_mounts(matrix_image.options(), options(image)) as (
            one, two, shared):
        test.check(not shared, "source and image=: shared")
        test.check("image=" not in shown(one)[1], "the first shows image=")
        test.equal(shown(two)[0], LABEL, "the label")
        test.check(f"image={image}" in shown(two)[1], "image= is not shown")
    with objects.store() as work:
        # An image by another name of the same file.
        link = f"{work.path}/link"
        os.symlink(image, link)
        with two_mounts(options(image), options(link)) as (one, two, shared):
            test.check(not shared, "two names: shared")
            test.check(f"image={link}" in shown(two)[1],
                       f"the second shows {shown(two)}")
            matrix_image.check(test, two, "the second")


def remount(top: str, given: Options) -> list[str]:
    """Remounts by fspick(2). Returns the messages."""
    with Context.pick(top) as context:
        try:
            for key, value in given:
                context.set(key, value)
            context.reconfigure()
        except OSError as error:
            raise mounts.MountError(error, context.messages()) from None
        return context.messages()


@suite.test("a remount with the same image succeeds, with another is EINVAL")
def remounts(test: ktap.Test) -> None:
    image = matrix_image.image().path
    for given in (options(image), matrix_image.options()):
        with mounts.mounted("composefs", given) as top:
            before = shown(top)
            for again_ in ([("image", image)],
                           [("source", "other"), ("image", image)],
                           [("source", "other")]):
                test.fails(None, f"{given}, then {again_}", remount, top,
                           again_)
            test.fails(None, "by mount(2)", mounts.mount, before[0], top,
                       "composefs", mounts.MS_REMOUNT | mounts.MS_NOSUID,
                       before[1])
            for wrong in ("/nowhere", f"{image}/"):
                try:
                    remount(top, [("image", wrong)])
                    test.fail(f"{wrong}: the remount succeeded")
                except mounts.MountError as error:
                    test.equal(ktap.errno_name(error.errno), "EINVAL", wrong)
                    test.check(any("image: cannot be changed" in line
                                   for line in error.messages),
                               f"{wrong}: {error.messages}")
            test.equal(shown(top), before, "shown afterwards")
            matrix_image.check(test, top, "afterwards")


@suite.test("a device is claimed, and one on a nodev mount is EACCES")
def device_image(test: ktap.Test) -> None:
    content = Path(matrix_image.image().path).read_bytes()
    with objects.store() as work, \
            loop.device(work.plain("disk", content)) as device, \
            mounts.mounted("tmpfs", [("source", "devices")]) as top:
        with mounts.mounted("composefs", options(device)):
            test.fails(errno.EBUSY, "O_EXCL while mounted", os.open, device,
                       os.O_RDONLY | os.O_EXCL)
        with opened(device, os.O_RDONLY | os.O_EXCL):
            refused(test, "a claimed device", errno.EBUSY, options(device),
                    f"image {device}: is busy")
        node = f"{top}/device"
        os.mknod(node, 0o666 | stat.S_IFBLK, os.stat(device).st_rdev)
        mounts.mount(None, top, None, mounts.MS_REMOUNT | mounts.MS_NODEV)
        refused(test, "nodev", errno.EACCES, options(node), f"image {node}: ")


fixtures.require()
objects.require_verity()
suite.run()
