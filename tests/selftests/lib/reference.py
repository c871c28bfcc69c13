# SPDX-License-Identifier: GPL-2.0

"""What users see today: the same image by erofs + overlayfs.

It mounts as libcomposefs and composefs-rs do: erofs from the image file itself, overlayfs
with the objects as data-only lower layers.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from . import ktap
from .fixtures import Image
from .mounts import Options, mounted


@contextmanager
def erofs(image: Image) -> Iterator[str]:
    """The image by erofs alone, which is not what users see."""
    options: Options = [("source", image.path), ("ro", None)]
    # Version 2 has no flag for it. Its own tools, composefs-rs, leave ACLs on.
    if image.version < 2 and not image.has_acl:
        options.append(("noacl", None))
    with mounted("erofs", options) as path:
        assert_file_backed(path, image)
        yield path


@contextmanager
def mount(image: Image, verity: bool = False) -> Iterator[str]:
    """The image by erofs + overlayfs. Gives the path."""
    with erofs(image) as metadata:
        options: Options = [("source", "composefs"), ("metacopy", "on"),
                            ("redirect_dir", "on"), ("ro", None)]
        if verity:
            options.append(("verity", "require"))
        options.append(("lowerdir+", metadata))
        options += [("datadir+", path) for path in image.objects]
        with mounted("overlay", options) as path:
            assert_overlay(path, metadata, image)
            yield path


def mountinfo(path: str) -> dict[str, str]:
    """Type, source and options of the mount at `path`."""
    found = None
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            left, right = line.rstrip("\n").split(" - ")
            if left.split()[4] == path:
                kind, source, options = right.split(" ", 2)
                found = {"type": kind, "source": source, "options": options}
    if found is None:
        raise AssertionError(f"nothing is mounted at {path}")
    return found


def assert_file_backed(path: str, image: Image) -> None:
    """A loop device would be another file system stack than users have."""
    found = mountinfo(path)
    if found["type"] != "erofs" or found["source"] != image.path:
        raise AssertionError(f"the reference is no file-backed erofs: {found}")
    # An erofs on a device has the device's number, others one of their own.
    if os.major(os.stat(path).st_dev) != 0:
        raise AssertionError(f"the reference's erofs is on a device: {found}")
    loops = subprocess.run(["losetup", "--all"], capture_output=True,
                           text=True, check=True).stdout
    if image.path in loops:
        raise AssertionError(f"the reference is on a loop device: {loops}")


def assert_overlay(path: str, metadata: str, image: Image) -> None:
    found = mountinfo(path)
    expected = [f"lowerdir+={metadata}",
                *(f"datadir+={name}" for name in image.objects),
                "metacopy=on", "redirect_dir=on"]
    missing = [option for option in expected
               if option not in found["options"].split(",")]
    if found["type"] != "overlay" or missing:
        raise AssertionError(f"the reference's overlayfs lacks {missing}: "
                             f"{found}")


def require_support() -> None:
    """Ends the program where the kernel has no reference to compare with."""
    with open("/proc/filesystems", encoding="utf-8") as file:
        known = file.read().split()
    missing = [name for name in ("erofs", "overlay") if name not in known]
    if missing:
        ktap.skip_all(f"the kernel lacks {' and '.join(missing)} to compare "
                      "with")
