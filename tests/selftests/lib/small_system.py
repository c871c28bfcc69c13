# SPDX-License-Identifier: GPL-2.0

"""An image of a small system that a container can run, made of programs of
the system that the tests run on."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import fixtures, objects
from .special_tree import content
from .verity import enable_verity, measure_verity

PROGRAMS = ("sh", "cat", "chmod", "find", "mv", "rm", "sha256sum", "sort",
            "touch")

# What tools mount on, or look for, in a root that they cannot write to.
DIRECTORIES = ("data", "dev", "etc", "mnt", "proc", "root", "run", "sys",
               "tmp", "usr/bin", "usr/lib", "usr/lib64", "usr/sbin",
               "var/tmp")
FILES = {
    "etc/group": b"root:x:0:\n",
    "etc/hostname": b"small\n",
    "etc/hosts": b"127.0.0.1 localhost\n",
    "etc/os-release": b"ID=small\nNAME=small\n",
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
    "etc/resolv.conf": b"",
}
LINKS = {"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64",
         "sbin": "usr/sbin", "etc/mtab": "../proc/self/mounts",
         "data/link": "large"}
# Sizes of objects, and one of a file that is in the image itself.
DATA = {"large": 300000, "page": 4096, "of-1000": 5000, "small": 9}
OWNER = 1000

# The status with which READ ends.
STATUS = 7
# Reads all content and all attributes. What a tool mounts over is not below
# these directories.
READ = f"""
sha256sum /data/* /usr/bin/* | sort -k 2
find /bin /data /usr -printf '%p %y %m %U %G %s %n %T@ %l\\n' | sort
exit {STATUS}
"""
# Changes files, and prints what the changes have made.
WRITE = f"""
sha256sum /data/* | sort -k 2
echo changed >>/data/small
touch /data/new
chmod 0640 /data/page
rm /data/large-too
mv /data/link /data/moved
sha256sum /data/* | sort -k 2
find /data -printf '%p %y %m %U %G %l\\n' | sort
exit {STATUS}
"""


def libraries(program: str) -> set[Path]:
    """The shared libraries of a program, its loader among them."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True,
                          check=True).stdout
    return {Path(word) for line in said.splitlines()
            for word in line.split() if word.startswith("/")}


def copy(path: Path, tree: Path) -> None:
    """Copies a file into a tree, to where its directory is really."""
    target = tree / path.parent.resolve().relative_to("/") / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, target)


def fill(tree: Path) -> None:
    for name in DIRECTORIES:
        (tree / name).mkdir(parents=True)
    for name, target in LINKS.items():
        (tree / name).symlink_to(target)
    for name, data in FILES.items():
        (tree / name).write_bytes(data)
    for seed, (name, size) in enumerate(DATA.items(), 400):
        (tree / "data" / name).write_bytes(content(size, seed))
    os.link(tree / "data/large", tree / "data/large-too")
    os.chown(tree / "data/of-1000", OWNER, OWNER)
    os.chmod(tree / "data/of-1000", 0o600)
    needed: set[Path] = set()
    for name in PROGRAMS:
        found = shutil.which(name)
        if not found:
            raise FileNotFoundError(f"no program {name}")
        shutil.copy(found, tree / "usr/bin" / name)
        needed |= libraries(found)
    for path in needed:
        copy(path, tree)


def digests() -> list[str]:
    """The lines about /data that READ prints first."""
    found = {}
    for seed, (name, size) in enumerate(DATA.items(), 400):
        found[name] = hashlib.sha256(content(size, seed)).hexdigest()
    found["link"] = found["large-too"] = found["large"]
    return [f"{found[name]}  /data/{name}" for name in sorted(found)]


@contextmanager
def image() -> Iterator[fixtures.Image]:
    """Makes the image. Every user may read it."""
    with objects.store() as work, tempfile.TemporaryDirectory(
            prefix="tree-") as tree:
        os.chmod(tree, 0o755)
        fill(Path(tree))
        store, path = work.top / "objects", work.top / "image.cfs"
        subprocess.run(["mkcomposefs", f"--digest-store={store}", tree, path],
                       check=True)
        enable_verity(path)
        os.chmod(work.top, 0o755)
        version, has_acl = fixtures.read_header(str(path))
        yield fixtures.Image("small-system", str(path), version, has_acl,
                             [str(store)], digest=measure_verity(path))
