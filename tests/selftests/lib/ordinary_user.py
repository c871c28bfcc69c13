# SPDX-License-Identifier: GPL-2.0

"""An ordinary user who can use containers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from . import containers, userns

NAME = "tester"
# Where podman keeps what belongs to a login.
RUNTIME = Path(f"/run/user/{userns.USER}")


class User(NamedTuple):
    """A user with a home directory and subordinate ids."""

    home: str

    def run(self, command: Sequence[str]) -> containers.Result:
        """Runs a command as the user. podman leaves a process then, whose
        mount namespace does not see later mounts: it is ended."""
        result = self._run(command)
        self._run(["podman", "system", "migrate"])
        return result

    def _run(self, command: Sequence[str]) -> containers.Result:
        return containers.run(command, userns.USER, HOME=self.home,
                              USER=NAME, XDG_RUNTIME_DIR=str(RUNTIME))


@contextmanager
def made() -> Iterator[User]:
    home = f"/home/{NAME}"
    subprocess.run(["useradd", "--create-home", "--uid", str(userns.USER),
                    "--home-dir", home, NAME], check=True)
    RUNTIME.mkdir(parents=True)
    os.chown(RUNTIME, userns.USER, userns.USER)
    os.chmod(RUNTIME, 0o700)
    user = User(home)
    try:
        yield user
    finally:
        # Files of subordinate users are in there.
        user.run(["podman", "unshare", "rm", "-rf",
                  f"{home}/.local/share/containers"])
        subprocess.run(["userdel", NAME], check=True)
        shutil.rmtree(home)
        shutil.rmtree(RUNTIME)
