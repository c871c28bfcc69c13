#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""The machine after an update: image B is the root."""

from __future__ import annotations

from pathlib import Path

from booted import care, run
from lib import ktap

suite = ktap.Suite()


@suite.test("the root is the updated system")
def version(test: ktap.Test) -> None:
    test.check("IMAGE_VERSION=B" in Path("/etc/os-release").read_text(),
               "os-release is not that of B")
    test.check(run("tree", "--version"), "tree")


@suite.test("/var is that of the old system, and /etc has its changes")
def state(test: ktap.Test) -> None:
    test.equal(Path("/var/lib/kept").read_text(), "A\n", "/var/lib/kept")
    test.equal(Path("/etc/kept").read_text(), "A\n", "/etc/kept")
    test.check(Path("/etc/motd").read_text().endswith("changed\n"),
               "/etc/motd")
    for path in ("/var/lib/kept", "/etc/kept"):
        Path(path).write_text("B\n")


@suite.test("the image that is booted cannot be removed")
def refused(test: ktap.Test) -> None:
    status, text = care("remove", "B")
    test.equal(status, 1, "remove")
    test.check("the system has been booted from the image" in text, text)


suite.run()
