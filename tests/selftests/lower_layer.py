#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""What xfstests asks of a lower layer of overlayfs, with composefs as that
layer. The same has to happen on erofs and the object directories.

The tests were written for this file; each names the number of the test there
that has the idea. container.py has those about copying up and whiteouts.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lib import (core, fixtures, handles, image, ktap, mounts, overlayfs,
                 reference)
from lib.mounts import Options

suite = ktap.Suite()

PROGRAM, DATA = "usr/bin/sleep", "etc/services"
MORE: Options = [("metacopy", "on"), ("redirect_dir", "on")]
FALLOC_FL_KEEP_SIZE_PUNCH_HOLE = 3


@contextmanager
def ours(*more: tuple[str, Any]) -> Iterator[str]:
    found = fixtures.named("debian-v0")
    with mounts.composefs(found.path, found.objects,
                          ("digest", found.digest)) as lower:
        with overlayfs.writable([("lowerdir+", lower)], *more) as merged:
            yield merged.top


@contextmanager
def theirs(*more: tuple[str, Any]) -> Iterator[str]:
    found = fixtures.named("debian-v0")
    with reference.erofs(found) as metadata:
        with overlayfs.writable(
                [("lowerdir+", metadata),
                 *(("datadir+", path) for path in found.objects)],
                *more) as merged:
            yield merged.top


def both(test: ktap.Test, function: Callable[[str], Any],
         *more: tuple[str, Any]) -> Any:
    """Compares what a function returns on both, and returns it."""
    with theirs(*MORE, *more) as top:
        expected = function(top)
    with ours(*MORE, *more) as top:
        found = function(top)
    test.equal(found, expected, "on composefs, and on erofs")
    with ours(*more) as top:
        test.equal(function(top), found, "without metacopy")
    return found


@suite.test("overlay/013: a program that runs is not truncated or written")
def busy(test: ktap.Test) -> None:
    def function(top: str) -> list[str]:
        path = f"{top}/{PROGRAM}"
        with subprocess.Popen([path, "600"]) as child:
            try:
                return [ktap.outcome(os.truncate, path, 0),
                        ktap.outcome(os.open, path, os.O_WRONLY)]
            finally:
                child.kill()
    test.equal(both(test, function), ["ETXTBSY"] * 2, "errors")


@suite.test("overlay/016: who has opened a file sees new content, a map does not")
def old_content(test: ktap.Test) -> None:
    def function(top: str) -> list[bool]:
        path = Path(top, DATA)
        before = path.read_bytes()
        with open(path, "rb") as reader, mmap.mmap(
                reader.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ) as view:
            with open(path, "r+b") as writer:
                writer.write(b"new")
            new = b"new" + before[3:]
            return [reader.read() == new, view[:] == before,
                    path.read_bytes() == new]
    test.equal(both(test, function), [True] * 3, "contents")


@suite.test("overlay/017: inode numbers stay when files are copied up")
def numbers(test: ktap.Test) -> None:
    def function(top: str) -> list[bool]:
        found = []
        for name in (PROGRAM, DATA, "etc", "usr/bin/sh"):
            path = f"{top}/{name}"
            before = os.stat(path, follow_symlinks=False)
            os.chown(path, 1, 1, follow_symlinks=False)
            after = os.stat(path, follow_symlinks=False)
            found.append(before.st_ino == after.st_ino)
        return found
    test.check(all(both(test, function, ("xino", "on"))), "numbers differ")


@suite.test("overlay/061: a map of the copy sees later writes")
def mapped(test: ktap.Test) -> None:
    def function(top: str) -> bool:
        path = Path(top, DATA)
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
            view[:3] = b"map"
            with open(path, "rb") as reader:
                first = reader.read(3)
            os.pwrite(file.fileno(), b"fd.", 0)
            return first == b"map" and view[:3] == b"fd."
    test.check(both(test, function), "contents")


@suite.test("overlay/064: a capability is copied up")
def capability(test: ktap.Test) -> None:
    value = b"\x01\x00\x00\x02\x00\x04" + b"\x00" * 14

    def function(top: str) -> list[Any]:
        path = f"{top}/{PROGRAM}"
        os.setxattr(path, "security.capability", value)
        found: list[Any] = [os.getxattr(path, "security.capability")]
        # A write takes it away.
        with open(path, "ab") as writer:
            writer.write(b"more")
        return [*found, ktap.result(os.getxattr, path, "security.capability")]
    test.equal(both(test, function), [value, "ENODATA"], "capabilities")


@suite.test("overlay/066: a hole can be made in a file that is copied up")
def hole(test: ktap.Test) -> None:
    def function(top: str) -> list[Any]:
        path = Path(top, PROGRAM)
        before = path.read_bytes()
        with open(path, "r+b") as file:
            if mounts.libc.fallocate(
                    file.fileno(), FALLOC_FL_KEEP_SIZE_PUNCH_HOLE,
                    ctypes.c_long(4096), ctypes.c_long(4096)):
                return ["fallocate", ctypes.get_errno()]
            found = os.lseek(file.fileno(), 0, os.SEEK_HOLE)
        after = path.read_bytes()
        return [found, after == before[:4096] + bytes(4096) + before[8192:]]
    test.equal(both(test, function), [4096, True], "the hole")


@suite.test("overlay/077: names that change while a directory is read")
def changing(test: ktap.Test) -> None:
    def function(top: str) -> list[Any]:
        path = f"{top}/usr/bin"
        names = sorted(os.listdir(path))
        with os.scandir(path) as entries:
            first = next(entries).name
            for name in names[::10]:
                os.unlink(f"{path}/{name}")
                Path(path, f"new-{name}").touch()
            rest = [entry.name for entry in entries]
        twice = len(rest) - len(set(rest))
        after = sorted(os.listdir(path))
        gone = set(names[::10])
        missed = set(names) - gone - set(rest) - {first}
        return [twice, sorted(missed), sorted(set(after) & gone),
                len(after) == len(names)]
    test.equal(both(test, function), [0, [], [], True], "names")


@suite.test("overlay/050 and 053: handles stay good when a file is copied up")
def by_handle(test: ktap.Test) -> None:
    def function(top: str) -> list[Any]:
        found = []
        mount = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
        for name in (PROGRAM, DATA, "etc"):
            path = f"{top}/{name}"
            handle = handles.of(path)
            number = os.stat(path).st_ino
            os.chmod(path, 0o711)
            fd = handles.open_by(mount, handle)
            found.append((os.fstat(fd).st_ino == number,
                          os.fstat(fd).st_mode & 0o777))
            os.close(fd)
        os.close(mount)
        return found

    # Neither goes with metacopy.
    with ours(("index", "on"), ("nfs_export", "on")) as top:
        test.equal(function(top), [(True, 0o711)] * 3, "files by handles")


@suite.test("generic/306: a device of the image can be written")
def devices(test: ktap.Test) -> None:
    null = image.special(stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with core.mounted(image.directory({"null": null})) as lower:
        for flags in (os.O_WRONLY, os.O_RDWR | os.O_TRUNC):
            fd = os.open(f"{lower}/null", flags)
            test.equal(os.write(fd, b"gone"), 4, "write(2)")
            os.close(fd)


fixtures.require()
reference.require_support()
suite.run()
