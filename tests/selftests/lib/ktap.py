# SPDX-License-Identifier: GPL-2.0

"""Runs tests and prints results in KTAP (Documentation/dev-tools/ktap.rst).

    suite = ktap.Suite()

    @suite.test("what it shows")
    def anything(t: ktap.Test) -> None:
        t.equal(1 + 1, 2, "a sum")

    suite.run()

A test continues after a failed check, so that one run shows all failures. Each
failure is a diagnostic line before the "not ok".
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

PASS, FAIL, SKIP = 0, 1, 4

# The most failures of one test that are printed.
MOST_FAILURES = 40

# Whether COMPOSEFS_SLOW is set: the kernel is slow, and tests that repeat
# something do with fewer rounds.
IS_SLOW = bool(os.environ.get("COMPOSEFS_SLOW"))


class Skipped(Exception):
    """The test cannot run here. The text is the reason."""


class Stopped(Exception):
    """A check failed that the rest of the test depends on."""


class Test:
    """The checks of a test while it runs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.failures = 0
        self.checks = 0

    def note(self, text: str) -> None:
        """Prints diagnostic lines."""
        for line in printable(text).split("\n"):
            print(f"# {line}", flush=True)

    def fail(self, text: str) -> None:
        self.failures += 1
        if self.failures <= MOST_FAILURES:
            self.note(text)

    def check(self, condition: object, text: str) -> bool:
        self.checks += 1
        if not condition:
            self.fail(text)
        return bool(condition)

    def equal(self, found: object, expected: object, what: str) -> bool:
        return self.check(found == expected, f"{what}: expected {expected!r}, "
                                             f"found {found!r}")

    def need(self, condition: object, text: str) -> None:
        """As check(), and a failure ends the test."""
        if not self.check(condition, text):
            raise Stopped

    def fails(self, expected: int | None, what: str,
              call: Callable[..., object], *args: object,
              **keywords: object) -> None:
        """Checks the errno of a call. None stands for success."""
        try:
            call(*args, **keywords)
        except OSError as error:
            found = error.errno
        else:
            found = None
        self.equal(errno_name(found), errno_name(expected), what)


def errno_name(number: int | None) -> str:
    """Returns "ENOENT" and the like, "success" for None."""
    if number is None:
        return "success"
    return errno.errorcode.get(number, f"errno {number}")


def result(call: Callable[..., Any], *args: object) -> Any:
    """What a call returns, or the name of its error."""
    try:
        return call(*args)
    except OSError as error:
        return errno_name(error.errno)


def outcome(call: Callable[..., object], *args: object) -> str:
    """Returns "success", or the name of a call's error."""
    try:
        call(*args)
    except OSError as error:
        return errno_name(error.errno)
    return errno_name(None)


def printable(text: str) -> str:
    """Escapes what a terminal or a KTAP parser may misread: file names are
    bytes."""
    return "".join(char if char.isprintable() or char == "\n" else
                   f"\\x{ord(char):02x}" for char in text)


class Suite:
    """The tests of one program."""

    def __init__(self) -> None:
        self.tests: list[tuple[str, Callable[[Test], None]]] = []

    def add(self, name: str, function: Callable[[Test], None]) -> None:
        # "#" would start a directive.
        self.tests.append((printable(name).replace("#", ""), function))

    def test(self, name: str) -> Callable[[Callable[[Test], None]],
                                          Callable[[Test], None]]:
        def decorate(function: Callable[[Test], None]) -> Callable[[Test],
                                                                   None]:
            self.add(name, function)
            return function
        return decorate

    def run(self) -> NoReturn:
        """Runs all tests, or those whose names contain one of the program's
        arguments, and exits."""
        wanted = sys.argv[1:]
        tests = [(name, function) for name, function in self.tests
                 if not wanted or any(word in name for word in wanted)]
        if not tests:
            bail_out(f"no test has {' or '.join(wanted)} in its name")
        print(f"TAP version 13\n1..{len(tests)}", flush=True)
        counts = {"pass": 0, "fail": 0, "skip": 0}
        for number, (name, function) in enumerate(tests, 1):
            result, line = run_one(name, function)
            counts[result] += 1
            print(line.replace("@", str(number), 1), flush=True)
        print(f"# Totals: pass:{counts['pass']} fail:{counts['fail']} xfail:0 "
              f"xpass:0 skip:{counts['skip']} error:0", flush=True)
        if counts["fail"]:
            sys.exit(FAIL)
        sys.exit(SKIP if counts["skip"] == len(tests) else PASS)


def run_one(name: str, function: Callable[[Test], None]) -> tuple[str, str]:
    """Runs a test. Returns its result and its line, with @ for the number."""
    test = Test(name)
    try:
        function(test)
    except Skipped as reason:
        if not test.failures:
            return "skip", f"ok @ {name} # SKIP {printable(str(reason))}"
    except Stopped:
        pass
    except Exception:  # pylint: disable=broad-except
        test.failures += 1
        test.note(traceback.format_exc().rstrip())
    if test.failures > MOST_FAILURES:
        test.note(f"{test.failures - MOST_FAILURES} more failures")
    if test.failures:
        return "fail", f"not ok @ {name}"
    if not test.checks:
        test.note("the test checked nothing")
        return "fail", f"not ok @ {name}"
    return "pass", f"ok @ {name}"


def bail_out(why: str) -> NoReturn:
    """Ends a program whose environment is set up wrongly."""
    print(f"TAP version 13\nBail out! {printable(why)}", flush=True)
    sys.exit(FAIL)


def skip_all(why: str) -> NoReturn:
    """Ends a program that cannot run any of its tests here."""
    print(f"TAP version 13\n1..0 # SKIP {printable(why)}", flush=True)
    sys.exit(SKIP)


def require_programs(package: str, *names: str) -> None:
    """Ends the program where one of these programs is not installed."""
    for name in names:
        if not shutil.which(name):
            skip_all(f"no {name}: install {package}")
