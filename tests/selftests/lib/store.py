# SPDX-License-Identifier: GPL-2.0

"""A store that composefs-store cares for, of trees that tests make."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import ktap, mounts

SIZE = 20000
SECONDS = 300


def tool(name: str) -> str:
    """A program of tools/. Ends this one where there is none."""
    directory = os.environ.get("COMPOSEFS_TOOLS")
    if not directory:
        ktap.skip_all("COMPOSEFS_TOOLS is not set: it names a directory with "
                      f"{name} of tools/{name}")
    path = f"{directory}/{name}"
    if not os.access(path, os.X_OK):
        ktap.bail_out(f"no {path}")
    return path


def plant(tree: Path, words: list[str]) -> None:
    """Makes a tree with a file for each word, which is its content."""
    (tree / "usr").mkdir(parents=True)
    for number, word in enumerate(words):
        path = tree / f"usr/{number:03}"
        path.write_bytes(word.encode().ljust(SIZE, b"."))
    (tree / "inline").write_bytes(b"inline\n")


class Store:
    """An empty store, on a disk of its own."""

    def __init__(self, top: Path, algorithm: str = "sha256") -> None:
        self.top, self.path = top, top / "store"
        self.algorithm = algorithm
        self.run("init", "--hash", algorithm)

    def command(self, *words: str | Path) -> list[str]:
        return [tool("composefs-store"), "--store", str(self.path), *map(str, words)]

    def run(self, *words: str | Path) -> tuple[str, str]:
        """Runs the program, which has to succeed. Returns what it prints."""
        done = subprocess.run(self.command(*words), capture_output=True,
                              text=True, check=False, timeout=SECONDS)
        if done.returncode:
            raise AssertionError(f"{' '.join(map(str, words))}: "
                                 f"{done.stderr.strip()}")
        return done.stdout.strip(), done.stderr.strip()

    def refused(self, *words: str) -> str:
        """Runs the program, which has to fail. Returns why."""
        done = subprocess.run(self.command(*words), capture_output=True,
                              text=True, check=False, timeout=SECONDS)
        if not done.returncode:
            raise AssertionError(f"{words} succeeded: {done.stdout}")
        return done.stderr.strip()

    def add(self, name: str, words: list[str]) -> tuple[str, str]:
        """Adds an image of a tree. Returns its digest and what is told."""
        plant(self.top / name, words)
        return self.run("add", self.top / name, name)

    def objects(self) -> set[str]:
        return {f"{path.parent.name}/{path.name}"
                for path in self.path.glob("objects/??/*")}

    def names(self) -> set[str]:
        """The names of images, also those that lead nowhere."""
        return {str(path.relative_to(self.path))
                for path in self.path.glob("images/**/*")
                if path.is_symlink()}

    def image(self, digest: str) -> Path:
        return self.path / "objects" / digest[:2] / digest[2:]

    def lines(self) -> dict[str, list[str]]:
        """What is listed: the fields after the digest."""
        lines = self.run("list")[0].splitlines()[1:]
        return {line.split()[0]: line.split()[1:] for line in lines}

    def options(self, digest: str) -> mounts.Options:
        return mounts.composefs_options(
            str(self.image(digest)), [f"{self.path}/objects"],
            ("digest", digest if self.algorithm == "sha256"
             else f"{self.algorithm}:{digest}"))

    @contextmanager
    def mounted(self, digest: str) -> Iterator[str]:
        with mounts.mounted("composefs", self.options(digest)) as top:
            yield top


def read_all(top: str, words: list[str]) -> None:
    """Reads a mounted tree, which has to be whole."""
    for number, word in enumerate(words):
        data = Path(top, f"usr/{number:03}").read_bytes()
        if data != word.encode().ljust(SIZE, b"."):
            raise AssertionError(f"{top}/usr/{number:03} is another file")
