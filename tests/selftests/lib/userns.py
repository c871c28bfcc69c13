# SPDX-License-Identifier: GPL-2.0

"""User namespaces whose root is an ordinary user outside."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from .process import become, in_child

# The user who owns the namespace.
USER = 1000


class Range(NamedTuple):
    """A line of /proc/PID/uid_map and gid_map."""

    inside: int
    outside: int
    count: int


# The maps that newuidmap(1) makes, and a map of the user alone.
USUAL = (Range(0, USER, 1), Range(1, 100000, 65536))
ALONE = (Range(0, USER, 1),)


def write_maps(pid: int, ranges: Sequence[Range]) -> None:
    text = "".join(f"{one.inside} {one.outside} {one.count}\n"
                   for one in ranges)
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{pid}/{name}").write_text(text, encoding="ascii")


def _fork_waiting(
    reader: int, writer: int, function: Callable[[], None]
) -> int:
    """Forks a child that calls a function when it has read a byte."""
    child = os.fork()
    if child == 0:
        try:
            os.close(writer)
            if os.read(reader, 1):
                function()
                os._exit(0)
        finally:
            os._exit(1)
    return child


def in_namespace(function: Callable[[], Any],
                 ranges: Sequence[Range] = USUAL, user: int = USER) -> Any:
    """Returns what a function returns to root of a new user namespace and
    mount namespace. That root is an ordinary user outside."""
    def run() -> Any:
        pid = os.getpid()
        reader, writer = os.pipe()
        helper = _fork_waiting(reader, writer, lambda: write_maps(pid, ranges))
        become(user)
        os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNS)
        os.write(writer, b"x")
        if os.waitpid(helper, 0)[1]:
            raise RuntimeError("the maps of the namespace were refused")
        os.close(reader)
        os.close(writer)
        os.setgroups(())
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        return function()
    return in_child(run)


@contextmanager
def namespace(ranges: Sequence[Range]) -> Iterator[int]:
    """Gives the descriptor of a new user namespace."""
    ready, told = os.pipe()
    end, ended = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(ended)
            os.unshare(os.CLONE_NEWUSER)
            os.write(told, b"x")
            os.read(end, 1)
        finally:
            os._exit(0)
    os.close(told)
    os.close(end)
    try:
        if not os.read(ready, 1):
            raise RuntimeError("no user namespace could be made")
        write_maps(child, ranges)
        fd = os.open(f"/proc/{child}/ns/user", os.O_RDONLY)
    finally:
        os.close(ready)
        os.close(ended)
        os.waitpid(child, 0)
    try:
        yield fd
    finally:
        os.close(fd)


def pass_to_outside(
    inside: Callable[[], int],
    outside: Callable[[int], Any],
    ranges: Sequence[Range] = USUAL,
) -> Any:
    """Passes the descriptor that `inside` returns in a new namespace to
    `outside`, which root calls in the initial namespace. Returns what that
    returns. The namespace exists until then."""
    ours, theirs = socket.socketpair()

    def run() -> None:
        fd = inside()
        socket.send_fds(theirs, [b"x"], [fd])
        theirs.recv(1)

    def other() -> Any:
        # The far end is inherited by other children, so that it may not be
        # closed when the namespace's child fails.
        ours.settimeout(60)
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        if not fds:
            raise RuntimeError("no descriptor came out of the namespace")
        return outside(fds[0])

    def both() -> Any:
        child = os.fork()
        if child == 0:
            try:
                ours.close()
                in_namespace(run, ranges)
            finally:
                os._exit(0)
        try:
            return other()
        finally:
            ours.send(b"x")
            os.waitpid(child, 0)
    try:
        return in_child(both)
    finally:
        ours.close()
        theirs.close()
