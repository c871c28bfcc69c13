# SPDX-License-Identifier: GPL-2.0

"""Things that may hang, done in a child.

How long they take is nobody's concern: the limit is for what never ends.
"""

from __future__ import annotations

import os
import select
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

from . import ktap

# Under emulation, in a kernel with all checks.
SECONDS = 300


def stacks(pid: int) -> str:
    """Where the threads of a process are in the kernel."""
    said = []
    for task in sorted(Path(f"/proc/{pid}/task").iterdir()):
        try:
            said.append(f"{task.name} {(task / 'wchan').read_text()}\n"
                        f"{(task / 'stack').read_text()}")
        except OSError as error:
            said.append(f"{task.name}: {error.strerror}")
    return "\n".join(said)


def ends(test: ktap.Test, what: str, function: Callable[[], object]) -> None:
    """Checks that a function ends in a child, without an exception. A hang
    ends the test, as what hangs may hold anything."""
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
        if not select.select([reader], [], [], SECONDS)[0]:
            test.note(stacks(child))
            os.kill(child, signal.SIGKILL)
            test.need(False, f"{what}: it hangs")
        said = os.read(reader, 4096).decode(errors="backslashreplace")
    finally:
        os.close(reader)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not test.check(status == 0, f"{what}: the child ended with {status}"):
        test.note(said)
