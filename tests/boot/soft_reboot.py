#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""A soft reboot: all programs start again, on the same kernel and the same
root. This program is started again, too."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from booted import DIGEST, run, says
from lib import ktap, mounts

# In /run, which stays. This program finds it when it is started again.
MARK = Path("/run/soft-reboot")

suite = ktap.Suite()


@suite.test("the system is running after a soft reboot, on the same root")
def again(test: ktap.Test) -> None:
    test.check(f"digest=sha256:{DIGEST}" in mounts.info("/").options,
               f"the root: {mounts.info('/')}")
    test.equal(says("systemctl", "is-system-running"), (0, "running"),
               "the system")
    test.check(int(run("systemctl", "show", "--value", "--property",
                       "SoftRebootsCount")) == 1, "no soft reboot")
    for path in ("/etc", "/var"):
        Path(path, "after").write_text("soft reboot\n")
        test.equal(Path(path, "before").read_text(), "soft reboot\n", path)


if MARK.exists():
    suite.run()
MARK.touch()
for directory in ("/etc", "/var"):
    Path(directory, "before").write_text("soft reboot\n")
subprocess.run(["systemctl", "soft-reboot"], check=True)
time.sleep(600)
