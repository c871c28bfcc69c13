#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Nothing is leaked, as far as kmemleak sees.

For a kernel that was booted with kmemleak=on. What is found must have been
found by a control run, too, which does all but use composefs.
"""

from __future__ import annotations

import errno
import os
import re
import time
from pathlib import Path

from lib import (fail_nth, fixtures, ktap, matrix, module, mounts, objects,
                 questions, slab, special)
from lib.modes import other
from lib.mounts import Context, Options
from lib.questions import Answers
from lib.special import opened

suite = ktap.Suite()

CONTROL = Path("/sys/kernel/debug/kmemleak")
# It reports what has been there for five seconds, and that has not changed
# between two scans.
AGE = 6
SCANS = 2

# fail_nth.py has every allocation; here it is each of so many.
STEP = 3

# A leak is known by the functions that allocated it.
Leak = tuple[str, ...]

# What a control run leaks.
usual: set[Leak] = set()


def command(word: str) -> None:
    CONTROL.write_text(word, encoding="ascii")


def leaks() -> dict[Leak, str]:
    """What is leaked, each kind with the first report of it."""
    slab.drop_caches()
    for _ in range(SCANS):
        time.sleep(AGE)
        command("scan")
    found: dict[Leak, str] = {}
    for report in CONTROL.read_text(encoding="ascii",
                                    errors="replace").split(
                                        "unreferenced object ")[1:]:
        trace = report.partition("backtrace")[2]
        leak = tuple(re.findall(r"(\S+)\+0x", trace)) or (trace.strip(),)
        found.setdefault(leak, report.strip())
    return found


def check(test: ktap.Test) -> int:
    """Tells of each leak that is composefs's; returns how many there are."""
    found = leaks()
    ours = found.keys() - usual
    for leak, report in found.items():
        test.check(leak in usual, report)
    test.note(f"{len(found)} leaks, {len(usual)} without composefs")
    test.check(True, "")
    return len(ours)


def standard(*more: tuple[str, mounts.Value]) -> Options:
    image = matrix.image()
    return mounts.composefs_options(image.path, image.objects, *more)


@suite.test("the control run: all but composefs")
def control(test: ktap.Test) -> None:
    for _ in range(5):
        with objects.store() as store, mounts.mounted(
                "tmpfs", [("source", "control")]) as top:
            matrix.add_to(store)
            Path(top, "file").write_bytes(matrix.data())
            for _ in os.scandir(store.top):
                pass
    usual.update(leaks())
    test.note(f"{len(usual)} leaks: {sorted(usual)}")
    command("clear")
    test.check(True, "")


@suite.test("mounts that succeed, fail, and are given up")
def mounting(test: ktap.Test) -> None:
    image = matrix.image()
    with objects.store() as work:
        data = Path(image.path).read_bytes()
        bad: list[Options] = [
            [("source", f"{work.path}/missing")],
            [("source", str(work.plain("noise", bytes(8192))))],
            [("source", str(work.plain("cut", data[:1152])))],
            [("source", str(work.plain(
                "root", data[:1152] + bytes(len(data) - 1152))))],
            standard(("basedir", "/missing")),
            standard(("digest", "0" * 64)),
            standard(("digest", image.digest), ("noverity", None)),
        ]
        for _ in range(5):
            for options in bad:
                test.check(fails(options), f"{options}: was mounted")
                with Context.open("composefs") as context:
                    for key, value in options:
                        context.set(key, value)
            for good in (standard(), standard(("digest", image.digest))):
                os.close(mounts.new_mount("composefs", good))
                with mounts.mounted("composefs", good) as top, \
                        mounts.mounted("composefs", good) as second, \
                        Context.pick(second) as context:
                    context.reconfigure()
                    matrix.is_right(test, top, "mounted")


def fails(options: Options) -> bool:
    try:
        os.close(mounts.new_mount("composefs", options))
    except OSError:
        return True
    return False


@suite.test("all that can be asked, with empty caches and full ones")
def asking(test: ktap.Test) -> None:
    with special.mounted() as top:
        answers = Answers(top, questions.EVERYTHING)
        for _ in range(3):
            slab.drop_caches()
            answers.check(test, "asked again", "right")
        # Also what is not closed before the mount goes.
        with opened(f"{top}/{special.LARGE}") as fd:
            os.pread(fd, 10, 0)
            mounts.umount(top, mounts.MNT_DETACH)
        fd = mounts.new_mount("tmpfs", [("source", "instead")])
        mounts.attach(fd, top)
        os.close(fd)


@suite.test("objects that are missing, wrong, and put right")
def bad_objects(test: ktap.Test) -> None:
    with objects.store() as store, mounts.composefs(
            matrix.image().path, [store.path]) as top:
        name = matrix.object_name()
        for make in (lambda: None,
                     lambda: store.verified(name, other(matrix.data())),
                     lambda: store.plain(name, matrix.data())):
            make()
            with opened(f"{top}/{matrix.FILE}") as fd:
                test.fails(errno.EIO, "read", os.pread, fd, 10, 0)
        matrix.add_to(store)
        test.check(Path(top, matrix.FILE).read_bytes() == matrix.data(),
                   "put right: another content")


@suite.test("with allocations that fail")
def failing(test: ktap.Test) -> None:
    if not fail_nth.available():
        raise ktap.Skipped("the kernel has no fail-nth")
    injector = fail_nth.Injector()
    try:
        with fail_nth.configured():
            for number in range(1, fail_nth.MOST, STEP):
                outcome = injector.fail(number, mount_and_read)
                test.check(outcome.error is not None
                           or outcome.result == matrix.data(),
                           "another content")
                if not outcome.injected:
                    break
    finally:
        injector.close()
    test.check(injector.injected > 20, f"{injector.injected} faults")


def mount_and_read() -> bytes:
    """From a mount that is nowhere, so that it goes with its descriptor."""
    mount = mounts.new_mount("composefs", standard())
    try:
        fd = os.open(matrix.FILE, os.O_RDONLY, dir_fd=mount)
        try:
            return os.pread(fd, 65536, 0)
        finally:
            os.close(fd)
    finally:
        os.close(mount)


@suite.test("nothing of it is leaked while the module is there")
def none_leaked(test: ktap.Test) -> None:
    check(test)


@suite.test("nor when it is gone")
def none_left(test: ktap.Test) -> None:
    with module.loaded_with():
        pass
    test.note(f"figure: leaks = {check(test)}")


fixtures.require()
objects.require_verity()
if os.geteuid() != 0:
    ktap.skip_all("only root can mount")
try:
    command("scan=off")
except OSError:
    ktap.skip_all("kmemleak is not active: boot a kernel that has it with "
                  "kmemleak=on")
suite.run()
