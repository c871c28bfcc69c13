#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Reads and other calls on open files: results and errors.

A file has to behave as its object does on its own file system. Calls that
overlayfs does not pass on to the object are compared with erofs + overlayfs.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct

from lib import (caches, fixtures, ktap, objects, read_whole, reference,
                 special_image, syscalls)
from lib.compare_object import Call, brief, check_same, file_and_object
from lib.files import opened
from lib.mounts import libc
from lib.uring import Ring
from lib.verity import FS_IOC_MEASURE_VERITY

suite = ktap.Suite()

FS_IOC_FIEMAP = 0xc020660b
FS_IOC_READ_VERITY_METADATA = 0xc0286687
FS_IOC_GETFLAGS = 0x80086601
SYS_READAHEAD = syscalls.number("readahead")


@suite.test("files of all sizes, each way of reading as the first access")
def sizes(test: ktap.Test) -> None:
    for name, way in read_whole.WAYS.items():
        with special_image.mounted() as top:
            for size in (
                special_image.INLINE_SIZES + special_image.OBJECT_SIZES
            ):
                if not size and name.startswith("map"):
                    continue
                expected = special_image.data(f"sizes/{size}")
                with opened(f"{top}/sizes/{size}") as fd:
                    found = ktap.result(lambda fd, size=size,
                                        way=way: way(fd, size), fd)
                test.check(found == expected,
                           f"{name}, {size} bytes: {brief(found)!r}")


def check_positions(test: ktap.Test, name: str, size: int,
                    fds: tuple[int, int]) -> None:
    for at in (0, 1, size // 2, 4095, 4096, size - 1, size, size + 1, 1 << 40,
               (1 << 63) - 1, -1):
        for count in (0, 1, 4096, 70000):
            check_same(test, f"{name}: {count} at {at}", fds,
                       lambda fd, count=count,
                       at=at: os.pread(fd, count, at))
    for at in (0, size):
        for count in (0, 16):
            check_same(
                test,
                f"{name}: {count} at {at} to beyond the address space",
                fds,
                lambda fd, at=at, count=count: ctypes.get_errno()
                if libc.pread(fd, ctypes.c_void_p(8), count,
                              ctypes.c_long(at)) < 0 else "success",
            )


@suite.test("pread(2) at all positions, as on the object")
def positions(test: ktap.Test) -> None:
    for name in ("sizes/4097", special_image.LARGE):
        with file_and_object(name) as fds:
            check_positions(test, name, int(name.rpartition("/")[2]), fds)


@suite.test("pread(2) of an inline file, as of the file that it was made from")
def positions_inline(test: ktap.Test) -> None:
    source = special_image.image().source
    with special_image.mounted() as top:
        for size in special_image.INLINE_SIZES:
            name = f"sizes/{size}"
            with opened(f"{top}/{name}") as fd, \
                    opened(f"{source}/{name}") as theirs:
                check_positions(test, name, size, (fd, theirs))
                for one in (fd, theirs):
                    os.lseek(one, size // 2, os.SEEK_SET)
                check_same(test, f"{name}: from its position", (fd, theirs),
                           lambda fd: (os.read(fd, 3), os.read(fd, 70000),
                                       os.lseek(fd, 0, os.SEEK_CUR)))


@suite.test(
    "preadv2(2): RWF_NOWAIT does not block, other flags as on the object"
)
def nowait(test: ktap.Test) -> None:
    def read(fd: int, flags: int, at: int = 0) -> bytes:
        room = bytearray(5000)
        return bytes(room[:os.preadv(fd, [room], at, flags)])

    expected = special_image.data(special_image.LARGE)
    # The first open(2) of a file opens its object, later ones do not.
    with special_image.mounted() as top, \
            opened(f"{top}/{special_image.LARGE}"), \
            opened(f"{top}/{special_image.LARGE}") as fd, \
            opened(special_image.object_path(special_image.LARGE)) as theirs:
        test.fails(errno.EAGAIN, "before the object is open", read, fd,
                   os.RWF_NOWAIT)
        test.equal(read(fd, 0) == expected[:5000], True, "without flags")
        test.equal(ktap.result(lambda fd: read(fd, os.RWF_NOWAIT), fd)
                   == expected[:5000], True, "cached")
        caches.drop()
        # A fast disk may have read it by now.
        test.check(ktap.result(lambda fd: read(fd, os.RWF_NOWAIT, 400000), fd)
                   in ("EAGAIN", expected[400000:405000]),
                   "not cached: neither EAGAIN nor its bytes")
        # The object's file system may support RWF_DONTCACHE, but it is unknown
        # before the object is open. overlayfs refuses it, too.
        test.fails(errno.EOPNOTSUPP, "RWF_DONTCACHE", read, fd, 0x80)
        for flag in (os.RWF_HIPRI, os.RWF_DSYNC, os.RWF_SYNC, os.RWF_APPEND,
                     0x1000, 1 << 30):
            check_same(test, f"flags {flag:#x}", (fd, theirs), lambda fd,
                       flag=flag: read(fd, flag))


@suite.test("io_uring: several reads at once, also as the first access")
def uring(test: ktap.Test) -> None:
    expected = special_image.data(special_image.LARGE)
    pieces = [(0, 4096), (500000, 100000), (len(expected) - 10, 100),
              (len(expected), 10), (7, 1)]
    ring = Ring()
    try:
        with special_image.mounted() as top:
            for round_ in ("not open yet", "open", "open again"):
                with opened(f"{top}/{special_image.LARGE}") as fd:
                    found = ring.read(fd, pieces)
                    for (at, size), data in zip(pieces, found):
                        test.check(data == expected[at:at + size],
                                   f"{round_}: {size} at {at}: "
                                   f"{brief(data)!r}")
            with opened(f"{top}/sizes/64") as fd:
                test.equal(ring.read(fd, [(0, 100)]),
                           [special_image.data("sizes/64")], "an inline file")
    finally:
        ring.close()


@suite.test("sendfile(2) to a file and to a socket")
def sendfile(test: ktap.Test) -> None:
    for name in (special_image.LARGE, "sizes/64", "sizes/4097"):
        expected = special_image.data(name)
        with special_image.mounted() as top, opened(f"{top}/{name}") as fd:
            left, right = socket.socketpair()
            with left, right:
                # More would block until it is read.
                count = os.sendfile(left.fileno(), fd, 0, 30000)
                test.equal(right.recv(count, socket.MSG_WAITALL),
                           expected[:30000], f"{name} to a socket")
            test.equal(read_whole.sendfile(fd, len(expected)) == expected,
                       True, f"{name} to a file")


@suite.test("splice(2) and tee(2)")
def splice(test: ktap.Test) -> None:
    for name in (special_image.LARGE, "sizes/64", "sizes/4097"):
        expected = special_image.data(name)
        with special_image.mounted() as top, opened(f"{top}/{name}") as fd:
            one, two = os.pipe(), os.pipe()
            try:
                for at in (0, 1, 4095, 300000, len(expected) - 1,
                           len(expected)):
                    count = os.splice(fd, one[1], 20000, offset_src=at)
                    wanted = expected[at:at + count]
                    test.check(count or at >= len(expected),
                               f"{name}: no bytes at {at}")
                    if not count:
                        continue
                    teed = libc.tee(one[0], two[1], ctypes.c_size_t(count), 0)
                    test.equal(os.read(two[0], teed), wanted[:teed],
                               f"{name}: tee at {at}")
                    test.equal(os.read(one[0], count), wanted,
                               f"{name}: splice at {at}")
                # From the file's own position.
                count = os.splice(fd, one[1], 40)
                test.equal(os.lseek(fd, 0, os.SEEK_CUR), count, "position")
            finally:
                for end in (*one, *two):
                    os.close(end)


@suite.test("copy_file_range(2), readahead(2) and others, as on overlayfs")
def as_reference(test: ktap.Test) -> None:
    reference.require_support()
    image = special_image.image()
    calls: dict[str, Call] = {
        "readahead": lambda fd: libc.syscall(
            SYS_READAHEAD, fd, ctypes.c_long(0), 100000) or "success",
        "fsync": os.fsync, "fdatasync": os.fdatasync,
        "FS_IOC_GETFLAGS": lambda fd: fcntl.ioctl(fd, FS_IOC_GETFLAGS, b"\0"
                                                  * 8),
        "an unknown ioctl": lambda fd: fcntl.ioctl(fd, 0x12345678, b"\0" * 8),
        "FIONREAD": lambda fd: fcntl.ioctl(fd, 0x541b, b"\0" * 8),
        "FIBMAP": lambda fd: fcntl.ioctl(fd, 1, b"\0" * 8),
    }
    with special_image.mounted() as top, reference.mount(image) as their_top:
        for name in (special_image.LARGE, "sizes/64", "sizes"):
            with opened(f"{top}/{name}") as fd, \
                    opened(f"{their_top}/{name}") as theirs:
                for what, call in calls.items():
                    ours, other = ktap.result(call, fd), ktap.result(
                        call, theirs
                    )
                    test.equal(ours, other, f"{what} of {name}")
        for name in (special_image.LARGE, "sizes/64"):
            with opened(f"{top}/{name}") as fd, \
                    opened(f"{their_top}/{name}") as theirs, \
                    objects.store() as work:
                found = []
                for source in (fd, theirs):
                    with open(work.top / "out", "wb+") as out:
                        count = ktap.result(
                            lambda fd, out=out: os.copy_file_range(
                                fd, out.fileno(), 5000, 0
                            ),
                            source,
                        )
                        out.seek(0)
                        found.append((count, out.read()))
                test.equal(found[0], found[1], f"copy_file_range of {name}")


@suite.test(
    "posix_fadvise(2): each advice as on the object, as the first access"
)
def fadvise(test: ktap.Test) -> None:
    expected = special_image.data(special_image.LARGE)
    for advice in range(8):
        with file_and_object(special_image.LARGE) as fds:
            for at, count in ((0, 0), (100, 50000), (0, -1), (1 << 40, 1)):
                check_same(test, f"{advice} at {at}, {count}", fds,
                           lambda fd, at=at, count=count, advice=advice:
                           os.posix_fadvise(fd, at, count, advice))
            test.check(os.pread(fds[0], 1 << 20, 0) == expected,
                       f"{advice}: wrong content afterwards")


@suite.test("lseek(2) as on the object, with SEEK_HOLE and SEEK_DATA")
def seek(test: ktap.Test) -> None:
    size = len(special_image.data(special_image.SPARSE))
    for name in (special_image.SPARSE, special_image.LARGE):
        with file_and_object(name) as fds:
            for whence in (os.SEEK_DATA, os.SEEK_HOLE, os.SEEK_SET,
                           os.SEEK_END, os.SEEK_CUR, 5, 99, -1):
                for at in (0, 1, 4096, 5 << 20, 12 << 20, (12 << 20) + 5,
                           size - 1, size, size + 1, -1, -size - 1, 1 << 40,
                           -1 << 63):
                    for fd in fds:
                        os.lseek(fd, 0, os.SEEK_SET)
                    check_same(
                        test,
                        f"{name}: {at} from {whence}",
                        fds,
                        lambda fd, at=at, whence=whence: os.lseek(
                            fd, at, whence
                        ),
                    )
                    test.equal(os.lseek(fds[0], 0, os.SEEK_CUR),
                               os.lseek(fds[1], 0, os.SEEK_CUR),
                               f"{name}: position after {at} from {whence}")


@suite.test("SEEK_HOLE and SEEK_DATA of an inline file")
def seek_inline(test: ktap.Test) -> None:
    with special_image.mounted() as top, opened(f"{top}/sizes/64") as fd:
        for whence, at, expected in ((os.SEEK_DATA, 5, 5),
                                     (os.SEEK_HOLE, 5, 64),
                                     (os.SEEK_DATA, 64, "ENXIO"),
                                     (os.SEEK_HOLE, 64, "ENXIO")):
            test.equal(ktap.result(lambda fd, at=at, whence=whence: os.lseek(
                fd, at, whence), fd), expected, f"{whence}, {at}")


def fiemap(fd: int) -> tuple[int, bytes]:
    """The number of extents, and the extents."""
    room = bytearray(struct.pack("=QQIIII", 0, (1 << 64) - 1, 1, 0, 100, 0)
                     + bytes(56 * 100))
    fcntl.ioctl(fd, FS_IOC_FIEMAP, room)
    count = struct.unpack_from("=I", room, 20)[0]
    return count, bytes(room[32:32 + 56 * count])


@suite.test("FIEMAP returns the object's extents")
def extents(test: ktap.Test) -> None:
    for name in (special_image.SPARSE, special_image.LARGE):
        with file_and_object(name) as fds:
            check_same(test, name, fds, fiemap)
            test.check(fiemap(fds[1])[0] > 0, f"{name}: no extents")


def verity_metadata(kind: int) -> Call:
    def read(fd: int) -> bytes:
        room = ctypes.create_string_buffer(100000)
        argument = struct.pack("=QQQQQ", kind, 0, len(room),
                               ctypes.addressof(room), 0)
        return room.raw[:fcntl.ioctl(fd, FS_IOC_READ_VERITY_METADATA,
                                     bytearray(argument))]
    return read


@suite.test("FS_IOC_MEASURE_VERITY and FS_IOC_READ_VERITY_METADATA")
def verity(test: ktap.Test) -> None:
    def measure(fd: int) -> bytes:
        room = bytearray(struct.pack("=HH64s", 0, 64, b""))
        fcntl.ioctl(fd, FS_IOC_MEASURE_VERITY, room)
        return bytes(room)

    # Each is the first access to a file.
    calls = {"the digest": measure, "the Merkle tree": verity_metadata(1),
             "the descriptor": verity_metadata(2),
             "the signature": verity_metadata(3),
             "an unknown type": verity_metadata(9)}
    for what, call in calls.items():
        with file_and_object(special_image.LARGE) as fds:
            check_same(test, what, fds, call)
    with file_and_object(special_image.LARGE) as fds:
        test.check(len(ktap.result(verity_metadata(1), fds[0])) > 4096,
                   "the Merkle tree is too small")
    with special_image.mounted() as top, opened(f"{top}/sizes/64") as fd:
        for what, call in calls.items():
            test.equal(ktap.result(call, fd), "ENOTTY",
                       f"{what} of an inline file")


fixtures.require()
objects.require_verity()
suite.run()
