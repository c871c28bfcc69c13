# SPDX-License-Identifier: GPL-2.0

"""The images "special-*" of the fixtures: files of all sizes and kinds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import fixtures, mounts, objects

# Sizes in bytes of the files in the image itself, and of those in objects.
# They are the names of the files in the directory "sizes", too.
INLINE_SIZES = (0, 1, 63, 64)
OBJECT_SIZES = (65, 511, 512, 513, 4095, 4096, 4097, 8192, 131072, 1048576)
# Its data begin at 12 MiB.
SPARSE = "sizes/sparse"
LARGE = "sizes/1048576"


def image() -> fixtures.Image:
    return fixtures.named("special-v0")


def data(name: str) -> bytes:
    return Path(image().source or "", name).read_bytes()


def object_path(name: str) -> str:
    """Where the fixtures have the object of a file."""
    return f"{image().objects[0]}/" + objects.object_name(
        objects.digest_of(data(name)))


@contextmanager
def mounted(*options: tuple[str, mounts.Value],
            basedirs: list[str] | None = None) -> Iterator[str]:
    with mounts.composefs(image().path,
                          image().objects if basedirs is None else basedirs,
                          *options) as top:
        yield top


@contextmanager
def opened(path: str, flags: int = os.O_RDONLY) -> Iterator[int]:
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)
