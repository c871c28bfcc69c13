#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""The first boot of a machine, from image A. It leaves files behind."""

from __future__ import annotations

from pathlib import Path

from booted import DIGEST, care, run, store_path
from lib import ktap

suite = ktap.Suite()


@suite.test("/etc and /var take files, which later boots look for")
def leave(test: ktap.Test) -> None:
    for path in ("/etc/kept", "/var/lib/kept"):
        Path(path).write_text("A\n")
        test.equal(Path(path).read_text(), "A\n", path)
    with open("/etc/motd", "a", encoding="utf-8") as file:
        file.write("changed\n")


@suite.test("the store tells what an update costs, which takes /etc along")
def listed(test: ktap.Test) -> None:
    status, text = care("list")
    test.equal(status, 0, "list")
    test.note(text)
    lines = {line.split()[6]: line.split() for line in text.splitlines()[1:]}
    test.equal(lines["A"][0], DIGEST, "the digest of A")
    test.equal(lines["A"][5], "booted", "the use of A")
    test.equal(lines["B"][5], "-", "the use of B")
    test.check(0 < int(lines["B"][3]) < 300,
               f"B has {lines['B'][3]} objects of its own")
    test.check(lines["inline"][0] != DIGEST, "A and inline are one image")
    test.check(int(lines["inline"][1]) < int(lines["A"][1]) - 1000,
               f"inline needs {lines['inline'][1]} objects")
    # As composefs-root(8) says.
    states = store_path() / "state/deploy"
    run("cp", "-aT", f"{states}/{DIGEST}/etc/upper",
        f"{states}/{lines['B'][0]}/etc/upper")


suite.run()
