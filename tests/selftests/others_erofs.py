#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""erofs-utils on the images that are mounted here: fsck.erofs finds nothing
wrong, and dump.erofs tells of a file what the mount tells.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterator

from lib import core, fixtures, ktap, mounts, tree
from lib.fixtures import Image

suite = ktap.Suite()

# dump.erofs starts anew for each file.
MOST_FILES = 60

# fsck.erofs finds that in images by composefs-rs 0.9.4. The kernel's erofs
# reads them all the same, and so does composefs.
ACROSS_BLOCKS = "inline data across blocks"
WITH_FAULTS = ("special-v2", "special-v2-sha512")


def run(*words: str) -> tuple[int, str]:
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.STDOUT, check=False,
                          errors="backslashreplace")
    return done.returncode, done.stdout


def fsck(test: ktap.Test, image: Image) -> None:
    status, said = run("fsck.erofs", image.path)
    if image.name in WITH_FAULTS:
        test.check(status and ACROSS_BLOCKS in said, f"no fault: {said}")
    else:
        test.equal(status, 0, f"{said.strip()}: status")


def some(entries: list[tree.Entry]) -> Iterator[tree.Entry]:
    """Files of all types, from the whole tree. dump.erofs takes no path with
    other characters."""
    plain = [entry for entry in entries
             if re.fullmatch(rb"[\w./+-]*", entry.path)]
    for kind in {entry.format for entry in plain}:
        of_kind = [entry for entry in plain if entry.format == kind]
        yield from of_kind[::max(1, len(of_kind) * 4 // MOST_FILES)]


def compare(test: ktap.Test, image: Image, entry: tree.Entry) -> None:
    path = os.fsdecode(entry.path) or "/"
    status, said = run("dump.erofs", f"--path={path}", image.path)
    test.equal(status, 0, f"{path}: {said.strip()}: status")
    found = dict(re.findall(r"(\w+): *([\w-]+)", said))
    info = entry.stat
    expected = {"NID": info.st_ino, "Links": info.st_nlink,
                "Uid": info.st_uid, "Gid": info.st_gid}
    # overlayfs, and so composefs, has other sizes of directories.
    if not stat.S_ISDIR(info.st_mode):
        expected["Size"] = info.st_size
    for name, value in expected.items():
        test.equal(found.get(name), str(value), f"{path}: {name}")
    access = re.search(r"Access: (\d+)/", said)
    # It prints no more than nine bits.
    test.equal(access and int(access[1], 8), info.st_mode & 0o777,
               f"{path}: Access")


def dump(test: ktap.Test, image: Image) -> None:
    with mounts.composefs(image.path, image.objects,
                          ("noverity", None)) as top:
        compared = 0
        for entry in some(list(tree.walk(top))):
            compare(test, image, entry)
            compared += 1
    test.check(compared >= 3, f"{compared} files compared")


core.require_composefs()
ktap.require_programs("erofs-utils", "fsck.erofs", "dump.erofs")
print(f"# {run('dump.erofs', '--version')[1].splitlines()[0]}", flush=True)
for _image in fixtures.require():
    suite.add(f"fsck.erofs {_image.name}",
              lambda test, image=_image: fsck(test, image))
    suite.add(f"dump.erofs --path of files of {_image.name}",
              lambda test, image=_image: dump(test, image))
suite.run()
