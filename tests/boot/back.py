#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""The machine is back at image A. Image B is removed while A runs."""

from __future__ import annotations

import shutil
from pathlib import Path

from booted import care, objects, read_all
from lib import ktap

suite = ktap.Suite()


@suite.test("the root is the old system again")
def version(test: ktap.Test) -> None:
    test.check("IMAGE_VERSION" not in Path("/etc/os-release").read_text(),
               "os-release is that of B")
    test.equal(shutil.which("tree"), None, "tree")


@suite.test("/etc is as the old system left it, /var as the update did")
def state(test: ktap.Test) -> None:
    test.equal(Path("/etc/kept").read_text(), "A\n", "/etc/kept")
    test.check(Path("/etc/motd").read_text().endswith("changed\n"),
               "/etc/motd")
    test.equal(Path("/var/lib/kept").read_text(), "B\n", "/var/lib/kept")


@suite.test("the update is removed while the system runs, which stays whole")
def removed(test: ktap.Test) -> None:
    before = objects()
    status, text = care("remove", "B")
    test.equal(status, 0, f"remove: {text}")
    gone = before - objects()
    test.check(text.startswith(f"{gone} objects with "), f"{gone}: {text}")
    test.check(0 < gone < 300, f"{gone} objects are gone")
    Path("/proc/sys/vm/drop_caches").write_text("3")
    test.check(read_all() > 5000, "there are few files")


suite.run()
