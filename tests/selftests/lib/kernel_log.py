# SPDX-License-Identifier: GPL-2.0

"""What the kernel says while something is done."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from . import ktap


def _read(fd: int) -> Iterator[str]:
    """The texts of all records that are there."""
    while True:
        try:
            record = os.read(fd, 8192).decode(errors="backslashreplace")
        except BlockingIOError:
            return
        except OSError as error:
            # Overwritten before it was read.
            if error.errno == errno.EPIPE:
                continue
            raise
        # "priority,sequence,time,flags;text", then lines of a dictionary.
        yield record.partition(";")[2].partition("\n")[0]


@contextmanager
def watch() -> Iterator[list[str]]:
    """Gives a list that has the lines when the context ends."""
    lines: list[str] = []
    fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.lseek(fd, 0, os.SEEK_END)
        yield lines
        lines += _read(fd)
    finally:
        os.close(fd)


def forget_limits() -> None:
    """Loads the module anew, since it limits the rate of its lines.

    Nothing else makes sure that a line comes. Raises ktap.Skipped where the
    module cannot be unloaded.
    """
    done = subprocess.run(["modprobe", "--remove", "composefs"],
                          capture_output=True, text=True, check=False)
    if done.returncode:
        raise ktap.Skipped(f"composefs cannot be loaded anew, so that it may "
                           f"not say all: {done.stderr.strip()}")
    subprocess.run(["modprobe", "composefs"], check=True)
