# SPDX-License-Identifier: GPL-2.0

"""Makes the first allocation of a call fail, then the second, and so on.

/proc/thread-self/fail-nth counts all allocations of a thread, also those of
the file systems below composefs.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from . import ktap

CONTROL = "/proc/thread-self/fail-nth"
DEBUG = Path("/sys/kernel/debug")

# All kinds of allocations may fail, and nothing is logged.
SETTINGS = {
    "failslab/ignore-gfp-wait": "N",
    "failslab/verbose": "0",
    "fail_page_alloc/ignore-gfp-wait": "N",
    "fail_page_alloc/ignore-gfp-highmem": "N",
    "fail_page_alloc/min-order": "0",
    "fail_page_alloc/verbose": "0",
}

# More allocations than any call makes that is tried.
MOST = 3000


class Outcome(NamedTuple):
    """How a call ended."""

    # Whether an allocation failed.
    injected: bool
    # An errno, or None.
    error: int | None
    result: Any

    def __str__(self) -> str:
        return ktap.errno_name(self.error)


class Tally:
    """Counts the outcomes of a call."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.outcomes: dict[str, int] = {}

    def add(self, outcome: Outcome) -> None:
        name = str(outcome)
        self.outcomes[name] = self.outcomes.get(name, 0) + 1

    def report(self, test: ktap.Test) -> None:
        test.note(f"{self.what}: {self.outcomes}")
        # The last outcome is the one without a fault.
        test.check(sum(self.outcomes.values()) > 1,
                   f"{self.what}: no allocation")


def require() -> None:
    """Ends the program where allocations cannot be made to fail."""
    if not available():
        ktap.skip_all("the kernel has no fail-nth: CONFIG_FAILSLAB, "
                      "CONFIG_FAIL_PAGE_ALLOC and "
                      "CONFIG_FAULT_INJECTION_DEBUG_FS are needed")


def available() -> bool:
    """Whether allocations can be made to fail."""
    return os.path.exists(CONTROL) and all(
        (DEBUG / name).exists() for name in SETTINGS)


@contextmanager
def configured() -> Iterator[None]:
    """Lets fail-nth apply to allocations of all kinds."""
    before = {name: (DEBUG / name).read_text(encoding="ascii")
              for name in SETTINGS}
    try:
        for name, value in SETTINGS.items():
            (DEBUG / name).write_text(value, encoding="ascii")
        yield
    finally:
        for name, value in before.items():
            (DEBUG / name).write_text(value, encoding="ascii")


class Injector:
    """Injects faults in the thread that makes it."""

    def __init__(self) -> None:
        self.fd = os.open(CONTROL, os.O_RDWR)
        self.injected = 0

    def close(self) -> None:
        os.close(self.fd)

    def fail(self, number: int, call: Callable[[], Any]) -> Outcome:
        """Calls a function whose allocation of this number fails."""
        error, result = None, None
        order = str(number).encode()
        os.pwrite(self.fd, order, 0)
        try:
            result = call()
        except OSError as failure:
            error = failure.errno
        except MemoryError:
            # An allocation of the Python interpreter failed.
            error = errno.ENOMEM
        left = int(os.pread(self.fd, 16, 0))
        os.pwrite(self.fd, b"0", 0)
        self.injected += not left
        return Outcome(not left, error, result)

    def count(self, call: Callable[[], Any]) -> int:
        """Calls a function, and returns the number of its allocations, none
        of which fails."""
        os.pwrite(self.fd, str(MOST).encode(), 0)
        try:
            call()
        finally:
            left = int(os.pread(self.fd, 16, 0))
            os.pwrite(self.fd, b"0", 0)
        if not left:
            raise AssertionError(f"{MOST} allocations or more")
        return MOST - left

    def each(self, prepare: Callable[[], Callable[[], Any]],
             first: int = 1) -> Iterator[Outcome]:
        """Calls what `prepare` returns again and again, with one allocation
        after the other failing. The last outcome is one without a fault."""
        for number in range(first, MOST):
            outcome = self.fail(number, prepare())
            yield outcome
            if not outcome.injected:
                return
        raise AssertionError(f"more than {MOST} allocations")


# The number of faults that all injectors have injected.
total = 0


@contextmanager
def injector() -> Iterator[Injector]:
    """An injector for allocations of all kinds."""
    global total  # pylint: disable=global-statement
    found = Injector()
    try:
        with configured():
            yield found
    finally:
        total += found.injected
        found.close()
