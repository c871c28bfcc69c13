#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Every kind of object in every verity mode.

Each way of reading is tried as the first access after a mount, which opens and
verifies the object. open(2) has to succeed in all cases.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Callable
from pathlib import Path

from lib import (fixtures, ktap, matrix_image, mounts, objects, read_whole,
                 reference)
from lib.fixtures import Image
from lib.objects import Store
from lib.verity_modes import EIO, GOOD, MODES, OTHER, options, other, outcome

suite = ktap.Suite()

# Adds an object, given its right name and content.
Make = Callable[[Store, str, bytes], object]


def symlink(store: Store, name: str, data: bytes) -> None:
    target = store.verified("target", data)
    store.at(name).symlink_to(target)


def linked_directory(store: Store, name: str, data: bytes) -> None:
    """A right object in a directory that is a symbolic link."""
    directory, _, file = name.partition("/")
    store.verified(f"elsewhere/{file}", data)
    store.at(name).parent.rmdir()
    (store.top / directory).symlink_to("elsewhere")


# Kinds of SHA-256 objects, and the outcomes of a read: under noverity, and in
# all other modes.
KINDS: dict[str, tuple[Make, tuple[str, str]]] = {
    "a good object": (lambda s, n, d: s.verified(n, d), (GOOD, GOOD)),
    "a missing object": (lambda s, n, d: None, (EIO, EIO)),
    "an object without fs-verity": (lambda s, n, d: s.plain(n, d),
                                    (GOOD, EIO)),
    "an object with other content": (lambda s, n, d: s.verified(n, other(d)),
                                     (OTHER, EIO)),
    "an object with a salt": (lambda s, n, d: s.verified(n, d, salt=b"salt"),
                              (GOOD, EIO)),
    "an object with small hash blocks": (lambda s, n,
                                         d: s.verified(n, d, block_size=1024),
                                         (GOOD, EIO)),
    "an object with the wrong algorithm": (
        lambda s, n, d: s.verified(n, d, algorithm="sha512"),
        (GOOD, EIO),
    ),
    "an object that is too long": (lambda s, n, d: s.verified(n, d + b"x"),
                                   (EIO, EIO)),
    "an object that is too short": (lambda s, n, d: s.verified(n, d[:-1]),
                                    (EIO, EIO)),
    "an empty object": (lambda s, n, d: s.plain(n, b""), (EIO, EIO)),
    "a directory": (lambda s, n, d: s.at(n).mkdir(), (EIO, EIO)),
    "a symbolic link": (symlink, (EIO, EIO)),
    "an object below a symbolic link": (linked_directory, (EIO, EIO)),
    "a fifo": (lambda s, n, d: os.mkfifo(s.at(n)), (EIO, EIO)),
    "an object below a file": (lambda s, n,
                               d: s.plain(n.partition("/")[0], b""),
                               (EIO, EIO)),
}


def read_outcome(path: str, way: read_whole.Way, data: bytes) -> str:
    """As outcome(). An error of open(2) is "open: ..."."""
    try:
        return outcome(path, way, data)
    except OSError as error:
        return f"open: {ktap.errno_name(error.errno)}"


def check_ways(test: ktap.Test, image: Image, basedirs: list[str], mode: str,
               expected: str, file: str = "file-00") -> None:
    """Checks the outcome of each way of reading, each on a new mount."""
    data = Path(image.source or "", file).read_bytes()
    for name, way in read_whole.WAYS.items():
        with mounts.composefs(image.path, basedirs,
                              *options(mode, image)) as top:
            found = read_outcome(f"{top}/{file}", way, data)
        test.equal(found, expected, f"{name}, {mode}")


def object_of(image: Image, file: str = "file-00") -> tuple[str, bytes]:
    """Name and content of the object of a file."""
    data = Path(image.source or "", file).read_bytes()
    return objects.object_name(objects.digest_of(data, image.algorithm)), data


def check_kind(test: ktap.Test, kind: str, mode: str) -> None:
    image = fixtures.named("matrix")
    make, (unverified, verified) = KINDS[kind]
    with objects.store() as store:
        make(store, *object_of(image))
        check_ways(test, image, [store.path], mode,
                   unverified if mode == "noverity" else verified)


for a_mode in MODES:
    for a_kind in KINDS:
        suite.add(f"{a_mode}: {a_kind}",
                  lambda test, kind=a_kind, mode=a_mode: check_kind(
                      test, kind, mode))


@suite.test("a SHA-512 image: right, wrong, and SHA-256 objects")
def sha512(test: ktap.Test) -> None:
    image = fixtures.named("matrix-sha512")
    name, data = object_of(image)
    for mode in MODES:
        with objects.store() as store:
            store.verified(name, data, "sha512")
            check_ways(test, image, [store.path], mode, GOOD)
            store.verified(name, other(data), "sha512")
            check_ways(test, image, [store.path], mode,
                       OTHER if mode == "noverity" else EIO)
            store.verified(name, data, "sha256")
            check_ways(test, image, [store.path], mode,
                       GOOD if mode == "noverity" else EIO)


@suite.test("files without digests are EIO under verity and digest= only")
def no_digests(test: ktap.Test) -> None:
    image = fixtures.named("matrix-no-digests")
    name, data = object_of(fixtures.named("matrix"))
    for mode in MODES:
        refused = mode in ("verity", "digest=")
        with objects.store() as store:
            store.verified(name, data)
            check_ways(test, image, [store.path], mode,
                       EIO if refused else GOOD)
            store.plain(name, other(data))
            check_ways(test, image, [store.path], mode,
                       EIO if refused else OTHER)
            store.plain(name, data + b"x")
            check_ways(test, image, [store.path], mode, EIO)


@suite.test("an inline file needs no digest")
def inline(test: ktap.Test) -> None:
    for name in ("matrix", "matrix-no-digests", "matrix-sha512"):
        image = fixtures.named(name)
        for mode in MODES:
            check_ways(test, image, [], mode, GOOD, "inline")


@suite.test("a file without content: zeros, or EIO where digests are required")
def no_content(test: ktap.Test) -> None:
    with matrix_image.without_content() as image, objects.store() as store:
        for mode in MODES:
            refused = mode in ("verity", "digest=")
            with mounts.composefs(image.path, [store.path],
                                  *options(mode, image)) as top:
                size = len(matrix_image.data())
                test.equal(os.stat(f"{top}/{matrix_image.FILE}").st_size, size,
                           f"{mode}: size")
                for name, way in read_whole.WAYS.items():
                    found = read_outcome(f"{top}/{matrix_image.FILE}", way,
                                         bytes(size))
                    test.equal(found, "open: EIO" if refused else GOOD,
                               f"{name}, {mode}")
                test.equal(Path(top, matrix_image.INLINE).read_bytes(),
                           matrix_image.data(matrix_image.INLINE),
                           f"{mode}: the inline file")
        # On the reference.
        with reference.mount(dataclasses.replace(
                image, objects=[store.path]), verity=True) as top:
            test.fails(errno.EIO, "erofs + overlayfs: open", os.open,
                       f"{top}/{matrix_image.FILE}", os.O_RDONLY)
            test.equal(Path(top, matrix_image.INLINE).read_bytes(),
                       matrix_image.data(matrix_image.INLINE),
                       "the inline file")


@suite.test("objects on tmpfs: read under noverity and tryverity, else EIO")
def tmpfs(test: ktap.Test) -> None:
    image = fixtures.named("matrix")
    with mounts.mounted("tmpfs", [("source", "store")]) as top, \
            objects.store(Path(top)) as store:
        store.plain(*object_of(image))
        for mode in MODES:
            check_ways(test, image, [store.path], mode,
                       GOOD if mode in ("noverity", "tryverity") else EIO)


@suite.test("no object directory")
def no_store(test: ktap.Test) -> None:
    image = fixtures.named("matrix")
    for mode in MODES:
        check_ways(test, image, [], mode, EIO)


@suite.test("the first object directory that has an object is used")
def several(test: ktap.Test) -> None:
    image = fixtures.named("matrix")
    name, data = object_of(image)
    with objects.store() as empty, objects.store() as wrong, \
            objects.store() as good:
        wrong.verified(name, other(data))
        good.verified(name, data)
        check_ways(test, image, [empty.path, good.path], "verity", GOOD)
        check_ways(test, image, [good.path, wrong.path], "verity", GOOD)
        check_ways(test, image, [wrong.path, good.path], "verity", EIO)
        check_ways(test, image, [wrong.path, good.path], "noverity", OTHER)


fixtures.require()
objects.require_verity()
suite.run()
