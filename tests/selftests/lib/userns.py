# SPDX-License-Identifier: GPL-2.0

"""User namespaces: being root in one, and somebody outside of it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from .process import become, in_child

# Who has the namespace, outside.
USER = 1000


class Range(NamedTuple):
    """A line of /proc/PID/uid_map."""

    inside: int
    outside: int
    count: int


# The mounter is root inside, and has the ids that newuidmap(1) would give.
USUAL = (Range(0, USER, 1), Range(1, 100000, 65536))
ALONE = (Range(0, USER, 1),)


def write_maps(pid: int, ranges: Sequence[Range]) -> None:
    text = "".join(f"{one.inside} {one.outside} {one.count}\n"
                   for one in ranges)
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{pid}/{name}").write_text(text, encoding="ascii")


def _when_told(reader: int, writer: int,
               function: Callable[[], None]) -> int:
    """Forks a child that does something when it reads a byte."""
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
    """What a function returns to the root of a new user namespace, with a
    mount namespace, of a user who has no rights outside."""
    def run() -> Any:
        pid = os.getpid()
        reader, writer = os.pipe()
        helper = _when_told(reader, writer, lambda: write_maps(pid, ranges))
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
    """The descriptor of a user namespace, for mount_setattr(2)."""
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


def with_outsider(inside: Callable[[], int], outside: Callable[[int], Any],
                  ranges: Sequence[Range] = USUAL) -> Any:
    """Gives a descriptor from within a namespace to root outside of it.
    Returns what that one makes of it, while the namespace is there."""
    ours, theirs = socket.socketpair()

    def run() -> None:
        fd = inside()
        socket.send_fds(theirs, [b"x"], [fd])
        theirs.recv(1)

    def other() -> Any:
        # Others have the far end, too: it does not close by itself.
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
