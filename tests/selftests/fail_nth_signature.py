#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Fault injection: each allocation of verifying a signature fails.

Each time a good signature is accepted or an error is returned, and a wrong one
is never accepted.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from lib import fail_nth, fixtures, ktap, matrix_image, mounts, signing
from lib.fail_nth import Tally, injector
from lib.mounts import At, Context
from lib.signing import Signer, trusting

suite = ktap.Suite()

# The kernel's crypto code has other errors for a lack of memory, too.
ERRORS = (None, errno.ENOMEM, errno.EINVAL, errno.ENOPKG, errno.EKEYREJECTED)


def creating(name: str, value: bytes | str) -> Callable[[], Any]:
    """The step that verifies, of a mount whose signature is passed as bytes or
    by its file."""
    context = Context.open("composefs")
    for key, option in matrix_image.options():
        context.set(key, option)
    if isinstance(value, bytes):
        context.config(mounts.FSCONFIG_SET_BINARY, name, value, len(value))
    else:
        context.set(name, value)

    def run() -> None:
        try:
            context.create()
        finally:
            os.close(context.fd)
    return run


def check(test: ktap.Test, what: str, value: bytes | str,
          good: bool) -> None:
    tally = Tally(what)
    with injector() as inject:
        for outcome in inject.each(lambda: creating("signature", value)):
            tally.add(outcome)
            test.check(outcome.error in ERRORS and
                       (good or outcome.error is not None),
                       f"{what}: {outcome}")
        test.equal(ktap.errno_name(outcome.error),
                   "success" if good else "EKEYREJECTED", f"{what}: at last")
    tally.report(test)


@suite.test("a good signature, as bytes and in a file")
def accepted(test: ktap.Test) -> None:
    with trusting(Signer.vendor()):
        data = Signer.vendor().sign_file(matrix_image.image().path)
        check(test, "bytes", data, True)
        check(test, "a file", signing.write("good", data), True)


@suite.test("a signature of another image is refused with each fault")
def rejected(test: ktap.Test) -> None:
    with trusting(Signer.vendor()):
        data = Signer.vendor().sign(b"another image")
        check(test, "bytes", data, False)
        check(test, "a file", signing.write("bad", data), False)
        # The message to the mounter looks at the blacklist.
        check(test, "with its certificate",
              Signer.vendor().sign(b"another image", "-noattr"), False)


@suite.test("the option: bytes, and a name")
def parsed(test: ktap.Test) -> None:
    data = bytes(1000)
    for what, call in (
            ("bytes", lambda context: context.config(
                mounts.FSCONFIG_SET_BINARY, "signature", data, len(data))),
            ("a name", lambda context: context.set("signature", "/a")),
            ("a path", lambda context: context.set("signature", At("/etc")))):
        tally = Tally(what)
        with injector() as inject, Context.open("composefs") as context:
            for outcome in inject.each(
                    lambda call=call, context=context: lambda: call(context)):
                tally.add(outcome)
                test.check(outcome.error in (None, errno.ENOMEM),
                           f"{what}: {outcome}")
        tally.report(test)


fixtures.require()
mounts.require_root()
fail_nth.require()
signing.require()
suite.run()
