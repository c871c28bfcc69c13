#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""What differs from erofs and overlayfs, and is meant to: a table.

Each row is done on both mounts. A row fails when either side has come to do
something else, so that the table is what there is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lib import (fixtures, ktap, matrix, mounts, objects, reference, slab,
                 special)
from lib.special import opened

suite = ktap.Suite()


class Row(NamedTuple):
    """A difference."""

    what: str
    ours: str
    theirs: str
    why: str
    # Given our mount and the reference, what each does. As text.
    look: Callable[[], tuple[Any, Any]]


def outcome(function: Callable[[], Any]) -> str:
    try:
        result = function()
    except OSError as error:
        return ktap.errno_name(error.errno)
    return "success" if result is None else str(result)


@contextmanager
def both(image: fixtures.Image, verity: bool = False) -> Iterator[
        tuple[str, str]]:
    with mounts.composefs(image.path, image.objects) as ours, \
            reference.mount(image, verity) as theirs:
        yield ours, theirs


def on_both(image: fixtures.Image, look: Callable[[str], Any]) -> tuple[
        str, str]:
    with both(image) as (ours, theirs):
        return outcome(lambda: look(ours)), outcome(lambda: look(theirs))


@contextmanager
def without_objects() -> Iterator[tuple[str, str]]:
    """Both mounts of an image whose objects are missing."""
    image = matrix.image()
    with objects.store() as store, reference.erofs(image) as metadata, \
            mounts.composefs(image.path, [store.path]) as ours, \
            mounts.mounted("overlay", [
                ("source", "x"), ("metacopy", "on"), ("redirect_dir", "on"),
                ("ro", None), ("lowerdir+", metadata),
                ("datadir+", store.path)]) as theirs:
        yield ours, theirs


def open_and_read(path: str) -> str:
    """At which call it fails."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError as error:
        return f"open: {ktap.errno_name(error.errno)}"
    try:
        os.read(fd, 1)
    except OSError as error:
        return f"read: {ktap.errno_name(error.errno)}"
    finally:
        os.close(fd)
    return "success"


def missing() -> tuple[str, str]:
    with without_objects() as tops:
        ours, theirs = (open_and_read(f"{top}/{matrix.FILE}") for top in tops)
    return ours, theirs


def appears_later() -> tuple[str, str]:
    """A file that was opened before its object was there."""
    found = []
    image = matrix.image()
    for kind in ("composefs", "reference"):
        with objects.store() as store, reference.erofs(image) as metadata:
            options: mounts.Options = mounts.composefs_options(
                image.path, [store.path])
            if kind == "reference":
                options = [("source", "x"), ("metacopy", "on"),
                           ("redirect_dir", "on"), ("ro", None),
                           ("lowerdir+", metadata), ("datadir+", store.path)]
            with mounts.mounted("composefs" if kind == "composefs"
                                else "overlay", options) as top:
                def use(path: str = f"{top}/{matrix.FILE}",
                        where: objects.Store = store) -> None:
                    with opened(path) as fd:
                        matrix.add_to(where)
                        os.read(fd, 1)
                found.append(outcome(use))
    return found[0], found[1]


def blocks() -> tuple[str, str]:
    """What st_blocks of a file is about. An object has more than its content:
    what fs-verity adds to it."""
    path = special.object_path(special.LARGE)

    def look(top: str) -> str:
        kinds = {os.stat(path).st_size // 512: "of the size",
                 os.stat(path).st_blocks: "of the object"}
        found = [os.stat(f"{top}/{special.LARGE}").st_blocks]
        with opened(f"{top}/{special.LARGE}") as fd:
            os.read(fd, 1)
            found.append(os.fstat(fd).st_blocks)
        return ", then ".join(kinds.get(number, str(number))
                              for number in found)
    return on_both(special.image(), look)


def listed_whiteout() -> tuple[str, str]:
    def look(top: str) -> str:
        names = os.listdir(f"{top}/whiteouts")
        found = outcome(lambda: os.stat(f"{top}/whiteouts/gone"))
        return f"{'listed' if 'gone' in names else 'not listed'}, " \
               f"{'found' if not found.startswith('E') else found}"
    return on_both(fixtures.named("special-v2"), look)


def inodes_in_memory() -> tuple[str, str]:
    """How many inodes a file has, all file systems counted."""
    def look(top: str) -> str:
        slab.drop_caches()
        before = slab.all_inodes()
        names = os.listdir(f"{top}/directories/big")
        for name in names[:2000]:
            os.lstat(f"{top}/directories/big/{name}")
        return str(round((slab.all_inodes() - before) / 2000))
    return on_both(special.image(), look)


def mounts_needed() -> tuple[str, str]:
    def count() -> int:
        return len(Path("/proc/self/mountinfo").read_text(
            encoding="utf-8").splitlines())
    before = count()
    image = special.image()
    with mounts.composefs(image.path, image.objects):
        ours = count() - before
    with reference.mount(image):
        theirs = count() - before
    return str(ours), str(theirs)


def digest_of_file() -> tuple[str, str]:
    def look(top: str) -> None:
        objects.measure_verity(f"{top}/{matrix.FILE}")
    return on_both(matrix.image(), look)


def wrong_object() -> tuple[str, str]:
    """An object of another digest, without options about digests."""
    image = matrix.image()
    found = []
    with objects.store() as store:
        store.verified(matrix.object_name(), matrix.data()[::-1])
        with reference.erofs(image) as metadata, mounts.composefs(
                image.path, [store.path]) as ours, mounts.mounted(
                    "overlay", [("source", "x"), ("metacopy", "on"),
                                ("redirect_dir", "on"), ("ro", None),
                                ("lowerdir+", metadata),
                                ("datadir+", store.path)]) as theirs:
            for top in (ours, theirs):
                found.append(open_and_read(f"{top}/{matrix.FILE}"))
    return found[0], found[1]


def when_verified() -> tuple[str, str]:
    """The same with digests required: at which call."""
    image = matrix.image()
    found = []
    with objects.store() as store:
        store.verified(matrix.object_name(), matrix.data()[::-1])
        with reference.erofs(image) as metadata, mounts.composefs(
                image.path, [store.path], ("verity", None)) as ours, \
                mounts.mounted("overlay", [
                    ("source", "x"), ("metacopy", "on"),
                    ("redirect_dir", "on"), ("verity", "require"),
                    ("ro", None), ("lowerdir+", metadata),
                    ("datadir+", store.path)]) as theirs:
            for top in (ours, theirs):
                found.append(open_and_read(f"{top}/{matrix.FILE}"))
    return found[0], found[1]


def free_space() -> tuple[str, str]:
    """Whose size statfs(2) tells."""
    image = special.image()
    store = os.statvfs(image.objects[0])

    def look(top: str) -> str:
        found = os.statvfs(top)
        return "of the objects" if found.f_blocks * found.f_frsize == \
            store.f_blocks * store.f_frsize else "of the image"
    return on_both(image, look)


ROWS = (
    Row("a file whose object is missing", "read: EIO", "open: ENOENT",
        "opening a file opens nothing; the name is there", missing),
    Row("its object appears after open(2)", "success", "ENOENT",
        "a read looks again", appears_later),
    Row("st_blocks, before and after a read", "of the size, then of the size",
        "of the size, then of the object", "it does not change", blocks),
    Row("a whiteout (0:0) below the root", "not listed, ENOENT",
        "listed, ENOENT", "what cannot be found is not listed",
        listed_whiteout),
    Row("an object of another digest, no options", "read: EIO", "success",
        "what the image names is checked by default", wrong_object),
    Row("the same, digests required", "read: EIO", "open: EIO",
        "verified when first used", when_verified),
    Row("FS_IOC_MEASURE_VERITY of a file", "success", "ENOTTY",
        "it is the object's", digest_of_file),
    Row("statfs(2)", "of the objects", "of the image",
        "what fills up is the store", free_space),
    Row("mounts in the namespace", "1", "2",
        "there is nothing below that has to stay mounted", mounts_needed),
    Row("inodes in memory for a file", "1", "2",
        "there is one file system", inodes_in_memory),
)


def row_holds(test: ktap.Test, row: Row) -> None:
    ours, theirs = row.look()
    test.note(f"{row.what} | {ours} | {theirs} | {row.why}")
    test.equal(ours, row.ours, "composefs")
    test.equal(theirs, row.theirs, "erofs + overlayfs")


for _row in ROWS:
    suite.add(_row.what, lambda test, row=_row: row_holds(test, row))

fixtures.require()
objects.require_verity()
reference.require_support()
print("# what | composefs | erofs + overlayfs | why", flush=True)
suite.run()
