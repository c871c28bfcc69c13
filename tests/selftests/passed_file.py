#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""The open file that was passed as the image is kept while it is mounted.

So locks on it hold, and show which images are in use. That is what a program
looks at before it removes images that nobody uses.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lib import (fixtures, ktap, loop, matrix_image, module, mounts, objects,
                 process, record_locks, uring)
from lib.files import opened
from lib.mounts import Context, Options

suite = ktap.Suite()

MS_REC, MS_PRIVATE = 0x4000, 0x40000
MANY = 300

# The options that take the image.
KEYS = ("image", "source")


@contextmanager
def an_image(verified: bool = True) -> Iterator[str]:
    """A copy of the matrix image, with or without fs-verity. Gives the
    path."""
    data = Path(matrix_image.image().path).read_bytes()
    with objects.store() as work:
        yield str(work.verified("image", data) if verified
                  else work.plain("image", data))


def options(key: str, image: int | str) -> Options:
    """The options of a mount."""
    return [(key, image), *(("basedir", mounts.escape(path))
                            for path in matrix_image.image().objects)]


def flock_shared(fd: int) -> None:
    fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)


def flock_exclusive(fd: int) -> None:
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def read_range(fd: int) -> None:
    record_locks.set_lock(fd, fcntl.F_RDLCK, 10, 10)


def write_range(fd: int) -> None:
    record_locks.set_lock(fd, fcntl.F_WRLCK, 10, 10)


def read_lease(fd: int) -> None:
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)


LOCKS: dict[str, Callable[[int], None]] = {
    "flock LOCK_SH": flock_shared,
    "flock LOCK_EX": flock_exclusive,
    "a record lock for reading": read_range,
    "a record lock for writing": write_range,
}


def new_mount(key: str, path: str, lock: Callable[[int], None] | None = None,
              flags: int = os.O_RDONLY) -> int:
    """Mounts an image that is passed as an open file with a lock, and closes
    the file. Returns the descriptor of the detached mount."""
    with opened(path, flags) as fd:
        if lock is not None:
            lock(fd)
        return mounts.new_mount("composefs", options(key, fd))


def is_locked(path: str) -> bool:
    """Whether there is a lock that conflicts with an exclusive one."""
    with opened(path) as fd:
        try:
            flock_exclusive(fd)
        except BlockingIOError:
            return True
        return record_locks.get_lock(fd, fcntl.F_WRLCK) != fcntl.F_UNLCK


def becomes_unlocked(path: str, seconds: float = 30) -> bool:
    """Waits: a file system may be unmounted by a worker."""
    end = time.monotonic() + seconds
    while is_locked(path):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


@suite.test("a lock on the passed file holds until it is unmounted")
def holds(test: ktap.Test) -> None:
    for key in KEYS:
        for what, lock in LOCKS.items():
            with an_image(verified=False) as path:
                # A record lock for writing needs a file open for writing.
                fd = new_mount(key, path, lock, os.O_RDWR)
                test.check(is_locked(path), f"{key}, {what}: detached")
                with mounts.attached(fd) as top:
                    test.check(is_locked(path), f"{key}, {what}: mounted")
                    matrix_image.check(test, top, f"{key}, {what}")
                test.check(not is_locked(path), f"{key}, {what}: unmounted")
                os.close(new_mount(key, path, lock, os.O_RDWR))
                test.check(not is_locked(path),
                           f"{key}, {what}: the detached mount was closed")


@suite.test("a lease on the passed file holds until it is unmounted")
def lease(test: ktap.Test) -> None:
    with an_image(verified=False) as path:
        with mounts.attached(new_mount("image", path, read_lease)):
            test.fails(errno.EAGAIN, "open for writing while mounted",
                       os.open, path, os.O_WRONLY | os.O_NONBLOCK)
        test.fails(None, "unmounted", lambda: os.close(os.open(
            path, os.O_WRONLY | os.O_NONBLOCK)))


@suite.test("a lock on a passed block device")
def device_file(test: ktap.Test) -> None:
    with an_image() as path, loop.device(path, "--read-only") as device:
        with mounts.attached(new_mount("image", device, flock_shared)):
            test.check(is_locked(device), "mounted")
        test.check(not is_locked(device), "unmounted")


@suite.test("the lock is that of the passed file: its owner can release it")
def same_file(test: ktap.Test) -> None:
    with an_image() as path, opened(path) as fd:
        mount = mounts.new_mount("composefs", options("image", fd))
        with mounts.attached(mount):
            test.check(not is_locked(path), "there is a lock")
            flock_shared(fd)
            test.check(is_locked(path), "locked after the mount")
            fcntl.flock(fd, fcntl.LOCK_UN)
            test.check(not is_locked(path), "unlocked")


@suite.test("without a passed file there is no lock, and nothing is kept")
def no_file(test: ktap.Test) -> None:
    with an_image() as path:
        for flags in (os.O_PATH, None):
            with ExitStack() as stack:
                image: int | str = path
                if flags is not None:
                    image = stack.enter_context(opened(path, flags))
                for key in KEYS:
                    with mounts.mounted("composefs", options(key, image)) \
                            as top:
                        test.check(not is_locked(path), f"{key}, {flags}")
                        matrix_image.check(test, top, f"{key}, {flags}")


@suite.test("a lazy umount: the lock holds until the last file is closed")
def lazy(test: ktap.Test) -> None:
    with an_image() as path, mounts.directory() as top:
        fd = new_mount("image", path, flock_shared)
        mounts.attach(fd, top)
        os.close(fd)
        with open(f"{top}/{matrix_image.FILE}", "rb") as file:
            mounts.umount(top, mounts.MNT_DETACH)
            test.check(is_locked(path), "a file is open")
            test.check(file.read(10) == matrix_image.data()[:10], "content")
        test.check(becomes_unlocked(path), "the file was closed")


@suite.test("the mount namespace is destroyed")
def namespace(test: ktap.Test) -> None:
    def run() -> None:
        os.unshare(os.CLONE_NEWNS)
        mounts.mount(None, "/", None, MS_REC | MS_PRIVATE)
        fd = new_mount("image", path, flock_shared)
        mounts.attach(fd, top)
        os.close(fd)
        os.write(writer, b"x")
        while True:
            time.sleep(1)

    with an_image() as path, mounts.directory() as top:
        reader, writer = os.pipe()
        with process.running(run):
            os.close(writer)
            test.equal(os.read(reader, 1), b"x", "the mount")
            test.check(is_locked(path), "while it exists")
        os.close(reader)
        test.check(becomes_unlocked(path), "afterwards")


@suite.test("the context keeps it until it is closed, whether it mounts or not")
def contexts(test: ktap.Test) -> None:
    with an_image() as path, objects.store() as work:
        text = str(work.plain("text", b"not an image\n" * 1000))
        wrong = ("digest", "0" * 64)
        for what, image, more in (
                ("no mount", path, None), ("a wrong digest", path, [wrong]),
                ("no image", text, []),
                ("a missing directory", path, [("basedir", "/nowhere")])):
            for key in KEYS:
                with Context.open("composefs") as context:
                    with opened(image) as fd:
                        flock_shared(fd)
                        context.set(key, fd)
                    for option in more or []:
                        context.set(*option)
                    if more is not None:
                        try:
                            context.create()
                            test.fail(f"{key}, {what}: the mount succeeded")
                        except OSError:
                            pass
                    test.check(is_locked(image), f"{key}, {what}: open")
                test.check(not is_locked(image), f"{key}, {what}: closed")


@suite.test("a file that was refused is not kept")
def refused(test: ktap.Test) -> None:
    with an_image() as path, Context.open("composefs") as context:
        context.set("image", matrix_image.image().path)
        for key in KEYS:
            with opened(path) as fd:
                flock_shared(fd)
                test.fails(errno.EINVAL, key, context.set, key, fd)
            test.check(not is_locked(path), key)


@suite.test("a remount keeps nothing")
def remounted(test: ktap.Test) -> None:
    with an_image() as path, \
            mounts.mounted("composefs", options("source", path)) as top:
        with Context.pick(top) as context:
            with opened(path) as fd:
                flock_shared(fd)
                context.set("image", fd)
            context.reconfigure()
        test.check(not is_locked(path), "locked afterwards")


@contextmanager
def two(path: str, first: Callable[[], int], second: Callable[[], int]
        ) -> Iterator[tuple[bool, Callable[[], None]]]:
    """Two mounts: whether they share a super block, and a call that unmounts
    the first."""
    with ExitStack() as stack, ExitStack() as one:
        tops = [one.enter_context(mounts.attached(first())),
                stack.enter_context(mounts.attached(second()))]
        yield os.stat(tops[0]).st_dev == os.stat(tops[1]).st_dev, one.close


@suite.test("mounts share only if a lock of the first one does for both")
def shared(test: ktap.Test) -> None:
    with an_image() as path:
        def by(lock: Callable[[int], None] | None) -> Callable[[], int]:
            return lambda: new_mount("image", path, lock)

        def by_path() -> int:
            return mounts.new_mount("composefs", options("image", path))

        unlocked, lock_sh = by(None), by(flock_shared)
        # The last column: whether a lock is left when the first mount is gone.
        for what, expected, first, second, left in (
                ("no lock, twice", True, unlocked, unlocked, False),
                ("a path, no lock", True, by_path, unlocked, False),
                ("no lock, a path", True, unlocked, by_path, False),
                ("LOCK_SH, twice", True, lock_sh, lock_sh, True),
                ("a path, LOCK_SH", False, by_path, lock_sh, True),
                ("LOCK_SH, a path", False, lock_sh, by_path, False),
                ("no lock, LOCK_SH", False, unlocked, lock_sh, True),
                ("a record lock, twice", False, by(read_range),
                 by(read_range), True),
                ("LOCK_SH, a record lock", False, lock_sh, by(read_range),
                 True),
                # A lease does not conflict with the locks that are tried.
                ("a lease, twice", False, by(read_lease), by(read_lease),
                 False)):
            with two(path, first, second) as (shares, unmount_first):
                test.equal(shares, expected, f"{what}: shared")
                unmount_first()
                test.equal(is_locked(path), left,
                           f"{what}: locked after the first was unmounted")
            test.check(not is_locked(path), f"{what}: unmounted")


@suite.test("two mounts by the same open file share, with any lock")
def same_open_file(test: ktap.Test) -> None:
    with an_image() as path:
        for what, lock in LOCKS.items():
            if lock is write_range:
                # A file with fs-verity cannot be opened for writing.
                continue
            with opened(path) as fd:
                lock(fd)

                def new(fd: int = fd) -> int:
                    return mounts.new_mount("composefs",
                                            options("image", fd))

                with two(path, new, new) as (shares, unmount_first):
                    test.check(shares, f"{what}: not shared")
                    unmount_first()
                    test.check(is_locked(path), f"{what}: one is left")


@suite.test("mounts of copies with locks do not share")
def copies(test: ktap.Test) -> None:
    with an_image() as path, an_image() as other, \
            mounts.attached(new_mount("source", path, flock_shared)) as top, \
            mounts.attached(new_mount("source", other, flock_shared)) as two_:
        test.check(os.stat(top).st_dev != os.stat(two_).st_dev, "shared")
        test.check(is_locked(path) and is_locked(other), "not locked")


def open_files() -> int:
    return int(Path("/proc/sys/fs/file-nr").read_text("ascii").split()[0])


@suite.test(f"{MANY} mounts that share keep one file")
def bounded(test: ktap.Test) -> None:
    with an_image() as path, ExitStack() as stack:
        stack.enter_context(mounts.attached(
            new_mount("image", path, flock_shared)))
        before = open_files()
        for _ in range(MANY):
            os.close(new_mount("image", path, flock_shared))
        kept = open_files() - before
        test.check(kept < MANY / 2, f"{kept} files were kept")


@suite.test("the file system of the image: busy while it is mounted")
def busy(test: ktap.Test) -> None:
    data = Path(matrix_image.image().path).read_bytes()
    with mounts.directory() as top:
        mounts.mount("tmpfs", top, "tmpfs")
        image = Path(top, "image")
        image.write_bytes(data)
        fd = new_mount("image", str(image), flock_shared, os.O_RDWR)
        test.fails(errno.EBUSY, "umount", mounts.umount, top)
        test.fails(errno.EBUSY, "read-only, with a file open for writing",
                   mounts.mount, None, top, None,
                   mounts.MS_REMOUNT | mounts.MS_RDONLY)
        os.close(fd)
        fd = new_mount("image", str(image), flock_shared)
        test.fails(None, "read-only, with a file open for reading",
                   mounts.mount, None, top, None,
                   mounts.MS_REMOUNT | mounts.MS_RDONLY)
        os.close(fd)
        test.fails(None, "umount afterwards", mounts.umount, top)


def references() -> int:
    """References to the module. A context has one."""
    module.require_loaded()
    return int(Path("/sys/module/composefs/refcnt").read_text("ascii"))


@suite.test("files that are no data are not kept: no cycles")
def cycles(test: ktap.Test) -> None:
    before = references()
    for key in KEYS:
        with Context.open("composefs") as context:
            context.set(key, context.fd)
        test.equal(references(), before, f"{key}: a context in itself")
        one, other = socket.socketpair()
        with one, other, Context.open("composefs") as context:
            socket.send_fds(one, [b"x"], [context.fd])
            context.set(key, other.fileno())
        # The collector of sockets in flight runs when a socket is closed.
        for _ in range(50):
            for end in socket.socketpair():
                end.close()
            if references() == before:
                break
            time.sleep(0.1)
        test.equal(references(), before, f"{key}: a socket")
        ring = uring.Ring()
        with Context.open("composefs") as context:
            ring.register_files([context.fd])
            context.set(key, ring.fd)
        ring.close()
        for _ in range(50):
            if references() == before:
                break
            time.sleep(0.1)
        test.equal(references(), before, f"{key}: io_uring")


# The holder of a lease is told when others want to write.
signal.signal(signal.SIGIO, signal.SIG_IGN)
fixtures.require()
objects.require_verity()
suite.run()
