# SPDX-License-Identifier: GPL-2.0

"""overlayfs with an upper layer, as containers have it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from . import fixtures, mounts
from .mounts import Options, Value


class Merged(NamedTuple):
    """Where it is mounted, and where what was written is."""

    top: str
    upper: Path


@contextmanager
def overlay(lower: Options, *more: tuple[str, Value]) -> Iterator[Merged]:
    """Writes over lower layers, which are given as options."""
    with tempfile.TemporaryDirectory(dir=fixtures.SCRATCH,
                                     prefix="layer-") as work:
        for name in ("upper", "work"):
            Path(work, name).mkdir()
        with mounts.mounted("overlay", [
                ("source", "layers"), *lower, ("upperdir", f"{work}/upper"),
                ("workdir", f"{work}/work"), *more]) as top:
            yield Merged(top, Path(work, "upper"))
