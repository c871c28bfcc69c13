# SPDX-License-Identifier: GPL-2.0

"""Lets one allocation fail, and then the next one, and so on.

/proc/thread-self/fail-nth counts all allocations of a thread, whoever makes
them: those of a file system below, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from . import ktap

CONTROL = "/proc/thread-self/fail-nth"
DEBUG = Path("/sys/kernel/debug")

# That no allocation is spared, and nothing said of it.
SETTINGS = {
    "failslab/ignore-gfp-wait": "N",
    "failslab/verbose": "0",
    "fail_page_alloc/ignore-gfp-wait": "N",
    "fail_page_alloc/ignore-gfp-highmem": "N",
    "fail_page_alloc/min-order": "0",
    "fail_page_alloc/verbose": "0",
}

# More allocations than any of what is tried makes.
MOST = 3000


class Outcome(NamedTuple):
    """How a call ended one of whose allocations failed."""

    # Whether there was one to fail.
    injected: bool
    # An errno, or None.
    error: int | None
    result: Any

    def __str__(self) -> str:
        return ktap.errno_name(self.error)


class Tally:
    """How often what came of one thing that was tried."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.outcomes: dict[str, int] = {}

    def add(self, outcome: Outcome) -> None:
        name = str(outcome)
        self.outcomes[name] = self.outcomes.get(name, 0) + 1

    def tell(self, test: ktap.Test) -> None:
        test.note(f"{self.what}: {self.outcomes}")
        # The last one is that without a fault.
        test.check(sum(self.outcomes.values()) > 1,
                   f"{self.what}: no allocation")


def require() -> None:
    """Ends the program where no allocation can be made to fail."""
    missing = [name for name in SETTINGS if not (DEBUG / name).exists()]
    if missing or not os.path.exists(CONTROL):
        ktap.skip_all("the kernel has no fail-nth: CONFIG_FAILSLAB, "
                      "CONFIG_FAIL_PAGE_ALLOC and "
                      "CONFIG_FAULT_INJECTION_DEBUG_FS are needed")


def available() -> bool:
    return os.path.exists(CONTROL) and all(
        (DEBUG / name).exists() for name in SETTINGS)


@contextmanager
def configured() -> Iterator[None]:
    """While allocations of all kinds may fail."""
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
    """Of the thread that makes it, counting what it did."""

    def __init__(self) -> None:
        self.fd = os.open(CONTROL, os.O_RDWR)
        self.injected = 0

    def close(self) -> None:
        os.close(self.fd)

    def fail(self, number: int, call: Callable[[], Any]) -> Outcome:
        """Calls with the allocation of this number failing."""
        error, result = None, None
        order = str(number).encode()
        os.pwrite(self.fd, order, 0)
        try:
            result = call()
        except OSError as failure:
            error = failure.errno
        except MemoryError:
            # The interpreter's own.
            error = 12
        left = int(os.pread(self.fd, 16, 0))
        os.pwrite(self.fd, b"0", 0)
        self.injected += not left
        return Outcome(not left, error, result)

    def each(self, prepare: Callable[[], Callable[[], Any]],
             first: int = 1) -> Iterator[Outcome]:
        """Calls what `prepare` returns with one allocation failing after the
        other. The last outcome is one without a failure."""
        for number in range(first, MOST):
            outcome = self.fail(number, prepare())
            yield outcome
            if not outcome.injected:
                return
        raise AssertionError(f"more than {MOST} allocations")


# Faults of all that was tried by now.
total = 0


@contextmanager
def injector() -> Iterator[Injector]:
    """While allocations of all kinds may fail."""
    global total  # pylint: disable=global-statement
    found = Injector()
    try:
        with configured():
            yield found
    finally:
        total += found.injected
        found.close()
