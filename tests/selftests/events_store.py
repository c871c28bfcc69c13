#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""inotify(7) and fanotify(7) on the objects: the same events as with
overlayfs.
"""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from lib import (caches, fixtures, handles, kernel_log, ktap, mounts, notify,
                 objects, permission_listener, reference, special_image)
from lib.files import opened
from lib.notify import Inotify
from lib.permission_listener import FAN_DENY, Requests

suite = ktap.Suite()

SMALL, LARGE = "sizes/4097", special_image.LARGE
TIMES = 5
OPEN, ACCESS, CLOSE = (notify.IN_OPEN, notify.IN_ACCESS,
                       notify.IN_CLOSE_NOWRITE)
PROGRAM = "usr/bin/true"

Use = Callable[[str], None]


def read(path: str) -> None:
    with opened(path) as fd:
        os.read(fd, 2 << 20)


def send(path: str) -> None:
    with opened(path) as fd, opened("/dev/null", os.O_WRONLY) as null:
        os.sendfile(null, fd, 0, 4096)


def view(path: str) -> None:
    with opened(path) as fd, mmap.mmap(fd, 0, mmap.MAP_SHARED,
                                       mmap.PROT_READ) as memory:
        assert memory[:1] is not None


def only_open(path: str) -> None:
    with opened(path):
        pass


USES: tuple[Use, ...] = (read, send, view, only_open)


def of_object(path: str, name: str, use: Use) -> list[list[tuple[int, bytes]]]:
    """The events of each use of a file, and of drop_caches afterwards: first
    with a watch on the object, then with one on its directory."""
    found = []
    target = special_image.object_path(name)
    for where in (target, str(Path(target).parent)):
        caches.drop_all()
        watch = Inotify()
        watch.watch(where, OPEN | ACCESS | CLOSE)
        for _ in range(TIMES):
            use(path)
            found.append(watch.events())
        caches.drop_all()
        found.append(watch.events())
        os.close(watch.fd)
    return found


@suite.test(
    "inotify on an object and on its directory: the same events as overlayfs"
)
def same(test: ktap.Test) -> None:
    reference.require_support()
    with special_image.mounted() as top, \
            reference.mount(special_image.image()) as their_top:
        for use in USES:
            for name in (SMALL, LARGE):
                test.equal(of_object(f"{top}/{name}", name, use),
                           of_object(f"{their_top}/{name}", name, use),
                           f"{name}, {use.__name__}")


def counted(path: str, name: str) -> list[int]:
    """The number of opens, accesses and closes of an object that a listener on
    its file system sees."""
    caches.drop_all()
    counts = [0, 0, 0]
    ours = handles.of(special_image.object_path(name))
    with notify.fanotify(special_image.image().objects[0],
                         notify.FAN_OPEN | notify.FAN_ACCESS
                         | notify.FAN_CLOSE_NOWRITE) as fd:
        for times in range(TIMES + 1):
            if times < TIMES:
                read(path)
            else:
                caches.drop_all()
            for event in notify.events(fd):
                # erofs reads the image, which is on the same file system.
                if event.file != ours:
                    continue
                for at, bit in enumerate((OPEN, ACCESS, CLOSE)):
                    counts[at] += bool(event.mask & bit)
    return counts


@suite.test(
    "fanotify on the file system: an open, an access and a close per read"
)
def file_system(test: ktap.Test) -> None:
    reference.require_support()
    with special_image.mounted() as top, \
            reference.mount(special_image.image()) as their_top:
        for name in (SMALL, LARGE):
            theirs = counted(f"{their_top}/{name}", name)
            test.equal(theirs, [TIMES] * 3, f"{name}, overlayfs")
            test.equal(counted(f"{top}/{name}", name), theirs, name)


@suite.test("a watch that is added while a file is open sees later events")
def later(test: ktap.Test) -> None:
    with special_image.mounted() as top:
        for name in (SMALL, LARGE):
            path = f"{top}/{name}"
            for _ in range(3):
                read(path)
            watch = Inotify()
            with opened(path) as fd:
                os.pread(fd, 10, 0)
                watch.watch(special_image.object_path(name),
                            OPEN | ACCESS | CLOSE)
                os.pread(fd, 10, 0)
                test.check(ACCESS in [mask for mask, _ in watch.events()],
                           f"{name}: no access event of the open file")
            watch.events()
            read(path)
            test.equal([mask for mask, _ in watch.events()],
                       [OPEN, ACCESS, CLOSE], f"{name}: a later open file")
            os.close(watch.fd)
            caches.drop_all()


@suite.test("after a watch is removed, reads cause no events")
def gone(test: ktap.Test) -> None:
    path = special_image.object_path(SMALL)
    with special_image.mounted() as top:
        for _ in range(3):
            read(f"{top}/{SMALL}")
        other, watch = Inotify(), Inotify()
        # Another watch on the file system stays.
        other.watch(special_image.object_path(LARGE), OPEN)
        watch.watch(str(Path(path).parent), OPEN)
        read(f"{top}/{SMALL}")
        test.equal(len(watch.events()), 1, "open events")
        os.close(watch.fd)
        for _ in range(3):
            test.fails(None, "read", read, f"{top}/{SMALL}")
        test.equal(other.events(), [], "events of another object")
        os.close(other.fd)


def program_object(image: fixtures.Image) -> str:
    data = Path(image.source or "", PROGRAM).read_bytes()
    return f"{image.objects[0]}/" + objects.object_name(
        objects.digest_of(data))


def run(path: str) -> str:
    try:
        return f"status {subprocess.run([path], check=False).returncode}"
    except OSError as error:
        return ktap.errno_name(error.errno)


@suite.test("a watch on an object or its directory does not prevent mmap(2)")
def watch_after_open(test: ktap.Test) -> None:
    with special_image.mounted() as top:
        for name in (SMALL, LARGE):
            target = special_image.object_path(name)
            # The first open(2) of a file opens its object, later ones do not.
            read(f"{top}/{name}")
            for where in (target, str(Path(target).parent)):
                with opened(f"{top}/{name}") as fd:
                    watch = Inotify()
                    watch.watch(where, notify.IN_ALL_EVENTS)
                    try:
                        with mmap.mmap(fd, 0, mmap.MAP_SHARED,
                                       mmap.PROT_READ) as memory:
                            test.equal(memory[:1],
                                       special_image.data(name)[:1],
                                       f"{name}, a watch of {where}")
                    finally:
                        os.close(watch.fd)


@suite.test("execve(2): FAN_OPEN_EXEC on the object")
def executed(test: ktap.Test) -> None:
    image = fixtures.named("debian-v0")
    with mounts.composefs(image.path, image.objects) as top:
        for times in range(3):
            with notify.fanotify(program_object(image), notify.FAN_OPEN_EXEC,
                                 0, 0) as fd:
                read(f"{top}/{PROGRAM}")
                test.equal(notify.events(fd), [], f"{times}: events of a read")
                test.equal(run(f"{top}/{PROGRAM}"), "status 0", f"{times}")
                test.check(any(event.mask & notify.FAN_OPEN_EXEC
                               for event in notify.events(fd)),
                           f"{times}: no event")


def denying(path: str, mask: int) -> AbstractContextManager[Requests]:
    return permission_listener.listening(path, mask, {mask: FAN_DENY}, mark=0)


@suite.test("execve(2): a permission listener on the object can deny it")
def execution_refused(test: ktap.Test) -> None:
    reference.require_support()
    image = fixtures.named("debian-v0")
    target = program_object(image)
    both = notify.FAN_OPEN_PERM | notify.FAN_OPEN_EXEC_PERM
    with mounts.composefs(image.path, image.objects) as top, \
            reference.mount(image) as their_top:
        for what, where in (("composefs", top), ("overlayfs", their_top)):
            for warm in (False, True):
                if not warm:
                    caches.drop_all()
                program = f"{where}/{PROGRAM}"
                said = f"{what}, {'warm' if warm else 'cold'}"
                with denying(target, notify.FAN_OPEN_EXEC_PERM) as requests:
                    test.equal(run(program), "EPERM", f"{said}: denied")
                    test.fails(None, f"{said}: read", read, program)
                test.equal(requests.masks(), [notify.FAN_OPEN_EXEC_PERM],
                           f"{said}: requests")
                with permission_listener.listening(
                        target, both, mark=0) as requests:
                    test.equal(run(program), "status 0", f"{said}: allowed")
                test.equal(requests.masks()[:2],
                           [notify.FAN_OPEN_EXEC_PERM, notify.FAN_OPEN_PERM],
                           f"{said}: requests")


@suite.test("open(2) that a listener denies: EPERM, and no log line")
def refused(test: ktap.Test) -> None:
    kernel_log.reset_ratelimit()
    with special_image.mounted() as top:
        for name in (SMALL, LARGE):
            for warm in (False, True):
                if not warm:
                    caches.drop_all()
                what = f"{name}, {'warm' if warm else 'cold'}"
                with kernel_log.watch() as lines:
                    with denying(special_image.object_path(name),
                                 notify.FAN_OPEN_PERM) as requests:
                        test.fails(errno.EPERM, what, only_open,
                                   f"{top}/{name}")
                    test.equal(requests.count(), 1, f"{what}: requests")
                    for _ in range(3):
                        test.fails(None, f"{what}: allowed", read,
                                   f"{top}/{name}")
                test.equal(kernel_log.of_composefs(lines),
                           [], f"{what}: the log")


@suite.test("read(2) that a listener denies: EPERM")
def read_refused(test: ktap.Test) -> None:
    with special_image.mounted() as top:
        for name in (SMALL, LARGE):
            for _ in range(3):
                read(f"{top}/{name}")
            with denying(special_image.object_path(name),
                         notify.FAN_ACCESS_PERM):
                with opened(f"{top}/{name}") as fd:
                    test.fails(errno.EPERM, name, os.read, fd, 10)
            test.fails(None, f"{name}: allowed", read, f"{top}/{name}")


@suite.test("an image is opened by the mount, and closed by umount")
def of_image(test: ktap.Test) -> None:
    with tempfile.TemporaryDirectory(dir=fixtures.SCRATCH) as work:
        image = Path(work, "image")
        image.write_bytes(Path(special_image.image().path).read_bytes())
        watch = Inotify()
        watch.watch(str(image), OPEN | CLOSE)
        with mounts.composefs(str(image),
                              special_image.image().objects) as top:
            os.listdir(top)
            test.equal([mask for mask, _ in watch.events()], [OPEN], "mounted")
        caches.drop_all()
        test.equal([mask for mask, _ in watch.events()], [CLOSE], "unmounted")
        os.close(watch.fd)


fixtures.require()
mounts.require_root()
suite.run()
