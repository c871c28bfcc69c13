# SPDX-License-Identifier: GPL-2.0

"""The view of an image, entry by entry, against that of erofs + overlayfs.

Both are walked, with all attributes, xattrs and contents. INTENDED has the
differences that are meant to be.
"""

from __future__ import annotations

import errno
import os
import stat

from . import fixtures, ktap, mounts, reference
from .compare import (Differences, Intended, attributes, errno_of_lookup,
                      same_content)
from .dirents import DT_OF_MODE
from .fixtures import Image
from .tree import Entry, link_groups, walk

# What same_content() returns for a file whose object is missing.
MISSING = "EIO, reference ENOENT"

STUBS = [b"%02x" % number for number in range(256)]


def lacks_only_whiteouts(ours: Entry | None, theirs: Entry | None) -> bool:
    """Whether the reference lists more names, and cannot look up any of
    those."""
    if not ours or not theirs or ours.entries is None or \
            theirs.entries is None:
        return False
    names = {dirent.name for dirent in ours.entries}
    their_names = {dirent.name for dirent in theirs.entries}
    return names < their_names and all(
        theirs.failed_lookups.get(name) == errno.ENOENT
        for name in their_names - names)


INTENDED = (
    Intended(
        "names in a directory",
        lacks_only_whiteouts,
        "overlayfs lists whiteouts below the root but does not find them; "
           "composefs does not list them",
    ),
    Intended(
        "error of a missing object",
        lambda ours, theirs: True,
        "the file exists: composefs returns EIO from read(2), not ENOENT "
           "from open(2)",
    ),
)


def compare_entries(differences: Differences, ours: dict[bytes, Entry],
                    theirs: dict[bytes, Entry]) -> None:
    """Compares all but contents."""
    for path in theirs.keys() | ours.keys():
        differences.compared += 1
        our, their = ours.get(path), theirs.get(path)
        if our is None or their is None:
            differences.add("presence", path, our and "exists",
                            their and "exists", our, their)
            continue
        expected = attributes(their)
        for kind, value in attributes(our).items():
            if value != expected[kind]:
                differences.add(kind, path, value, expected[kind], our, their)
        for kind, value, other in (
                ("atime", our.stat.st_atime_ns, their.stat.st_atime_ns),
                ("ctime", our.stat.st_ctime_ns, their.stat.st_ctime_ns),
                ("blocks", our.stat.st_blocks, their.stat.st_blocks),
                ("blksize", our.stat.st_blksize, their.stat.st_blksize),
                ("order of xattrs", our.xattr_names, their.xattr_names)):
            if value != other:
                differences.add(kind, path, value, other, our, their)
        if our.dirent and their.dirent:
            if our.dirent.type != their.dirent.type:
                differences.add("d_type", path, our.dirent.type,
                                their.dirent.type, our, their)
        for name, error in our.failed_lookups.items():
            differences.compare("listed but not found", path + b"/" + name,
                                ktap.errno_name(error), ktap.errno_name(
                                    their.failed_lookups.get(name)))
        names = [dirent.name for dirent in our.entries or ()]
        their_names = [dirent.name for dirent in their.entries or ()]
        if sorted(names) != sorted(their_names):
            differences.add("names in a directory", path,
                            sorted(set(names) - set(their_names)),
                            sorted(set(their_names) - set(names)), our, their)
        elif names != their_names:
            differences.add("order of readdir", path, names[:4],
                            their_names[:4], our, their)


def check_numbers(differences: Differences,
                  ours: dict[bytes, Entry]) -> None:
    """Checks that inode numbers and types are consistent in our tree."""
    root = ours[b""].stat
    for path, entry in ours.items():
        number = entry.stat.st_ino
        differences.compare("one st_dev", path, entry.stat.st_dev,
                            root.st_dev)
        if entry.dirent:
            differences.compare("d_ino is st_ino", path, entry.dirent.ino,
                                number)
            differences.compare("d_type is the type", path, entry.dirent.type,
                                DT_OF_MODE[entry.format])
        if entry.entries is None:
            continue
        parent = ours[path.rpartition(b"/")[0]].stat
        dots = {dirent.name: dirent for dirent in entry.entries
                if dirent.name in (b".", b"..")}
        differences.compare("both dots", path, sorted(dots), [b".", b".."])
        for name, expected in ((b".", number), (b"..", parent.st_ino)):
            if name in dots:
                differences.compare(f"d_ino of {name.decode()}", path,
                                    dots[name].ino, expected)


def check_absent(differences: Differences, top: str,
                 ours: dict[bytes, Entry]) -> None:
    """Looks up absent names that are similar to names of a directory."""
    base = os.fsencode(top)
    for path, entry in ours.items():
        if entry.entries is None:
            continue
        names = {dirent.name for dirent in entry.entries}
        near = {b"!", b"\xff" * 255, b"nothing of this name"}
        if not path:
            near |= set(STUBS)
        for name in names:
            near |= {name + b"x", name + b"\x01", name[:-1]}
        for name in near - names - {b"", b"."}:
            if len(name) <= 255:
                differences.compare(
                    "lookup of an absent name", path + b"/" + name,
                    ktap.errno_name(errno_of_lookup(
                        b"%s%s/%s" % (base, path, name))), "ENOENT")
        differences.compare(
            "name of 256 bytes", path,
            errno_of_lookup(base + path + b"/" + b"n" * 256),
            errno.ENAMETOOLONG)


def compare_contents(differences: Differences, image: Image, our_top: str,
                     their_top: str, ours: dict[bytes, Entry],
                     theirs: dict[bytes, Entry]) -> None:
    """Compares the content of each inode."""
    seen = set()
    for path, entry in ours.items():
        if entry.format != stat.S_IFREG or entry.stat.st_ino in seen or \
                path not in theirs:
            continue
        seen.add(entry.stat.st_ino)
        found = same_content(os.fsencode(our_top) + path,
                             os.fsencode(their_top) + path,
                             entry.stat.st_size)
        if found == MISSING and not image.has_objects:
            differences.add("error of a missing object", path, found, None)
        elif found:
            differences.add("content", path, found, None)


def compare_image(test: ktap.Test, image: Image) -> None:
    """Compares all of an image, and its numbers and absent names with what
    they have to be."""
    differences = Differences(INTENDED)
    # Where all objects exist, the reference verifies digests, too.
    verify = image.has_objects and "no-digests" not in image.name
    with mounts.composefs(image.path, image.objects) as our_top, \
            reference.mount(image, verity=verify) as their_top:
        ours = {entry.path: entry for entry in walk(our_top)}
        theirs = {entry.path: entry for entry in walk(their_top)}
        test.need(len(theirs) > 2,
                  f"the reference has only {len(theirs)} entries")
        compare_entries(differences, ours, theirs)
        check_numbers(differences, ours)
        check_absent(differences, our_top, ours)
        differences.compare(
            "hard links", b"", link_groups(ours.values())
            ^ link_groups(theirs.values()), set())
        compare_contents(differences, image, our_top, their_top, ours, theirs)
        test.note(f"{len(ours)} entries, version {image.version}")
        for path, entry in ours.items():
            for name, error in entry.failed_lookups.items():
                test.note(f"lookup fails on both: {path + b'/' + name!r}: "
                          f"{ktap.errno_name(error)}")
    differences.report(test)


def compare_without_objects(test: ktap.Test, name: str) -> None:
    """Compares an image of COMPOSEFS_IMAGES, which has no objects."""
    compare_image(test, fixtures.without_objects(name))
