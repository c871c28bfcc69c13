# SPDX-License-Identifier: GPL-2.0

"""Rows of the table of command lines of mount.composefs."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass

from .helper_scene import OWNER, Scene
from .mount_helper import Outcome

# The exit codes of mount(8), which the C program does not use.
MISUSED, FAILED = 1, 32

# The files that can be read if objects are not verified, and if they are. By
# default a file without a digest in the image is not verified.
TRUSTS = "good plain forged undigested inline"
VERIFIES = "good inline"
RELATIME = "rw,relatime"


def fails(says: str) -> Outcome:
    """The mount fails."""
    return Outcome(FAILED, says)


def refuses(says: str) -> Outcome:
    """The command line is wrong."""
    return Outcome(MISUSED, says)


def cannot(image: str, why: str) -> Outcome:
    """The mount of an image fails."""
    return fails(f"Failed to mount composefs {{{image}}}: {why}")


def prints(says: str) -> Outcome:
    return Outcome(0, says)


def mounts(reads: str = TRUSTS, flags: str = RELATIME, owner: int = OWNER,
           writes: str = "EROFS", says: str = "") -> Outcome:
    return Outcome(0, says, flags, reads, owner, writes)


@dataclass(frozen=True)
class Row:
    """A command line, and what the programs do."""

    # With {NAME} for the files of the scene.
    line: str
    # What the C program does, and ours on both kinds of mount.
    c: Outcome
    native: Outcome
    stack: Outcome
    # Why ours does something else.
    why: str = ""
    # Who runs it.
    user: int = 0
    # The name, if not the command line.
    title: str = ""
    # Whether the C program fails only where a mounted device cannot be written
    # to.
    c_writes_to_mounted: bool = False

    def words(self, scene: Scene) -> list[str]:
        return [scene.expand(word) for word in shlex.split(self.line)]


def same(line: str, outcome: Outcome, user: int = 0) -> Row:
    """A row whose outcome is the same, apart from the exit code of a
    failure."""
    return Row(line, of_c_program(outcome), outcome, outcome, user=user)


def differs(line: str, c: Outcome, ours: Outcome, why: str,
            stack: Outcome | None = None) -> Row:
    """A row with a difference that is meant. With `stack`, only the native
    mount differs in this way."""
    if ours == c:
        raise ValueError(f"{line}: no difference")
    return Row(line, of_c_program(c), ours, ours if stack is None else stack,
               why)


def options(text: str, image: str = "image") -> str:
    """A command line with a store and further options."""
    return f"-o basedir={{store}},{text} {{{image}}} {{target}}"


def of_c_program(outcome: Outcome) -> Outcome:
    """The C program has one exit code for all failures."""
    return dataclasses.replace(outcome, status=min(outcome.status, 1))
