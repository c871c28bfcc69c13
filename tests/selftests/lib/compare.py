# SPDX-License-Identifier: GPL-2.0

"""Compares two trees, and collects their differences by kind."""

from __future__ import annotations

import dataclasses
import errno
import mmap
import os
from collections.abc import Callable

from . import ktap
from .tree import Entry

# The number of differences of a kind that are printed.
SHOWN = 5
CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Intended:
    """A difference that is intended."""

    kind: str
    # Whether a difference is this one, given both entries. An entry that does
    # not exist is None.
    applies: Callable[[Entry | None, Entry | None], bool]
    reason: str


@dataclasses.dataclass
class Differences:
    """The differences between our tree and another one."""

    intended: tuple[Intended, ...] = ()
    found: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    accepted: dict[Intended, int] = dataclasses.field(default_factory=dict)
    compared: int = 0

    def add(self, kind: str, path: bytes, ours: object, theirs: object,
            our_entry: Entry | None = None,
            their_entry: Entry | None = None) -> None:
        for one in self.intended:
            if one.kind == kind and one.applies(our_entry, their_entry):
                self.accepted[one] = self.accepted.get(one, 0) + 1
                return
        self.found.setdefault(kind, []).append(
            f"{path or b'/'!r}: {ours!r}, reference {theirs!r}")

    def compare(self, kind: str, path: bytes, ours: object,
                theirs: object) -> None:
        """Adds a difference if two values differ."""
        if ours != theirs:
            self.add(kind, path, ours, theirs)

    def report(self, test: ktap.Test) -> None:
        for one, count in self.accepted.items():
            test.note(f"intended difference, {count} times: {one.kind}: "
                      f"{one.reason}")
        test.check(self.compared > 0, "nothing was compared")
        for kind, texts in self.found.items():
            test.fail(f"{kind}: {len(texts)} differences")
            for text in texts[:SHOWN]:
                test.note(f"    {text}")


def attributes(
    entry: Entry, *, whole_seconds: bool = False
) -> dict[str, object]:
    """The attributes of an entry that are compared, by kind."""
    found = entry.stat
    time = found.st_mtime_ns
    if whole_seconds:
        time -= time % 10**9
    return {"type": entry.format, "mode": oct(found.st_mode),
            "uid": found.st_uid, "gid": found.st_gid,
            "nlink": found.st_nlink, "size": found.st_size,
            "rdev": (os.major(found.st_rdev), os.minor(found.st_rdev)),
            "mtime": time, "link target": entry.target,
            "xattrs": entry.xattrs}


def same_content(ours: bytes, theirs: bytes, size: int) -> str | None:
    """Compares two files by read(2) and mmap(2). Returns the first
    difference, or None."""
    results = [_open(path) for path in (ours, theirs)]
    try:
        fds = [result for result in results if isinstance(result, _Fd)]
        if len(fds) == 2:
            return _same_open(fds[0].number, fds[1].number, size)
        # If an object is missing, the reference fails at open(2), and
        # composefs at read(2) and mmap(2).
        errors = [result if isinstance(result, str) else
                  _read_error(result.number, size) for result in results]
        if errors[0] != errors[1]:
            return f"{errors[0]}, reference {errors[1]}"
        return None
    finally:
        for result in results:
            if isinstance(result, _Fd):
                os.close(result.number)


@dataclasses.dataclass
class _Fd:
    number: int


def _open(path: bytes) -> _Fd | str:
    try:
        return _Fd(os.open(path, os.O_RDONLY))
    except OSError as error:
        return ktap.errno_name(error.errno)


def _read_error(fd: int, size: int) -> str:
    """The errors of read(2) and mmap(2), which should be the same."""
    errors = set()
    try:
        os.pread(fd, 4096, 0)
        errors.add("read: success")
    except OSError as error:
        errors.add(ktap.errno_name(error.errno))
    if size:
        try:
            mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ).close()
            errors.add("mmap: success")
        except OSError as error:
            errors.add(ktap.errno_name(error.errno))
    return " and ".join(sorted(errors))


def _same_open(ours: int, theirs: int, size: int) -> str | None:
    views = []
    try:
        if size:
            views = [mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ)
                     for fd in (ours, theirs)]
        for at in range(0, size, CHUNK):
            expected = os.pread(theirs, CHUNK, at)
            if len(expected) != min(CHUNK, size - at):
                return f"the reference is short at {at}"
            if os.pread(ours, CHUNK, at) != expected:
                return f"read differs after {at}"
            for view, name in zip(views, ("mmap", "the reference's mmap")):
                if view[at:at + CHUNK] != expected:
                    return f"{name} differs after {at}"
        for fd in (ours, theirs):
            if os.pread(fd, 1, size):
                return f"there is more after {size}"
        return None
    except OSError as error:
        return f"{ktap.errno_name(error.errno)}: {error}"
    finally:
        for view in views:
            view.close()


def errno_of_lookup(path: bytes) -> int:
    """The errno of lstat(2), 0 for success."""
    try:
        os.lstat(path)
    except OSError as error:
        return error.errno or errno.EIO
    return 0
