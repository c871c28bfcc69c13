#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Who waits for a lease on an object, or for its disk, and who must not.

Not mmap(2): the memory map is locked meanwhile, and whoever reads
/proc/PID/cmdline waits for it. Not who frees memory. open(2) is where to wait.
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
# How long what waits for nobody may take under emulation, and how long those
# whom it should not wait for take.
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
    """Another process that opens a file, and maps it when it is told to."""

    def __init__(self, path: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", READER, path], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True)

    def said(self, seconds: float) -> str:
        """What it says within some time, or nothing."""
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
    """Somebody has the object for himself, and does not give it up."""
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


@suite.test("a lease on an object: open(2) waits, or says that it would")
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
                            test.equal(other.said(1), "", f"{said}: too early")
                            fcntl.fcntl(lease, fcntl.F_SETLEASE, fcntl.F_UNLCK)
                            test.equal(other.said(SOON), "open", said)
                            other.go_on()
                            test.equal(other.said(SOON), "mapped", said)
                    test.equal(
                        read(f"{where}/{name}"),
                        special_image.data(name),
                        f"{said}: then",
                    )


@suite.test("a lease that is taken after open(2): mmap(2) does not wait")
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
                # Whoever had it has given it up.
                with mmap.mmap(fd, 0, mmap.MAP_SHARED,
                               mmap.PROT_READ) as view:
                    test.equal(view[:], data, f"{name}: mapped then")
                # What the mapping has opened may wait again.
                test.equal(os.pread(fd, len(data), 0), data, f"{name}: read")
            test.equal(read(path), data, f"{name}: opened again")
    test.equal([line for line in lines if "composefs" in line], [], "the log")


@suite.test("the objects' disk stands still: mmap(2) does not wait for it")
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
                test.equal(other.said(SOON), "open", f"{name}: open")
                # For who asks, to have what it needs in memory.
                Path(f"/proc/{other.process.pid}/cmdline").read_bytes()
                dmsetup("suspend", "--noflush", "--nolockfs",
                        where.device.name)
                try:
                    other.go_on()
                    test.equal(other.said(SOON), "mapped", f"{name}: mmap")
                    asked = subprocess.Popen(
                        ["cat", f"/proc/{other.process.pid}/cmdline"],
                        stdout=subprocess.DEVNULL)
                    try:
                        asked.wait(SOON)
                    except subprocess.TimeoutExpired:
                        test.fail(f"{name}: who asks for its name waits")
                finally:
                    dmsetup("resume", where.device.name)
            test.equal(read(f"{top}/{name}"), special_image.data(name), name)


@contextmanager
def frozen(path: Path) -> Iterator[None]:
    """Whoever writes to the file system waits."""
    with opened(str(path)) as fd:
        fcntl.ioctl(fd, FIFREEZE, 0)
        try:
            yield
        finally:
            fcntl.ioctl(fd, FITHAW, 0)


@suite.test("objects without a name on a frozen disk: memory is freed at once")
def frozen_disk(test: ktap.Test) -> None:
    names = (SMALL, LARGE, "sizes/131072")
    with disk.mounted() as where:
        for name in names:
            source = Path(special_image.object_path(name))
            path = where.top / source.parent.name / source.name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(source.read_bytes())
        before = os.statvfs(where.top).f_files - os.statvfs(where.top).f_ffree
        with special_image.mounted(
            ("noverity", None), basedirs=[str(where.top)]
        ) as top:
            for name in names:
                # Small ones are kept open.
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
                test.check(done, "who frees memory waits for the disk")
            if not done:
                os.waitpid(child, 0)
        # Unmounting has waited for what was left to a worker.
        used = os.statvfs(where.top).f_files - os.statvfs(where.top).f_ffree
        test.equal(before - used, len(names), "objects that have gone")


fixtures.require()
if os.geteuid() != 0:
    ktap.skip_all("only root can mount")
suite.run()
