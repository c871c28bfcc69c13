# SPDX-License-Identifier: GPL-2.0

"""The module, loaded with a parameter of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from . import ktap


def _modprobe(*arguments: str) -> None:
    done = subprocess.run(["modprobe", *arguments], capture_output=True,
                          text=True, check=False)
    if done.returncode:
        raise ktap.Skipped(f"modprobe {' '.join(arguments)}: "
                           f"{done.stderr.strip()}")


@contextmanager
def loaded_with(*parameters: str) -> Iterator[None]:
    """Loads the module anew, and again without parameters. Nothing of it may
    be mounted."""
    _modprobe("--remove", "composefs")
    try:
        _modprobe("composefs", *parameters)
        yield
    finally:
        _modprobe("--remove", "composefs")
        _modprobe("composefs")
