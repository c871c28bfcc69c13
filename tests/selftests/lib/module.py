# SPDX-License-Identifier: GPL-2.0

"""Loading and unloading composefs.ko."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import ktap

NAME = "composefs"

# What makes modprobe(8), and with it the kernel, find the module of a test.
CONFIGURATION = Path("/run/modprobe.d/composefs.conf")


def _modprobe(*arguments: str) -> None:
    done = subprocess.run(["modprobe", *arguments], capture_output=True,
                          text=True, check=False)
    if done.returncode:
        raise ktap.Skipped(f"modprobe {' '.join(arguments)}: "
                           f"{done.stderr.strip()}")


def is_loaded() -> bool:
    """Whether composefs is loaded as a module, not built in."""
    with open("/proc/modules", encoding="ascii") as file:
        return any(line.split()[0] == NAME for line in file)


def require_loaded() -> None:
    """Skips the test where composefs is not a loaded module."""
    if not is_loaded():
        raise ktap.Skipped("composefs is not a loaded module")


def load(*parameters: str) -> None:
    """modprobe(8). Skips the test if it fails."""
    _modprobe(NAME, *parameters)


def unload() -> None:
    """modprobe(8) --remove. Skips the test if it fails."""
    _modprobe("--remove", NAME)


def try_unload() -> str:
    """modprobe(8) --remove. Returns the error message, "" for success."""
    done = subprocess.run(["modprobe", "--remove", NAME],
                          capture_output=True, text=True, check=False)
    if done.returncode or is_loaded():
        return done.stderr.strip() or "the module is still loaded"
    return ""


def reload() -> None:
    unload()
    load()


@contextmanager
def loaded_with(*parameters: str) -> Iterator[None]:
    """Reloads the module with parameters, and without them afterwards.
    Nothing of it may be mounted."""
    unload()
    try:
        load(*parameters)
        yield
    finally:
        reload()


@contextmanager
def absent() -> Iterator[None]:
    """A kernel that has no composefs, and cannot load it. Nothing of it may be
    mounted."""
    before = CONFIGURATION.read_bytes() if CONFIGURATION.exists() else None
    unload()
    try:
        CONFIGURATION.parent.mkdir(exist_ok=True)
        CONFIGURATION.write_text(f"install {NAME} /bin/false\n",
                                 encoding="ascii")
        yield
    finally:
        if before is None:
            CONFIGURATION.unlink()
        else:
            CONFIGURATION.write_bytes(before)
        load()


def slab_caches() -> list[str]:
    """The names of the module's slab caches."""
    with open("/proc/slabinfo", encoding="ascii") as file:
        return [line.split()[0] for line in file
                if line.startswith(NAME)]
