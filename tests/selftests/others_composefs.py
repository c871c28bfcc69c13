#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""The composefs project's own tests, with mount.composefs of this project, and
the images that they make.

They run on the guest's disk, since they need fs-verity. The same tests with
the project's C program are what a failure is compared with.
"""

from __future__ import annotations

import gzip
import os
import re
import subprocess
from pathlib import Path

from lib import (core, fixtures, ktap, objects, others, reference,
                 whole_system)
from lib.others import FAIL, PASS, Outcome, Program
from lib.whole_system import HELPER, Result

# The project's assets with more than a file or two. Two others have 176,000
# files, which would take long to compare.
ASSETS = ("config", "config-with-hard-link", "cs9-x86_64-minimal", "longlink",
          "no-newline", "special", "special_v1")

# The programs of $1 are the ones that run; composefs-fuse, which Debian does not
# have, mounts by mount.composefs.
SETUP = r"""
set -e
source=$(echo /mnt/others/sources/composefs-*)
work=$(mktemp --directory "$SCRATCH/composefs-tests.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin" "$work/tmp"
for program in mkcomposefs composefs-info; do
    ln -s "$(command -v $program)" "$work/bin"
done
ln -s "$HELPER" "$work/bin/mount.composefs"
cat >"$work/bin/composefs-fuse" <<'END'
#!/bin/bash
[[ $1 == -o && $2 =~ ^source=(.*),basedir=(.*)$ ]] || exit 2
exec mount.composefs -o "basedir=${BASH_REMATCH[2]}" "${BASH_REMATCH[1]}" "$3"
END
cat >"$work/bin/composefs-dump" <<'END'
#!/bin/bash
composefs-info dump "$1" | mkcomposefs --from-file - "$2"
END
chmod 755 "$work"/bin/composefs-*
export PATH="$work/bin:$PATH" TMPDIR="$work/tmp" cfsroot="$work/root"
mkdir "$cfsroot"
cd "$source"
"""

SCRIPTS = {
    "test-units.sh": 'tests/test-units.sh "$work/bin"',
    "test-random-fuse.sh": 'has_fuse=y seed=1 tests/test-random-fuse.sh "$work/bin"',
}


def read(name: str, result: Result) -> list[Outcome]:
    """Lines "Test X: OK" and the exit status."""
    found = []
    for line in result.output.splitlines():
        match = re.fullmatch(r"Test (\S+):? (OK|Failed)", line)
        if match:
            passed = match[2] == "OK"
            found.append(Outcome(f"{name}: {match[1]}",
                                 PASS if passed else FAIL,
                                 others.tail(result.output)))
    return found + others.by_status(name, result)


def images() -> Path:
    """Makes images of the project's assets, and returns their directory."""
    work = fixtures.SCRATCH / "composefs-assets"
    work.mkdir(exist_ok=True)
    [source] = Path(whole_system.SHARE).glob("sources/composefs-*/tests/assets")
    for path in sorted(source.glob("*.dump*")):
        name = path.name.partition(".")[0]
        if path.suffix not in (".dump", ".gz") or name not in ASSETS:
            continue
        dump = path.read_bytes()
        if path.suffix == ".gz":
            dump = gzip.decompress(dump)
        version = path.with_name(path.name + ".version")
        options = []
        if version.exists():
            options = [f"--max-version={version.read_text().strip()}",
                       f"--min-version={version.read_text().strip()}"]
        image = work / f"{name}.cfs"
        subprocess.run(["mkcomposefs", *options, "--from-file", "-", image],
                       input=dump, check=True)
        Path(f"{image}.gz").write_bytes(gzip.compress(image.read_bytes()))
    return work


def programs() -> list[Program]:
    found = [Program(name, HELPER, ["bash", "-c", f"{SETUP}\n{script}"], read,
                     900, {"SCRATCH": str(fixtures.SCRATCH)})
             for name, script in SCRIPTS.items()]
    environment = {**os.environ, "COMPOSEFS_IMAGES": str(images())}
    for name in ("differential.py", "differential_large.py"):
        found.append(Program(
            name, HELPER,
            [f"{Path(__file__).parent}/{name}", "without objects"],
            others.by_tap, 1200, environment))
    return found


def main() -> None:
    if not whole_system.SHARE:
        ktap.skip_all("COMPOSEFS_OTHERS is not set: it names a directory with "
                      "the source of composefs")
    others.run("the composefs project", programs(), least=13)


core.require_composefs()
fixtures.require()
reference.require_support()
objects.require_verity()
ktap.require_programs("composefs", "mkcomposefs", "composefs-info")
main()
