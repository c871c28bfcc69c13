#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Fault injection: each allocation of mounting and of loading the module
fails.

Each time the call succeeds or returns an error, and another mount succeeds.
fail_nth.py has system calls on a mounted image.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib import (fail_nth, fixtures, ktap, leaks, matrix_image, module, mounts,
                 objects, syscalls)
from lib.fail_nth import Injector, Tally, injector
from lib.files import opened
from lib.mounts import Context, Options, libc

suite = ktap.Suite()

ENOMEM, EINVAL = errno.ENOMEM, errno.EINVAL
# clone_private_mount() returns EINVAL if it cannot allocate memory, too.
OF_MOUNT = (None, ENOMEM, EINVAL)


def pinned() -> Options:
    return matrix_image.options(("digest", matrix_image.image().digest))


def check_detached(test: ktap.Test, fd: int, what: str) -> None:
    """Attaches a detached mount, reads it, and unmounts it."""
    with mounts.attached(fd) as top:
        matrix_image.check(test, top, what)


Step = Callable[[Context], Any]
CREATE = "FSCONFIG_CMD_CREATE"


def steps() -> dict[str, Step]:
    def setting(key: str, value: mounts.Value) -> Step:
        return lambda context: context.set(key, value)
    found: dict[str, Step] = {
        f"fsconfig {key}": setting(key, value) for key, value in pinned()}
    found["fsconfig verity"] = setting("verity", None)
    found[CREATE] = Context.create
    found["fsmount"] = Context.mount
    return found


def check_step(test: ktap.Test, name: str) -> None:
    """Injects faults into one step of a mount."""
    tally = Tally(name)
    all_steps = steps()
    before = [all_steps[key] for key in all_steps
              if list(all_steps).index(key) < list(all_steps).index(name)]
    contexts: list[Context] = []

    def prepare() -> Callable[[], Any]:
        context = Context.open("composefs")
        contexts.append(context)
        for step in before:
            step(context)
        return lambda: all_steps[name](context)

    with injector() as inject:
        for outcome in inject.each(prepare):
            tally.add(outcome)
            context = contexts.pop()
            with context:
                test.check(outcome.error in (
                    OF_MOUNT if name == CREATE else (None, ENOMEM)),
                           f"{name}: {outcome}")
                if outcome.error is None and name == "fsmount":
                    check_detached(test, outcome.result, name)
            check_detached(test, mounts.new_mount("composefs", pinned()),
                           f"{name}: another mount")
    tally.report(test)


for a_name in steps():
    suite.add(f"mounting: {a_name}",
              lambda test, name=a_name: check_step(test, name))


def check_passed_step(test: ktap.Test, name: str, image: str) -> None:
    """Injects faults into one step of a mount with a label, whose image and
    directory are passed as open files. The lock on the image is gone when the
    mount has failed, and when it is unmounted."""
    tally = Tally(name)
    held: list[tuple[Context, int]] = []

    def prepare() -> Callable[[], Any]:
        context, fd = Context.open("composefs"), os.open(image, os.O_RDONLY)
        held.append((context, fd))
        fcntl.flock(fd, fcntl.LOCK_SH)
        all_steps: dict[str, Callable[[], Any]] = {
            "source": lambda: context.set("source", "a label"),
            "image": lambda: context.set("image", fd),
            "basedir": lambda: context.set("basedir", basedir),
            CREATE: context.create,
            "fsmount": context.mount,
        }
        for step in list(all_steps)[:list(all_steps).index(name)]:
            all_steps[step]()
        return all_steps[name]

    with opened(matrix_image.image().objects[0], os.O_PATH) as basedir, \
            injector() as inject:
        for outcome in inject.each(prepare):
            tally.add(outcome)
            test.check(outcome.error in (
                OF_MOUNT if name == CREATE else (None, ENOMEM)),
                       f"{name}: {outcome}")
            context, fd = held.pop()
            os.close(fd)
            with context:
                if outcome.error is None and name == "fsmount":
                    check_detached(test, outcome.result, name)
            with opened(image) as other:
                test.fails(None, f"{name}: {outcome}: a lock", fcntl.flock,
                           other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    tally.report(test)


def check_passed(test: ktap.Test, name: str) -> None:
    data = Path(matrix_image.image().path).read_bytes()
    with objects.store() as work:
        check_passed_step(test, name, str(work.verified("image", data)))


for a_name in ("source", "image", "basedir", CREATE, "fsmount"):
    suite.add(f"mounting by open files: {a_name}",
              lambda test, name=a_name: check_passed(test, name))


@suite.test("mounting: fsopen, and closing the context")
def open_context(test: ktap.Test) -> None:
    tally = Tally("fsopen")
    with injector() as inject:
        for outcome in inject.each(lambda: lambda: Context.open("composefs")):
            tally.add(outcome)
            test.check(outcome.error in (None, ENOMEM), f"{outcome}")
            if outcome.error is None:
                os.close(outcome.result.fd)
    tally.report(test)


@suite.test("mounting: mount(2), and umount(2)")
def by_mount(test: ktap.Test) -> None:
    image = matrix_image.image()
    data = f"basedir={image.objects[0]},digest={image.digest}"
    tally = Tally("mount")
    with injector() as inject, mounts.directory() as top:
        for outcome in inject.each(lambda: lambda: mounts.mount(
                image.path, top, "composefs", 0, data)):
            tally.add(outcome)
            test.check(outcome.error in OF_MOUNT, f"mount: {outcome}")
            if outcome.error is None:
                mounts.umount(top)
        tally.report(test)
        tally = Tally("umount")

        def prepare() -> Callable[[], Any]:
            if not os.path.ismount(top):
                mounts.mount(image.path, top, "composefs", 0, data)
            matrix_image.check(test, top, "mounted")
            return lambda: mounts.umount(top)
        for outcome in inject.each(prepare):
            tally.add(outcome)
            test.check(outcome.error in (None, ENOMEM), f"umount: {outcome}")
        tally.report(test)
        if os.path.ismount(top):
            mounts.umount(top)


@suite.test("mounting: remount, and showing the options")
def changed(test: ktap.Test) -> None:
    def show() -> mounts.Info:
        return mounts.info(top)

    def change() -> None:
        with Context.pick(top) as context:
            context.set("ro")
            context.reconfigure()

    with injector() as inject, mounts.mounted("composefs", pinned()) as top:
        shown = show()
        for call in (show, change):
            tally = Tally(call.__name__)
            for outcome in inject.each(lambda call=call: call):
                tally.add(outcome)
                test.check(outcome.error in (None, ENOMEM),
                           f"{call.__name__}: {outcome}")
                test.equal(show(), shown, "options")
            tally.report(test)
        matrix_image.check(test, top, "afterwards")


def module_path() -> str:
    """The path of the module that modprobe(8) loads."""
    output = subprocess.run(["modprobe", "--show-depends", "composefs"],
                            capture_output=True, text=True, check=False).stdout
    found = re.findall(r"(/\S+\.ko)\b", output)
    if not found:
        raise ktap.Skipped(f"composefs is not a module: {output!r}")
    return str(found[-1])


def load(fd: int) -> None:
    if libc.syscall(syscalls.number("finit_module"), fd, b"", 0):
        raise OSError(ctypes.get_errno(), "finit_module")


def remove() -> None:
    if libc.syscall(syscalls.number("delete_module"), b"composefs",
                    os.O_NONBLOCK):
        raise OSError(ctypes.get_errno(), "delete_module")


@suite.test("the module: loading and unloading")
def loading(test: ktap.Test) -> None:
    tally = Tally("finit_module")
    with opened(module_path()) as fd:
        module.unload()
        test.equal(module.slab_caches(), [], "slab caches without the module")
        try:
            with injector() as inject:
                for outcome in inject.each(lambda: lambda: load(fd),
                                           first_of_module(inject, fd)):
                    tally.add(outcome)
                    if outcome.error is None:
                        remove()
                    test.equal(module.slab_caches(), [],
                               f"slab caches after {outcome}")
            tally.report(test)
            test.equal(set(tally.outcomes) - {"ENOMEM", "success"}, set(),
                       "other errors")
            load(fd)
            with injector() as inject:
                for outcome in inject.each(lambda: remove):
                    test.check(outcome.error in (None, ENOMEM), f"{outcome}")
                    if outcome.error is None:
                        load(fd)
            remove()
        finally:
            module.load()
    check_detached(test, mounts.new_mount("composefs", pinned()), "afterwards")


# The number of allocations of the module loader that are tried, too.
LOADER = 20


def first_of_module(inject: Injector, fd: int) -> int:
    """The number of the first allocation to try: loading ends with those of
    the module itself. Earlier ones of the loader must not fail: where it
    defines trace events, the kernel warns if there is no memory."""
    made = []
    for _ in range(3):
        made.append(inject.count(lambda: load(fd)))
        remove()
    # Registration makes some 40 allocations. The first time, caches may need
    # some more.
    return max(min(made) - 60 - LOADER, 1)


@suite.test("at the end no mount and no inode is left")
def in_the_end(test: ktap.Test) -> None:
    leaks.check_none(test)
    test.note(f"figure: faults injected, mounting = {fail_nth.total}")


fixtures.require()
mounts.require_root()
fail_nth.require()
suite.run()
