# SPDX-License-Identifier: GPL-2.0

"""Walks a tree and collects everything that is visible of each file."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Iterable, Iterator

from . import dirents


@dataclasses.dataclass
class Entry:
    """Everything about a name but the content of the file."""

    path: bytes
    # None for the root.
    dirent: dirents.Dirent | None
    stat: os.stat_result
    # Names in the order of listxattr(2).
    xattr_names: list[str]
    xattrs: dict[str, bytes]
    target: bytes | None = None
    # Of a directory: its entries, with "." and "..".
    entries: list[dirents.Dirent] | None = None
    # Of a directory: names that are listed but cannot be looked up, with the
    # errno.
    failed_lookups: dict[bytes, int] = dataclasses.field(default_factory=dict)

    @property
    def format(self) -> int:
        return stat.S_IFMT(self.stat.st_mode)


def examine(top: bytes, path: bytes,
            dirent: dirents.Dirent | None) -> Entry:
    """Collects an entry. `path` is relative to `top`."""
    full = top + path
    found = os.lstat(full)
    names = os.listxattr(full, follow_symlinks=False)
    entry = Entry(path, dirent, found, names, {
        name: os.getxattr(full, name, follow_symlinks=False)
        for name in names})
    if entry.format == stat.S_IFLNK:
        entry.target = os.readlink(full)
    elif entry.format == stat.S_IFDIR:
        entry.entries = dirents.read(full)
    return entry


def walk(top: str) -> Iterator[Entry]:
    """All entries of a tree: parents first, and in the order of readdir."""
    base = os.fsencode(top)
    pending = [examine(base, b"", None)]
    while pending:
        entry = pending.pop()
        found = []
        for dirent in entry.entries or ():
            if dirent.name in (b".", b".."):
                continue
            try:
                found.append(examine(base, entry.path + b"/" + dirent.name,
                                     dirent))
            except OSError as error:
                entry.failed_lookups[dirent.name] = error.errno or 0
        yield entry
        pending += reversed(found)


def names(top: str) -> Iterator[tuple[bytes, dirents.Dirent, int]]:
    """Path, directory entry and the directory's inode number of all but the
    root. Directories are listed, and nothing else is looked up."""
    base = os.fsencode(top)
    pending = [(b"", os.stat(top).st_ino)]
    while pending:
        path, number = pending.pop()
        for dirent in dirents.read(base + path):
            if dirent.name in (b".", b".."):
                continue
            below = path + b"/" + dirent.name
            yield below, dirent, number
            if dirent.type == dirents.DT_OF_MODE[stat.S_IFDIR]:
                pending.append((below, dirent.ino))


def link_groups(entries: Iterable[Entry]) -> set[frozenset[bytes]]:
    """The sets of names that are hard links of one inode."""
    groups: dict[tuple[int, int], list[bytes]] = {}
    for entry in entries:
        if entry.format != stat.S_IFDIR:
            key = (entry.stat.st_dev, entry.stat.st_ino)
            groups.setdefault(key, []).append(entry.path)
    return {frozenset(paths) for paths in groups.values() if len(paths) > 1}
