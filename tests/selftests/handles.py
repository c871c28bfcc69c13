#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""File handles: those of all files work, others are ESTALE.

A handle holds the number of the inode and that of its directory, which are
places in the image. A forged one must never make an inode of other bytes.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import fixtures, handles, ktap, mounts, objects, process, slab, special
from lib.dirents import DT_OF_MODE
from lib.handles import Handle
from lib.tree import names

suite = ktap.Suite()

# FILEID_INO64_GEN_PARENT: inode, a hint, parent, 0.
KIND = 0x82
INO_SIZE = 32
INLINE_FILE = "sizes/64"
DIRECTORY = DT_OF_MODE[stat.S_IFDIR]
BIG = b"/directories/big/"
# Symbolic links that images of version 2 have not got right: they do not fit
# into the block that they are said to be in.
DAMAGED = (b"/links/4094", b"/links/4095")


def made(ino: int, parent: int, hint: int = 0) -> Handle:
    return Handle(KIND, struct.pack("=IIIIII", ino >> 32, ino & 0xffffffff,
                                    hint, parent >> 32, parent & 0xffffffff,
                                    0))


def parts(handle: Handle) -> tuple[int, int, int]:
    """The inode, its directory, and the hint where in that it is."""
    words = struct.unpack("=IIIIII", handle.data)
    return words[0] << 32 | words[1], words[3] << 32 | words[4], words[2]


@contextmanager
def mount_fd(top: str) -> Iterator[int]:
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def identity(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_mode, found.st_size,
            found.st_uid, found.st_gid, found.st_rdev, found.st_mtime_ns,
            found.st_nlink)


def open_stat(mount: int, handle: Handle) -> os.stat_result | str:
    try:
        fd = handles.open_by(mount, handle)
    except OSError as error:
        return ktap.errno_name(error.errno)
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def some(top: str) -> list[bytes]:
    """All paths, but some only of those in the big directory."""
    found = [b""]
    for number, (path, _, _) in enumerate(names(top)):
        if path not in DAMAGED and (not path.startswith(BIG)
                                    or number % 100 == 0):
            found.append(path)
    return found


def check_tree(test: ktap.Test, image: fixtures.Image) -> None:
    """The files of a tree, known and forgotten."""
    with mounts.composefs(image.path, image.objects) as top, \
            mount_fd(top) as mount:
        known: dict[bytes, tuple[Handle, os.stat_result]] = {}
        for path in some(top):
            full = os.fsencode(top) + path
            known[path] = (handles.of(full), os.lstat(full))
        for round_ in ("known", "forgotten"):
            # Whoever looks for one of them first finds nothing in memory.
            for number, path in enumerate(reversed(known)):
                if round_ == "forgotten" and number % 64 == 0:
                    slab.drop_caches()
                handle, expected = known[path]
                found = open_stat(mount, handle)
                test.check(not isinstance(found, str) and
                           identity(found) == identity(expected),
                           f"{path!r}, {round_}: {found}")
        test.note(f"{len(known)} files")


for a_name in ("special-v1", "special-v2"):
    suite.add(f"{a_name}: a handle of each file opens it, also when forgotten",
              lambda test, name=a_name: check_tree(test,
                                                   fixtures.named(name)))


@suite.test("what was opened by its handle works: path, content, entries")
def works(test: ktap.Test) -> None:
    with special.mounted() as top, mount_fd(top) as mount:
        for path in ("sizes/4097", "sizes/64", "hardlinks/b/file",
                     "deep/" + "/".join(f"level-{n}" for n in range(60))
                     + "/bottom"):
            handle = handles.of(f"{top}/{path}")
            slab.drop_caches()
            fd = handles.open_by(mount, handle, os.O_RDONLY)
            try:
                test.check(os.pread(fd, 100000, 0) == special.data(path),
                           f"{path}: another content")
                test.fails(errno.EROFS, f"{path}: for writing",
                           handles.open_by, mount, handle, os.O_RDWR)
            finally:
                os.close(fd)
        for path in ("directories/big", "types", "deep/level-0/level-1"):
            handle = handles.of(f"{top}/{path}")
            slab.drop_caches()
            fd = handles.open_by(mount, handle, os.O_RDONLY)
            try:
                # A directory is connected to the root, so that it has a path.
                test.equal(os.readlink(f"/proc/self/fd/{fd}"),
                           f"{top}/{path}", "path")
                test.equal(sorted(os.listdir(fd)),
                           sorted(os.listdir(f"{top}/{path}")), path)
                parent = os.stat("..", dir_fd=fd)
                test.equal(parent.st_ino, os.stat(
                    os.path.dirname(f"{top}/{path}")).st_ino, f"{path}/..")
            finally:
                os.close(fd)


@suite.test("what was opened by its handle has that handle")
def again(test: ktap.Test) -> None:
    with special.mounted() as top, mount_fd(top) as mount:
        for path in ("sizes/4097", "sizes/64", "hardlinks/b/file",
                     "links/dangling", "types/fifo", "directories/big", "."):
            handle = handles.of(f"{top}/{path}")
            slab.drop_caches()
            fd = handles.open_by(mount, handle)
            try:
                test.equal(handles.of_open(fd), handle, path)
                # Another open of what is in memory, but was never looked up.
                second = handles.open_by(mount, handle)
                try:
                    test.equal(handles.of_open(second), handle, path)
                finally:
                    os.close(second)
            finally:
                os.close(fd)


@suite.test("a handle of another mount of the image opens the same file")
def remounted(test: ktap.Test) -> None:
    with special.mounted() as top:
        handle = handles.of(f"{top}/sizes/4097")
        number = os.stat(f"{top}/sizes/4097").st_ino
    with special.mounted(("noverity", None)) as top, mount_fd(top) as mount:
        found = open_stat(mount, handle)
        test.check(not isinstance(found, str) and found.st_ino == number,
                   f"{found}")


@suite.test("handles for connecting, and for identifying only")
def flags(test: ktap.Test) -> None:
    with special.mounted() as top, mount_fd(top) as mount:
        path = f"{top}/hardlinks/b/file"
        handle = handles.of(path, handles.AT_HANDLE_CONNECTABLE)
        slab.drop_caches()
        fd = handles.open_by(mount, handle, os.O_RDONLY)
        try:
            test.equal(os.readlink(f"/proc/self/fd/{fd}"), path,
                       "path of one that is connectable")
        finally:
            os.close(fd)
        test.check(handles.of(path, handles.AT_HANDLE_FID).data, "FID: empty")


@suite.test("a hint that is wrong makes no difference")
def hints(test: ktap.Test) -> None:
    image = special.image()
    with special.mounted() as top, mount_fd(top) as mount:
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
                slab.drop_caches()
                found = open_stat(mount, made(ino, parent, wrong))
                test.check(not isinstance(found, str) and
                           identity(found) == identity(expected),
                           f"{path}, hint {wrong} for {hint}: {found}")
            # The right one in a directory that does not have it.
            slab.drop_caches()
            if parent != other:
                test.equal(open_stat(mount, made(ino, other, hint)),
                           "ESTALE", f"{path}, in another directory")
        # One that is known only by a handle without a hint has it again.
        handle = known[paths[2]][0]
        slab.drop_caches()
        fd = handles.open_by(mount, made(*parts(handle)[:2]))
        try:
            test.equal(handles.of_open(fd), handle, "the handle")
        finally:
            os.close(fd)
    test.note(f"{image.name}: {blocks} blocks")


@suite.test("malformed handles are ESTALE")
def malformed(test: ktap.Test) -> None:
    with special.mounted() as top, mount_fd(top) as mount:
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
    """Each place in the image, with parents that are directories and not.

    They are tried on a new mount, so that nothing is believed because it is
    in memory already.
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
            mount_fd(top) as mount:
        parents = {*directories[:2], directories[-1], 0, size // INO_SIZE}
        opened = 0
        for number in range(0, size // INO_SIZE + 64, step):
            for parent in (*parents, number):
                found = open_stat(mount, made(number, parent))
                if isinstance(found, str):
                    test.check(found == "ESTALE",
                               f"{number} in {parent}: {found}")
                    continue
                opened += 1
                if test.check(number in paths,
                              f"{number} in {parent}: bytes that are no "
                              f"inode were opened: {found}"):
                    expected = os.lstat(os.fsencode(top) + paths[number])
                    test.check(identity(found) == identity(expected),
                               f"{number} in {parent}: {found}")
        test.note(f"{opened} handles of {size // INO_SIZE // step} places "
                  "were opened")
        for number, parent in good[:50]:
            found = open_stat(mount, made(number, parent))
            test.check(not isinstance(found, str),
                       f"a good one, {number} in {parent}: {found}")


@suite.test("each place in an image, with wrong parents")
def places(test: ktap.Test) -> None:
    every_handle(test, fixtures.named("matrix"))


@suite.test("each place in an image of version 2, with wrong parents")
def places_v2(test: ktap.Test) -> None:
    every_handle(test, fixtures.named("special-v2"), step=7)


def extended(mode: int, layout: int = 0, size: int = 0,
             nlink: int = 1) -> bytes:
    """An inode of 64 bytes, owned by root."""
    return struct.pack("<HHHHQIIIIQII16x", 1 | layout << 1, 0, mode, 0, size,
                       0, 1, 0, 0, 0, 0, nlink)


@suite.test("the content of a small file that looks like an inode")
def crafted(test: ktap.Test) -> None:
    """With its own place as inode, and every directory as parent."""
    image = special.image()
    data = Path(image.path).read_bytes()
    content = special.data(INLINE_FILE)
    at = data.find(content)
    test.need(at > 0 and data.find(content, at + 1) < 0,
              "the file's content is not once in the image")
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
                    mount_fd(top) as mount:
                # The real thing reads as the fake, wherever it is.
                test.equal(Path(top, INLINE_FILE).read_bytes(), fake, what)
                tree = list(names(top))
                parents = {parent for _, _, parent in tree}
                known = {dirent.ino for _, dirent, _ in tree}
                owner = os.stat(f"{top}/{INLINE_FILE}").st_ino
                slab.drop_caches()
                for place in range((at - 63) // INO_SIZE,
                                   (at + 64) // INO_SIZE + 1):
                    if place == owner:
                        continue
                    for parent in (*parents, place, 0):
                        found = open_stat(mount, made(place, parent))
                        test.check(found == "ESTALE" or place in known,
                                   f"{what}: {place} in {parent}: {found}")


@suite.test("a user may not open by a handle")
def user(test: ktap.Test) -> None:
    with special.mounted() as top, mount_fd(top) as mount:
        handle = handles.of(f"{top}/sizes/64")
        test.fails(errno.EPERM, "a user", process.as_user, 1000,
                   lambda: handles.open_by(mount, handle))


fixtures.require()
objects.require_verity()
suite.run()
