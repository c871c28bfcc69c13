# SPDX-License-Identifier: GPL-2.0

"""A process that answers fanotify permission events.

With read_memory_map() as its `before_answer` it behaves like a security
scanner that looks at the process that made the request. Reading the memory map
takes mmap_lock, so a process that opens a file with mmap_lock held deadlocks
with it. /proc/PID/maps takes that lock in some kernels only, the other files
in all.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from . import ktap, notify, process

FAN_ALLOW, FAN_DENY = 1, 2


def read_memory_map(pid: int) -> None:
    """Reads the memory map of a process."""
    for name in ("maps", "smaps_rollup", "cmdline"):
        try:
            with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
                while file.read(65536):
                    pass
        except (FileNotFoundError, ProcessLookupError):
            pass


class Requests:
    """The requests that a listener has answered, in shared memory: a count,
    then the mask of each of the first ones."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    def add(self, mask: int) -> None:
        count = self.count()
        if (count + 2) * 8 <= mmap.PAGESIZE:
            struct.pack_into("=Q", self._memory, (count + 1) * 8, mask)
        struct.pack_into("=Q", self._memory, 0, count + 1)

    def count(self) -> int:
        return int(struct.unpack_from("=Q", self._memory, 0)[0])

    def masks(self) -> list[int]:
        count = min(self.count(), mmap.PAGESIZE // 8 - 1)
        return list(struct.unpack_from(f"={count}Q", self._memory, 8))


def _answer_all(fd: int, requests: Requests, answers: dict[int, int],
                before_answer: Callable[[int], object]) -> None:
    while True:
        for event in notify.permission_events(os.read(fd, 4096)):
            requests.add(event.mask)
            if event.pid != os.getpid():
                before_answer(event.pid)
            os.write(fd, struct.pack("=iI", event.fd, answers.get(
                event.mask, FAN_ALLOW)))
            os.close(event.fd)


@contextmanager
def listening(path: str, mask: int = notify.FAN_OPEN_PERM
              | notify.FAN_ACCESS_PERM,
              answers: dict[int, int] | None = None,
              before_answer: Callable[[int], object] = lambda pid: None,
              mark: int = notify.FAN_MARK_FILESYSTEM) -> Iterator[Requests]:
    """A child that answers permission events on the file system, the mount or
    the file at `path`, as `mark` says. It allows them, unless `answers` has
    something else for the mask. `before_answer` is called with the process
    that made the request."""
    try:
        fd = notify.new_group(path, mask, notify.FAN_CLASS_CONTENT, mark)
    except OSError:
        raise ktap.Skipped("the kernel has no permission events") from None
    requests = Requests()
    with process.running(lambda: _answer_all(fd, requests, answers or {},
                                             before_answer)):
        os.close(fd)
        yield requests
