# SPDX-License-Identifier: GPL-2.0

"""What the programs core_*.py share. Each makes its images with lib/image.py,
so they need only Python, root and a kernel with composefs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import image, ktap, mounts
from .mounts import Context, Options, Value


def require_composefs() -> None:
    """Ends the program where it cannot mount a composefs."""
    mounts.require_root()
    try:
        with Context.open("composefs"):
            pass
    except OSError as error:
        ktap.skip_all(f"the kernel has no composefs: {error}")


@contextmanager
def workdir(where: Path | None = None) -> Iterator[Path]:
    """A directory for an image and its objects. It is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="composefs-", dir=where) as path:
        os.mkdir(f"{path}/objects")
        yield Path(path)


def options(work: Path, *more: tuple[str, Value]) -> Options:
    """The options that mount the image in a work directory."""
    return [("source", f"{work}/image"), ("basedir", f"{work}/objects"), *more]


@contextmanager
def mounted(root: image.Inode, *more: tuple[str, Value]) -> Iterator[str]:
    """Mounts an image of the tree below `root`, with no objects. Gives the
    path."""
    with workdir() as work:
        image.write(root, work / "image")
        with mounts.mounted("composefs", options(work, *more)) as top:
            yield top


def put_object(work: Path, content: bytes) -> tuple[str, bytes]:
    """Adds an object. Returns its path and its fs-verity digest, as an image
    has them. fs-verity is not enabled."""
    digest = image.verity_digest(content)
    path = image.object_path(digest)
    file = Path(f"{work}/objects{path}")
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    return path, digest
