# SPDX-License-Identifier: GPL-2.0

"""Mounts of overlayfs: read-only ones, and ones with an upper layer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from . import fixtures, mounts
from .mounts import Options, Value


class Writable(NamedTuple):
    """Where an overlayfs is mounted, and its upper layer."""

    top: str
    upper: Path


@contextmanager
def read_only(*lower: str, data: list[str] | None = None,
              verity: bool = False) -> Iterator[str]:
    """Stacks at least two lower layers. `data` are data-only layers, with
    `verity` those have to have the digests of the metacopies."""
    with mounts.mounted("overlay", read_only_options(
            *lower, data=data, verity=verity)) as top:
        yield top


def read_only_options(*lower: str, data: list[str] | None = None,
                      verity: bool = False) -> Options:
    options: Options = [("source", "overlay"), ("ro", None)]
    if data is not None:
        options += [("metacopy", "on"), ("redirect_dir", "on")]
    if verity:
        options.append(("verity", "require"))
    return [*options, *(("lowerdir+", path) for path in lower),
            *(("datadir+", path) for path in data or ())]


@contextmanager
def writable(lower: Options, *more: tuple[str, Value]) -> Iterator[Writable]:
    """Stacks an upper layer on lower ones, which are given as options."""
    with tempfile.TemporaryDirectory(dir=fixtures.SCRATCH,
                                     prefix="layer-") as work:
        for name in ("upper", "work"):
            Path(work, name).mkdir()
        with mounts.mounted("overlay", [
                ("source", "overlay"), *lower, ("upperdir", f"{work}/upper"),
                ("workdir", f"{work}/work"), *more]) as top:
            yield Writable(top, Path(work, "upper"))
