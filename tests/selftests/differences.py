#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""A table of the intended differences from erofs + overlayfs.

Each row is tried on both. A row fails if either side behaves otherwise, so
that the table stays true.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from lib import (caches, fixtures, ktap, matrix_image, mounts, objects,
                 reference, slab, special_image)
from lib.files import opened
from lib.mounts import Value

suite = ktap.Suite()


class Row(NamedTuple):
    """A difference."""

    what: str
    ours: str
    theirs: str
    why: str
    # Tries it on both, and returns what each does, as text.
    attempt: Callable[[], tuple[Any, Any]]


def outcome(function: Callable[[], Any]) -> str:
    """The result as text, "success" for None, or the name of the error."""
    result = ktap.result(function)
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
def both_on(store: objects.Store, *options: tuple[str, Value],
            verity: bool = False) -> Iterator[tuple[str, str]]:
    """The image "matrix" with other objects, on composefs and on the
    reference."""
    image = dataclasses.replace(matrix_image.image(), objects=[store.path])
    with mounts.composefs(image.path, image.objects, *options) as ours, \
            reference.mount(image, verity) as theirs:
        yield ours, theirs


def open_and_read(path: str) -> str:
    """The call that fails, and its error."""
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
    with objects.store() as store, both_on(store) as tops:
        ours, theirs = (open_and_read(f"{top}/{matrix_image.FILE}")
                        for top in tops)
    return ours, theirs


def appears_later() -> tuple[str, str]:
    """A file that is opened before its object exists."""
    def use(top: str, store: objects.Store) -> None:
        with opened(f"{top}/{matrix_image.FILE}") as fd:
            matrix_image.add_to(store)
            os.read(fd, 1)

    found = []
    for number in range(2):
        with objects.store() as store, both_on(store) as tops:
            found.append(outcome(lambda: use(tops[number], store)))
    return found[0], found[1]


def blocks() -> tuple[str, str]:
    """Whether st_blocks is computed from the size, or is that of the object,
    whose fs-verity metadata take blocks, too."""
    path = special_image.object_path(special_image.LARGE)

    def look(top: str) -> str:
        kinds = {os.stat(path).st_size // 512: "of the size",
                 os.stat(path).st_blocks: "of the object"}
        found = [os.stat(f"{top}/{special_image.LARGE}").st_blocks]
        with opened(f"{top}/{special_image.LARGE}") as fd:
            os.read(fd, 1)
            found.append(os.fstat(fd).st_blocks)
        return ", then ".join(kinds.get(number, str(number))
                              for number in found)
    return on_both(special_image.image(), look)


def listed_whiteout() -> tuple[str, str]:
    def look(top: str) -> str:
        names = os.listdir(f"{top}/whiteouts")
        found = outcome(lambda: os.stat(f"{top}/whiteouts/gone"))
        return f"{'listed' if 'gone' in names else 'not listed'}, " \
               f"{'found' if not found.startswith('E') else found}"
    return on_both(fixtures.named("special-v2"), look)


def inodes_in_memory() -> tuple[str, str]:
    """The number of inodes in memory per file, in all file systems."""
    def look(top: str) -> str:
        caches.drop()
        before = slab.all_inodes()
        names = os.listdir(f"{top}/directories/big")
        for name in names[:2000]:
            os.lstat(f"{top}/directories/big/{name}")
        return str(round((slab.all_inodes() - before) / 2000))
    return on_both(special_image.image(), look)


def mounts_needed() -> tuple[str, str]:
    def count() -> int:
        return len(mounts.mountinfo())
    before = count()
    image = special_image.image()
    with mounts.composefs(image.path, image.objects):
        ours = count() - before
    with reference.mount(image):
        theirs = count() - before
    return str(ours), str(theirs)


def digest_of_file() -> tuple[str, str]:
    def look(top: str) -> None:
        objects.measure_verity(f"{top}/{matrix_image.FILE}")
    return on_both(matrix_image.image(), look)


def wrong_object(*options: tuple[str, Value],
                 verity: bool = False) -> tuple[str, str]:
    """An object with a wrong digest."""
    with objects.store() as store:
        store.verified(matrix_image.object_name(), matrix_image.data()[::-1])
        with both_on(store, *options, verity=verity) as tops:
            ours, theirs = (open_and_read(f"{top}/{matrix_image.FILE}")
                            for top in tops)
    return ours, theirs


def wrong_object_verity() -> tuple[str, str]:
    """The same, with digests required."""
    return wrong_object(("verity", None), verity=True)


def free_space() -> tuple[str, str]:
    """Which file system statfs(2) describes."""
    image = special_image.image()
    store = os.statvfs(image.objects[0])

    def look(top: str) -> str:
        found = os.statvfs(top)
        return "of the objects" if found.f_blocks * found.f_frsize == \
            store.f_blocks * store.f_frsize else "of the image"
    return on_both(image, look)


ROWS = (
    Row("a file whose object is missing", "read: EIO", "open: ENOENT",
        "the file exists; open(2) does not open the object", missing),
    Row("the object appears after open(2)", "success", "ENOENT",
        "a read looks the object up again", appears_later),
    Row("st_blocks, before and after a read", "of the size, then of the size",
        "of the size, then of the object", "st_blocks of a file is constant",
        blocks),
    Row("a whiteout (0:0) below the root", "not listed, ENOENT",
        "listed, ENOENT", "a name that lookup does not find is not listed",
        listed_whiteout),
    Row("an object with a wrong digest, no options", "read: EIO", "success",
        "digests in the image are checked by default", wrong_object),
    Row("an object with a wrong digest, digests required", "read: EIO",
        "open: EIO", "an object is verified at the first access",
        wrong_object_verity),
    Row("FS_IOC_MEASURE_VERITY of a file", "success", "ENOTTY",
        "the object's digest is returned", digest_of_file),
    Row("statfs(2)", "of the objects", "of the image",
        "the objects use the space", free_space),
    Row("mounts in the namespace", "1", "2",
        "composefs needs no erofs below it", mounts_needed),
    Row("inodes in memory for a file", "1", "2",
        "composefs is one file system, not two", inodes_in_memory),
)


def row_holds(test: ktap.Test, row: Row) -> None:
    ours, theirs = row.attempt()
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
