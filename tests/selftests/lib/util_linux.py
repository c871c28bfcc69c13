# SPDX-License-Identifier: GPL-2.0

"""mount(8) and its relatives, and an ext4 to compare composefs with."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from . import ktap, mounts, scratch
from .helper_scene import Scene
from .mount_helper import SECONDS, Leftovers, unescape

# The image and the object directory of the scene.
PLAIN = "basedir={store}"


class Done(NamedTuple):
    """A program that has ended: exit code, and what it printed."""

    status: int
    says: str


def run(*command: str, cwd: str | Path | None = None, user: int = 0) -> Done:
    """Runs a program."""
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          cwd=cwd, timeout=SECONDS, user=user, group=user,
                          extra_groups=[])
    return Done(done.returncode, os.fsdecode(done.stdout))


class Mount(NamedTuple):
    """A line of /proc/self/mountinfo."""

    target: str
    flags: str
    # "shared", "master" and the like, without numbers.
    propagation: str
    type: str
    source: str


def mounts_below(top: str | Path) -> list[Mount]:
    """The mounts at paths below a directory, in their order."""
    found = []
    for fields in mounts.mountinfo():
        target = unescape(fields[4])
        if target.startswith(f"{top}/"):
            dash = fields.index("-")
            found.append(Mount(
                target, fields[5],
                " ".join(word.partition(":")[0] for word in fields[6:dash]),
                fields[dash + 1], unescape(fields[dash + 2])))
    return found


def unmount_below(top: str | Path) -> None:
    """Unmounts all mounts at paths below a directory."""
    for mount in reversed(mounts_below(top)):
        mounts.umount_soon(mount.target)


def encode(text: str) -> str:
    """A text as a field of fstab(5)."""
    return text.translate({ord(char): f"\\{ord(char):03o}"
                           for char in " \t\n\\"})


def line(source: str, target: str, options: str,
         kind: str = "composefs") -> str:
    """A line of fstab(5)."""
    fields = (source, target, kind, options)
    return " ".join(map(encode, fields)) + " 0 0\n"


@contextmanager
def ext4(top: Path) -> Iterator[str]:
    """The path of a small, empty ext4 in a file."""
    path = top / "twin.ext4"
    scratch.make(path, 4 << 20)
    try:
        yield str(path)
    finally:
        path.unlink()


@contextmanager
def nothing_left(scene: Scene, test: ktap.Test) -> Iterator[None]:
    """Unmounts all of a scene at the end, and checks that nothing else is
    left."""
    scene.fresh()
    before = Leftovers(scene)
    try:
        yield
    finally:
        unmount_below(scene.top)
    before.check(test, "the test")
