# SPDX-License-Identifier: GPL-2.0

"""Child processes, with other credentials if need be."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import struct
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .mounts import libc

CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
CAP_SYS_ADMIN = 21

_CAPABILITY_VERSION = 0x20080522


class ChildFailed(Exception):
    """An exception that ended a child, as text."""


def in_child(function: Callable[[], Any]) -> Any:
    """Returns what a function returns in a child, or raises its OSError."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            try:
                result: tuple[str, Any] = ("result", function())
            except OSError as error:
                result = ("error", (error.errno, str(error)))
            except BaseException:  # pylint: disable=broad-except
                result = ("failure", traceback.format_exc())
            with os.fdopen(writer, "wb") as out:
                pickle.dump(result, out)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        data = answer.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not data:
        raise ChildFailed(f"the child ended with {status}")
    kind, value = pickle.loads(data)
    if kind == "error":
        raise OSError(*value)
    if kind == "failure":
        raise ChildFailed(value)
    return value


@contextmanager
def running(function: Callable[[], object]) -> Iterator[int]:
    """Runs a function in a child that is killed at the end of the context.
    The function may not return before. Gives the child's number."""
    child = os.fork()
    if child == 0:
        try:
            function()
        finally:
            os._exit(1)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status):
        raise ChildFailed("the child has ended by itself")


def become(uid: int, gid: int | None = None,
           groups: Sequence[int] = ()) -> None:
    """Switches to another user, for good."""
    os.setgroups(groups)
    gid = uid if gid is None else gid
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def as_user(uid: int, function: Callable[[], Any], gid: int | None = None,
            groups: Sequence[int] = ()) -> Any:
    """Returns what a function returns to another user, or raises its
    OSError."""
    def run() -> Any:
        become(uid, gid, groups)
        return function()
    return in_child(run)


def drop_capabilities(*numbers: int) -> None:
    """Drops some capabilities of this process, and keeps the rest."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    room = ctypes.create_string_buffer(24)
    if libc.capget(header, room) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    words = list(struct.unpack("=6I", room.raw))
    for number in numbers:
        for kind in range(3):
            words[number // 32 * 3 + kind] &= ~(1 << number % 32)
    if libc.capset(header, struct.pack("=6I", *words)) != 0:
        raise OSError(ctypes.get_errno(), "capset")
