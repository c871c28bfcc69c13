# SPDX-License-Identifier: GPL-2.0

"""The image "matrix" of the fixtures: a small one, with 40 files in objects
and one inline file.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import fixtures, ktap, mounts, objects
from .fixtures import Image
from .mounts import Options, Value

# A file whose content is in an object, and an inline one.
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
    """Adds the object of a file to a store. Returns the object's name."""
    found = object_name(name)
    store.verified(found, data(name))
    return found


@contextmanager
def without_content() -> Iterator[Image]:
    """An image whose files have a size, but no redirect and no digest, so that
    no object belongs to them. Its inline file is as in the image."""
    image = fixtures.named("matrix-no-digests")
    before = Path(image.path).read_bytes()
    with objects.store() as work:
        path = work.verified("image", before.replace(
            b"overlay.redirect", b"overlay.no_where"))
        yield dataclasses.replace(image, path=str(path), objects=[],
                                  digest=objects.measure_verity(path))


def options(*more: tuple[str, Value]) -> Options:
    """The options of a mount with its objects, and some more."""
    return mounts.composefs_options(image().path, image().objects, *more)


@contextmanager
def mounted(*more: tuple[str, Value],
            basedirs: list[str] | None = None) -> Iterator[str]:
    """Mounts the image, with its objects or other basedirs."""
    with mounts.composefs(image().path,
                          image().objects if basedirs is None else basedirs,
                          *more) as top:
        yield top


def check(test: ktap.Test, top: str, what: str) -> None:
    """Checks that the image is mounted at `top`, and can be read."""
    names = sorted([*(f"file-{number:02}" for number in range(FILES)),
                    INLINE])
    test.equal(sorted(os.listdir(top)), names, f"{what}: names")
    for name in (FILE, INLINE):
        try:
            found = Path(top, name).read_bytes()
        except OSError as error:
            test.fail(f"{what}: read {name}: {ktap.errno_name(error.errno)}")
        else:
            test.check(found == data(name),
                       f"{what}: {name}: wrong content")


def check_mounts(test: ktap.Test, what: str, mount_options: Options) -> None:
    """Checks that options mount the image, and that it can be read."""
    try:
        with mounts.mounted("composefs", mount_options) as top:
            check(test, top, what)
    except mounts.MountError as error:
        test.fail(f"{what}: {error}")
