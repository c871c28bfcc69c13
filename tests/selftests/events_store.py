#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Who listens to the objects sees what it would see below overlayfs."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import (disk, fixtures, handles, kernel_log, ktap, mounts, notify,
                 objects, reference, special)
from lib.notify import Inotify
from lib.special import opened

suite = ktap.Suite()

SMALL, LARGE = "sizes/4097", special.LARGE
TIMES = 5
OPEN, ACCESS, CLOSE = (notify.IN_OPEN, notify.IN_ACCESS,
                       notify.IN_CLOSE_NOWRITE)
PROGRAM = "usr/bin/true"
FAN_ALLOW, FAN_DENY = 1, 2

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
    """The events of each use, by a watch on the object, and then by one on the
    directory that it is in; at last what there is when all is forgotten."""
    found = []
    target = special.object_path(name)
    for where in (target, str(Path(target).parent)):
        disk.forget()
        watch = Inotify()
        watch.watch(where, OPEN | ACCESS | CLOSE)
        for _ in range(TIMES):
            use(path)
            found.append(watch.events())
        disk.forget()
        found.append(watch.events())
        os.close(watch.fd)
    return found


@suite.test("inotify on an object, and on its directory: the same events")
def same(test: ktap.Test) -> None:
    reference.require_support()
    with special.mounted() as top, \
            reference.mount(special.image()) as their_top:
        for use in USES:
            for name in (SMALL, LARGE):
                test.equal(of_object(f"{top}/{name}", name, use),
                           of_object(f"{their_top}/{name}", name, use),
                           f"{name}, {use.__name__}")


def counted(path: str, name: str) -> list[int]:
    """How many opens, reads and closes of an object a listener to the whole
    file system sees."""
    disk.forget()
    counts = [0, 0, 0]
    ours = handles.of(special.object_path(name))
    with notify.fanotify(special.image().objects[0],
                         notify.FAN_OPEN | notify.FAN_ACCESS
                         | notify.FAN_CLOSE_NOWRITE) as fd:
        for times in range(TIMES + 1):
            if times < TIMES:
                read(path)
            else:
                disk.forget()
            for event in notify.events(fd):
                # erofs reads the image as others read a file.
                if event.file != ours:
                    continue
                for at, bit in enumerate((OPEN, ACCESS, CLOSE)):
                    counts[at] += bool(event.mask & bit)
    return counts


@suite.test("fanotify on the file system: an open, a read and a close each")
def file_system(test: ktap.Test) -> None:
    reference.require_support()
    with special.mounted() as top, \
            reference.mount(special.image()) as their_top:
        for name in (SMALL, LARGE):
            theirs = counted(f"{their_top}/{name}", name)
            test.equal(theirs, [TIMES] * 3, f"{name}, overlayfs")
            test.equal(counted(f"{top}/{name}", name), theirs, name)


@suite.test("who begins to listen later is told of what comes then")
def later(test: ktap.Test) -> None:
    with special.mounted() as top:
        for name in (SMALL, LARGE):
            path = f"{top}/{name}"
            for _ in range(3):
                read(path)
            watch = Inotify()
            with opened(path) as fd:
                os.pread(fd, 10, 0)
                watch.watch(special.object_path(name), OPEN | ACCESS | CLOSE)
                os.pread(fd, 10, 0)
                test.check(ACCESS in [mask for mask, _ in watch.events()],
                           f"{name}: no access by who had it open")
            watch.events()
            read(path)
            test.equal([mask for mask, _ in watch.events()],
                       [OPEN, ACCESS, CLOSE], f"{name}: an open later")
            os.close(watch.fd)
            disk.forget()


@suite.test("what is read after who listened has gone is nobody's business")
def gone(test: ktap.Test) -> None:
    path = special.object_path(SMALL)
    with special.mounted() as top:
        for _ in range(3):
            read(f"{top}/{SMALL}")
        other, watch = Inotify(), Inotify()
        # Other listeners keep the file system watched.
        other.watch(special.object_path(LARGE), OPEN)
        watch.watch(str(Path(path).parent), OPEN)
        read(f"{top}/{SMALL}")
        test.equal(len(watch.events()), 1, "opens that are seen")
        os.close(watch.fd)
        for _ in range(3):
            test.fails(None, "read", read, f"{top}/{SMALL}")
        test.equal(other.events(), [], "of another object")
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


@suite.test("who watches an object or its directory keeps nobody from mmap(2)")
def watch_after_open(test: ktap.Test) -> None:
    with special.mounted() as top:
        for name in (SMALL, LARGE):
            target = special.object_path(name)
            # The first open of a file opens its object, later ones do not.
            read(f"{top}/{name}")
            for where in (target, str(Path(target).parent)):
                with opened(f"{top}/{name}") as fd:
                    watch = Inotify()
                    watch.watch(where, notify.IN_ALL_EVENTS)
                    try:
                        with mmap.mmap(fd, 0, mmap.MAP_SHARED,
                                       mmap.PROT_READ) as memory:
                            test.equal(memory[:1], special.data(name)[:1],
                                       f"{name}, a watch of {where}")
                    finally:
                        os.close(watch.fd)


@suite.test("execve(2): FAN_OPEN_EXEC of the object")
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


class Guard:
    """A process that answers what it is asked, and notes what that was."""

    def __init__(self, path: str, mask: int, answers: dict[int, int]) -> None:
        # Executing means mapping, too: only what is asked is answered.
        self.fd = notify.libc.fanotify_init(
            notify.FAN_CLASS_CONTENT | notify.FAN_CLOEXEC, os.O_RDONLY)
        if notify.libc.fanotify_mark(
                self.fd, notify.FAN_MARK_ADD, ctypes.c_ulong(mask),
                mounts.AT_FDCWD, os.fsencode(path)):
            os.close(self.fd)
            raise ktap.Skipped("the kernel has no permission events")
        self.notes, notes = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                while True:
                    self.answer(answers, notes)
            finally:
                os._exit(1)
        os.close(notes)

    def answer(self, answers: dict[int, int], notes: int) -> None:
        data, at = os.read(self.fd, 4096), 0
        while at < len(data):
            length, _, _, _, mask, file, _ = struct.unpack_from(
                "=IBBHQii", data, at)
            at += length
            os.write(notes, struct.pack("=Q", mask))
            os.write(self.fd, struct.pack("=iI", file,
                                          answers.get(mask, FAN_ALLOW)))
            os.close(file)

    def end(self) -> list[int]:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)
        with open(self.notes, "rb") as file:
            data = file.read()
        return [mask for mask, in struct.iter_unpack("=Q", data)]


@contextmanager
def guarded(path: str, mask: int,
            answers: dict[int, int]) -> Iterator[list[int]]:
    """What somebody is asked meanwhile, when the context has ended."""
    guard = Guard(path, mask, answers)
    asked: list[int] = []
    try:
        yield asked
    finally:
        asked += guard.end()


@suite.test("execve(2): who is asked for permission can refuse")
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
                    disk.forget()
                program = f"{where}/{PROGRAM}"
                said = f"{what}, {'warm' if warm else 'cold'}"
                with guarded(target, notify.FAN_OPEN_EXEC_PERM,
                             {notify.FAN_OPEN_EXEC_PERM: FAN_DENY}) as asked:
                    test.equal(run(program), "EPERM", f"{said}: refused")
                    test.fails(None, f"{said}: read", read, program)
                test.equal(asked, [notify.FAN_OPEN_EXEC_PERM],
                           f"{said}: what was asked")
                with guarded(target, both, {}) as asked:
                    test.equal(run(program), "status 0", f"{said}: allowed")
                test.equal(asked[:2], [notify.FAN_OPEN_EXEC_PERM,
                                       notify.FAN_OPEN_PERM],
                           f"{said}: both were asked")


@suite.test("open(2) that is refused: its error, no fault of the object")
def refused(test: ktap.Test) -> None:
    kernel_log.forget_limits()
    with special.mounted() as top:
        for name in (SMALL, LARGE):
            for warm in (False, True):
                if not warm:
                    disk.forget()
                what = f"{name}, {'warm' if warm else 'cold'}"
                with kernel_log.watch() as lines:
                    with guarded(special.object_path(name),
                                 notify.FAN_OPEN_PERM,
                                 {notify.FAN_OPEN_PERM: FAN_DENY}) as asked:
                        test.fails(errno.EPERM, what, only_open,
                                   f"{top}/{name}")
                    test.equal(len(asked), 1, f"{what}: questions")
                    for _ in range(3):
                        test.fails(None, f"{what}: then", read,
                                   f"{top}/{name}")
                test.equal([line for line in lines if "composefs" in line],
                           [], f"{what}: the log")


@suite.test("read(2) that is refused")
def read_refused(test: ktap.Test) -> None:
    with special.mounted() as top:
        for name in (SMALL, LARGE):
            for _ in range(3):
                read(f"{top}/{name}")
            with guarded(special.object_path(name), notify.FAN_ACCESS_PERM,
                         {notify.FAN_ACCESS_PERM: FAN_DENY}):
                with opened(f"{top}/{name}") as fd:
                    test.fails(errno.EPERM, name, os.read, fd, 10)
            test.fails(None, f"{name}: then", read, f"{top}/{name}")


@suite.test("an image is opened and closed by its mount")
def of_image(test: ktap.Test) -> None:
    with tempfile.TemporaryDirectory(dir=fixtures.SCRATCH) as work:
        image = Path(work, "image")
        image.write_bytes(Path(special.image().path).read_bytes())
        watch = Inotify()
        watch.watch(str(image), OPEN | CLOSE)
        with mounts.composefs(str(image), special.image().objects) as top:
            os.listdir(top)
            test.equal([mask for mask, _ in watch.events()], [OPEN], "mounted")
        disk.forget()
        test.equal([mask for mask, _ in watch.events()], [CLOSE], "unmounted")
        os.close(watch.fd)


fixtures.require()
if os.geteuid() != 0:
    ktap.skip_all("only root can mount")
suite.run()
