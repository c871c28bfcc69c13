# SPDX-License-Identifier: GPL-2.0

"""IPE, a security module that lets only such programs run as its policy says.

It is active in a guest that was booted with lsm=ipe. With ipe.enforce=0 it
enforces nothing until it is told to.
"""

from __future__ import annotations

import errno
import os
import platform
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import ktap, mounts, signing

SECURITYFS = Path("/sys/kernel/security")
TOP = SECURITYFS / "ipe"

# The policy that is built into the guest's kernels: scripts/config/ipe-policy.
BUILT_IN = "composefs_test"

# The exit status of a program that runs, and of a child that may not run it.
RUNS, REFUSED, FAILED = 42, 43, 44


def require() -> None:
    """Ends the program where IPE is not active, or enforces already."""
    if platform.machine() != "x86_64":
        ktap.skip_all("the program that is run is one for x86_64")
    if not (SECURITYFS / "lsm").exists():
        try:
            mounts.mount("securityfs", str(SECURITYFS), "securityfs")
        except OSError as error:
            ktap.skip_all(f"securityfs: {error}")
    if not TOP.is_dir():
        ktap.skip_all("IPE is not active: boot with lsm=ipe ipe.enforce=0")
    if not (TOP / "policies" / BUILT_IN).is_dir():
        ktap.skip_all(f"the kernel was built without the policy {BUILT_IN}")
    if (TOP / "enforce").read_text(encoding="ascii").strip() != "0":
        ktap.skip_all("IPE enforces its policy: boot with ipe.enforce=0")


def program(name: str) -> bytes:
    """A program that does nothing, without libraries. Each name gives another
    one."""
    # exit(RUNS)
    code = b"\xb8\x3c\0\0\0\xbf" + struct.pack("<I", RUNS) + b"\x0f\x05"
    base, head = 0x400000, 64 + 56
    size = head + len(code)
    return struct.pack(
        "<4sBBB9xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 2, 62, 1, base + head,
        64, 0, 0, 64, 56, 1, 64, 0, 0) + struct.pack(
            "<IIQQQQQQ", 1, 5, 0, base, base, size, size, 4096
        ) + code + name.encode()


def attempt(path: str | Path) -> str:
    """Runs such a program. Returns "runs", or the name of the error of
    execve(2)."""
    child = os.fork()
    if child == 0:
        try:
            os.execv(path, [path])
        except OSError as error:
            os._exit(REFUSED if error.errno == errno.EACCES else FAILED)
    _, status = os.waitpid(child, 0)
    return {RUNS: "runs", REFUSED: "EACCES"}.get(
        os.waitstatus_to_exitcode(status), f"status {status}")


def _write(path: Path, data: bytes) -> None:
    # In one write(2), without a buffer.
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


@contextmanager
def enforcing() -> Iterator[None]:
    """IPE enforces its policy. Nothing on the disk of the guest can be run
    then, and no library be loaded."""
    _write(TOP / "enforce", b"1")
    try:
        yield
    finally:
        _write(TOP / "enforce", b"0")


@contextmanager
def policy(name: str, *rules: str) -> Iterator[None]:
    """Another policy is the active one: it has these rules about programs,
    allows all else, and runs nothing else.

    Raises Skipped where the kernel does not trust the test key.
    """
    text = "\n".join((f"policy_name={name} policy_version=0.0.1",
                      "DEFAULT action=ALLOW",
                      "DEFAULT op=EXECUTE action=DENY",
                      *(f"op=EXECUTE {rule}" for rule in rules), ""))
    signed = signing.Signer.built_in().sign(
        text.encode(), "-noattr", "-nocerts", "-nodetach")
    _write(TOP / "new_policy", signed)
    try:
        _write(TOP / "policies" / name / "active", b"1")
        yield
    finally:
        _write(TOP / "policies" / BUILT_IN / "active", b"1")
        _write(TOP / "policies" / name / "delete", b"1")
