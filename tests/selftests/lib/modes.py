# SPDX-License-Identifier: GPL-2.0

"""The modes of verification, and what a reader gets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from . import access, ktap, matrix, mounts
from .fixtures import Image

MODES = ("noverity", "default", "tryverity", "verity", "digest=")
# Those under which a digest that the image names counts, if the store's file
# system has fs-verity.
VERIFYING = MODES[1:]

# What a reader gets: the content that the image means, other content, an
# error.
GOOD, OTHER, EIO = "the content", "other content", "EIO"


def other(data: bytes) -> bytes:
    """Content that is as long as the right one."""
    return bytes(byte ^ 0x55 for byte in data)


def options(mode: str, image: Image) -> list[tuple[str, mounts.Value]]:
    if mode == "default":
        return []
    if mode == "digest=":
        return [("digest", image.digest)]
    return [(mode, None)]


def outcome_of(fd: int, way: access.Way, data: bytes) -> str:
    try:
        found = way(fd, len(data))
    except OSError as error:
        return ktap.errno_name(error.errno)
    return {data: GOOD, other(data): OTHER}.get(found, "bytes from nowhere")


def outcome(path: str, way: access.Way, data: bytes) -> str:
    """What a reader gets who opens a file, where `data` are right."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return outcome_of(fd, way, data)
    finally:
        os.close(fd)


@contextmanager
def mounted(mode: str, basedir: str, image: str | None = None
            ) -> Iterator[str]:
    """The image "matrix", or another one, in a mode. Gives the path of the
    file whose object the tests make."""
    with mounts.composefs(image or matrix.image().path, [basedir],
                          *options(mode, matrix.image())) as top:
        yield f"{top}/{matrix.FILE}"


def read(path: str) -> str:
    """What a reader of that file gets."""
    try:
        return outcome(path, access.pread, matrix.data())
    except OSError as error:
        return f"open: {ktap.errno_name(error.errno)}"
