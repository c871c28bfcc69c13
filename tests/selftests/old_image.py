#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Images of early 2023: composefs-old-image and mkcomposefs make images of
today's format of them, with the same tree.

The image is made from the tree of the images "special-*", with all that a file
system can hold. This needs mkcomposefs.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from pathlib import Path

from lib import fixtures, ktap, mounts, objects, old_image, special_image
from lib.compare import Differences, attributes, same_content
from lib.dirents import DT_OF_MODE
from lib.refused import refused
from lib.tree import Entry, walk
from lib.verity import enable_verity, measure_verity

PROGRAM = "composefs-old-image"
# mkcomposefs reads no attribute whose text has 64 KiB or more. This one has
# 20,000 bytes, most of them NULs with a text of four characters each.
LEFT_OUT = frozenset({"user.long-20000"})

suite = ktap.Suite()


def program() -> str:
    """The program. Ends this one where there is none."""
    directory = os.environ.get("COMPOSEFS_TOOLS")
    if not directory:
        ktap.skip_all("COMPOSEFS_TOOLS is not set: it names a directory with "
                      f"{PROGRAM} of tools/")
    return str(Path(directory, PROGRAM))


def source() -> str:
    """The tree."""
    found = special_image.image().source
    if found is None:
        raise ktap.Skipped("there is no tree to make an image of")
    return found


def make(work: objects.Store, tree: str) -> str:
    """Makes an old image of a tree, and its objects. Returns its path."""
    def keep(path: str, content: bytes) -> None:
        if not (work.top / "objects" / path).exists():
            work.verified(f"objects/{path}", content)

    return str(work.plain("old.img",
                          old_image.Writer(keep, LEFT_OUT).pack(tree)))


def convert(old: str, new: str) -> tuple[int, int, str]:
    """Runs the pipe that the manual shows. Returns both exit statuses and what
    was said."""
    with subprocess.Popen([program(), old], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as reader:
        done = subprocess.run(
            ["mkcomposefs", "--from-file", "-", new], stdin=reader.stdout,
            capture_output=True, text=True, check=False)
        assert reader.stderr
        said = reader.stderr.read()
    return reader.returncode, done.returncode, said + done.stderr


def is_whiteout(entry: Entry) -> bool:
    return entry.format == stat.S_IFCHR and entry.stat.st_rdev == 0


def expected(entry: Entry, hides: bool) -> dict[str, object]:
    """The attributes that a file of the tree has in the mount. `hides`: the
    directory has a whiteout in it."""
    found = attributes(entry)
    names = {name: value for name, value in entry.xattrs.items()
             if name not in LEFT_OUT}
    if is_whiteout(entry):
        # Stored in a form that reaches an overlayfs on top of the mount.
        found |= {"type": stat.S_IFREG, "rdev": (0, 0), "mode": oct(
            stat.S_IFREG | stat.S_IMODE(entry.stat.st_mode))}
        names = names | marks("whiteout")
    if hides:
        names = names | marks("whiteouts") | marks("opaque", b"x")
    if entry.entries is not None:
        del found["size"]
    return found | {"xattrs": names}


def marks(name: str, value: bytes = b"") -> dict[str, bytes]:
    return {f"{prefix}.overlay.{name}": value
            for prefix in ("trusted", "user")}


def compare(differences: Differences, ours: dict[bytes, Entry],
            theirs: dict[bytes, Entry]) -> None:
    hiding = {path.rpartition(b"/")[0] for path, entry in theirs.items()
              if is_whiteout(entry)}
    differences.compare("names", b"", sorted(ours), sorted(theirs))
    # Inodes of the mount by those of the tree: hard links stay hard links.
    links: dict[int, int] = {}
    for path in ours.keys() & theirs.keys():
        differences.compared += 1
        found = attributes(ours[path])
        for kind, value in expected(theirs[path], path in hiding).items():
            differences.compare(kind, path, found[kind], value)
        dirent = ours[path].dirent
        if dirent:
            differences.compare("d_type", path, dirent.type,
                                DT_OF_MODE[ours[path].format])
        number = theirs[path].stat.st_ino
        differences.compare(
            "hard links", path, ours[path].stat.st_ino,
            links.setdefault(number, ours[path].stat.st_ino))
    differences.compare("number of inodes", b"",
                        len({entry.stat.st_ino for entry in ours.values()}),
                        len({entry.stat.st_ino for entry in theirs.values()}))


@suite.test("the tree of an old image, entry for entry")
def whole_tree(test: ktap.Test) -> None:
    # It is looked up in the manifest each time.
    tree = source()
    with objects.store() as work:
        new = f"{work.path}/new.cfs"
        test.equal(convert(make(work, tree), new), (0, 0, ""),
                   "the conversion")
        enable_verity(new)
        differences = Differences()
        with mounts.composefs(new, [f"{work.path}/objects"],
                              ("digest", measure_verity(new))) as top:
            ours = {entry.path: entry for entry in walk(top)}
            theirs = {entry.path: entry for entry in walk(tree)}
            compare(differences, ours, theirs)
            for path, entry in theirs.items():
                if entry.format == stat.S_IFREG and entry.stat.st_size:
                    differences.compare("content", path, same_content(
                        os.fsencode(top) + path,
                        os.fsencode(tree) + path, entry.stat.st_size),
                        None)
        differences.report(test)
        test.note(f"{differences.compared} names")


@suite.test("an old image is refused, and the message names the program")
def refused_as_it_is(test: ktap.Test) -> None:
    with objects.store() as work:
        old = make(work, f"{source()}/types")
        refused(test, "mount", errno.EUCLEAN,
                mounts.composefs_options(old, [work.path]),
                f"image {old}: ", "early 2023", PROGRAM)


@suite.test("a damaged old image gives no image, and a message says where")
def damaged(test: ktap.Test) -> None:
    with objects.store() as work:
        data = Path(make(work, f"{source()}/hardlinks")).read_bytes()
        new = work.top / "new.cfs"
        # The last file of the tree; a part of the dump precedes it.
        last = int.from_bytes(data[8:16], "little") - old_image.INODE.size
        for what, content, words in (
                ("cut", data[:len(data) // 2], "at byte "),
                ("a mode", data[:last] + bytes(4) + data[last + 4:],
                 f"at byte {last}: inode ")):
            old = str(work.plain("damaged.img", content))
            status, other, said = convert(old, str(new))
            test.equal(status, 1, f"{what}: exit status")
            test.check(other != 0, f"{what}: mkcomposefs was content")
            test.check(f"{PROGRAM}: {old}: " in said and words in said,
                       f"{what}: {said}")
            test.check(not new.exists() or not new.stat().st_size,
                       f"{what}: there is an image")


fixtures.require()
objects.require_verity()
ktap.require_programs("composefs", "mkcomposefs")
program()
suite.run()
