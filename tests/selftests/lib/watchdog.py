# SPDX-License-Identifier: GPL-2.0

"""Runs code that may hang in a child, with a time limit.

The limit is generous: it is there to end a hang, not to measure speed.
"""

from __future__ import annotations

import os
import select
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

from . import ktap

# Enough for emulation and a debug kernel.
LIMIT_SECONDS = 300


def stacks(pid: int) -> str:
    """The kernel stacks of all threads of a process."""
    lines = []
    for task in sorted(Path(f"/proc/{pid}/task").iterdir()):
        try:
            lines.append(f"{task.name} {(task / 'wchan').read_text()}\n"
                         f"{(task / 'stack').read_text()}")
        except OSError as error:
            lines.append(f"{task.name}: {error.strerror}")
    return "\n".join(lines)


def finishes(test: ktap.Test, what: str,
             function: Callable[[], object]) -> None:
    """Checks that a function returns, in a child. A hang ends the test: the
    child may hold locks that the rest of the test needs."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            function()
            status = 0
        except BaseException:  # pylint: disable=broad-except
            os.write(writer, traceback.format_exc()[-4000:].encode())
        finally:
            os._exit(status)
    os.close(writer)
    try:
        if not select.select([reader], [], [], LIMIT_SECONDS)[0]:
            test.note(stacks(child))
            os.kill(child, signal.SIGKILL)
            test.need(False, f"{what}: hangs")
        output = os.read(reader, 4096).decode(errors="backslashreplace")
    finally:
        os.close(reader)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not test.check(status == 0, f"{what}: the child ended with {status}"):
        test.note(output)
