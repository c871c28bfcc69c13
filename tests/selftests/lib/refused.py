# SPDX-License-Identifier: GPL-2.0

"""Mounts that have to fail, and the messages of the fs context."""

from __future__ import annotations

import os

from . import ktap, mounts
from .mounts import MountError, Options


def refused(test: ktap.Test, what: str, number: int, options: Options,
            *words: str, kind: str = "composefs") -> None:
    """Checks that a mount fails with an errno, and that one error message
    has all the words."""
    try:
        os.close(mounts.new_mount(kind, options))
    except MountError as error:
        check(test, what, number, error, *words)
    else:
        test.fail(f"{what}: the mount succeeded")


def check(test: ktap.Test, what: str, number: int, error: MountError,
          *words: str) -> None:
    """The same, given the error."""
    test.equal(ktap.errno_name(error.errno), ktap.errno_name(number), what)
    test.check(any(message.startswith("e ") and
                   all(word in message for word in words)
                   for message in error.messages),
               f"{what}: no message has {words}: {error.messages}")
