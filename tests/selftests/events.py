#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""inotify(7) and fanotify(7): events are those of the file that was used."""

from __future__ import annotations

import errno
import mmap
import os
import struct
import subprocess
import threading

from lib import fixtures, handles, ktap, mounts, notify, reference, special
from lib.notify import Event, Inotify
from lib.special import opened

suite = ktap.Suite()

FILES = (special.LARGE, "sizes/64")
FAN_ALLOW, FAN_DENY = 1, 2


def use(path: str) -> None:
    """Opens a file, reads once, closes it."""
    with opened(path) as fd:
        os.read(fd, 100)


@suite.test("inotify on a file: open, access, close")
def file(test: ktap.Test) -> None:
    with special.mounted() as top:
        for name in FILES:
            watch = Inotify()
            watch.watch(f"{top}/{name}", 0xfff)
            use(f"{top}/{name}")
            test.equal([mask for mask, _ in watch.events()],
                       [notify.IN_OPEN, notify.IN_ACCESS,
                        notify.IN_CLOSE_NOWRITE], name)
            with opened(f"{top}/{name}") as fd, mmap.mmap(
                    fd, 0, mmap.MAP_SHARED, mmap.PROT_READ) as view:
                test.check(view[:1], f"{name}: empty")
            test.equal({mask for mask, _ in watch.events()} -
                       {notify.IN_OPEN, notify.IN_ACCESS,
                        notify.IN_CLOSE_NOWRITE}, set(), f"{name}, mapped")
            os.close(watch.fd)


@suite.test("inotify on a directory: its own events and those in it")
def directory(test: ktap.Test) -> None:
    with special.mounted() as top:
        watch = Inotify()
        watch.watch(f"{top}/sizes", 0xfff)
        use(f"{top}/sizes/4097")
        test.equal(watch.events(), [(mask, b"4097") for mask in (
            notify.IN_OPEN, notify.IN_ACCESS, notify.IN_CLOSE_NOWRITE)],
            "a file in it")
        with opened(f"{top}/sizes") as fd:
            os.listdir(fd)
        found = watch.events()
        test.check({mask & ~notify.IN_ISDIR for mask, _ in found} >=
                   {notify.IN_OPEN, notify.IN_ACCESS,
                    notify.IN_CLOSE_NOWRITE} and
                   all(mask & notify.IN_ISDIR for mask, _ in found),
                   f"a listing: {found}")
        for call in (lambda: os.chmod(f"{top}/sizes/1", 0o600),
                     lambda: os.unlink(f"{top}/sizes/1"),
                     lambda: os.mkdir(f"{top}/sizes/new")):
            test.fails(errno.EROFS, "a write", call)
        test.equal(watch.events(), [], "what was refused")
        os.close(watch.fd)


@suite.test("who watches an object sees what it would see below overlayfs")
def on_object(test: ktap.Test) -> None:
    reference.require_support()
    found = []
    with special.mounted() as top, \
            reference.mount(special.image()) as their_top:
        for where in (top, their_top):
            watch = Inotify()
            watch.watch(special.object_path(special.LARGE), 0xfff)
            use(f"{where}/{special.LARGE}")
            found.append(watch.events())
            os.close(watch.fd)
    test.equal(found[0], found[1], "events")


def opened_by(mount: int, event: Event) -> os.stat_result:
    assert event.file
    fd = handles.open_by(mount, event.file)
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


@suite.test("fanotify on the file system: handles of the files")
def by_handle(test: ktap.Test) -> None:
    with special.mounted() as top, opened(top) as mount:
        for name in FILES:
            with notify.fanotify(top, notify.FAN_OPEN | notify.FAN_ACCESS
                                 | notify.FAN_CLOSE_NOWRITE) as fd:
                use(f"{top}/{name}")
                found = notify.events(fd)
            seen = 0
            for event in found:
                seen |= event.mask
                test.equal(opened_by(mount, event).st_ino,
                           os.stat(f"{top}/{name}").st_ino, f"{name}: inode")
            test.equal(seen, notify.FAN_OPEN | notify.FAN_ACCESS
                       | notify.FAN_CLOSE_NOWRITE, f"{name}: events")


@suite.test("fanotify with directory and name")
def by_name(test: ktap.Test) -> None:
    with special.mounted() as top, opened(top) as mount, notify.fanotify(
            top, notify.FAN_OPEN | notify.FAN_ONDIR,
            notify.FAN_REPORT_FID | notify.FAN_REPORT_DFID_NAME) as fd:
        use(f"{top}/hardlinks/b/file")
        found = notify.events(fd)
        test.equal(len(found), 1, "events")
        for event in found:
            test.equal(event.name, b"file", "name")
            test.equal(opened_by(mount, event).st_ino,
                       os.stat(f"{top}/hardlinks/b/file").st_ino, "file")
            parent = opened_by(mount, event._replace(file=event.directory))
            test.equal(parent.st_ino, os.stat(f"{top}/hardlinks/b").st_ino,
                       "directory")


@suite.test("fanotify on a mount, and executing")
def executed(test: ktap.Test) -> None:
    image = fixtures.named("debian-v0")
    with mounts.composefs(image.path, image.objects) as top, notify.fanotify(
            top, notify.FAN_OPEN_EXEC, 0, notify.FAN_MARK_MOUNT) as fd:
        subprocess.run([f"{top}/usr/bin/true"], check=True)
        test.check(any(event.mask & notify.FAN_OPEN_EXEC
                       for event in notify.events(fd)), "no event")


def answer(fd: int, response: int, asked: list[int]) -> None:
    """Answers what is asked until it is told to stop by an empty file."""
    while True:
        try:
            data = os.read(fd, 4096)
        except OSError:
            return
        at = 0
        while at < len(data):
            length, _, _, _, mask, number, _ = struct.unpack_from(
                "=IBBHQii", data, at)
            at += length
            asked.append(mask)
            last = os.fstat(number).st_size == 0
            os.write(fd, struct.pack("=iI", number, response))
            os.close(number)
            if last:
                return


def permission(test: ktap.Test, where: str, top: str, response: int,
               expected: int | None, what: str) -> None:
    fd = notify.libc.fanotify_init(notify.FAN_CLASS_CONTENT
                                   | notify.FAN_CLOEXEC, os.O_RDONLY)
    asked: list[int] = []
    listener = threading.Thread(target=answer, args=(fd, response, asked))
    try:
        if notify.libc.fanotify_mark(
                fd, notify.FAN_MARK_ADD | notify.FAN_MARK_FILESYSTEM,
                notify.ctypes.c_ulong(notify.FAN_OPEN_PERM), mounts.AT_FDCWD,
                os.fsencode(where)):
            raise ktap.Skipped("the kernel has no permission events")
        listener.start()
        test.fails(expected, what, use, f"{top}/{special.LARGE}")
        try:
            use(f"{where}/sizes/0" if where == top else
                f"{fixtures.top()}/trees/special/sizes/0")
        except PermissionError:
            pass
        listener.join()
        test.check(asked, f"{what}: nobody was asked")
    finally:
        os.close(fd)


@suite.test("a listener is asked for permission to open a file")
def asked_for_file(test: ktap.Test) -> None:
    with special.mounted() as top:
        permission(test, top, top, FAN_ALLOW, None, "allowed")
        permission(test, top, top, FAN_DENY, errno.EPERM, "denied")


@suite.test("a listener on the store does not keep a file from being read")
def asked_for_object(test: ktap.Test) -> None:
    root = str(fixtures.top())
    with special.mounted() as top:
        permission(test, root, top, FAN_ALLOW, None, "allowed")
        for how in ("read", "mmap"):
            with opened(f"{top}/{special.LARGE}") as fd:
                if how == "read":
                    test.check(os.pread(fd, 10, 0), how)
                else:
                    with mmap.mmap(fd, 0, mmap.MAP_SHARED,
                                   mmap.PROT_READ) as view:
                        test.check(view[:10], how)


fixtures.require()
if os.geteuid() != 0:
    ktap.skip_all("only root can mount")
suite.run()
