#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""inotify(7) and fanotify(7) on files of a mount.

events_store.py has listeners on the objects.
"""

from __future__ import annotations

import errno
import mmap
import os
import subprocess

from lib import (fixtures, handles, ktap, mounts, notify, permission_listener,
                 reference, special_image)
from lib.files import opened
from lib.notify import Event, Inotify
from lib.permission_listener import FAN_ALLOW, FAN_DENY

suite = ktap.Suite()

FILES = (special_image.LARGE, "sizes/64")


def use(path: str) -> None:
    """Opens a file, reads once, closes it."""
    with opened(path) as fd:
        os.read(fd, 100)


@suite.test("inotify on a file: open, access, close")
def file(test: ktap.Test) -> None:
    with special_image.mounted() as top:
        for name in FILES:
            watch = Inotify()
            watch.watch(f"{top}/{name}", 0xfff)
            use(f"{top}/{name}")
            test.equal([mask for mask, _ in watch.events()],
                       [notify.IN_OPEN, notify.IN_ACCESS,
                        notify.IN_CLOSE_NOWRITE], name)
            with opened(f"{top}/{name}") as fd, mmap.mmap(
                    fd, 0, mmap.MAP_SHARED, mmap.PROT_READ) as view:
                test.check(view[:1], f"{name}: an empty mapping")
            test.equal({mask for mask, _ in watch.events()} -
                       {notify.IN_OPEN, notify.IN_ACCESS,
                        notify.IN_CLOSE_NOWRITE}, set(), f"{name}, mapped")
            os.close(watch.fd)


@suite.test("inotify on a directory: events of the directory and of its files")
def directory(test: ktap.Test) -> None:
    with special_image.mounted() as top:
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
        test.equal(watch.events(), [], "events of refused writes")
        os.close(watch.fd)


@suite.test("inotify on an object: the same events as with overlayfs")
def on_object(test: ktap.Test) -> None:
    reference.require_support()
    found = []
    with special_image.mounted() as top, \
            reference.mount(special_image.image()) as their_top:
        for where in (top, their_top):
            watch = Inotify()
            watch.watch(special_image.object_path(special_image.LARGE), 0xfff)
            use(f"{where}/{special_image.LARGE}")
            found.append(watch.events())
            os.close(watch.fd)
    test.equal(found[0], found[1], "events")


def stat_by_handle(mount: int, event: Event) -> os.stat_result:
    assert event.file
    fd = handles.open_by(mount, event.file)
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


@suite.test("fanotify on the file system: events with file handles")
def by_handle(test: ktap.Test) -> None:
    with special_image.mounted() as top, opened(top) as mount:
        for name in FILES:
            with notify.fanotify(top, notify.FAN_OPEN | notify.FAN_ACCESS
                                 | notify.FAN_CLOSE_NOWRITE) as fd:
                use(f"{top}/{name}")
                found = notify.events(fd)
            seen = 0
            for event in found:
                seen |= event.mask
                test.equal(stat_by_handle(mount, event).st_ino,
                           os.stat(f"{top}/{name}").st_ino, f"{name}: inode")
            test.equal(seen, notify.FAN_OPEN | notify.FAN_ACCESS
                       | notify.FAN_CLOSE_NOWRITE, f"{name}: events")


@suite.test("fanotify: events with directory and name")
def by_name(test: ktap.Test) -> None:
    with special_image.mounted() as top, opened(top) as mount, notify.fanotify(
            top, notify.FAN_OPEN | notify.FAN_ONDIR,
            notify.FAN_REPORT_FID | notify.FAN_REPORT_DFID_NAME) as fd:
        use(f"{top}/hardlinks/b/file")
        found = notify.events(fd)
        test.equal(len(found), 1, "events")
        for event in found:
            test.equal(event.name, b"file", "name")
            test.equal(stat_by_handle(mount, event).st_ino,
                       os.stat(f"{top}/hardlinks/b/file").st_ino, "file")
            parent = stat_by_handle(mount,
                                    event._replace(file=event.directory))
            test.equal(parent.st_ino, os.stat(f"{top}/hardlinks/b").st_ino,
                       "directory")


@suite.test("fanotify on a mount: FAN_OPEN_EXEC")
def executed(test: ktap.Test) -> None:
    image = fixtures.named("debian-v0")
    with mounts.composefs(image.path, image.objects) as top, notify.fanotify(
            top, notify.FAN_OPEN_EXEC, 0, notify.FAN_MARK_MOUNT) as fd:
        subprocess.run([f"{top}/usr/bin/true"], check=True)
        test.check(any(event.mask & notify.FAN_OPEN_EXEC
                       for event in notify.events(fd)), "no event")


def check_permission(test: ktap.Test, where: str, top: str, answer: int,
                     expected: int | None) -> None:
    """Opens a file while a listener on `where` allows or denies that."""
    with permission_listener.listening(
            where, notify.FAN_OPEN_PERM,
            {notify.FAN_OPEN_PERM: answer}) as requests:
        what = "allowed" if answer == FAN_ALLOW else "denied"
        test.fails(expected, what, use, f"{top}/{special_image.LARGE}")
        test.check(requests.count() > 0, f"{what}: no permission event")


@suite.test("a listener on the mount allows or denies open(2)")
def listener_on_mount(test: ktap.Test) -> None:
    with special_image.mounted() as top:
        check_permission(test, top, top, FAN_ALLOW, None)
        check_permission(test, top, top, FAN_DENY, errno.EPERM)


@suite.test("a permission listener on the store does not block reads")
def listener_on_store(test: ktap.Test) -> None:
    root = str(fixtures.top())
    with special_image.mounted() as top:
        check_permission(test, root, top, FAN_ALLOW, None)
        for how in ("read", "mmap"):
            with opened(f"{top}/{special_image.LARGE}") as fd:
                if how == "read":
                    test.check(os.pread(fd, 10, 0), how)
                else:
                    with mmap.mmap(fd, 0, mmap.MAP_SHARED,
                                   mmap.PROT_READ) as view:
                        test.check(view[:10], how)


fixtures.require()
mounts.require_root()
suite.run()
