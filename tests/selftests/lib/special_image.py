# SPDX-License-Identifier: GPL-2.0

"""The images "special-*" of the fixtures: files of all types and sizes,
xattrs, ACLs, long links, large directories. special_tree.py makes their
tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import fixtures, mounts, objects

# Sizes of the files of the directory "sizes", which are also their names:
# those of inline files, and those of files in objects.
INLINE_SIZES = (0, 1, 63, 64)
OBJECT_SIZES = (65, 511, 512, 513, 4095, 4096, 4097, 8192, 131072, 1048576)
# A file of 16 MiB with a hole of 12 MiB at its beginning.
SPARSE = "sizes/sparse"
LARGE = "sizes/1048576"

# A file of each kind.
KINDS = {
    "regular": "types/regular",
    "directory": "types/directory",
    "symlink": "types/symlink",
    "fifo": "types/fifo",
    "socket": "types/socket",
    # /dev/null, and a device that does not exist.
    "device": "types/char-1-3",
    "absent device": "types/block-255-255",
    "in an object": "sizes/4097",
    "root": ".",
}


def image() -> fixtures.Image:
    return fixtures.named("special-v0")


def data(name: str) -> bytes:
    return Path(image().source or "", name).read_bytes()


def object_path(name: str) -> str:
    """The path of a file's object in the fixtures."""
    return f"{image().objects[0]}/" + objects.object_name(
        objects.digest_of(data(name)))


@contextmanager
def mounted(*options: tuple[str, mounts.Value],
            basedirs: list[str] | None = None) -> Iterator[str]:
    """Mounts the image "special-v0", with its objects or other basedirs."""
    with mounts.composefs(image().path,
                          image().objects if basedirs is None else basedirs,
                          *options) as top:
        yield top
