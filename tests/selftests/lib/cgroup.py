# SPDX-License-Identifier: GPL-2.0

"""Memory cgroups."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import ktap
from .process import in_child

ROOT = Path("/sys/fs/cgroup")


@contextmanager
def memory() -> Iterator[Path]:
    """A new memory cgroup, removed at the end of the context."""
    try:
        (ROOT / "cgroup.subtree_control").write_text("+memory\n",
                                                     encoding="ascii")
        path = Path(tempfile.mkdtemp(prefix="composefs-", dir=ROOT))
    except OSError as error:
        raise ktap.Skipped(f"no memory cgroup below {ROOT}: {error}") \
            from None
    try:
        yield path
    finally:
        # A process that has exited may not have left it yet.
        for _ in range(50):
            try:
                path.rmdir()
                break
            except OSError:
                time.sleep(0.1)


def run(path: Path, function: Callable[[], Any]) -> Any:
    """What a function returns in a child that is in the cgroup."""
    def inside() -> Any:
        (path / "cgroup.procs").write_text(f"{os.getpid()}\n",
                                           encoding="ascii")
        return function()
    return in_child(inside)
