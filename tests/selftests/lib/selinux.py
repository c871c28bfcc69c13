# SPDX-License-Identifier: GPL-2.0

"""SELinux: loading a policy, running in a domain, finding denials."""

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

from . import kernel_log, ktap, mounts
from .process import in_child

FS = "/sys/fs/selinux"
XATTR = "security.selinux"
HERE = Path(__file__).resolve().parents[1]

# The domain of the tests in selinux.cil, and that of all tasks while no policy
# is loaded.
OWN_DOMAIN = "system_u:system_r:kernel_t:s0"
NO_POLICY = "kernel"


def label(kind: str) -> str:
    """The label of a file of this type."""
    return f"system_u:object_r:{kind}:s0"


def domain() -> str:
    """The domain of this process."""
    return Path("/proc/thread-self/attr/current").read_text(
        encoding="ascii").rstrip("\n\0")


def require() -> None:
    """Ends the program unless it may load its own policy."""
    known = Path("/proc/filesystems").read_text(encoding="ascii").split()
    if "selinuxfs" not in known:
        ktap.skip_all("SELinux is not active: boot with lsm=selinux")
    if not os.path.ismount(FS):
        mounts.mount("selinuxfs", FS, "selinuxfs")
    if domain() not in (NO_POLICY, OWN_DOMAIN):
        ktap.skip_all("the tests would replace the policy that is loaded: "
                      f"they run in {domain()}")
    # Tests look for each denial in the log.
    Path("/proc/sys/kernel/printk_ratelimit").write_text("0", encoding="ascii")


def load(*files: str) -> None:
    """Compiles a policy and loads it."""
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
    """Denies what the policy does not allow. Outside of this context it is
    only reported."""
    enforce(True)
    try:
        yield
    finally:
        enforce(False)


def in_domain(kind: str, function: Callable[[], Any]) -> Any:
    """Returns what a function returns in a domain, or raises its OSError."""
    def run() -> Any:
        Path("/proc/thread-self/attr/current").write_text(
            f"system_u:system_r:{kind}:s0", encoding="ascii")
        return function()
    return in_child(run)


def label_of(file: str | int) -> str:
    """The label of a file, as the kernel shows it."""
    found = os.getxattr(file, XATTR) if isinstance(file, int) else \
        os.getxattr(file, XATTR, follow_symlinks=False)
    return found.rstrip(b"\0").decode(errors="backslashreplace")


class Denials:
    """The denials in the kernel log since this object was made."""

    def __init__(self) -> None:
        self._fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self._fd, 0, os.SEEK_END)
        self.lines: list[str] = []

    def close(self) -> None:
        os.close(self._fd)

    def _read(self) -> None:
        self.lines += [text for text in kernel_log.read_pending(self._fd)
                       if "avc:  denied" in text]

    def find(self, permission: str, source: str, target: str) -> bool:
        """Waits for a denial. A kernel thread logs it with a delay."""
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
