# SPDX-License-Identifier: GPL-2.0

"""The reference: the same image, mounted by erofs and overlayfs.

It is mounted as libcomposefs and composefs-rs do: erofs from the image file,
and overlayfs on it, with the object directories as data-only lower layers.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from . import file_systems, fixtures, ktap, loop, mounts, overlayfs
from .fixtures import Image
from .mounts import Options, mounted


@contextmanager
def erofs(image: Image) -> Iterator[str]:
    """Mounts the image by erofs alone: metadata without content."""
    options: Options = [("source", image.path), ("ro", None)]
    # An image of version 2 has no flag for ACLs: composefs-rs, which makes
    # these, leaves them on.
    if image.version < 2 and not image.has_acl:
        options.append(("noacl", None))
    with whole_pages(image.path) as source:
        options[0] = ("source", source)
        with mounted("erofs", options) as path:
            assert_file_backed(path, source)
            yield path


@contextmanager
def whole_pages(image: str) -> Iterator[str]:
    """The path of a file that erofs can read. With pages of more than 4 KiB,
    it returns EIO for the last page of a file that has only a part of it, so
    then this is a copy with zeros behind it."""
    size = os.path.getsize(image)
    missing = -size % mmap.PAGESIZE
    if not missing:
        yield image
        return
    with tempfile.NamedTemporaryFile(dir=fixtures.SCRATCH,
                                     prefix="padded-") as copy:
        shutil.copyfile(image, copy.name)
        os.truncate(copy.name, size + missing)
        yield copy.name


@contextmanager
def mount(image: Image, verity: bool = False) -> Iterator[str]:
    """Mounts the image by erofs + overlayfs. Gives the path. With `verity`,
    overlayfs verifies digests."""
    with erofs(image) as metadata, overlayfs.read_only(
            metadata, data=image.objects, verity=verity) as path:
        assert_overlay(path, metadata, image)
        yield path


def assert_file_backed(path: str, image: str) -> None:
    """Checks that no loop device is in use: users have none."""
    found = mounts.info(path)
    if found.type != "erofs" or found.source != image:
        raise AssertionError(f"the reference is not a file-backed erofs: "
                             f"{found}")
    # erofs on a device has the device's number as st_dev, erofs on a file an
    # anonymous one.
    if os.major(os.stat(path).st_dev) != 0:
        raise AssertionError(f"the reference's erofs is on a device: {found}")
    if image in loop.attached():
        raise AssertionError("the reference is on a loop device")


def assert_overlay(path: str, metadata: str, image: Image) -> None:
    """Checks that overlayfs has the options that users have."""
    found = mounts.info(path)
    expected = [f"lowerdir+={metadata}",
                *(f"datadir+={name}" for name in image.objects),
                "metacopy=on", "redirect_dir=on"]
    missing = [option for option in expected
               if option not in found.options]
    if found.type != "overlay" or missing:
        raise AssertionError(f"the reference's overlayfs lacks {missing}: "
                             f"{found}")


def require_support() -> None:
    """Ends the program where the kernel lacks erofs or overlayfs."""
    missing = [name for name in ("erofs", "overlay")
               if not file_systems.is_available(name)]
    if missing:
        ktap.skip_all(f"the kernel lacks {' and '.join(missing)} for the "
                      "reference")
