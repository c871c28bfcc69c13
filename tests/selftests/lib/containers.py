# SPDX-License-Identifier: GPL-2.0

"""Commands that run a shell script in a container with a given root."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from . import mounts

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Containers have no network. crun confines devices with BPF, unless there is
# no cgroup.
PODMAN = ("podman", "run", "--rm", "--network=none", "--cgroups=disabled")
# There is no systemd that runs, and nothing of /etc is bound into the root.
NSPAWN = ("systemd-nspawn", "--quiet", "--register=no", "--keep-unit",
          "--resolv-conf=off", "--timezone=off", "--link-journal=no",
          "--pipe")
# Files of the root that are made or mounted by the tool itself.
BUBBLEWRAP = ("--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp",
              "--unshare-pid", "--unshare-ipc", "--unshare-uts")


class Result(NamedTuple):
    """How a command has ended."""

    status: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        return f"status {self.status}: {self.stdout[-500:]}{self.stderr}"


def run(command: Sequence[str], user: int | None = None,
        **environment: str) -> Result:
    """Runs a command, as a user if there is one."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL, user=user, group=user,
        extra_groups=None if user is None else [],
        cwd=environment.get("HOME", "/"),
        env={"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/root", **environment})
    return Result(done.returncode, done.stdout, done.stderr)


def podman(root: str, script: str, *options: str) -> list[str]:
    return [*PODMAN, *options, "--rootfs", root, "/bin/sh", "-c", script]


def without_clone(top: str) -> None:
    """Unmounts the clone that podman mounts over a root with ":idmap". podman
    5.8 cannot always unmount it, on whatever file system, and leaves it."""
    end = time.monotonic() + 60
    while _is_running("podman") or _is_running("conmon"):
        if time.monotonic() > end:
            raise TimeoutError("podman goes on to run")
        time.sleep(0.1)
    while sum(fields[4] == top for fields in mounts.mountinfo()) > 1:
        mounts.umount(top)


def _is_running(name: str) -> bool:
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text().rstrip("\n") == name:
                return True
        except OSError:
            continue
    return False


def nspawn(root: str, script: str, *options: str) -> list[str]:
    return [*NSPAWN, *options, f"--directory={root}", "/bin/sh", "-c", script]


def bubblewrap(script: str, *options: str) -> list[str]:
    """The options say what is mounted as the root."""
    return ["bwrap", *options, *BUBBLEWRAP, "--", "/bin/sh", "-c", script]


def configuration(root: str, script: str, read_only: bool = False
                  ) -> dict[str, Any]:
    """The OCI configuration of a container."""
    rights = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_MKNOD",
              "CAP_FSETID"]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0}, "cwd": "/",
            "args": ["/bin/sh", "-c", script],
            "env": ["PATH=/usr/bin:/bin", "LANG=C"],
            "capabilities": {kind: rights for kind in (
                "bounding", "effective", "permitted")}},
        "root": {"path": root, "readonly": read_only},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}],
        "linux": {"namespaces": [{"type": kind} for kind in (
            "pid", "mount", "ipc", "uts")]}}


@contextmanager
def crun(config: dict[str, Any]) -> Iterator[list[str]]:
    """Gives the command that runs a container of this configuration."""
    with tempfile.TemporaryDirectory() as where:
        os.chmod(where, 0o755)
        Path(where, "config.json").write_text(json.dumps(config),
                                              encoding="ascii")
        yield ["crun", "--cgroup-manager=disabled", f"--root={where}/state",
               "run", f"--bundle={where}", "composefs-test"]
