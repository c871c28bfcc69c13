#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Leases on objects, and disks that do not answer: who waits for them.

mmap(2) may not wait: it holds mmap_lock, and readers of /proc/PID/cmdline wait
for that. Memory reclaim may not wait. open(2) may.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import (caches, disk, dm, fixtures, kernel_log, ktap, mounts,
                 reference, special_image)
from lib.dm import dmsetup
from lib.files import opened

suite = ktap.Suite()

SMALL, LARGE = "sizes/4097", special_image.LARGE
FIFREEZE, FITHAW = 0xc0045877, 0xc0045878
BREAK_TIME = Path("/proc/sys/fs/lease-break-time")
# A call that does not wait returns within SOON seconds, under emulation.
# Leases are held for LATE seconds.
SOON, LATE = 20, 60

READER = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
print("open", flush=True)
sys.stdin.readline()
try:
    view = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
    print("mapped", flush=True)
except OSError as error:
    print(os.strerror(error.errno), flush=True)
sys.stdin.readline()
"""


class Mapper:
    """A process that opens a file, and maps it when it is told to."""

    def __init__(self, path: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", READER, path], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True)

    def output(self, seconds: float) -> str:
        """The next line of its output, or "" after some time."""
        assert self.process.stdout
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            return ""
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def mapper(path: str) -> Iterator[Mapper]:
    found = Mapper(path)
    try:
        yield found
    finally:
        found.end()


@contextmanager
def leased(path: str) -> Iterator[int]:
    """Holds a write lease on a file, and does not release it when asked."""
    before = BREAK_TIME.read_text()
    BREAK_TIME.write_text(f"{LATE}\n")
    handler = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        with opened(path) as fd:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            yield fd
    finally:
        signal.signal(signal.SIGIO, handler)
        BREAK_TIME.write_text(before)


def read(path: str, flags: int = os.O_RDONLY) -> bytes:
    with opened(path, flags) as fd:
        return os.read(fd, 2 << 20)


@suite.test(
    "a lease on an object: open(2) waits, with O_NONBLOCK it is EAGAIN"
)
def open_waits(test: ktap.Test) -> None:
    reference.require_support()
    with special_image.mounted() as top, \
            reference.mount(special_image.image()) as their_top:
        for what, where in (("composefs", top), ("overlayfs", their_top)):
            for name in (SMALL, LARGE):
                for warm in (False, True):
                    caches.drop_all()
                    if warm:
                        read(f"{where}/{name}")
                    said = f"{what}, {name}, {'warm' if warm else 'cold'}"
                    with leased(special_image.object_path(name)) as lease:
                        test.fails(errno.EAGAIN, f"{said}: O_NONBLOCK",
                                   os.open, f"{where}/{name}",
                                   os.O_RDONLY | os.O_NONBLOCK)
                        with mapper(f"{where}/{name}") as other:
                            test.equal(other.output(1), "",
                                       f"{said}: open with the lease held")
                            fcntl.fcntl(lease, fcntl.F_SETLEASE, fcntl.F_UNLCK)
                            test.equal(other.output(SOON), "open", said)
                            other.go_on()
                            test.equal(other.output(SOON), "mapped", said)
                    test.equal(read(f"{where}/{name}"),
                               special_image.data(name),
                               f"{said}: after the lease")


@suite.test("a lease that is taken after open(2): mmap(2) is EAGAIN")
def mmap_does_not_wait(test: ktap.Test) -> None:
    kernel_log.reset_ratelimit()
    with special_image.mounted() as top, kernel_log.watch() as lines:
        for name in (SMALL, LARGE):
            path, data = f"{top}/{name}", special_image.data(name)
            caches.drop_all()
            read(path)
            with opened(path) as fd:
                with leased(special_image.object_path(name)):
                    start = time.monotonic()
                    test.fails(errno.EAGAIN, f"{name}: mmap", mmap.mmap, fd, 0,
                               mmap.MAP_SHARED, mmap.PROT_READ)
                    test.check(time.monotonic() - start < SOON,
                               f"{name}: mmap waits")
                # The lease is released.
                with mmap.mmap(fd, 0, mmap.MAP_SHARED,
                               mmap.PROT_READ) as view:
                    test.equal(view[:], data,
                               f"{name}: mapped after the lease")
                # mmap(2) has opened the object with O_NONBLOCK; reads may
                # block again.
                test.equal(os.pread(fd, len(data), 0), data, f"{name}: read")
            test.equal(read(path), data, f"{name}: opened again")
    test.equal(kernel_log.of_composefs(lines), [], "the log")


@suite.test("the objects' disk is suspended: mmap(2) does not wait")
def disk_stands_still(test: ktap.Test) -> None:
    dm.require()
    image = special_image.image()
    for name in (SMALL, LARGE):
        source = Path(special_image.object_path(name))
        relative = f"{source.parent.name}/{source.name}"
        with dm.mounted((source, relative, True)) as where, \
                mounts.composefs(image.path, [str(where.top)]) as top:
            caches.drop_all()
            with mapper(f"{top}/{name}") as other:
                test.equal(other.output(SOON), "open", f"{name}: open")
                # Bring what cat(1) needs below into memory.
                Path(f"/proc/{other.process.pid}/cmdline").read_bytes()
                dmsetup("suspend", "--noflush", "--nolockfs",
                        where.device.name)
                try:
                    other.go_on()
                    test.equal(other.output(SOON), "mapped", f"{name}: mmap")
                    reader = subprocess.Popen(
                        ["cat", f"/proc/{other.process.pid}/cmdline"],
                        stdout=subprocess.DEVNULL)
                    try:
                        reader.wait(SOON)
                    except subprocess.TimeoutExpired:
                        test.fail(
                            f"{name}: a reader of /proc/PID/cmdline waits"
                        )
                finally:
                    dmsetup("resume", where.device.name)
            test.equal(read(f"{top}/{name}"), special_image.data(name), name)


@contextmanager
def frozen(path: Path) -> Iterator[None]:
    """Freezes a file system: all who write to it wait."""
    with opened(str(path)) as fd:
        fcntl.ioctl(fd, FIFREEZE, 0)
        try:
            yield
        finally:
            fcntl.ioctl(fd, FITHAW, 0)


@suite.test("unlinked objects on a frozen disk: reclaim does not wait")
def frozen_disk(test: ktap.Test) -> None:
    names = (SMALL, LARGE, "sizes/131072")
    with disk.mounted() as where:
        for name in names:
            source = Path(special_image.object_path(name))
            path = where.top / source.parent.name / source.name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(source.read_bytes())
        before = os.statvfs(where.top).f_files - os.statvfs(where.top).f_ffree
        with special_image.mounted(("noverity", None),
                                   basedirs=[str(where.top)]) as top:
            for name in names:
                # Small objects stay open.
                for _ in range(3):
                    read(f"{top}/{name}")
            for name in names:
                source = Path(special_image.object_path(name))
                (where.top / source.parent.name / source.name).unlink()
            os.sync()
            with frozen(where.top):
                child = os.fork()
                if child == 0:
                    caches.drop()
                    os._exit(0)
                for _ in range(10 * SOON):
                    done, _ = os.waitpid(child, os.WNOHANG)
                    if done:
                        break
                    time.sleep(0.1)
                test.check(done, "drop_caches waits for the disk")
            if not done:
                os.waitpid(child, 0)
        # umount has waited for the worker that closes the objects.
        used = os.statvfs(where.top).f_files - os.statvfs(where.top).f_ffree
        test.equal(before - used, len(names),
                   "inodes of objects that were freed")


fixtures.require()
mounts.require_root()
suite.run()
