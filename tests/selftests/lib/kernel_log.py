# SPDX-License-Identifier: GPL-2.0

"""Reads the kernel log."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from . import module


def read_pending(fd: int) -> Iterator[str]:
    """The texts of all pending records."""
    while True:
        try:
            record = os.read(fd, 8192).decode(errors="backslashreplace")
        except BlockingIOError:
            return
        except OSError as error:
            # The record was overwritten before it was read.
            if error.errno == errno.EPIPE:
                continue
            raise
        # "priority,sequence,time,flags;text", then lines of key=value.
        yield record.partition(";")[2].partition("\n")[0]


@contextmanager
def watch() -> Iterator[list[str]]:
    """Gives a list. It has the lines of the log that were written in the
    context when the context has ended."""
    lines: list[str] = []
    fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.lseek(fd, 0, os.SEEK_END)
        yield lines
        lines += read_pending(fd)
    finally:
        os.close(fd)


def reset_ratelimit() -> None:
    """Reloads the module, so that its rate limit does not suppress the next
    lines. Skips the test where the module cannot be unloaded."""
    module.reload()


def of_composefs(lines: list[str]) -> list[str]:
    """The lines that composefs has written, or that name it."""
    return [line for line in lines if "composefs" in line]
