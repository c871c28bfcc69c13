# SPDX-License-Identifier: GPL-2.0

"""Tests that were not written here, each as a test of a suite.

A test that fails on composefs runs again on erofs. Whether that fails, too, is
told, and for each test that is known to fail, others_expected.txt has the
reason.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from . import ktap, whole_system
from .whole_system import Result

EXPECTED = Path(__file__).parent.parent / "others_expected.txt"
PASS, FAIL, SKIP = "pass", "fail", "skip"
# How much of the output of a failed program is told.
LINES = 25


class Outcome(NamedTuple):
    """What became of a test, and for one that did not pass, why."""

    name: str
    verdict: str
    why: str = ""


class Program(NamedTuple):
    """A program of others, with one test or more."""

    name: str
    # One of whole_system.READ_ONLY and WRITABLE.
    kind: str
    command: Sequence[str]
    # Takes the tests out of what the program printed.
    read: Callable[[str, Result], list[Outcome]]
    seconds: float = 120
    environment: dict[str, str] = {}


class Expected(NamedTuple):
    """A line of the list: a test that fails."""

    name: re.Pattern[str]
    # A key of WHERE.
    where: str
    reason: str


# Where a test fails, and how it ends on erofs then.
WHERE = {"both": FAIL, "ours": PASS, "by chance": None}


def expected() -> list[Expected]:
    """The list: lines of "PATTERN | a key of WHERE | REASON"."""
    found = []
    for line in EXPECTED.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        name, where, reason = (part.strip() for part in line.split(" | "))
        if where not in WHERE or not reason:
            ktap.bail_out(f"{EXPECTED.name}: {line}")
        found.append(Expected(re.compile(name), where, reason))
    return found


def tail(text: str) -> str:
    return "\n".join(text.rstrip().splitlines()[-LINES:])


def by_status(name: str, result: Result,
              skipped: Iterable[int] = (4, 77)) -> list[Outcome]:
    """A program that is one test."""
    if result.status == 0:
        return [Outcome(name, PASS)]
    if result.status in skipped:
        lines = [line for line in result.output.splitlines() if line.strip()]
        return [Outcome(name, SKIP, lines[-1] if lines else "no reason")]
    why = ("took too long" if result.status is None
           else f"status {result.status}")
    return [Outcome(name, FAIL, f"{tail(result.output)}\n{why}")]


# Results of TAP: "ok 1 - name # SKIP why".
_RESULT = re.compile(r"(not )?ok\s+\d+\s*(?:- )?([^#]*)(?:#\s*(\w+)\s*(.*))?")


def by_tap(name: str, result: Result) -> list[Outcome]:
    """A program that prints the results of its tests, or none."""
    found = []
    before: list[str] = []
    for line in result.output.splitlines():
        match = _RESULT.fullmatch(line.strip())
        if not match or line[0] in "# ":
            before.append(line)
            continue
        failed, what, word, why = match.groups()
        full = f"{name}: {what.strip() or len(found) + 1}"
        if (word or "").upper() in ("SKIP", "TODO", "XFAIL"):
            found.append(Outcome(full, SKIP, why or "no reason"))
        else:
            found.append(Outcome(full, FAIL if failed else PASS,
                                 tail("\n".join(before))))
        before = []
    failed = any(outcome.verdict == FAIL for outcome in found)
    if not found or (result.status not in (0, 4) and not failed):
        found += by_status(name, result)
    return found


def run_one(program: Program, kind: str) -> list[Outcome]:
    """Runs a program in a root of its own."""
    with whole_system.mounted(kind) as root:
        result = whole_system.run(root, kind, program.command,
                                  program.seconds, **program.environment)
    name = f"{program.name} ({program.kind})"
    found = program.read(name, result)
    return found or [Outcome(name, FAIL, f"{tail(result.output)}\nno test ran")]


def check(test: ktap.Test, outcome: Outcome, theirs: dict[str, Outcome],
          known: list[Expected]) -> None:
    """Checks that a test ended as it should."""
    lines = [one for one in known if one.name.fullmatch(outcome.name)]
    reference = theirs.get(outcome.name)
    on_erofs = reference.verdict if reference else "did not run"
    if outcome.verdict == SKIP and not lines:
        raise ktap.Skipped(outcome.why)
    if not lines:
        test.check(outcome.verdict == PASS,
                   f"{outcome.why}\non erofs: {on_erofs}")
        return
    [line] = lines
    if line.where == "by chance":
        if outcome.verdict == SKIP:
            raise ktap.Skipped(outcome.why)
        if outcome.verdict != PASS:
            raise ktap.Skipped(f"fails by chance: {line.reason}")
        test.equal(outcome.verdict, PASS, "what fails by chance")
        return
    test.note(f"expected to fail: {line.reason}")
    test.equal(outcome.verdict, FAIL, "a test that is expected to fail")
    test.equal(on_erofs, WHERE[line.where], "on erofs")


def run(what: str, programs: list[Program], least: int) -> None:
    """Runs programs and ends this one. At least so many tests have to run."""
    suite = ktap.Suite()
    known = expected()
    ran = 0
    for program in programs:
        print(f"# {time.monotonic():6.1f} {program.name} on {program.kind}",
              flush=True)
        ours = run_one(program, program.kind)
        theirs: dict[str, Outcome] = {}
        if any(outcome.verdict == FAIL for outcome in ours):
            theirs = {outcome.name: outcome for outcome in run_one(
                program, whole_system.REFERENCE[program.kind])}
        for outcome in ours:
            ran += outcome.verdict != SKIP
            suite.add(outcome.name, lambda test, outcome=outcome,
                      theirs=theirs: check(test, outcome, theirs, known))
    print(f"# figure: tests of {what} = {ran}", flush=True)

    @suite.test(f"{what}: the number of tests that ran")
    def enough(test: ktap.Test) -> None:
        test.check(ran >= least, f"{ran}, not {least} or more")

    suite.run()
