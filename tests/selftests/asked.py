#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""What can be asked of erofs + overlayfs can be asked of composefs.

Each ioctl(2) that tells something of a file or a file system, and all fields
of statx(2), are asked of both, of all kinds of files. MORE lists where
composefs has an answer and the other has none, or none that is right, LESS
the opposite.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib import (core, fixtures, image, ktap, mounts, objects, overlayfs,
                 reference, special_image, statx)
from lib.files import opened
from lib.mounts import AT_FDCWD, libc

suite = ktap.Suite()

SYS_CACHESTAT, SYS_FILE_GETATTR = 451, 468

# The ioctl(2) numbers, and the sizes of their arguments.
IOCTLS = {
    "FIBMAP": (1, 4),
    "FIGETBSZ": (2, 4),
    "FIONREAD": (0x541b, 4),
    "FIOQSIZE": (0x5460, 8),
    "FS_IOC_GETFLAGS": (0x80086601, 8),
    "FS_IOC_FSGETXATTR": (0x801c581f, 28),
    "FS_IOC_GETVERSION": (0x80087601, 8),
    "FS_IOC_GETFSUUID": (0x80111500, 17),
    "FS_IOC_GETFSSYSFSPATH": (0x80811501, 129),
    "FS_IOC_GETLBMD_CAP": (0xc0101502, 16),
    "FS_IOC_GETFSLABEL": (0x81009431, 256),
    "FS_IOC_GET_ENCRYPTION_POLICY": (0x400c6615, 12),
    "FS_IOC_GET_ENCRYPTION_POLICY_EX": (0xc0096616, 16),
    "FITRIM": (0xc0185879, 24),
    "BLKGETSIZE64": (0x80081272, 8),
    "TCGETS": (0x5401, 60),
    "an unknown one": (0x12345678, 8),
}

# A file of each kind that can be opened. None is a kind of its own: the first
# is large, the second small, the third has no content.
FILES = {
    "object": special_image.LARGE,
    "inline": "sizes/64",
    "empty": "sizes/0",
    "directory": "sizes",
}

# Questions that composefs answers and erofs + overlayfs does not.
MORE = {
    *((question, kind) for kind in FILES
      for question in ("FIGETBSZ", "FS_IOC_GETFSUUID")),
    *(("FIOQSIZE", kind) for kind in ("object", "inline", "directory")),
    ("FS_IOC_MEASURE_VERITY", "object"),
    ("FS_IOC_READ_VERITY_METADATA", "object"),
    # The page cache of overlayfs's own inode is always empty.
    ("cachestat(2)", "inline"),
}

# Questions that only erofs + overlayfs answers: whether each target of
# FIDEDUPERANGE is possible. None is, as both are read-only.
LESS = {("FIDEDUPERANGE", kind) for kind in ("object", "inline", "empty")}


def ask_ioctl(name: str) -> Callable[[int], Any]:
    number, size = IOCTLS[name]

    def ask(fd: int) -> bytes:
        room = bytearray(size)
        fcntl.ioctl(fd, number, room, True)
        return bytes(room)
    return ask


def measure_verity(fd: int) -> bytes:
    room = bytearray(struct.pack("=HH64s", 0, 64, b""))
    fcntl.ioctl(fd, 0xc0046686, room, True)
    return bytes(room)


def verity_descriptor(fd: int) -> bytes:
    room = ctypes.create_string_buffer(1000)
    argument = struct.pack("=QQQQQ", 2, 0, len(room),
                           ctypes.addressof(room), 0)
    return room.raw[:fcntl.ioctl(fd, 0xc0286687, bytearray(argument))]


def dedupe(fd: int) -> bytes:
    """Of no target."""
    room = bytearray(24)
    fcntl.ioctl(fd, 0xc0189436, room, True)
    return bytes(room)


def fiemap(fd: int, start: int = 0, length: int = (1 << 64) - 1,
           flags: int = 0, room_for: int = 100
           ) -> tuple[int, int, list[tuple[int, int, int, int]]]:
    """The flags, the number of extents, and the extents: logical and physical
    position, length, flags."""
    room = bytearray(struct.pack("=QQIIII", start, length, flags, 0, room_for,
                                 0) + bytes(56 * room_for))
    fcntl.ioctl(fd, 0xc020660b, room, True)
    found, count = struct.unpack_from("=II", room, 16)
    extents = [struct.unpack_from("=QQQ16xI", room, 32 + 56 * number)
               for number in range(min(count, room_for))]
    return found, count, extents


def cachestat(fd: int) -> bytes:
    room = ctypes.create_string_buffer(40)
    if libc.syscall(SYS_CACHESTAT, fd, struct.pack("=QQ", 0, 0), room, 0):
        raise OSError(ctypes.get_errno(), "cachestat")
    return room.raw


def file_getattr(fd: int) -> bytes:
    room = ctypes.create_string_buffer(24)
    if libc.syscall(SYS_FILE_GETATTR, AT_FDCWD,
                    f"/proc/self/fd/{fd}".encode(), room, len(room), 0):
        raise OSError(ctypes.get_errno(), "file_getattr")
    return room.raw


QUESTIONS: dict[str, Callable[[int], Any]] = {
    **{name: ask_ioctl(name) for name in IOCTLS},
    "FS_IOC_MEASURE_VERITY": measure_verity,
    "FS_IOC_READ_VERITY_METADATA": verity_descriptor,
    "FIDEDUPERANGE": dedupe,
    "FIEMAP": fiemap,
    "FIEMAP, the number": lambda fd: fiemap(fd, room_for=0),
    "FIEMAP with FIEMAP_FLAG_SYNC": lambda fd: fiemap(fd, flags=1),
    "FIEMAP with FIEMAP_FLAG_XATTR": lambda fd: fiemap(fd, flags=2),
    "FIEMAP of no bytes": lambda fd: fiemap(fd, 0, 0),
    "SEEK_DATA": lambda fd: os.lseek(fd, 0, os.SEEK_DATA),
    "SEEK_HOLE": lambda fd: os.lseek(fd, 0, os.SEEK_HOLE),
    "cachestat(2)": cachestat,
    "file_getattr(2)": file_getattr,
    "readahead(2)": lambda fd: os.posix_fadvise(
        fd, 0, 0, os.POSIX_FADV_WILLNEED),
    "fsync(2)": os.fsync,
    "fdatasync(2)": os.fdatasync,
    "listxattr(2)": lambda fd: sorted(os.listxattr(fd)),
    "LINK_MAX": lambda fd: os.fpathconf(fd, "PC_LINK_MAX"),
    "NAME_MAX": lambda fd: os.fpathconf(fd, "PC_NAME_MAX"),
}


def compare(test: ktap.Test, kind: str, ours: int, theirs: int) -> None:
    for question, ask in QUESTIONS.items():
        mine, other = ktap.result(ask, ours), ktap.result(ask, theirs)
        what = f"{kind}: {question}"
        if (question, kind) in MORE:
            test.check(not isinstance(mine, str) and mine != other,
                       f"{what}: composefs {mine!r}, the other {other!r}")
        elif (question, kind) in LESS:
            test.check(isinstance(mine, str) and not isinstance(other, str),
                       f"{what}: composefs {mine!r}, the other {other!r}")
        else:
            test.equal(mine, other, what)


def asked(test: ktap.Test, kind: str) -> None:
    name = FILES[kind]
    with special_image.mounted() as top, \
            reference.mount(special_image.image()) as their_top, \
            opened(f"{top}/{name}") as ours, \
            opened(f"{their_top}/{name}") as theirs:
        if kind != "directory":
            # The answers may not depend on what was read before, but those of
            # cachestat(2) do. read(2) of an inline file takes no page.
            with open(os.memfd_create("out"), "wb") as out:
                for fd in (ours, theirs):
                    os.sendfile(out.fileno(), fd, 0, 1)
        compare(test, kind, ours, theirs)


for a_kind in FILES:
    suite.add(f"ioctl(2) and others, of: {a_kind}",
              lambda test, kind=a_kind: asked(test, kind))


# The fields of statx(2) that belong to the mount.
OF_THE_MOUNT = {"dev_major", "dev_minor", "mnt_id", "mask", "attributes",
                "attributes_mask"}
STATX_DIO = 0x2000 | 0x20000
STATX_ATTR_VERITY = 0x100000


@suite.test("statx(2): all fields, before and after a read")
def all_fields(test: ktap.Test) -> None:
    paths = {*special_image.KINDS.values(), *FILES.values()}
    with special_image.mounted() as top, \
            reference.mount(special_image.image()) as their_top:
        for when in ("before", "after"):
            for path in sorted(paths):
                ours, theirs = (statx.fields(f"{where}/{path}")
                                for where in (top, their_top))
                what = f"{path}, {when}"
                for mask in ("mask", "attributes_mask"):
                    missing = theirs[mask] & ~ours[mask]
                    test.equal(hex(missing), "0x0",
                               f"{what}: missing in {mask}")
                more = ours["mask"] & ~theirs["mask"]
                test.equal(hex(more & ~STATX_DIO), "0x0",
                           f"{what}: more in mask")
                test.equal(
                    hex(ours["attributes"] & ~STATX_ATTR_VERITY),
                    hex(theirs["attributes"]), f"{what}: attributes")
                skipped = set(OF_THE_MOUNT)
                if when == "after" and path in (
                        special_image.LARGE, special_image.KINDS[
                            "in an object"]):
                    # overlayfs has the object's now.
                    skipped.add("blocks")
                test.equal({name: value for name, value in ours.items()
                            if name not in skipped},
                           {name: value for name, value in theirs.items()
                            if name not in skipped}, what)
            for where in (top, their_top):
                for path in (special_image.LARGE, "sizes/64",
                             special_image.KINDS["in an object"]):
                    Path(where, path).read_bytes()


@suite.test("FIEMAP of files whose content is in the image")
def inline_extents(test: ktap.Test) -> None:
    sizes = (0, 1, 64, 4095, 4096, 4097, 5000, 8191, 8192)
    root = image.directory({str(size): image.regular(b"x" * size)
                            for size in sizes})
    with core.workdir(fixtures.SCRATCH) as work:
        path = work / "image"
        image.write(root, path)
        with mounts.mounted("composefs", core.options(work)) as top, \
                reference.whole_pages(str(path)) as whole, \
                mounts.mounted("erofs", [("source", whole), ("ro", None)
                                         ]) as erofs, \
                mounts.mounted("tmpfs", [("source", "empty")]) as empty, \
                overlayfs.read_only(erofs, empty) as stack:
            data = path.read_bytes()
            for size in sizes:
                with opened(f"{top}/{size}") as ours, \
                        opened(f"{stack}/{size}") as theirs:
                    for start in {0, 1, size // 2, size - 1 if size else 0}:
                        test.equal(ktap.result(fiemap, ours, start),
                                   ktap.result(fiemap, theirs, start),
                                   f"{size} bytes from {start} on")
                    for start in (size, size + 4096):
                        test.equal(ktap.result(fiemap, ours, start)[1], 0,
                                   f"{size} bytes from {start} on: extents")
                    test.equal(ktap.result(fiemap, ours, 0, 1 << 62, 0, 1),
                               ktap.result(fiemap, theirs, 0, 1 << 62, 0, 1),
                               f"{size} bytes, room for one extent")
                    check_bytes(test, size, data, fiemap(ours)[2])
                    test.equal(ktap.result(fiemap, ours, 1 << 63), "EFBIG",
                               "from 2^63 on")


def check_bytes(test: ktap.Test, size: int, data: bytes,
                extents: list[tuple[int, int, int, int]]) -> None:
    """Checks that the extents are those of the image file."""
    content = b""
    for number, (logical, physical, length, flags) in enumerate(extents, 1):
        test.equal(logical, len(content), f"{size} bytes: offset")
        content += data[physical:][:length]
        test.equal(bool(flags & 1), number == len(extents),
                   f"{size} bytes: FIEMAP_EXTENT_LAST")
    test.check(content[:size] == b"x" * size, f"{size} bytes: other places")


@suite.test("FIEMAP of an inline file, through overlayfs")
def through(test: ktap.Test) -> None:
    with special_image.mounted() as top, \
            mounts.mounted("tmpfs", [("source", "empty")]) as empty, \
            overlayfs.read_only(top, empty) as merged, \
            opened(f"{top}/sizes/64") as ours, \
            opened(f"{merged}/sizes/64") as over:
        test.equal(fiemap(over), fiemap(ours), "extents")


@suite.test("FIEMAP of a file without content and object: no extents")
def zeros(test: ktap.Test) -> None:
    metacopy = {"trusted.overlay.metacopy": b""}
    file = image.external(10000, "/nowhere")
    file.xattrs = metacopy
    with core.mounted(image.directory({"zeros": file})) as top, \
            opened(f"{top}/zeros") as fd:
        test.equal(os.read(fd, 10), bytes(10), "content")
        test.equal(fiemap(fd)[1], 0, "extents")
    with special_image.mounted(basedirs=[]) as top, \
            opened(f"{top}/{special_image.LARGE}") as fd:
        test.fails(errno.EIO, "a missing object", fiemap, fd)


reference.require_support()
fixtures.require()
objects.require_verity()
suite.run()
