# SPDX-License-Identifier: GPL-2.0

"""Opening files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def opened(path: str | Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """Opens a file, and closes it at the end of the context."""
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)
