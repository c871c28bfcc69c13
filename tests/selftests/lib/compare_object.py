# SPDX-License-Identifier: GPL-2.0

"""Compares system calls on a file with the same calls on its object."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from . import ktap, special_image
from .files import opened

# Takes an open file.
Call = Callable[[int], Any]


def brief(value: Any) -> Any:
    """A value to print: long content becomes its length."""
    return f"{len(value)} bytes" if isinstance(value, bytes) and \
        len(value) > 100 else value


@contextmanager
def file_and_object(
    name: str, flags: int = os.O_RDONLY
) -> Iterator[tuple[int, int]]:
    """A file of a new mount, not accessed before, and its object."""
    with (
        special_image.mounted() as top,
        opened(f"{top}/{name}", flags) as ours,
        opened(special_image.object_path(name), flags) as theirs,
    ):
        yield ours, theirs


def check_same(test: ktap.Test, what: str, fds: tuple[int, int],
               call: Call) -> None:
    """Checks that a call has the same result, or error, on both files."""
    ours, theirs = (ktap.result(call, fd) for fd in fds)
    test.check(ours == theirs, f"{what}: {brief(ours)!r}, the object "
                               f"{brief(theirs)!r}")
