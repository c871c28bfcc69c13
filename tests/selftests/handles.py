#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""File handles: name_to_handle_at(2) and open_by_handle_at(2).

A handle holds the inode numbers of the file and of its directory, which are
positions in the image. A forged handle is ESTALE: it must not lead to an inode
made of other bytes of the image.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from pathlib import Path

from lib import (caches, fixtures, handles, ktap, mounts, objects, process,
                 special_image)
from lib.dirents import DT_OF_MODE
from lib.files import opened
from lib.handles import Handle
from lib.tree import names

suite = ktap.Suite()

# FILEID_INO64_GEN_PARENT: inode, a hint as generation, parent, 0.
KIND = 0x82
INO_SIZE = 32
INLINE_FILE = "sizes/64"
DIRECTORY = DT_OF_MODE[stat.S_IFDIR]
BIG = b"/directories/big/"
# Symbolic links that are damaged in images of version 2: their data cross a
# block.
DAMAGED = (b"/links/4094", b"/links/4095")


def made(ino: int, parent: int, hint: int = 0) -> Handle:
    return Handle(KIND, struct.pack("=IIIIII", ino >> 32, ino & 0xffffffff,
                                    hint, parent >> 32, parent & 0xffffffff,
                                    0))


def parts(handle: Handle) -> tuple[int, int, int]:
    """The inode, its directory, and the hint: a block of the directory."""
    words = struct.unpack("=IIIIII", handle.data)
    return words[0] << 32 | words[1], words[3] << 32 | words[4], words[2]


def identity(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_mode, found.st_size,
            found.st_uid, found.st_gid, found.st_rdev, found.st_mtime_ns,
            found.st_nlink)


def open_stat(mount: int, handle: Handle) -> os.stat_result | str:
    """fstat(2) of the file of a handle, or the name of the error."""
    def opened_stat() -> os.stat_result:
        with handles.opened(mount, handle) as fd:
            return os.fstat(fd)

    found: os.stat_result | str = ktap.result(opened_stat)
    return found


def some_paths(top: str) -> list[bytes]:
    """All paths but most of those in the big directory."""
    found = [b""]
    for number, (path, _, _) in enumerate(names(top)):
        if path not in DAMAGED and (not path.startswith(BIG)
                                    or number % 100 == 0):
            found.append(path)
    return found


def check_tree(test: ktap.Test, image: fixtures.Image) -> None:
    """Opens the files of a tree by their handles, with and without caches."""
    with mounts.composefs(image.path, image.objects) as top, \
            opened(top) as mount:
        known: dict[bytes, tuple[Handle, os.stat_result]] = {}
        for path in some_paths(top):
            full = os.fsencode(top) + path
            known[path] = (handles.of(full), os.lstat(full))
        for round_ in ("cached", "dropped"):
            # The last ones first: their directories were not looked up before.
            for number, path in enumerate(reversed(known)):
                if round_ == "dropped" and number % 64 == 0:
                    caches.drop()
                handle, expected = known[path]
                found = open_stat(mount, handle)
                test.check(not isinstance(found, str) and
                           identity(found) == identity(expected),
                           f"{path!r}, {round_}: {found}")
        test.note(f"{len(known)} files")


for a_name in ("special-v1", "special-v2"):
    suite.add(
        f"{a_name}: the handle of each file opens it, with and without caches",
        lambda test, name=a_name: check_tree(test, fixtures.named(name)),
    )


@suite.test(
    "a file that is opened by its handle works: path, content, entries"
)
def works(test: ktap.Test) -> None:
    with special_image.mounted() as top, opened(top) as mount:
        for path in ("sizes/4097", "sizes/64", "hardlinks/b/file",
                     "deep/" + "/".join(f"level-{n}" for n in range(60))
                     + "/bottom"):
            handle = handles.of(f"{top}/{path}")
            caches.drop()
            with handles.opened(mount, handle, os.O_RDONLY) as fd:
                test.check(os.pread(fd, 100000, 0) == special_image.data(path),
                           f"{path}: wrong content")
                test.fails(errno.EROFS, f"{path}: for writing",
                           handles.open_by, mount, handle, os.O_RDWR)
        for path in ("directories/big", "types", "deep/level-0/level-1"):
            handle = handles.of(f"{top}/{path}")
            caches.drop()
            with handles.opened(mount, handle, os.O_RDONLY) as fd:
                # The dentry of a directory is connected to the root, so it has
                # a path.
                test.equal(os.readlink(f"/proc/self/fd/{fd}"),
                           f"{top}/{path}", "path")
                test.equal(sorted(os.listdir(fd)),
                           sorted(os.listdir(f"{top}/{path}")), path)
                parent = os.stat("..", dir_fd=fd)
                test.equal(parent.st_ino, os.stat(
                    os.path.dirname(f"{top}/{path}")).st_ino, f"{path}/..")


@suite.test("a file that is opened by its handle has the same handle")
def again(test: ktap.Test) -> None:
    with special_image.mounted() as top, opened(top) as mount:
        for path in ("sizes/4097", "sizes/64", "hardlinks/b/file",
                     "links/dangling", "types/fifo", "directories/big", "."):
            handle = handles.of(f"{top}/{path}")
            caches.drop()
            with handles.opened(mount, handle) as fd:
                test.equal(handles.of_open(fd), handle, path)
                # A second open of an inode that was never looked up by name.
                with handles.opened(mount, handle) as second:
                    test.equal(handles.of_open(second), handle, path)


@suite.test("a handle from another mount of the image opens the same file")
def remounted(test: ktap.Test) -> None:
    with special_image.mounted() as top:
        handle = handles.of(f"{top}/sizes/4097")
        number = os.stat(f"{top}/sizes/4097").st_ino
    with (
        special_image.mounted(("noverity", None)) as top,
        opened(top) as mount,
    ):
        found = open_stat(mount, handle)
        test.check(not isinstance(found, str) and found.st_ino == number,
                   f"{found}")


@suite.test("AT_HANDLE_CONNECTABLE and AT_HANDLE_FID")
def flags(test: ktap.Test) -> None:
    with special_image.mounted() as top, opened(top) as mount:
        path = f"{top}/hardlinks/b/file"
        handle = handles.of(path, handles.AT_HANDLE_CONNECTABLE)
        caches.drop()
        with handles.opened(mount, handle, os.O_RDONLY) as fd:
            test.equal(os.readlink(f"/proc/self/fd/{fd}"), path,
                       "path of a connectable handle")
        test.check(handles.of(path, handles.AT_HANDLE_FID).data, "FID: empty")


@suite.test("a handle with a wrong hint opens the same file")
def hints(test: ktap.Test) -> None:
    image = special_image.image()
    with special_image.mounted() as top, opened(top) as mount:
        big = f"{top}/directories/big"
        names_there = sorted(os.listdir(big))
        blocks = os.stat(big).st_size // 4096
        test.need(blocks > 3, "the big directory is small")
        paths = [*(f"{big}/{names_there[number]}"
                   for number in (0, len(names_there) // 2, -1)),
                 f"{top}/sizes/64", f"{top}/types"]
        known = {path: (handles.of(path), os.lstat(path)) for path in paths}
        test.check(len({parts(known[path][0])[2] for path in paths[:3]}) == 3,
                   "the hints of three blocks are the same")
        other = os.stat(f"{top}/directories").st_ino
        for path, (handle, expected) in known.items():
            ino, parent, hint = parts(handle)
            for wrong in (0, 1, 2, hint, hint + 1, blocks, blocks + 1,
                          blocks + 2, 1 << 20, 1 << 31, 0xffffffff):
                caches.drop()
                found = open_stat(mount, made(ino, parent, wrong))
                test.check(not isinstance(found, str) and
                           identity(found) == identity(expected),
                           f"{path}, hint {wrong} for {hint}: {found}")
            # The right hint, with a directory that does not hold the inode.
            caches.drop()
            if parent != other:
                test.equal(open_stat(mount, made(ino, other, hint)),
                           "ESTALE", f"{path}, in another directory")
        # A file that was opened by a handle without a hint.
        handle = known[paths[2]][0]
        caches.drop()
        with handles.opened(mount, made(*parts(handle)[:2])) as fd:
            test.equal(handles.of_open(fd), handle, "the handle")
    test.note(f"{image.name}: {blocks} blocks")


@suite.test("malformed handles are ESTALE")
def malformed(test: ktap.Test) -> None:
    with special_image.mounted() as top, opened(top) as mount:
        good = handles.of(f"{top}/sizes/4097")
        test.equal(good.kind, KIND, "the kind of a handle")
        for kind in (0, 1, 2, 0x51, 0x71, 0x81, 0x97, 0xfe):
            test.fails(errno.ESTALE, f"kind {kind:#x}", handles.open_by,
                       mount, Handle(kind, good.data))
        for size in (4, 8, 12, 16, 20, 23):
            test.fails(errno.ESTALE, f"{size} bytes", handles.open_by, mount,
                       Handle(good.kind, good.data[:size]))
        for data in (bytes(24), b"\xff" * 24, b"\x7f" * 24):
            test.fails(errno.ESTALE, repr(data[:4]), handles.open_by, mount,
                       Handle(good.kind, data))


def every_handle(test: ktap.Test, image: fixtures.Image,
                 step: int = 1) -> None:
    """Opens handles of all positions in an image, with parents that are
    directories and others.

    The mount is new, so that no inode is found in the inode cache.
    """
    size = os.path.getsize(image.path)
    paths: dict[int, bytes] = {}
    good: list[tuple[int, int]] = []
    with mounts.composefs(image.path, image.objects) as top:
        root = os.stat(top).st_ino
        paths[root] = b""
        directories = [root]
        for path, dirent, parent in names(top):
            paths[dirent.ino] = path
            good.append((dirent.ino, parent))
            if dirent.type == DIRECTORY:
                directories.append(dirent.ino)
    with mounts.composefs(image.path, image.objects) as top, \
            opened(top) as mount:
        parents = {*directories[:2], directories[-1], 0, size // INO_SIZE}
        count = 0
        for number in range(0, size // INO_SIZE + 64, step):
            for parent in (*parents, number):
                found = open_stat(mount, made(number, parent))
                if isinstance(found, str):
                    test.check(found == "ESTALE",
                               f"{number} in {parent}: {found}")
                    continue
                count += 1
                if test.check(number in paths,
                              f"{number} in {parent}: is not an inode, but "
                              f"was opened: {found}"):
                    expected = os.lstat(os.fsencode(top) + paths[number])
                    test.check(identity(found) == identity(expected),
                               f"{number} in {parent}: {found}")
        test.note(f"{count} handles of {size // INO_SIZE // step} positions "
                  "were opened")
        for number, parent in good[:50]:
            found = open_stat(mount, made(number, parent))
            test.check(not isinstance(found, str),
                       f"a right handle, {number} in {parent}: {found}")


@suite.test("handles of all positions in an image, with wrong parents")
def places(test: ktap.Test) -> None:
    every_handle(test, fixtures.named("matrix"))


@suite.test(
    "handles of positions in an image of version 2, with wrong parents"
)
def places_v2(test: ktap.Test) -> None:
    every_handle(test, fixtures.named("special-v2"), step=7)


def extended(mode: int, layout: int = 0, size: int = 0,
             nlink: int = 1) -> bytes:
    """An inode of 64 bytes, owned by root."""
    return struct.pack("<HHHHQIIIIQII16x", 1 | layout << 1, 0, mode, 0, size,
                       0, 1, 0, 0, 0, 0, nlink)


@suite.test("an inline file whose content looks like an inode")
def crafted(test: ktap.Test) -> None:
    """A handle of that content, with each directory as its parent, is
    ESTALE."""
    image = special_image.image()
    data = Path(image.path).read_bytes()
    content = special_image.data(INLINE_FILE)
    at = data.find(content)
    test.need(at > 0 and data.find(content, at + 1) < 0,
              "the content is not in the image exactly once")
    for what, fake in {
        "a program for root": extended(stat.S_IFREG | 0o6755),
        "a directory": extended(stat.S_IFDIR | 0o777, size=4096, nlink=2),
        "a device": extended(stat.S_IFBLK | 0o666),
        "a symbolic link": extended(stat.S_IFLNK | 0o777, layout=2, size=8),
    }.items():
        test.need(len(fake) == len(content), "the fake has another size")
        with objects.store() as work:
            path = work.plain("image", data[:at] + fake
                              + data[at + len(fake):])
            with mounts.composefs(str(path), image.objects) as top, \
                    opened(top) as mount:
                # The file itself can be read.
                test.equal(Path(top, INLINE_FILE).read_bytes(), fake, what)
                tree = list(names(top))
                parents = {parent for _, _, parent in tree}
                known = {dirent.ino for _, dirent, _ in tree}
                owner = os.stat(f"{top}/{INLINE_FILE}").st_ino
                caches.drop()
                for place in range((at - 63) // INO_SIZE,
                                   (at + 64) // INO_SIZE + 1):
                    if place == owner:
                        continue
                    for parent in (*parents, place, 0):
                        found = open_stat(mount, made(place, parent))
                        test.check(found == "ESTALE" or place in known,
                                   f"{what}: {place} in {parent}: {found}")


@suite.test("open_by_handle_at(2) by an unprivileged user is EPERM")
def user(test: ktap.Test) -> None:
    with special_image.mounted() as top, opened(top) as mount:
        handle = handles.of(f"{top}/sizes/64")
        test.fails(errno.EPERM, "a user", process.as_user, 1000,
                   lambda: handles.open_by(mount, handle))


fixtures.require()
objects.require_verity()
suite.run()
