#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Memory leaks, as kmemleak finds them.

This needs a kernel that was booted with kmemleak=on. A leak counts unless a
control run without composefs leaks the same.
"""

from __future__ import annotations

import errno
import os
import re
import time
from pathlib import Path

from lib import (caches, fail_nth, fixtures, ktap, matrix_image, module,
                 mounts, objects, probes, special_image)
from lib.files import opened
from lib.mounts import Context, Options
from lib.probes import Baseline
from lib.verity_modes import other

suite = ktap.Suite()

CONTROL = Path("/sys/kernel/debug/kmemleak")
# kmemleak reports objects that are five seconds old and unchanged between two
# scans.
AGE = 6
SCANS = 2

# Every STEP-th allocation fails. fail_nth.py makes each of them fail.
STEP = 3

# A leak is identified by the functions of its backtrace.
Leak = tuple[str, ...]

# The leaks of the control run.
control_leaks: set[Leak] = set()


def command(word: str) -> None:
    CONTROL.write_text(word, encoding="ascii")


def leaks() -> dict[Leak, str]:
    """The leaks, each with its first report."""
    caches.drop()
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
    """Checks that there are no leaks but those of the control run. Returns the
    number of others."""
    found = leaks()
    ours = found.keys() - control_leaks
    for leak, report in found.items():
        test.check(leak in control_leaks, report)
    test.note(f"{len(found)} leaks, {len(control_leaks)} without composefs")
    test.check(True, "")
    return len(ours)


@suite.test("the control run, without composefs")
def control(test: ktap.Test) -> None:
    for _ in range(5):
        with objects.store() as store, mounts.mounted(
                "tmpfs", [("source", "control")]) as top:
            matrix_image.add_to(store)
            Path(top, "file").write_bytes(matrix_image.data())
            for _ in os.scandir(store.top):
                pass
    control_leaks.update(leaks())
    test.note(f"{len(control_leaks)} leaks: {sorted(control_leaks)}")
    command("clear")
    test.check(True, "")


@suite.test("mounts that succeed, fail, and are abandoned")
def mounting(test: ktap.Test) -> None:
    image = matrix_image.image()
    with objects.store() as work:
        data = Path(image.path).read_bytes()
        bad: list[Options] = [
            [("source", f"{work.path}/missing")],
            [("source", str(work.plain("noise", bytes(8192))))],
            [("source", str(work.plain("cut", data[:1152])))],
            [("source", str(work.plain(
                "root", data[:1152] + bytes(len(data) - 1152))))],
            matrix_image.options(("basedir", "/missing")),
            matrix_image.options(("digest", "0" * 64)),
            matrix_image.options(("digest", image.digest), ("noverity", None)),
        ]
        for _ in range(5):
            for options in bad:
                test.check(fails(options), f"{options}: the mount succeeded")
                with Context.open("composefs") as context:
                    for key, value in options:
                        context.set(key, value)
            for good in (matrix_image.options(),
                         matrix_image.options(("digest", image.digest))):
                os.close(mounts.new_mount("composefs", good))
                with mounts.mounted("composefs", good) as top, \
                        mounts.mounted("composefs", good) as second, \
                        Context.pick(second) as context:
                    context.reconfigure()
                    matrix_image.check(test, top, "mounted")


def fails(options: Options) -> bool:
    try:
        os.close(mounts.new_mount("composefs", options))
    except OSError:
        return True
    return False


@suite.test("all probes, with and without caches")
def asking(test: ktap.Test) -> None:
    with special_image.mounted() as top:
        baseline = Baseline(top, probes.ALL)
        for _ in range(3):
            caches.drop()
            baseline.check(test, "repeated", "right")
        # Also with a file that stays open when the mount is gone.
        with opened(f"{top}/{special_image.LARGE}") as fd:
            os.pread(fd, 10, 0)
            mounts.umount(top, mounts.MNT_DETACH)
        # Something for the context to unmount.
        mounts.mount_at("tmpfs", [("source", "instead")], top)


@suite.test("objects that are missing, wrong, and repaired")
def bad_objects(test: ktap.Test) -> None:
    with (
        objects.store() as store,
        matrix_image.mounted(basedirs=[store.path]) as top,
    ):
        name = matrix_image.object_name()
        for make in (lambda: None,
                     lambda: store.verified(name, other(matrix_image.data())),
                     lambda: store.plain(name, matrix_image.data())):
            make()
            with opened(f"{top}/{matrix_image.FILE}") as fd:
                test.fails(errno.EIO, "read", os.pread, fd, 10, 0)
        matrix_image.add_to(store)
        test.check(
            Path(top, matrix_image.FILE).read_bytes() == matrix_image.data(),
            "repaired: wrong content",
        )


@suite.test("allocations that fail")
def failing(test: ktap.Test) -> None:
    if not fail_nth.available():
        raise ktap.Skipped("the kernel has no fail-nth")
    injector = fail_nth.Injector()
    try:
        with fail_nth.configured():
            for number in range(1, fail_nth.MOST, STEP):
                outcome = injector.fail(number, mount_and_read)
                test.check(outcome.error is not None
                           or outcome.result == matrix_image.data(),
                           "wrong content")
                if not outcome.injected:
                    break
    finally:
        injector.close()
    test.check(injector.injected > 20, f"{injector.injected} faults")


def mount_and_read() -> bytes:
    """Reads from a detached mount, which its descriptor keeps."""
    mount = mounts.new_mount("composefs", matrix_image.options())
    try:
        fd = os.open(matrix_image.FILE, os.O_RDONLY, dir_fd=mount)
        try:
            return os.pread(fd, 65536, 0)
        finally:
            os.close(fd)
    finally:
        os.close(mount)


@suite.test("no leak while the module is loaded")
def none_leaked(test: ktap.Test) -> None:
    check(test)


@suite.test("no leak after the module was reloaded")
def none_left(test: ktap.Test) -> None:
    with module.loaded_with():
        pass
    test.note(f"figure: leaks = {check(test)}")


fixtures.require()
objects.require_verity()
mounts.require_root()
try:
    command("scan=off")
except OSError:
    ktap.skip_all("kmemleak is not active: boot a kernel that has it with "
                  "kmemleak=on")
suite.run()
