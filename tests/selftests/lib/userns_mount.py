# SPDX-License-Identifier: GPL-2.0

"""Tests that mount composefs in a user namespace."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import ktap, module, mounts
from .mounts import Options

# A basedir with files that the mounter may not read.
ROOT = "/tmp"

Test = Callable[[ktap.Test], None]


def userns_test(suite: ktap.Suite, name: str,
                userns_mount: bool = True) -> Callable[[Test], Test]:
    """Adds a test that runs with the module parameter userns_mount set."""
    def decorate(function: Test) -> Test:
        def run(test: ktap.Test) -> None:
            with module.loaded_with(*["userns_mount=1"] * userns_mount):
                function(test)
        suite.add(name, run)
        return function
    return decorate


def mounting(options: Options, function: Callable[[str], Any]
             ) -> Callable[[], Any]:
    """A function that mounts, and returns what another one returns for the
    path of the mount."""
    def run() -> Any:
        with mounts.mounted("composefs", options) as top:
            return function(top)
    return run


def attempt(options: Options) -> tuple[int | None, list[str]]:
    """Mounts. Returns the errno and the messages of a failure."""
    try:
        os.close(mounts.new_mount("composefs", options))
    except mounts.MountError as error:
        return error.errno, error.messages
    except OSError as error:
        return error.errno, []
    return None, []


@contextmanager
def root_directory() -> Iterator[Path]:
    """A directory below ROOT that root owns, and everyone may search."""
    with tempfile.TemporaryDirectory(prefix="s-", dir=ROOT) as path:
        os.chmod(path, 0o755)
        yield Path(path)
