#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Log lines about objects that are refused.

A line names the image, the inode and the object, and what was expected and
found.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from lib import (fixtures, kernel_log, ktap, matrix_image, mounts, notify,
                 objects)
from lib.objects import Store

suite = ktap.Suite()

FILE = "file-00"


def check_line(
    test: ktap.Test,
    make: Callable[[Store, str, bytes], object],
    *words: str,
    image_name: str = "matrix",
    options: tuple[tuple[str, mounts.Value], ...] = (),
) -> None:
    """Reads a file whose object is wrong, and checks that one log line has all
    the words."""
    image = fixtures.named(image_name)
    data = Path(image.source or "", FILE).read_bytes()
    name = objects.object_name(objects.digest_of(data, image.algorithm))
    kernel_log.reset_ratelimit()
    with objects.store() as store:
        make(store, name, data)
        with mounts.composefs(image.path, [store.path], *options) as top, \
                kernel_log.watch() as lines:
            inode = os.stat(f"{top}/{FILE}").st_ino
            with open(f"{top}/{FILE}", "rb", buffering=0) as file:
                test.fails(errno.EIO, "read", file.read, 1)
    ours = [line for line in lines if line.startswith("composefs: ")]
    wanted = [f"{image.path}:", f"inode {inode}:", name, *words]
    found = [line for line in ours if all(word in line for word in wanted)]
    test.check(found, f"no line with {wanted} among {ours}")


def digests(data: bytes, *algorithms: str) -> list[str]:
    return [objects.digest_of(data, algorithm) for algorithm in algorithms]


@suite.test("a missing object")
def missing(test: ktap.Test) -> None:
    check_line(test, lambda s, n, d: None, "in none of the object directories")


@suite.test("an object without fs-verity: the expected digest")
def without(test: ktap.Test) -> None:
    data = content()
    check_line(test, lambda s, n, d: s.plain(n, d), "no fs-verity",
               f"expected {objects.digest_of(data)}")


@suite.test("an object with another digest: both digests")
def other(test: ktap.Test) -> None:
    data = content()
    changed = data[::-1]
    check_line(test, lambda s, n, d: s.verified(n, changed),
               f"expected {objects.digest_of(data)}",
               f"found {objects.digest_of(changed)}")


@suite.test("an object with a digest of another algorithm: both digests")
def algorithm(test: ktap.Test) -> None:
    data = content()
    check_line(test, lambda s, n, d: s.verified(n, d, "sha512"),
               f"expected {objects.digest_of(data)}",
               f"found {objects.digest_of(data, 'sha512')}")


@suite.test("an object of another size: both sizes")
def size(test: ktap.Test) -> None:
    data = content()
    check_line(test, lambda s, n, d: s.verified(n, d + b"more"),
               str(len(data)), str(len(data) + 4))


@suite.test("an object that is not a regular file")
def directory(test: ktap.Test) -> None:
    check_line(test, lambda s, n, d: s.at(n).mkdir(), "not a regular file")


@suite.test("an object below a symbolic link")
def link(test: ktap.Test) -> None:
    def make(store: Store, name: str, data: bytes) -> None:
        directory, _, file = name.partition("/")
        store.verified(f"elsewhere/{file}", data)
        (store.top / directory).symlink_to("elsewhere")

    check_line(test, make, "symbolic link")


@suite.test("a file without a digest, under verity")
def no_digest(test: ktap.Test) -> None:
    check_line(test, lambda s, n, d: s.verified(n, d), "digest", "verity",
               image_name="matrix-no-digests", options=(("verity", None),))


@suite.test("a file without content, under verity: a log line and an event")
def no_content(test: ktap.Test) -> None:
    kernel_log.reset_ratelimit()
    with matrix_image.without_content() as image, \
            mounts.composefs(image.path, [], ("verity", None)) as top, \
            notify.fanotify(top, notify.FAN_FS_ERROR) as listener, \
            kernel_log.watch() as lines:
        inode = os.stat(f"{top}/{FILE}").st_ino
        test.fails(errno.EIO, "open", os.open, f"{top}/{FILE}", os.O_RDONLY)
        test.check(notify.ready(listener), "no event")
        found = [event.error for event in notify.events(listener)]
        test.equal(found, [errno.EIO], "events")
    words = [f"{image.path}:", f"inode {inode}:", "digest", "verity"]
    test.check(any(all(word in line for word in words) for line in lines),
               f"no line with {words} among {lines}")


@suite.test("an image that has not the digest of digest=: both digests")
def image(test: ktap.Test) -> None:
    matrix = fixtures.named("matrix")
    other = fixtures.named("special-v0")
    for path, digest, *words in (
            (matrix.path, other.digest, f"expected {other.digest}",
             f"found {matrix.digest}"),
            ("/usr/bin/env", matrix.digest, "has no fs-verity digest")):
        with kernel_log.watch() as lines:
            # With fsopen(2), whose context has a log of its own.
            test.fails(errno.EIO if len(words) > 1 else errno.ENODATA, path,
                       mounts.new_mount, "composefs",
                       mounts.composefs_options(path, matrix.objects,
                                                ("digest", digest)))
        wanted = [f"image {path}:", *words]
        test.check(any(all(word in line for word in wanted)
                       for line in lines),
                   f"no line with {wanted} among {lines}")


@suite.test("no log line for objects that are right")
def good(test: ktap.Test) -> None:
    image = fixtures.named("matrix")
    kernel_log.reset_ratelimit()
    with mounts.composefs(image.path, image.objects) as top, \
            kernel_log.watch() as lines:
        for name in sorted(os.listdir(top)):
            test.equal(Path(top, name).read_bytes(),
                       Path(image.source or "", name).read_bytes(), name)
    test.equal(kernel_log.of_composefs(lines), [],
               "log lines")


def content() -> bytes:
    """The content of FILE."""
    return Path(fixtures.named("matrix").source or "", FILE).read_bytes()


fixtures.require()
objects.require_verity()
suite.run()
