#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""stress-ng's stressors of file systems, each for some seconds.

All of them are on an overlayfs with composefs as the lower layer. Those that
only read are also on composefs itself. The program, its libraries and what it
reads are files of the image.
"""

from __future__ import annotations

import re
import subprocess

from lib import core, ktap, objects, others
from lib.others import Outcome, Program
from lib.whole_system import READ_ONLY, WRITABLE, Result

# They read, map or run files of the system, or only look at mounts.
READING = """access chdir chroot dynlib exec getdent handle inode-flags
mincore mmapfiles mmapfork mmapmany open readahead spawn statmount vfork
fd-race fd-fork sendfile splice umask vm-addr rofs""".split()

# Some stressors refuse to run as root, or are told which mount to use.
BY_USER = ("exec", "spawn")
OPTIONS = {"rofs": ["--rofs-dir", "/usr"]}

# They change files.
WRITING = """access acl bind-mount chattr chdir chmod chown copy-file dentry
dentrycache dir dirdeep dirmany dnotify dup fallocate fanotify fcntl fd-fork
fiemap file-ioctl filehole filename filerace flock fpunch fsize fstat getdent
handle hdd inode-flags inotify io iomix lease link locka lockf lockmix lockofd
metamix mknod mmap mmapfiles msync open pseek readahead rename seek
sendfile splice statmount symlink sync-file tee touch umask unlink utime verity
xattr aio aiol io-uring fault fifo exec umount mmapcow
vm-splice""".split()

SECONDS = 2
# Two of each: some stressors compete for one file.
INSTANCES = 2

FAILED, NO_RESOURCES, NOT_IMPLEMENTED = 2, 3, 4


def read(name: str, result: Result) -> list[Outcome]:
    """The exit status tells most. A stressor that skips itself prints why."""
    reasons = [line for line in result.output.splitlines()
               if re.search(r"skipp|not implemented|will be ignored", line)]
    if result.status in (NO_RESOURCES, NOT_IMPLEMENTED) or (
            result.status == 0 and "skipped: 0" not in result.output):
        why = reasons[0] if reasons else others.tail(result.output)
        return [Outcome(name, others.SKIP, why.partition("] ")[2] or why)]
    return others.by_status(name, result, ())


def command(stressor: str) -> list[str]:
    found = ["stress-ng", "--temp-path", "/tmp", "--verify", "--no-rand-seed",
             "--oomable", "--timeout", f"{SECONDS}s", f"--{stressor}",
             str(INSTANCES), *OPTIONS.get(stressor, [])]
    if stressor in BY_USER:
        found = ["setpriv", "--reuid=1", "--regid=1", "--clear-groups", *found]
    return found


def programs() -> list[Program]:
    return [
        Program(stressor, kind, command(stressor), read, seconds=60)
        for kind, stressors in ((READ_ONLY, READING), (WRITABLE, WRITING))
        for stressor in stressors]


def main() -> None:
    version = subprocess.run(["stress-ng", "--version"], check=True, text=True,
                             capture_output=True).stdout
    print(f"# {version}", flush=True)
    others.run("stress-ng", programs(), least=85)


core.require_composefs()
objects.require_verity()
ktap.require_programs("stress-ng", "stress-ng")
ktap.require_programs("composefs", "mkcomposefs")
main()
