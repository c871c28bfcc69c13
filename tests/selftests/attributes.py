#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Attributes of files, and who may read them: statfs, statx, xattrs, ACLs.

Permissions are compared with the tree that the image was made from, on its own
file system, and the rest with erofs + overlayfs or with the object.
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from lib import (disk, fixtures, ktap, loop, mounts, notify, objects,
                 overlayfs, process, reference, special_image)
from lib.mounts import AT_FDCWD, libc
from lib.special_image import KINDS

suite = ktap.Suite()

MAGIC = 0xd078629a
STATX_BASIC_STATS, STATX_ATIME, STATX_ALL = 0x7ff, 0x20, 0xfff
STATX_DIOALIGN = 0x2000
STATX_ATTR_IMMUTABLE, STATX_ATTR_VERITY = 0x10, 0x100000
AT_SYMLINK_NOFOLLOW, AT_STATX_FORCE_SYNC, AT_STATX_DONT_SYNC = (
    0x100, 0x2000, 0x4000)
XATTR_SIZE_MAX = 65536

# Uid, gid and supplementary groups: the ACLs of the tree name these.
USERS = ((1000, 1000, ()), (1001, 1001, ()), (1002, 70000, ()),
         (1002, 1002, (70000,)), (1003, 1003, ()), (1003, 0, ()),
         (65534, 65534, ()))


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
        test.check(found.flags & os.ST_RDONLY, "is not read-only")
        test.equal(statfs(f"{top}/sizes/64"), found, "of a file")
        test.check(any(found.fsid), "fsid is 0")
        test.check(found.fsid != store.fsid, "fsid is the store's")
        with special_image.mounted(("noverity", None)) as other:
            test.equal(statfs(other).fsid, found.fsid,
                       "fsid of another mount of the image")
        with mounts.composefs(fixtures.named("matrix").path, []) as other:
            without = statfs(other)
            test.check(without.fsid != found.fsid, "fsid of another image")
            test.check(without.blocks > 0, "no blocks without a store")
    with mounts.mounted("tmpfs", [("source", "x"), ("size", "1m")]) as small, \
            special_image.mounted(basedirs=[small, *image.objects]) as top:
        test.equal(statfs(top).blocks, statfs(small).blocks,
                   "blocks of the first of two")


@suite.test("df(1): no use of inodes is told, as on erofs and overlayfs")
def inodes_in_use(test: ktap.Test) -> None:
    def used(top: str) -> str:
        return subprocess.run(
            ["df", "--output=ipcent", top], check=True, capture_output=True,
            text=True).stdout.split()[-1]
    with special_image.mounted() as top, \
            reference.mount(special_image.image()) as their_top:
        test.equal(used(top), "-", "composefs")
        test.equal(used(their_top), "-", "erofs + overlayfs")


def statx(path: str, flags: int, mask: int = STATX_ALL) -> bytes:
    room = ctypes.create_string_buffer(256)
    if libc.statx(AT_FDCWD, os.fsencode(path), flags | AT_SYMLINK_NOFOLLOW,
                  mask, room):
        raise OSError(ctypes.get_errno(), f"statx({path})")
    return room.raw


@suite.test("statx(2) says what stat(2) says, and what overlayfs does")
def extended(test: ktap.Test) -> None:
    with special_image.mounted() as top, \
            reference.mount(special_image.image()) as their_top:
        for path in KINDS.values():
            expected = os.lstat(f"{top}/{path}")
            for flags in (0, AT_STATX_FORCE_SYNC, AT_STATX_DONT_SYNC):
                ours = statx(f"{top}/{path}", flags)
                theirs = statx(f"{their_top}/{path}", flags)
                mask, blksize, attributes, nlink, uid, gid, mode, ino, size, \
                    _blocks, known = struct.unpack_from("=IIQIIIHxxQQQQ", ours)
                # No atime is kept, and as on erofs none is told.
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
                           f"{path}: attributes that are not known")


class Statx(NamedTuple):
    """What only statx(2) tells."""

    attributes: int
    known: int
    # Of memory, of an offset.
    dio: tuple[int, int] | None


def statx_more(path: str, mask: int = STATX_DIOALIGN) -> Statx:
    room = statx(path, 0, mask | STATX_ALL)
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
                found = statx_more(f"{where}/{path}")
                test.check(found.attributes & found.known
                           & STATX_ATTR_IMMUTABLE,
                           f"{what}: {path!r} is not immutable")
        # A file that overlayfs has copied up is not.
        with overlayfs.writable([("lowerdir+", top)]) as merged:
            name = f"{merged.top}/sizes/4097"
            with open(name, "r+b") as file:
                file.write(b"changed")
            os.unlink(name)


@suite.test(
    "statx(2): STATX_ATTR_VERITY once an object is verified"
)
def verified(test: ktap.Test) -> None:
    def has_verity(path: str) -> bool:
        found = statx_more(path)
        test.check(
            found.known & STATX_ATTR_VERITY,
            f"{path}: STATX_ATTR_VERITY is not supported",
        )
        return bool(found.attributes & STATX_ATTR_VERITY)

    for mode, options, expected in (
            ("default", (), True), ("verity", (("verity", None),), True),
            ("tryverity", (("tryverity", None),), True),
            ("noverity", (("noverity", None),), False)):
        with special_image.mounted(*options) as top:
            path = f"{top}/sizes/4097"
            test.equal(has_verity(path), False, f"{mode}: before a read")
            Path(path).read_bytes()
            test.equal(has_verity(path), expected, f"{mode}: after a read")
            Path(f"{top}/sizes/64").read_bytes()
            test.equal(has_verity(f"{top}/sizes/64"), False,
                       f"{mode}: an inline file")
    test.equal(
        has_verity(special_image.object_path("sizes/4097")), True, "the object"
    )
    with mounts.mounted("tmpfs", [("source", "store")]) as store:
        data = special_image.data("sizes/4097")
        objects.Store(Path(store)).plain(
            objects.object_name(objects.digest_of(data)), data)
        with special_image.mounted(
            ("tryverity", None), basedirs=[store]
        ) as top:
            test.equal(Path(f"{top}/sizes/4097").read_bytes(), data, "content")
            test.equal(has_verity(f"{top}/sizes/4097"), False,
                       "an object on tmpfs")


@suite.test("statx(2): STATX_DIOALIGN is that of the object")
def direct_io(test: ktap.Test) -> None:
    data = special_image.data(special_image.LARGE)
    name = objects.object_name(objects.digest_of(data))
    with objects.store() as store:
        plain = str(store.plain(name, data))
        test.need(
            sum(statx_more(plain).dio or (0,)), "ext4 has no STATX_DIOALIGN"
        )
        for read_before in (False, True):
            with special_image.mounted(
                ("noverity", None), basedirs=[store.path]
            ) as top:
                path = f"{top}/{special_image.LARGE}"
                if read_before:
                    Path(path).read_bytes()
                test.equal(statx_more(path).dio, statx_more(plain).dio,
                           f"without fs-verity, read {read_before}")
    with special_image.mounted() as top:
        path = f"{top}/{special_image.LARGE}"
        test.equal(
            statx_more(path).dio,
            statx_more(special_image.object_path(special_image.LARGE)).dio,
            "with fs-verity",
        )
        for name in special_image.INLINE_SIZES:
            test.equal(statx_more(f"{top}/sizes/{name}").dio, (0, 0),
                       f"{name} bytes, inline")
        for kind in ("directory", "symlink"):
            test.equal(statx_more(f"{top}/{KINDS[kind]}").dio, None, kind)
    with special_image.mounted(basedirs=[]) as top:
        path = f"{top}/{special_image.LARGE}"
        test.equal(statx_more(path).dio, None, "without its object")
        test.equal(os.stat(path).st_size, len(data), "its size")


@suite.test(
    "losetup(8) --direct-io, with an object on 4 KiB sectors"
)
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
                test.equal((statx_more(path).dio or (0, 0))[1], 4096,
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
        statx_more(path, 0)
        # A lookup before this would have left a negative dentry.
        data = special_image.data(special_image.LARGE)
        store.verified(objects.object_name(objects.digest_of(data)), data)
        notify.events(listener)
        os.stat(path)
        statx_more(path)
        test.equal(notify.events(listener), [], "events of the store")
        test.equal(Path(path).read_bytes() == data, True, "content")


def rights(top: str) -> dict[tuple[str, str], str]:
    """The outcome of each way of reading each file, by the caller."""
    found = {}
    for directory in ("modes", "owners", "acls", "acls/directory"):
        try:
            names = sorted(os.listdir(f"{top}/{directory}"))
        except OSError as error:
            found[directory, "list"] = ktap.errno_name(error.errno)
            continue
        for name in names:
            path = f"{top}/{directory}/{name}"
            for what, call in ATTEMPTS.items():
                found[f"{directory}/{name}", what] = str(
                    ktap.result(call, path))
    return found


def open_close(path: str) -> str:
    os.close(os.open(path, os.O_RDONLY))
    return "success"


ATTEMPTS: dict[str, Callable[[str], Any]] = {
    "read": open_close,
    "access for reading": lambda path: os.access(path, os.R_OK),
    "access for executing": lambda path: os.access(path, os.X_OK),
    "access for both": lambda path: os.access(path, os.R_OK | os.X_OK),
    "effective access": lambda path: os.access(path, os.R_OK,
                                               effective_ids=True),
    "list": lambda path: sorted(os.listdir(path)) or "empty",
    "look up": lambda path: os.lstat(f"{path}/absent"),
    "O_NOATIME": lambda path: os.close(os.open(
        path, os.O_RDONLY | os.O_NOATIME)),
    "the ACL": lambda path: os.getxattr(path, "system.posix_acl_access"),
    "xattrs": lambda path: sorted(os.listxattr(path)),
}


def check_access(test: ktap.Test, name: str) -> None:
    image = fixtures.named(name)
    test.need(image.source, "no tree to compare with")
    with mounts.composefs(image.path, image.objects) as top:
        denied = 0
        for uid, gid, groups in USERS:
            ours = process.as_user(uid, lambda: rights(top), gid, groups)
            theirs = process.as_user(uid, lambda: rights(image.source or ""),
                                     gid, groups)
            for key, expected in theirs.items():
                test.equal(ours.get(key), expected,
                           f"{uid}, {gid}, {groups}: {key}")
                denied += expected == "EACCES"
        test.check(denied > 100, f"only {denied} accesses were denied")


for a_name in ("special-v0", "special-v1", "special-v2"):
    suite.add(
        f"{a_name}: users have the access that they have in its tree",
        lambda test, name=a_name: check_access(test, name),
    )


def visible(top: str) -> dict[str, dict[str, bytes]]:
    """All xattrs that the caller can see."""
    found = {}
    for name in sorted(os.listdir(f"{top}/xattrs")):
        path = f"{top}/xattrs/{name}"
        found[name] = {attribute: os.getxattr(path, attribute,
                                              follow_symlinks=False)
                       for attribute in os.listxattr(
                           path, follow_symlinks=False)}
    return found


@suite.test("trusted.* is for root alone, in lists and by name")
def trusted(test: ktap.Test) -> None:
    source = special_image.image().source or ""
    with special_image.mounted() as top:
        ours, theirs = visible(top), visible(source)
        test.check(any("trusted.a" in names for names in ours.values()),
                   "root sees no trusted.*")
        for name, expected in theirs.items():
            test.equal(ours[name], expected, f"root, {name}")
        mine = process.as_user(1000, lambda: visible(top))
        test.check(not any(attribute.startswith("trusted.")
                           for names in mine.values() for attribute in names),
                   "a user sees trusted.*")
        for name, expected in process.as_user(
                1000, lambda: visible(source)).items():
            test.equal(mine[name], expected, f"a user, {name}")
        for where in (top, source):
            for attribute in ("trusted.a", "trusted.absent",
                              "trusted.overlay.metacopy"):
                test.fails(61, f"a user, {attribute}", process.as_user, 1000,
                           lambda where=where, attribute=attribute:
                           os.getxattr(f"{where}/xattrs/all-file", attribute))


def raw_get(path: str, name: str, size: int) -> int | str:
    room = ctypes.create_string_buffer(max(size, 1))
    found = libc.lgetxattr(os.fsencode(path), os.fsencode(name), room,
                           ctypes.c_size_t(size))
    return found if found >= 0 else ktap.errno_name(ctypes.get_errno())


def raw_list(path: str, size: int) -> int | str:
    room = ctypes.create_string_buffer(max(size, 1))
    found = libc.llistxattr(os.fsencode(path), room, ctypes.c_size_t(size))
    return found if found >= 0 else ktap.errno_name(ctypes.get_errno())


@suite.test("xattrs with buffers of all sizes: errors and lengths")
def buffers(test: ktap.Test) -> None:
    # The length of a list is compared with the tree: that of overlayfs is too
    # large.
    with special_image.mounted() as top:
        for name in ("all-file", "long", "many", "symlink", "fifo",
                     "shared-0", "capability"):
            ours, theirs = (f"{where}/xattrs/{name}"
                            for where in (top, special_image.image().source))
            attributes = os.listxattr(ours, follow_symlinks=False)
            for attribute in attributes[:12]:
                length = raw_get(ours, attribute, 0)
                assert isinstance(length, int), (name, attribute, length)
                for size in {0, 1, length - 1, length, length + 1,
                             XATTR_SIZE_MAX, XATTR_SIZE_MAX + 1, 1 << 20}:
                    if size >= 0:
                        test.equal(raw_get(ours, attribute, size),
                                   raw_get(theirs, attribute, size),
                                   f"{name}, {attribute} by {size}")
            length = raw_list(ours, 0)
            assert isinstance(length, int)
            for size in (0, 1, length - 1, length, length + 1, 65536, 65537):
                test.equal(raw_list(ours, size), raw_list(theirs, size),
                           f"{name}: list by {size}")
                if length > 1 and size in (1, length - 1):
                    test.equal(raw_list(ours, size), "ERANGE",
                               f"{name}: list by {size}")


@suite.test("xattr names that are malformed or absent, on files of all types")
def bad_names(test: ktap.Test) -> None:
    with special_image.mounted() as top, \
            reference.mount(special_image.image()) as their_top:
        for path in KINDS.values():
            for name in ("", "user", "user.", "trusted.", "security.",
                         "system.", "system.nonsense", "nonsense",
                         "nonsense.a", "user.absent", "trusted.absent",
                         "security.absent", "security.capability",
                         "system.posix_acl_access",
                         "system.posix_acl_default", "lustre.a",
                         "trusted.overlay.metacopy",
                         "trusted.overlay.redirect", "trusted.overlay.opaque",
                         "user.overlay.metacopy",
                         "user." + "n" * 250, "user." + "n" * 251,
                         "user." + "n" * 300):
                test.equal(raw_get(f"{top}/{path}", name, 1000),
                           raw_get(f"{their_top}/{path}", name, 1000),
                           f"{path}: {name!r}")


@suite.test("atime does not change on any access")
def atime(test: ktap.Test) -> None:
    with special_image.mounted() as top:
        for path in ("sizes/4097", "sizes/64", "types", "types/symlink"):
            full = f"{top}/{path}"
            before = os.lstat(full)
            if os.path.islink(full):
                os.readlink(full)
            elif os.path.isdir(full):
                os.listdir(full)
            else:
                with open(full, "rb") as file:
                    file.read()
            after = os.lstat(full)
            test.equal(after.st_atime_ns, before.st_atime_ns, path)
            test.equal(after.st_atime_ns, after.st_mtime_ns,
                       f"{path}: atime is mtime")


reference.require_support()
fixtures.require()
mounts.require_root()
suite.run()
