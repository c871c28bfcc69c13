# SPDX-License-Identifier: GPL-2.0

"""Object directories, and fs-verity of the objects in them."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import fixtures, ktap
from .verity import enable_verity, measure_verity


def object_name(digest: str) -> str:
    """The path in an object directory of the object with this digest."""
    digits = digest.rpartition(":")[2]
    return f"{digits[:2]}/{digits[2:]}"


class Store:
    """An object directory on the scratch file system."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.path = str(top)

    def at(self, name: str) -> Path:
        """The path of an object. Removes what is there."""
        path = self.top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self.remove(name)
        return path

    def remove(self, name: str) -> None:
        path = self.top / name
        if path.is_symlink() or path.exists():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def plain(self, name: str, data: bytes) -> Path:
        """Adds an object without fs-verity."""
        path = self.at(name)
        path.write_bytes(data)
        return path

    def verified(self, name: str, data: bytes, algorithm: str = "sha256",
                 block_size: int = 4096, salt: bytes = b"") -> Path:
        """Adds an object with fs-verity. Its digest need not be its name."""
        path = self.plain(name, data)
        enable_verity(path, algorithm, block_size, salt)
        return path


@contextmanager
def store(where: Path | None = None) -> Iterator[Store]:
    """A new object directory, removed at the end of the context."""
    base = where or fixtures.SCRATCH
    with tempfile.TemporaryDirectory(prefix="objects-", dir=base) as path:
        yield Store(Path(path))


def require_verity() -> None:
    """Ends the program where the scratch directory has no fs-verity."""
    if not fixtures.SCRATCH.is_dir():
        ktap.skip_all(f"no {fixtures.SCRATCH}: COMPOSEFS_SCRATCH names a "
                      "directory on a file system with fs-verity")
    with store() as probe:
        path = probe.plain("probe", b"probe")
        try:
            enable_verity(path)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY):
                ktap.skip_all(f"{fixtures.SCRATCH} has no fs-verity; "
                              "COMPOSEFS_SCRATCH names another directory")
            raise


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """The fs-verity digest of a file with this content."""
    with store() as work:
        return measure_verity(work.verified("object", data, algorithm))
