# SPDX-License-Identifier: GPL-2.0

"""The modes in which a mount verifies objects, and what a read returns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from . import ktap, matrix_image, mounts, read_whole
from .files import opened
from .fixtures import Image

MODES = ("noverity", "default", "tryverity", "verity", "digest=")
# The modes that compare an object's digest with the one in the image, on a
# file system with fs-verity.
VERIFYING = MODES[1:]

# The outcomes of a read: the content of the file, that of other(), an error.
GOOD, OTHER, EIO = "the content", "other content", "EIO"


def other(data: bytes) -> bytes:
    """Other content of the same length."""
    return bytes(byte ^ 0x55 for byte in data)


def options(mode: str, image: Image) -> list[tuple[str, mounts.Value]]:
    if mode == "default":
        return []
    if mode == "digest=":
        return [("digest", image.digest)]
    return [(mode, None)]


def read_open(fd: int, way: read_whole.Way, data: bytes) -> str:
    """The outcome of reading an open file whose content should be `data`."""
    found = ktap.result(way, fd, len(data))
    if isinstance(found, str):
        return found
    return {data: GOOD, other(data): OTHER}.get(found, "unknown content")


def outcome(path: str, way: read_whole.Way, data: bytes) -> str:
    """As read_open(), of a new open file. open(2) has to succeed."""
    with opened(path) as fd:
        return read_open(fd, way, data)


@contextmanager
def mounted(mode: str, basedir: str, image: str | None = None
            ) -> Iterator[str]:
    """Mounts the image "matrix", or another one, in a mode. Gives the path of
    the file whose object the tests make."""
    with mounts.composefs(image or matrix_image.image().path, [basedir],
                          *options(mode, matrix_image.image())) as top:
        yield f"{top}/{matrix_image.FILE}"


def read(path: str) -> str:
    """As outcome(), of that file. An error of open(2) is "open: ..."."""
    try:
        return outcome(path, read_whole.pread, matrix_image.data())
    except OSError as error:
        return f"open: {ktap.errno_name(error.errno)}"
