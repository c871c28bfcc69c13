#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Cases of the fuzzer again: fuzz-cases/ has one for each mistake that it found,
made as short as it can be. A case is an image and a program of operations on
mounts of it; tests/fuzz-kernel/cases/src/grammar.rs of the repository has the grammar.

This needs mkcomposefs, with which the fuzzer makes its images.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from lib import fixtures, ktap, objects

PROGRAM = "composefs-fuzz-cases"
CASES = Path(__file__).resolve().parent / "fuzz-cases"

suite = ktap.Suite()


def program() -> Path:
    """The program. Ends this one where there is none."""
    directory = os.environ.get("COMPOSEFS_TOOLS")
    if not directory:
        ktap.skip_all("COMPOSEFS_TOOLS is not set: it names a directory with "
                      f"{PROGRAM} of tests/")
    return Path(directory, PROGRAM)


@suite.test("no case fails that once did")
def again(t: ktap.Test) -> None:
    cases = sorted(CASES.glob("*.case"))
    t.need(cases, f"{CASES} has no cases")
    done = subprocess.run(
        [program(), "--dir", fixtures.SCRATCH / "fuzz-cases", "replay",
         *cases], capture_output=True, text=True, check=False)
    said = done.stdout.splitlines()
    for case in cases:
        t.check(any(line.startswith("ok ") and line.endswith(f" {case.stem}")
                    for line in said), f"{case.name} fails")
    t.equal(done.returncode, 0, "the exit status")
    if done.returncode != 0:
        t.note(done.stdout + done.stderr)


objects.require_verity()
ktap.require_programs("composefs", "mkcomposefs")
program()
suite.run()
