# SPDX-License-Identifier: GPL-2.0

"""The image "matrix" of the fixtures: small, with a tree to compare with."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import fixtures, ktap, objects
from .fixtures import Image

# A file whose content is in an object, and one whose content is in the image.
FILE = "file-00"
INLINE = "inline"
FILES = 40


def image() -> Image:
    return fixtures.named("matrix")


def data(name: str = FILE) -> bytes:
    return Path(image().source or "", name).read_bytes()


def object_name(name: str = FILE) -> str:
    return objects.object_name(objects.digest_of(data(name)))


def add_to(store: objects.Store, name: str = FILE) -> str:
    """Puts the object of a file in a store. Returns its name there."""
    found = object_name(name)
    store.verified(found, data(name))
    return found


@contextmanager
def without_content() -> Iterator[Image]:
    """An image whose files have a size, and neither content nor objects nor
    digests of them. Those whose content is in the image have it."""
    image = fixtures.named("matrix-no-digests")
    before = Path(image.path).read_bytes()
    with objects.store() as work:
        # A metacopy without a redirect.
        path = work.verified("image", before.replace(
            b"overlay.redirect", b"overlay.no_where"))
        yield dataclasses.replace(image, path=str(path), objects=[],
                                  digest=objects.measure_verity(path))


def is_right(test: ktap.Test, top: str, what: str) -> None:
    """Checks that the image is mounted at `top` with its objects."""
    names = sorted([*(f"file-{number:02}" for number in range(FILES)),
                    INLINE])
    test.equal(sorted(os.listdir(top)), names, f"{what}: names")
    for name in (FILE, INLINE):
        try:
            found = Path(top, name).read_bytes()
        except OSError as error:
            test.fail(f"{what}: read {name}: {ktap.errno_name(error.errno)}")
        else:
            test.check(found == data(name), f"{what}: {name} is another")
