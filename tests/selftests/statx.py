#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""statfs(2) and statx(2).

They are compared with stat(2), with erofs + overlayfs, and with the object or
its file system. attributes.py has permissions and xattrs.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import subprocess
from pathlib import Path
from typing import NamedTuple

from lib import (disk, fixtures, ktap, loop, matrix_image, mounts, notify,
                 objects, overlayfs, reference, special_image)
from lib.mounts import libc
from lib.special_image import KINDS
from lib.statx import raw

suite = ktap.Suite()

MAGIC = 0xd078629a
STATX_BASIC_STATS, STATX_ATIME, STATX_ALL = 0x7ff, 0x20, 0xfff
STATX_DIOALIGN = 0x2000
STATX_ATTR_IMMUTABLE, STATX_ATTR_VERITY = 0x10, 0x100000
AT_STATX_FORCE_SYNC, AT_STATX_DONT_SYNC = 0x2000, 0x4000


class StatFs(NamedTuple):
    type: int
    bsize: int
    blocks: int
    bfree: int
    bavail: int
    files: int
    ffree: int
    fsid: bytes
    namelen: int
    frsize: int
    flags: int


def statfs(path: str) -> StatFs:
    room = ctypes.create_string_buffer(120)
    if libc.statfs(os.fsencode(path), room):
        raise OSError(ctypes.get_errno(), f"statfs({path})")
    return StatFs(*struct.unpack_from("=7q8s3q", room.raw))


@suite.test("statfs(2): size of the first object directory, own type and id")
def file_system(test: ktap.Test) -> None:
    image = special_image.image()
    pinned = ("digest", image.digest)
    with special_image.mounted(pinned) as top:
        found, store = statfs(top), statfs(image.objects[0])
        test.equal(found.type, MAGIC, "type")
        for name in ("bsize", "blocks", "frsize"):
            test.equal(getattr(found, name), getattr(store, name), name)
        test.equal(found.namelen, 255, "namelen")
        # statfs(2) has 0 for unknown counts.
        test.equal((found.files, found.ffree), (0, 0), "inodes")
        test.check(found.flags & os.ST_RDONLY, "not read-only")
        test.equal(statfs(f"{top}/sizes/64"), found, "of a file")
        test.check(any(found.fsid), "fsid is 0")
        test.check(found.fsid != store.fsid,
                   "fsid is that of the objects' file system")
        with special_image.mounted(("noverity", None)) as other:
            test.equal(statfs(other).fsid, found.fsid,
                       "fsid of another mount of the image")
        with mounts.composefs(fixtures.named("matrix").path, []) as other:
            without = statfs(other)
            test.check(without.fsid != found.fsid, "fsid of another image")
            test.check(without.blocks > 0,
                       "no blocks without an object directory")
    with mounts.mounted("tmpfs", [("source", "x"), ("size", "1m")]) as small, \
            special_image.mounted(basedirs=[small, *image.objects]) as top:
        test.equal(statfs(top).blocks, statfs(small).blocks,
                   "blocks of the first of two directories")


@suite.test("df(1) shows no use of inodes, as on erofs + overlayfs")
def inodes_in_use(test: ktap.Test) -> None:
    def used(top: str) -> str:
        return subprocess.run(
            ["df", "--output=ipcent", top], check=True, capture_output=True,
            text=True).stdout.split()[-1]
    with special_image.mounted() as top, \
            reference.mount(special_image.image()) as their_top:
        test.equal(used(top), "-", "composefs")
        test.equal(used(their_top), "-", "erofs + overlayfs")


@suite.test(
    "statx(2) returns what stat(2) returns, and what overlayfs returns"
)
def extended(test: ktap.Test) -> None:
    with special_image.mounted() as top, \
            reference.mount(special_image.image()) as their_top:
        for path in KINDS.values():
            expected = os.lstat(f"{top}/{path}")
            for flags in (0, AT_STATX_FORCE_SYNC, AT_STATX_DONT_SYNC):
                ours = raw(f"{top}/{path}", flags, STATX_ALL)
                theirs = raw(f"{their_top}/{path}", flags, STATX_ALL)
                mask, blksize, attributes, nlink, uid, gid, mode, ino, size, \
                    _blocks, known = struct.unpack_from("=IIQIIIHxxQQQQ", ours)
                # An image has no atime. STATX_ATIME is not set, as on erofs.
                test.equal(mask & STATX_BASIC_STATS,
                           STATX_BASIC_STATS & ~STATX_ATIME, f"{path}: mask")
                test.equal((blksize, nlink, uid, gid, mode, ino, size),
                           (expected.st_blksize, expected.st_nlink,
                            expected.st_uid, expected.st_gid,
                            expected.st_mode, expected.st_ino,
                            expected.st_size), f"{path}: values")
                # Atime, birth, ctime and mtime.
                test.equal(ours[112:128], theirs[112:128], f"{path}: mtime")
                test.equal(ours[128:136], theirs[128:136], f"{path}: rdev")
                test.equal(attributes & ~known, 0,
                           f"{path}: unsupported attributes")


class Statx(NamedTuple):
    """What statx(2) returns and stat(2) does not."""

    attributes: int
    known: int
    # The alignment of memory and of an offset for O_DIRECT, if returned.
    dio: tuple[int, int] | None


def statx_extra(path: str, mask: int = STATX_DIOALIGN) -> Statx:
    room = raw(path, 0, mask | STATX_ALL)
    found, = struct.unpack_from("=I", room, 0)
    attributes, = struct.unpack_from("=Q", room, 8)
    known, = struct.unpack_from("=Q", room, 56)
    dio = struct.unpack_from("=II", room, 152)
    return Statx(attributes, known,
                 (dio[0], dio[1]) if found & STATX_DIOALIGN else None)


@suite.test("statx(2): all files are immutable, as on erofs + overlayfs")
def immutable(test: ktap.Test) -> None:
    with special_image.mounted() as top, \
            reference.mount(special_image.image()) as their_top:
        for path in ("", *KINDS.values()):
            for where, what in ((top, "composefs"),
                                (their_top, "erofs + overlayfs")):
                found = statx_extra(f"{where}/{path}")
                test.check(found.attributes & found.known
                           & STATX_ATTR_IMMUTABLE,
                           f"{what}: {path!r} is not immutable")
        # A file that overlayfs has copied up is not.
        with overlayfs.writable([("lowerdir+", top)]) as merged:
            name = f"{merged.top}/sizes/4097"
            with open(name, "r+b") as file:
                file.write(b"changed")
            os.unlink(name)


def has_verity(test: ktap.Test, path: str) -> bool:
    found = statx_extra(path)
    test.check(found.known & STATX_ATTR_VERITY,
               f"{path}: STATX_ATTR_VERITY is not supported")
    return bool(found.attributes & STATX_ATTR_VERITY)


@suite.test("statx(2): STATX_ATTR_VERITY once an object is verified")
def verified(test: ktap.Test) -> None:
    pin = ("digest", special_image.image().digest)
    for mode, options, before, after in (
            ("default", (), False, True),
            # Here nothing is read that is not verified.
            ("verity", (("verity", None),), True, True),
            ("digest=", (pin,), True, True),
            ("tryverity", (("tryverity", None),), False, True),
            ("noverity", (("noverity", None),), False, False)):
        with special_image.mounted(*options) as top:
            path = f"{top}/sizes/4097"
            test.equal(has_verity(test, path), before,
                       f"{mode}: before a read")
            Path(path).read_bytes()
            test.equal(has_verity(test, path), after, f"{mode}: after a read")
            Path(f"{top}/sizes/64").read_bytes()
            for name in (*special_image.INLINE_SIZES, ""):
                test.equal(has_verity(test, f"{top}/sizes/{name}"), False,
                           f"{mode}: {name!r}, in the image")
    test.equal(has_verity(test, special_image.object_path("sizes/4097")),
               True, "the object")


@suite.test("statx(2): no STATX_ATTR_VERITY for what is not verified")
def not_verified(test: ktap.Test) -> None:
    with mounts.mounted("tmpfs", [("source", "store")]) as store:
        data = special_image.data("sizes/4097")
        objects.Store(Path(store)).plain(
            objects.object_name(objects.digest_of(data)), data)
        with special_image.mounted(("tryverity", None),
                                   basedirs=[store]) as top:
            test.equal(Path(f"{top}/sizes/4097").read_bytes(), data, "content")
            test.equal(has_verity(test, f"{top}/sizes/4097"), False,
                       "an object on tmpfs")
    with matrix_image.mounted(basedirs=[]) as top:
        path = f"{top}/{matrix_image.FILE}"
        test.fails(errno.EIO, "a missing object", Path(path).read_bytes)
        test.equal(has_verity(test, path), False, "a missing object")
    # An image without digests: with verity such a file cannot be read.
    image = fixtures.named("matrix-no-digests")
    with mounts.composefs(image.path, image.objects) as top:
        path = f"{top}/{matrix_image.FILE}"
        Path(path).read_bytes()
        test.equal(has_verity(test, path), False, "no digest")


@suite.test("statx(2): STATX_DIOALIGN is that of the object")
def direct_io(test: ktap.Test) -> None:
    data = special_image.data(special_image.LARGE)
    name = objects.object_name(objects.digest_of(data))
    with objects.store() as store:
        plain = str(store.plain(name, data))
        test.need(sum(statx_extra(plain).dio or (0,)),
                  "ext4 has no STATX_DIOALIGN")
        for read_before in (False, True):
            with special_image.mounted(("noverity", None),
                                       basedirs=[store.path]) as top:
                path = f"{top}/{special_image.LARGE}"
                if read_before:
                    Path(path).read_bytes()
                test.equal(statx_extra(path).dio, statx_extra(plain).dio,
                           f"without fs-verity, read {read_before}")
    with special_image.mounted() as top:
        path = f"{top}/{special_image.LARGE}"
        test.equal(
            statx_extra(path).dio,
            statx_extra(special_image.object_path(special_image.LARGE)).dio,
            "with fs-verity",
        )
        for name in special_image.INLINE_SIZES:
            test.equal(statx_extra(f"{top}/sizes/{name}").dio, (0, 0),
                       f"{name} bytes, inline")
        for kind in ("directory", "symlink"):
            test.equal(statx_extra(f"{top}/{KINDS[kind]}").dio, None, kind)
    with special_image.mounted(basedirs=[]) as top:
        path = f"{top}/{special_image.LARGE}"
        test.equal(statx_extra(path).dio, None, "without its object")
        test.equal(os.stat(path).st_size, len(data), "its size")


@suite.test("losetup(8) --direct-io, with an object on 4 KiB sectors")
def loop_device(test: ktap.Test) -> None:
    data = special_image.data(special_image.LARGE)
    name = objects.object_name(objects.digest_of(data))
    with objects.store() as work:
        image = work.top / "disk"
        disk.make(image, 32 << 20)
        with loop.device(image, "--sector-size=4096") as below, \
                mounts.mounted("ext4", [("source", below)]) as store:
            objects.Store(Path(store)).plain(name, data)
            os.sync()
            with special_image.mounted(("noverity", None),
                                       basedirs=[store]) as top:
                path = f"{top}/{special_image.LARGE}"
                test.equal((statx_extra(path).dio or (0, 0))[1], 4096,
                           "alignment of an offset")
                with loop.device(path, "--read-only",
                                 "--direct-io=on") as device:
                    test.check(Path(device).read_bytes() == data,
                               "wrong content")


@suite.test("stat(2) and statx(2) neither look up nor open an object")
def no_object(test: ktap.Test) -> None:
    with objects.store() as store, special_image.mounted(
            basedirs=[store.path]) as top, notify.fanotify(
                store.path, notify.FAN_OPEN | notify.FAN_ACCESS
                | notify.FAN_ONDIR) as listener:
        path = f"{top}/{special_image.LARGE}"
        os.stat(path)
        statx_extra(path, 0)
        # A lookup before this would have left a negative dentry.
        data = special_image.data(special_image.LARGE)
        store.verified(objects.object_name(objects.digest_of(data)), data)
        notify.events(listener)
        os.stat(path)
        statx_extra(path)
        test.equal(notify.events(listener), [], "events of the store")
        test.equal(Path(path).read_bytes() == data, True, "content")


reference.require_support()
fixtures.require()
mounts.require_root()
suite.run()
