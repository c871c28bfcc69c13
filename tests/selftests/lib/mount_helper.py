# SPDX-License-Identifier: GPL-2.0

"""Runs a mount helper, mount.composefs, and looks at what it mounted."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import glob
import os
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import ktap, mounts
from .helper_scene import FILES, FORGED, INLINE, Scene, content

C_PROGRAM = "/usr/libexec/composefs-c/mount.composefs"
OURS = "/usr/sbin/mount.composefs"

# A program that hangs has failed.
SECONDS = 120


@dataclass(frozen=True)
class Outcome:
    """What a command line did."""

    # The exit code.
    status: int
    # The first line that it printed, without the program's name.
    says: str = ""
    # The flags of the mount, "" if nothing is mounted.
    flags: str = ""
    # The files that can be read, and the errors of the others.
    reads: str = ""
    # The owner of a file, which is OWNER in the image.
    owner: int = -1
    # "success" or an error: making a file.
    writes: str = ""

    def __str__(self) -> str:
        text = f"exit {self.status}, '{self.says}'"
        if self.flags:
            text += (f", mounts {self.flags}; reads {self.reads}; owner "
                     f"{self.owner}; write: {self.writes}")
        return text

    def is_as(self, expected: Outcome) -> bool:
        """Whether it is the expected one, in which "..." stands for any
        text."""
        pattern = ".*".join(map(re.escape, expected.says.split("...")))
        return bool(re.fullmatch(pattern, self.says, re.DOTALL)) and \
            dataclasses.replace(self, says=expected.says) == expected


def require(*programs: str) -> None:
    """Ends the program where one of these is not installed."""
    for path in programs:
        if not os.access(path, os.X_OK):
            ktap.skip_all(f"no {path}")


def run(program: str, words: Sequence[str], scene: Scene,
        user: int = 0) -> Outcome:
    """Runs a command line, looks at the mount, and unmounts it."""
    before = mounts.mountinfo()
    done = subprocess.run([program, *words], capture_output=True, check=False,
                          stdin=subprocess.DEVNULL, cwd=scene.top,
                          timeout=SECONDS, user=user, group=user,
                          extra_groups=[])
    said = os.fsdecode(done.stderr or done.stdout)
    first = said.partition("\n")[0]
    for prefix in (program, os.path.basename(program)):
        first = first.removeprefix(f"{prefix}: ")
    new = [fields for fields in mounts.mountinfo() if fields not in before]
    if not new:
        return Outcome(done.returncode, first)
    try:
        return look(done.returncode, first, new)
    finally:
        for fields in reversed(new):
            mounts.umount(unescape(fields[4]))


def unescape(text: str) -> str:
    """Decodes the octal escapes of /proc/self/mountinfo."""
    for code in ("040", "011", "012", "134"):
        text = text.replace(f"\\{code}", chr(int(code, 8)))
    return text


def look(status: int, says: str, new: list[list[str]]) -> Outcome:
    """Looks at the one mount that is new."""
    if len(new) > 1:
        return Outcome(status, says, f"{len(new)} mounts: {new}")
    top = unescape(new[0][4])
    # An old overlayfs fails here if there is no object.
    owners = {found.st_uid for name in FILES if not isinstance(
        found := ktap.result(os.stat, f"{top}/{name}"), str)}
    path = f"{top}/new"
    writes = ktap.outcome(lambda: Path(path).write_bytes(b"new"))
    return Outcome(status, says, new[0][5], readable(top),
                   owners.pop() if len(owners) == 1 else -2, writes)


def readable(top: str) -> str:
    """The names of the files that can be read, and unexpected outcomes."""
    found, failed = [], []
    for name in FILES:
        whole = content("other" if name == FORGED else name)
        expected = whole[:50] if name == INLINE else whole
        data = ktap.result(lambda path: Path(path).read_bytes(),
                           f"{top}/{name}")
        if data == expected:
            found.append(name)
        elif data not in ("EIO", "ENOENT"):
            failed.append(f"({name}: {data!r:.30})")
    return " ".join(found + failed)


def in_use(path: str) -> bool:
    """Whether somebody has a file open. A write lease shows it."""
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False
    except OSError as error:
        if error.errno != errno.EAGAIN:
            raise
        return True
    finally:
        os.close(fd)


def loop_files() -> list[str]:
    """The files of all loop devices."""
    return [Path(path).read_text(encoding="utf-8", errors="surrogateescape")
            for path in sorted(glob.glob(
                "/sys/block/loop*/loop/backing_file"))]


class Leftovers:
    """What must be the same before and after a command line."""

    def __init__(self, scene: Scene) -> None:
        self.files = [scene.names[name] for name in (
            "image", "sha512", "unsealed", "ram", "text", "cut")]
        self.before = self.state()

    def state(self) -> tuple[object, ...]:
        return (mounts.mountinfo(), loop_files(),
                glob.glob("/tmp/.composefs.*"), [
                    path for path in self.files if in_use(path)])

    def check(self, test: ktap.Test, what: str) -> None:
        """Checks it. A file may be closed a little later."""
        end = time.monotonic() + 10
        while self.state() != self.before and time.monotonic() < end:
            time.sleep(0.05)
        for name, found, expected in zip(
                ("mounts", "loop devices", "directories", "open files"),
                self.state(), self.before):
            test.equal(found, expected, f"{what}: {name} afterwards")
