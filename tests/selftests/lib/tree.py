# SPDX-License-Identifier: GPL-2.0

"""What there is to see of a tree of files, entry by entry."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Iterable, Iterator

from . import dirents


@dataclasses.dataclass
class Entry:
    """Everything about one name, except a file's content."""

    path: bytes
    # As the directory says; None for the root.
    dirent: dirents.Dirent | None
    stat: os.stat_result
    # Names in the order of listxattr(2).
    xattr_names: list[str]
    xattrs: dict[str, bytes]
    target: bytes | None = None
    # Directories: the entries, with the dots.
    entries: list[dirents.Dirent] | None = None
    # Directories: names that are listed and cannot be looked up, and why.
    unfound: dict[bytes, int] = dataclasses.field(default_factory=dict)

    @property
    def format(self) -> int:
        return stat.S_IFMT(self.stat.st_mode)


def examine(top: bytes, path: bytes,
            dirent: dirents.Dirent | None) -> Entry:
    """Looks at one name. `path` is relative to `top`."""
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
    """All names of a tree, parents first, as their directories have them."""
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
                entry.unfound[dirent.name] = error.errno or 0
        yield entry
        pending += reversed(found)


def names(top: str) -> Iterator[tuple[bytes, dirents.Dirent, int]]:
    """Paths, entries and the directories' numbers of all but the root, as the
    directories have them: nothing is looked at but these."""
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
    """Names that are the same inode, of all but directories."""
    groups: dict[tuple[int, int], list[bytes]] = {}
    for entry in entries:
        if entry.format != stat.S_IFDIR:
            key = (entry.stat.st_dev, entry.stat.st_ino)
            groups.setdefault(key, []).append(entry.path)
    return {frozenset(paths) for paths in groups.values() if len(paths) > 1}
