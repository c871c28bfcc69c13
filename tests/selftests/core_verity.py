#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Digests: a file can be read only if the fs-verity digest of its object is
the one in the image. The option digest= does the same for the image."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import core, image, ktap, mounts, scratch
from lib.mounts import Value
from lib.verity import enable_verity, measure_verity

suite = ktap.Suite()

CONTENT = bytes(range(256)) * 40
OTHER = bytes(10240)
NO_VERITY = b"no fs-verity".ljust(10240)


@contextmanager
def store() -> Iterator[Path]:
    """A directory with an image and objects."""
    with scratch.ext4() as disk, core.workdir(disk) as work:
        path, digest = core.put_object(work, CONTENT)
        other, other_digest = core.put_object(work, OTHER)
        for name in (path, other):
            enable_verity(f"{work}/objects{name}")
        plain, plain_digest = core.put_object(work, NO_VERITY)
        size = len(CONTENT)
        image.write(image.directory({
            "good": image.external(size, path, digest),
            "another-digest": image.external(size, path, other_digest),
            "another-object": image.external(size, other, digest),
            "no-verity": image.external(size, plain, plain_digest),
            "no-digest": image.external(size, path),
            "inline": image.regular(b"inline"),
        }), work / "image")
        yield work


def outcomes(work: Path, *options: tuple[str, Value]) -> dict[str, str]:
    """What a read of each file gives: "read", or the name of an error."""
    found = {}
    with mounts.mounted("composefs", core.options(work, *options)) as top:
        for name in os.listdir(top):
            with open(f"{top}/{name}", "rb", buffering=0) as file:
                try:
                    file.read(1)
                    found[name] = "read"
                except OSError as error:
                    found[name] = ktap.errno_name(error.errno)
    return found


@suite.test("lib/image.py computes the digests that fs-verity computes")
def digests(test: ktap.Test) -> None:
    with scratch.ext4() as disk:
        for algorithm in ("sha256", "sha512"):
            for size in (0, 1, 4096, 4097, 4096 * 64, 4096 * 129 + 1):
                content = os.urandom(size)
                path = disk / f"{algorithm}-{size}"
                path.write_bytes(content)
                enable_verity(path, algorithm)
                digest = image.verity_digest(content, algorithm).hex()
                test.equal(measure_verity(path), f"{algorithm}:{digest}",
                           f"digest of {size} bytes")


@suite.test("an object is verified if the image has its digest")
def verify(test: ktap.Test) -> None:
    expected = {"good": "read", "another-digest": "EIO",
                "another-object": "EIO", "no-verity": "EIO",
                "no-digest": "read", "inline": "read"}
    with store() as work:
        test.equal(outcomes(work), expected, "by default")
        expected["no-digest"] = "EIO"
        test.equal(outcomes(work, ("verity", None)), expected, "verity")


@suite.test("noverity reads all objects")
def noverity(test: ktap.Test) -> None:
    with store() as work:
        test.equal(set(outcomes(work, ("noverity", None)).values()), {"read"},
                   "outcomes")


@suite.test("digest= refuses an image with another digest")
def image_digest(test: ktap.Test) -> None:
    with store() as work:
        path = work / "image"
        digest = image.verity_digest(path.read_bytes()).hex()
        pinned = core.options(work, ("digest", digest))
        test.fails(errno.ENODATA, "an image without fs-verity",
                   mounts.new_mount, "composefs", pinned)
        enable_verity(path)
        test.equal(outcomes(work, ("digest", digest))["good"], "read", "good")
        test.fails(errno.EIO, "another digest", mounts.new_mount, "composefs",
                   core.options(work, ("digest", digest[::-1])))


core.require_composefs()
suite.run()
