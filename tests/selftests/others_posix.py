#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""What POSIX says about files, on an overlayfs with composefs as the lower
layer: pjdfstest, fsx, and the tests of attr and acl.
"""

from __future__ import annotations

import re

from lib import core, ktap, objects, others, whole_system
from lib.others import FAIL, PASS, SKIP, Outcome, Program
from lib.whole_system import GIVEN, WRITABLE, Result

# A mount that is made read-only, and flags of FreeBSD, are left out.
PJDFSTEST = """
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.05
allow_remount = false
[dummy_auth]
entries = [["nobody", "nogroup"], ["games", "games"]]
"""

# Each of them uses the file in ways that the others do not.
FSX = {
    "read, write and truncate": "read = 10\nwrite = 10\ntruncate = 5",
    "maps": "mapread = 10\nmapwrite = 10\ntruncate = 2\nread = 5\n"
            "invalidate = 2",
    "closed and opened again": "close_open = 10\nread = 10\nmapread = 10\n"
                               "write = 5\nmapwrite = 5",
    "holes and copies": "punch_hole = 5\nposix_fallocate = 5\nread = 10\n"
                        "copy_file_range = 5\nsendfile = 5\nwrite = 10\n"
                        "fsync = 1\nfdatasync = 1\nposix_fadvise = 5",
}
OPERATIONS, SEEDS = 2000, 3
# A large file of the lower layer.
FSX_FILE = "/usr/bin/strace"

ATTR = ["attr.test", "root/getfattr.test"]
ACL = ["cp.test", "getfacl-lfs.test", "getfacl-noacl.test",
       "getfacl-recursive.test", "malformed-restore.test", "misc.test",
       "sbits-restore.test", "setfacl-X.test", "utf8-filenames.test",
       "root/getfacl.test", "root/permissions.test", "root/restore.test",
       "root/setfacl.test"]


def read_pjdfstest(name: str, result: Result) -> list[Outcome]:
    """Lines of a name and a word, and after them, indented, why."""
    found: list[Outcome] = []
    words = {"ok": PASS, "skipped": SKIP, "FAILED": FAIL}
    for line in result.output.splitlines():
        match = re.fullmatch(r"(\S+::\S+)\s+(ok|skipped|FAILED)", line)
        if match:
            found.append(Outcome(f"{name}: {match[1]}", words[match[2]]))
        elif line.startswith("\t") and found:
            last = found[-1]
            found[-1] = last._replace(why=f"{last.why} {line.strip()}".strip())
    if result.status not in (0, 1) or "Summary" not in result.output:
        found += others.by_status(name, result)
    return found


def read_commands(name: str, result: Result) -> list[Outcome]:
    """A line for each command, and for one that failed, what differs."""
    lines = [line for line in result.output.splitlines()
             if not line.endswith("-- ok")]
    return others.by_status(name, result._replace(output="\n".join(lines)), ())


def shell(script: str, *words: str) -> list[str]:
    return ["sh", "-c", script, "sh", *words]


def programs() -> list[Program]:
    found = [Program(
        "pjdfstest", WRITABLE,
        shell('echo "$1" >/tmp/pjdfstest.toml; mkdir /tmp/pjdfstest; '
              f"exec {GIVEN}/bin/pjdfstest -c /tmp/pjdfstest.toml "
              "-p /tmp/pjdfstest -s /run", PJDFSTEST),
        read_pjdfstest, 1200, {"NO_COLOR": "1", "RUST_BACKTRACE": "0"})]
    for what, weights in FSX.items():
        for seed in range(1, SEEDS + 1):
            found.append(Program(
                f"fsx, {what}, seed {seed}", WRITABLE,
                shell('echo "$1" >/tmp/fsx.toml; '
                      f"exec {GIVEN}/bin/fsx -N {OPERATIONS} -S {seed} "
                      f"-f /tmp/fsx.toml {FSX_FILE}", f"[weights]\n{weights}"),
                others.by_status, 300))
    for package, files in (("attr", ATTR), ("acl", ACL)):
        for file in files:
            found.append(Program(
                f"{package}: {file}", WRITABLE,
                shell(f"cd {GIVEN}/sources/{package}-*/test && "
                      'exec perl -U ./run "$1"', file),
                read_commands, 300))
    return found


def main() -> None:
    if not whole_system.SHARE:
        ktap.skip_all("COMPOSEFS_OTHERS is not set: it names a directory with "
                      "pjdfstest and others")
    others.run("POSIX", programs(), least=390)


core.require_composefs()
objects.require_verity()
ktap.require_programs("composefs", "mkcomposefs")
ktap.require_programs("perl", "perl")
main()
