# SPDX-License-Identifier: GPL-2.0

"""Tests and their results in KTAP, as Documentation/dev-tools/ktap.rst has it.

    suite = ktap.Suite()

    @suite.test("what it shows")
    def anything(t: ktap.Test) -> None:
        t.equal(1 + 1, 2, "a sum")

    suite.run()

A test goes on after a check that fails, so that one run tells all; each
failure is a diagnostic line before the "not ok".
"""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

PASS, FAIL, SKIP = 0, 1, 4

# More lines than this say nothing new about one test.
MOST_FAILURES = 40


class Skipped(Exception):
    """A test cannot run here; the text says why."""


class Stopped(Exception):
    """A failed check without which the rest makes no sense."""


class Test:
    """What a test says while it runs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.failures = 0
        self.checks = 0

    def note(self, text: str) -> None:
        """A diagnostic line."""
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
        """A check that ends the test if it fails."""
        if not self.check(condition, text):
            raise Stopped

    def fails(self, expected: int | None, what: str,
              call: Callable[..., object], *args: object,
              **keywords: object) -> None:
        """Checks how a call fails; None is success."""
        try:
            call(*args, **keywords)
        except OSError as error:
            found = error.errno
        else:
            found = None
        self.equal(errno_name(found), errno_name(expected), what)


def errno_name(number: int | None) -> str:
    if number is None:
        return "success"
    return errno.errorcode.get(number, f"errno {number}")


def printable(text: str) -> str:
    """Names of files are bytes, and no terminal or parser likes all of
    them."""
    return "".join(char if char.isprintable() or char == "\n" else
                   f"\\x{ord(char):02x}" for char in text)


class Suite:
    """The tests of one program."""

    def __init__(self) -> None:
        self.tests: list[tuple[str, Callable[[Test], None]]] = []

    def add(self, name: str, function: Callable[[Test], None]) -> None:
        # "#" begins a directive.
        self.tests.append((printable(name).replace("#", ""), function))

    def test(self, name: str) -> Callable[[Callable[[Test], None]],
                                          Callable[[Test], None]]:
        def decorate(function: Callable[[Test], None]) -> Callable[[Test],
                                                                   None]:
            self.add(name, function)
            return function
        return decorate

    def run(self) -> NoReturn:
        """Runs all tests, or those whose names have one of the arguments in
        them, and exits."""
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
    """Runs a test. Returns the result and its line, with @ for the number."""
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
    """Ends a program that cannot test anything because its setup is bad."""
    print(f"TAP version 13\nBail out! {printable(why)}", flush=True)
    sys.exit(FAIL)


def skip_all(why: str) -> NoReturn:
    """Ends a program none of whose tests can run here."""
    print(f"TAP version 13\n1..0 # SKIP {printable(why)}", flush=True)
    sys.exit(SKIP)
