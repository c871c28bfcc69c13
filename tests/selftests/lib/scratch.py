# SPDX-License-Identifier: GPL-2.0

"""A file system with fs-verity, on a loop device in a file."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import ktap, mounts


def run(*command: str) -> None:
    """Runs a program, or skips the test that needs it."""
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise ktap.Skipped(f"no {command[0]}") from None
    except subprocess.CalledProcessError as error:
        raise ktap.Skipped(f"{' '.join(command)}: "
                           f"{error.stderr.strip()}") from None


def make(file: str | Path, size: int) -> None:
    """An empty ext4 with fs-verity in a file, with room for large xattrs."""
    with open(file, "wb") as disk:
        disk.truncate(size)
    run("mkfs.ext4", "-q", "-F", "-b", "4096", "-O",
        "verity,ea_inode", str(file))


@contextmanager
def ext4(size: int = 64 << 20) -> Iterator[Path]:
    """An empty ext4 with fs-verity, gone afterwards."""
    with tempfile.NamedTemporaryFile(prefix="composefs-") as file:
        make(file.name, size)
        with mounts.directory() as top:
            run("mount", "-o", "loop", file.name, top)
            try:
                yield Path(top)
            finally:
                mounts.umount_soon(top)
