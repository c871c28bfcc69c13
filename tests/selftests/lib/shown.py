# SPDX-License-Identifier: GPL-2.0

"""What /proc/mounts shows of a mount, and mounting again with it."""

from __future__ import annotations

import os
import re

from . import ktap, matrix_image, mounts
from .mounts import Options

# The flags in /proc/mounts that are not options of the file system.
FLAGS = {"ro", "rw", "relatime", "noatime", "nosuid", "nodev", "noexec"}


def unescape(text: str) -> str:
    """Decodes the octal escapes of /proc/mounts."""
    data = re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]),
                  os.fsencode(text))
    return os.fsdecode(data)


def shown(top: str) -> tuple[str, str]:
    """Source and options of a mount, as mount(2) takes them."""
    with open("/proc/mounts", encoding="utf-8",
              errors="surrogateescape") as file:
        for line in file:
            source, where, kind, options, *_ = line.split(" ")
            if where == top:
                break
        else:
            raise AssertionError(f"nothing is mounted at {top}")
    assert kind == "composefs", line
    own = [unescape(option) for option in options.split(",")
           if option not in FLAGS]
    return unescape(source), ",".join(own)


def check_mount_again(test: ktap.Test, what: str, options: Options) -> None:
    """Mounts the matrix image, and again with the options in /proc/mounts. The
    second mount shares the super block, and so has the same st_dev."""
    with mounts.mounted("composefs", options) as top:
        source, data = shown(top)
        try:
            with mounts.mounted_by_mount2(source, data) as second:
                test.equal(shown(second), (source, data), f"{what}: shown")
                matrix_image.check(test, second, what)
                test.equal(os.stat(second).st_dev, os.stat(top).st_dev,
                           f"{what}: device, with {source!r}, {data!r}")
        except OSError as error:
            test.fail(f"{what}: {source!r}, {data!r}: {error}")
