#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Every allocation fails once, of mounting and of loading the module.

For each step the first allocation fails, then the second, until there is none
left. Each time the step is done or an error, and another mount succeeds.
fail_nth.py has what is asked of a mounted image.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import subprocess
from collections.abc import Callable
from typing import Any

from lib import aftermath, fail_nth, fixtures, ktap, matrix, mounts
from lib.aftermath import slab_caches, unload
from lib.fail_nth import Injector, Tally, injector
from lib.mounts import Context, Options, libc
from lib.special import opened

suite = ktap.Suite()

ENOMEM, EINVAL = errno.ENOMEM, errno.EINVAL
# The kernel's clone_private_mount() gives EINVAL for want of memory, too.
OF_MOUNT = (None, ENOMEM, EINVAL)
SYS_FINIT_MODULE, SYS_DELETE_MODULE = 313, 176


def standard() -> Options:
    image = matrix.image()
    return mounts.composefs_options(image.path, image.objects,
                                    ("digest", image.digest))


def is_mounted(test: ktap.Test, fd: int, what: str) -> None:
    """Attaches a mount, looks at it, and gives it up."""
    with mounts.directory() as top:
        mounts.attach(fd, top)
        os.close(fd)
        try:
            matrix.is_right(test, top, what)
        finally:
            mounts.umount(top)


Step = Callable[[Context], Any]
CREATE = "FSCONFIG_CMD_CREATE"


def steps() -> dict[str, Step]:
    def setting(key: str, value: mounts.Value) -> Step:
        return lambda context: context.set(key, value)
    found: dict[str, Step] = {
        f"fsconfig {key}": setting(key, value) for key, value in standard()}
    found["fsconfig verity"] = setting("verity", None)
    found[CREATE] = Context.create
    found["fsmount"] = Context.mount
    return found


def check_step(test: ktap.Test, name: str) -> None:
    """One step of a mount with faults, the others without."""
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
                    is_mounted(test, outcome.result, name)
            is_mounted(test, mounts.new_mount("composefs", standard()),
                       f"{name}: another mount then")
    tally.tell(test)


for a_name in steps():
    suite.add(f"mounting: {a_name}",
              lambda test, name=a_name: check_step(test, name))


@suite.test("mounting: fsopen, and a context that is given up")
def open_context(test: ktap.Test) -> None:
    tally = Tally("fsopen")
    with injector() as inject:
        for outcome in inject.each(lambda: lambda: Context.open("composefs")):
            tally.add(outcome)
            test.check(outcome.error in (None, ENOMEM), f"{outcome}")
            if outcome.error is None:
                os.close(outcome.result.fd)
    tally.tell(test)


@suite.test("mounting: by mount(2), and unmounting")
def by_mount(test: ktap.Test) -> None:
    image = matrix.image()
    data = f"basedir={image.objects[0]},digest={image.digest}"
    tally = Tally("mount")
    with injector() as inject, mounts.directory() as top:
        for outcome in inject.each(lambda: lambda: mounts.mount(
                image.path, top, "composefs", 0, data)):
            tally.add(outcome)
            test.check(outcome.error in OF_MOUNT, f"mount: {outcome}")
            if outcome.error is None:
                mounts.umount(top)
        tally.tell(test)
        tally = Tally("umount")

        def prepare() -> Callable[[], Any]:
            if not os.path.ismount(top):
                mounts.mount(image.path, top, "composefs", 0, data)
            matrix.is_right(test, top, "mounted")
            return lambda: mounts.umount(top)
        for outcome in inject.each(prepare):
            tally.add(outcome)
            test.check(outcome.error in (None, ENOMEM), f"umount: {outcome}")
        tally.tell(test)
        if os.path.ismount(top):
            mounts.umount(top)


@suite.test("mounting: changing a mount, and showing its options")
def changed(test: ktap.Test) -> None:
    def show() -> str:
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            return [line for line in file if f" {top} " in line][0]

    def change() -> None:
        with Context.pick(top) as context:
            context.set("ro")
            context.reconfigure()

    with injector() as inject, mounts.mounted("composefs", standard()) as top:
        shown = show()
        for call in (show, change):
            tally = Tally(call.__name__)
            for outcome in inject.each(lambda call=call: call):
                tally.add(outcome)
                test.check(outcome.error in (None, ENOMEM),
                           f"{call.__name__}: {outcome}")
                test.equal(show(), shown, "options")
            tally.tell(test)
        matrix.is_right(test, top, "then")


def module_path() -> str:
    """The file that modprobe(8) would load."""
    said = subprocess.run(["modprobe", "--show-depends", "composefs"],
                          capture_output=True, text=True, check=False).stdout
    found = re.findall(r"(/\S+\.ko)\b", said)
    if not found:
        raise ktap.Skipped(f"composefs is no module file: {said!r}")
    return str(found[-1])


def load(fd: int) -> None:
    if libc.syscall(SYS_FINIT_MODULE, fd, b"", 0):
        raise OSError(ctypes.get_errno(), "finit_module")


def remove() -> None:
    if libc.syscall(SYS_DELETE_MODULE, b"composefs", os.O_NONBLOCK):
        raise OSError(ctypes.get_errno(), "delete_module")


@suite.test("the module: loading and unloading")
def loading(test: ktap.Test) -> None:
    tally = Tally("finit_module")
    with opened(module_path()) as fd:
        unload()
        test.equal(slab_caches(), [], "caches when it is unloaded")
        try:
            with injector() as inject:
                for outcome in inject.each(lambda: lambda: load(fd),
                                           first_of_module(inject, fd)):
                    tally.add(outcome)
                    if outcome.error is None:
                        remove()
                    test.equal(slab_caches(), [], f"caches after {outcome}")
            tally.tell(test)
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
            subprocess.run(["modprobe", "composefs"], check=True)
    is_mounted(test, mounts.new_mount("composefs", standard()), "then")


# Of the loader's allocations, which are not ours, so many are tried.
LOADER = 20


def first_of_module(inject: Injector, fd: int) -> int:
    """From which allocation on the module's own are among those of loading
    it: they are the last ones."""
    low, high = 1, fail_nth.MOST
    while low < high:
        middle = (low + high) // 2
        outcome = inject.fail(middle, lambda: load(fd))
        if outcome.error is None:
            remove()
        if outcome.injected:
            low = middle + 1
        else:
            high = middle
    # Registering takes some forty.
    return max(low - 60 - LOADER, 1)


@suite.test("in the end nothing is mounted, and the slab is empty")
def in_the_end(test: ktap.Test) -> None:
    aftermath.nothing_is_left(test)
    test.note(f"figure: faults injected, mounting = {fail_nth.total}")


fixtures.require()
if os.geteuid() != 0:
    ktap.skip_all("only root can mount")
fail_nth.require()
suite.run()
