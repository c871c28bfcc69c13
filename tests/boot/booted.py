# SPDX-License-Identifier: GPL-2.0

"""What the programs of tests/boot share. They run in a system that `cargo
xtask boot` has booted."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

# The digest of the image that has been booted.
DIGEST = re.findall(r"images/([0-9a-f]{64})",
                    Path("/proc/cmdline").read_text(encoding="utf-8"))[0]


def run(*command: str) -> str:
    """Runs a program, which has to succeed. Returns what it prints."""
    done = subprocess.run(command, capture_output=True, text=True,
                          check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: exit status "
                             f"{done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()


def says(*command: str) -> tuple[int, str]:
    """Runs a program. Returns its exit status and all that it prints."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout.strip()


def store_path() -> Path:
    """Where the disk with the store is mounted."""
    options = run("findmnt", "--noheadings", "--output", "OPTIONS", "/")
    return Path(re.findall(r"basedir=([^,]*)/composefs/objects", options)[0])


def care(*words: str) -> tuple[int, str]:
    """Runs composefs-store on the store. Returns its exit status and all that
    it prints."""
    return says(str(Path(__file__).with_name("composefs-store")), "--store",
                f"{store_path()}/composefs", *words)


def objects() -> int:
    """How many objects the store has."""
    return sum(len(names) for _, _, names
               in os.walk(f"{store_path()}/composefs/objects"))


def read_all() -> int:
    """Reads every file of the root. Returns how many there are."""
    device, count = os.stat("/").st_dev, 0
    for top, directories, names in os.walk("/"):
        directories[:] = [name for name in directories
                          if os.lstat(f"{top}/{name}").st_dev == device]
        for name in names:
            path = Path(top, name)
            if path.is_file() and not path.is_symlink():
                with open(path, "rb") as file:
                    while file.read(1 << 20):
                        pass
                count += 1
    return count
