#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""An upper layer on composefs, with the mount option "escaped".

Xattrs of overlayfs in the packed tree are escaped in the image. An overlayfs
on top of the mount would take them for its own if composefs removed the
escapes. With "escaped" it sees what it sees on erofs, and shows the same.
"""

from __future__ import annotations

import errno
import functools
import os

from lib import fixtures, ktap, mounts, overlayfs, reference, tree
from lib.compare import Differences, attributes
from lib.mounts import Options

PREFIX = "trusted.overlay."
OVER_NATIVE: Options = [("metacopy", "on"), ("redirect_dir", "on")]

suite = ktap.Suite()


def stack_options(metadata: str, image: fixtures.Image) -> Options:
    """The layers of erofs + overlayfs."""
    return [("lowerdir+", metadata),
            *(("datadir+", path) for path in image.objects), *OVER_NATIVE]


def compare(test: ktap.Test, ours: str, theirs: str) -> None:
    """Compares two trees, entry by entry."""
    differences = Differences()
    mine = {entry.path: entry for entry in tree.walk(ours)}
    for their in tree.walk(theirs):
        our = mine.pop(their.path, None)
        differences.compared += 1
        if our is None:
            differences.add("presence", their.path, "missing", "exists")
            continue
        expected = attributes(their)
        for kind, value in attributes(our).items():
            if kind == "mtime" and not their.path:
                # That of the upper layer's root.
                continue
            differences.compare(kind, their.path, value, expected[kind])
        differences.compare("listed but not found", their.path,
                            our.failed_lookups, their.failed_lookups)
    for path in mine:
        differences.add("presence", path, "exists", "missing")
    differences.report(test)


def escaped_names(top: str) -> int:
    """The number of files that have xattrs of overlayfs of their own."""
    return sum(any(name.startswith(PREFIX) for name in entry.xattr_names)
               for entry in tree.walk(top))


def check_image(test: ktap.Test, image: fixtures.Image) -> None:
    with mounts.composefs(image.path, image.objects,
                          ("escaped", None)) as native, \
            reference.erofs(image) as metadata, \
            overlayfs.writable([("lowerdir+", native),
                                *OVER_NATIVE]) as ours, \
            overlayfs.writable(stack_options(metadata, image)) as theirs:
        compare(test, ours.top, theirs.top)
        test.check(escaped_names(theirs.top) > 0,
                   f"{image.name} has no xattr of overlayfs")


@suite.test("the mount itself shows escaped names, and no others of overlayfs")
def names(test: ktap.Test) -> None:
    image = fixtures.named("special-v1")
    seen = 0
    with mounts.composefs(image.path, image.objects,
                          ("escaped", None)) as native, \
            mounts.composefs(image.path, image.objects) as usual:
        for entry in tree.walk(native):
            path = os.fsencode(usual) + entry.path
            for name, value in entry.xattrs.items():
                plain = name
                if name.startswith(PREFIX):
                    seen += 1
                    test.check(name.startswith(PREFIX + "overlay."),
                               f"{entry.path!r} shows {name}")
                    plain = "trusted." + name.removeprefix(PREFIX)
                    test.fails(None if plain in entry.xattrs else
                               errno.ENODATA, f"{entry.path!r}: {plain}",
                               os.getxattr, os.fsencode(native) + entry.path,
                               plain)
                test.equal(os.getxattr(path, plain, follow_symlinks=False),
                           value, f"{entry.path!r}: {name}")
    test.check(seen > 0, "no name is escaped")


@suite.test("escaped: shown; not a value; another super block; not by remount")
def option(test: ktap.Test) -> None:
    image = fixtures.named("special-v1")
    with mounts.composefs(image.path, image.objects) as usual:
        with mounts.composefs(image.path, image.objects,
                              ("escaped", None)) as native:
            test.check("escaped" in mounts.info(native).options,
                       f"{mounts.info(native)}")
            test.check(os.stat(native).st_dev != os.stat(usual).st_dev,
                       "a mount without the option shares the super block")
            with mounts.Context.pick(native) as context:
                context.set("escaped")
                context.reconfigure()
        with mounts.Context.pick(usual) as context:
            context.set("escaped")
            test.fails(errno.EINVAL, "a remount", context.reconfigure)
            test.equal(context.messages(), [
                "e composefs: escaped: cannot be changed while mounted"],
                "messages")
    with mounts.Context.open("composefs") as context:
        test.fails(errno.EINVAL, "escaped=1", context.set, "escaped", "1")


mounts.require_root()
reference.require_support()
for one in fixtures.require():
    if one.name.startswith("special-") and one.version < 2:
        suite.add(f"{one.name}: an upper layer on composefs, and on erofs",
                  functools.partial(check_image, image=one))
suite.run()
