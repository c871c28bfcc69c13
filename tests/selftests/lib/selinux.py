# SPDX-License-Identifier: GPL-2.0

"""SELinux: a policy of the tests' own, domains, and what is denied."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import ktap, mounts
from .process import in_child

FS = "/sys/fs/selinux"
XATTR = "security.selinux"
HERE = Path(__file__).resolve().parents[1]

# As selinux.cil has it, and what a task is before there is a policy.
OWN_DOMAIN = "system_u:system_r:kernel_t:s0"
BEFORE = "kernel"


def label(kind: str) -> str:
    """The label of a file of this type."""
    return f"system_u:object_r:{kind}:s0"


def domain() -> str:
    """What this process is."""
    return Path("/proc/thread-self/attr/current").read_text(
        encoding="ascii").rstrip("\n\0")


def require() -> None:
    """Ends the program unless it may put its own policy in force."""
    known = Path("/proc/filesystems").read_text(encoding="ascii").split()
    if "selinuxfs" not in known:
        ktap.skip_all("SELinux is not active: boot with lsm=selinux")
    if not os.path.ismount(FS):
        mounts.mount("selinuxfs", FS, "selinuxfs")
    if domain() not in (BEFORE, OWN_DOMAIN):
        ktap.skip_all(f"a policy is in force that is not of these tests, which "
                      f"would replace it: this is {domain()}")


    # Denials come in numbers, and each has to be in the log.
    Path("/proc/sys/kernel/printk_ratelimit").write_text("0", encoding="ascii")


def load(*files: str) -> None:
    """Compiles a policy and puts it in the place of the one before."""
    with tempfile.TemporaryDirectory() as work:
        done = subprocess.run(
            ["secilc", f"--output={work}/policy", "--filecontexts=/dev/null",
             *(HERE / file for file in files)],
            capture_output=True, text=True, check=False)
        if done.returncode:
            ktap.bail_out(f"secilc: {done.stdout}{done.stderr}")
        policy = Path(f"{work}/policy").read_bytes()
    fd = os.open(f"{FS}/load", os.O_WRONLY)
    try:
        os.write(fd, policy)
    finally:
        os.close(fd)


def enforce(on: bool) -> None:
    Path(f"{FS}/enforce").write_text("1" if on else "0", encoding="ascii")


@contextmanager
def enforcing() -> Iterator[None]:
    """What the policy does not allow is denied, not only reported."""
    enforce(True)
    try:
        yield
    finally:
        enforce(False)


def in_domain(kind: str, function: Callable[[], Any]) -> Any:
    """What a function returns in a domain, or its OSError."""
    def run() -> Any:
        Path("/proc/thread-self/attr/current").write_text(
            f"system_u:system_r:{kind}:s0", encoding="ascii")
        return function()
    return in_child(run)


def label_of(file: str | int) -> str:
    """The label that the kernel shows of a file."""
    found = os.getxattr(file, XATTR) if isinstance(file, int) else \
        os.getxattr(file, XATTR, follow_symlinks=False)
    return found.rstrip(b"\0").decode(errors="backslashreplace")


class Denials:
    """What has been denied since it was made."""

    def __init__(self) -> None:
        self._fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self._fd, 0, os.SEEK_END)
        self.lines: list[str] = []

    def close(self) -> None:
        os.close(self._fd)

    def _read(self) -> None:
        while True:
            try:
                record = os.read(self._fd, 8192).decode(
                    errors="backslashreplace")
            except BlockingIOError:
                return
            text = record.partition(";")[2].partition("\n")[0]
            if "avc:  denied" in text:
                self.lines.append(text)

    def find(self, permission: str, source: str, target: str) -> bool:
        """Waits for a line. A thread of the kernel's own writes them, later.
        """
        wanted = re.compile(rf"{{[^}}]*\b(?:{permission})\b[^}}]*}}.*"
                            rf"scontext=\S*:{source}:.*"
                            rf"tcontext=\S*:{target}:")
        for _ in range(200):
            self._read()
            if any(wanted.search(line) for line in self.lines):
                return True
            time.sleep(0.05)
        return False


@contextmanager
def denials() -> Iterator[Denials]:
    found = Denials()
    try:
        yield found
    finally:
        found.close()
