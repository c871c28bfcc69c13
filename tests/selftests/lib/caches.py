# SPDX-License-Identifier: GPL-2.0

"""Dropping what the kernel caches of files."""

from __future__ import annotations

import os
from pathlib import Path


def drop() -> None:
    """Drops clean pages, unused dentries and unused inodes."""
    Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")


def drop_names() -> None:
    """Drops unused dentries and unused inodes."""
    Path("/proc/sys/vm/drop_caches").write_text("2\n", encoding="ascii")


def drop_all() -> None:
    """Writes everything back and drops it. It takes two passes: the first
    one frees what keeps the rest in memory."""
    os.sync()
    drop()
    drop()
