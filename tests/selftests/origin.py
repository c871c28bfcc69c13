#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""The view of an image against the tree that it was made from.

This finds errors that composefs has in common with erofs + overlayfs, which
differential.py compares it with.
"""

from __future__ import annotations

import os
import stat

from lib import fixtures, ktap, mounts
from lib.compare import Differences, Intended, attributes, same_content
from lib.fixtures import Image
from lib.tree import Entry, link_groups, walk

suite = ktap.Suite()

# Each version and algorithm once. differential.py compares all images.
IMAGES = ("special-v0", "special-v1-sha512", "special-v2", "matrix",
          "python-v1-sha512")
# The image of the guest's own tree, and the parts of that which do not change.
GUEST = "debian-v2"
UNCHANGED = ("/usr/bin", "/usr/lib/python3.13")

# The xattrs that mark whiteouts and their directories in versions 0 and 1.
MARKS = {f"{prefix}.overlay.{name}" for prefix in ("trusted", "user")
         for name in ("whiteout", "whiteouts", "opaque")}
BAD_LINKS = (b"/links/4094", b"/links/4095")


def is_directory(_: Entry | None, theirs: Entry | None) -> bool:
    return theirs is not None and stat.S_ISDIR(theirs.stat.st_mode)


def is_whiteout(_: Entry | None, theirs: Entry | None) -> bool:
    return theirs is not None and stat.S_ISCHR(theirs.stat.st_mode) and \
        theirs.stat.st_rdev == 0


def is_marked(ours: Entry | None, theirs: Entry | None) -> bool:
    """Whether all xattrs but those marks are the same."""
    return ours is not None and theirs is not None and theirs.xattrs == {
        name: value for name, value in ours.xattrs.items()
        if name not in MARKS}


def is_bad_link(ours: Entry | None, theirs: Entry | None) -> bool:
    return ours is None and theirs is not None and theirs.path in BAD_LINKS


ESCAPED = "a whiteout is an empty file with xattrs, in versions 0 and 1"
INTENDED = (
    Intended(
        "size",
        is_directory,
        "the size of a directory is that of its "
                                 "entries in the image",
    ),
    Intended("presence", is_whiteout, "a whiteout is hidden in version 2"),
    Intended(
        "presence",
        is_bad_link,
        "in version 2 the data of a long link "
                                    "cross a block",
    ),
    Intended("type", is_whiteout, ESCAPED),
    Intended("mode", is_whiteout, ESCAPED),
    Intended("xattrs", is_marked, ESCAPED),
)


def compare(test: ktap.Test, image: Image, below: str = "") -> None:
    """Compares a part of the mount with the same part of the tree."""
    differences = Differences(INTENDED)
    source = (image.source or "").rstrip("/")
    with mounts.composefs(image.path, image.objects) as top:
        ours = {entry.path: entry for entry in walk(top + below)}
        theirs = {entry.path: entry for entry in walk(source + below)}
        for path in ours.keys() | theirs.keys():
            compare_entry(differences, image, path, ours.get(path),
                          theirs.get(path))
        for path in ours.keys() & theirs.keys():
            if stat.S_ISREG(theirs[path].stat.st_mode):
                found = same_content(os.fsencode(top + below) + path,
                                     os.fsencode(source + below) + path,
                                     ours[path].stat.st_size)
                if found:
                    differences.add("content", path, found, None)
        if not below:
            differences.compare("hard links", b"", link_groups(ours.values())
                                ^ link_groups(theirs.values()), set())
        test.note(f"{differences.compared} entries, version {image.version}")
    differences.report(test)


def compare_entry(
    differences: Differences,
    image: Image,
    path: bytes,
    ours: Entry | None,
    theirs: Entry | None,
) -> None:
    differences.compared += 1
    if ours is None or theirs is None:
        differences.add("presence", path, ours and "exists",
                        theirs and "exists", ours, theirs)
        return
    # Version 2 stores whole seconds.
    expected = attributes(theirs, whole_seconds=image.version == 2)
    for kind, value in attributes(ours).items():
        if value != expected[kind]:
            differences.add(kind, path, value, expected[kind], ours, theirs)


def add_images() -> None:
    for image in fixtures.load():
        if image.name in IMAGES:
            suite.add(f"{image.name} is the tree that it was made from",
                      lambda test, image=image: compare(test, image))
        elif image.name == GUEST:
            for below in UNCHANGED:
                suite.add(f"{image.name}{below} is that of the guest",
                          lambda test, image=image, below=below: compare(
                              test, image, below))


fixtures.require()
add_images()
suite.run()
