#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""The machine after an attack on its disk: the object of /usr/sbin/nginx is
another file."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from booted import DIGEST, run, says
from lib import ktap

PROGRAM = "/usr/sbin/nginx"

suite = ktap.Suite()


@suite.test("the service that needs the object fails, and no other")
def service(test: ktap.Test) -> None:
    failed = run("systemctl", "list-units", "--failed", "--plain",
                 "--no-legend")
    test.equal([line.split()[0] for line in failed.splitlines()],
               ["nginx.service"], "failed units")
    test.equal(says("systemctl", "is-system-running")[1], "degraded",
               "the system")
    test.fails(errno.EIO, "reading the program", Path(PROGRAM).read_bytes)


@suite.test("the log names the image, the file, the object and its digest")
def log(test: ktap.Test) -> None:
    inode = os.stat(PROGRAM).st_ino
    wanted = re.compile(
        rf"composefs: /.*/{DIGEST[:2]}/{DIGEST[2:]}: inode {inode}: "
        r"object (..)/([0-9a-f]{62}): has no fs-verity digest, "
        r"expected sha256:\1\2$")
    lines = run("journalctl", "--boot", "--dmesg", "--no-pager", "--output",
                "cat").splitlines()
    test.check(any(wanted.match(line) for line in lines),
               f"{wanted.pattern} is not among "
               f"{[line for line in lines if 'composefs' in line]}")


suite.run()
