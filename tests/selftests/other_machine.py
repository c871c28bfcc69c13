#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Images and objects that another kind of machine made.

COMPOSEFS_OTHER_FIXTURES names a disk with them, which scripts/make-fixtures
made. An image is mounted by the digest that was measured there. And the tools
make the same image of the same tree here.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

from lib import fixtures, ktap, mounts, reference
from lib.compare import Differences, attributes, same_content
from lib.fixtures import Image
from lib.tree import walk

suite = ktap.Suite()

# What scripts/make-fixtures gave `cfsctl mkcomposefs`.
MKCOMPOSEFS = {"matrix": ["--hardlinks"],
               "store": ["--hardlinks"],
               "rights": ["--hardlinks"],
               "special-v0": ["--hardlinks"],
               "special-v0-unlinked": [],
               "special-v1": ["--hardlinks", "--min-version=1"]}
# And the versions that it gave `cfsctl create-image`.
CFSCTL = {"matrix-sha512": 1, "special-v2": 2, "special-v1-sha512": 1,
          "special-v2-sha512": 2}


def mount_other() -> Path:
    """Mounts the disk for this program alone."""
    disk = os.environ.get("COMPOSEFS_OTHER_FIXTURES")
    if not disk:
        ktap.skip_all("COMPOSEFS_OTHER_FIXTURES names no disk")
    # pylint: disable=consider-using-with
    top = tempfile.mkdtemp(prefix="other-", dir="/run")
    subprocess.run(["mount", "-o", "ro", disk, top], check=True)
    return Path(top)


def compare_with_reference(test: ktap.Test, image: Image) -> None:
    """Compares all of an image with erofs + overlayfs."""
    test.need(image.digest, "no digest is known")
    differences = Differences()
    digest = ("digest", image.digest)
    with mounts.composefs(image.path, image.objects, digest) as our_top, \
            reference.mount(image, verity=True) as their_top:
        ours = {entry.path: entry for entry in walk(our_top)}
        theirs = {entry.path: entry for entry in walk(their_top)}
        differences.compare("paths", b"", sorted(ours), sorted(theirs))
        for path in ours.keys() & theirs.keys():
            differences.compared += 1
            our, their = ours[path], theirs[path]
            differences.compare("attributes", path, attributes(our),
                                attributes(their))
            if our.format == 0o100000:
                found = same_content(os.fsencode(our_top) + path,
                                     os.fsencode(their_top) + path,
                                     our.stat.st_size)
                if found:
                    differences.add("content", path, found, None)
        test.note(f"{differences.compared} entries")
    differences.report(test)


def compare_with_tree(test: ktap.Test, image: Image) -> None:
    """Compares the content of files with the tree that the image was made
    from."""
    digest = ("digest", image.digest)
    count = 0
    with mounts.composefs(image.path, image.objects, digest) as top:
        for entry in walk(image.source or ""):
            if entry.format == 0o100000:
                found = Path(os.fsdecode(os.fsencode(top) + entry.path))
                source = os.fsencode(image.source or "") + entry.path
                count += 1
                test.equal(found.read_bytes(),
                           Path(os.fsdecode(source)).read_bytes(),
                           f"content of {entry.path!r}")
    test.check(count, "no files")


def cfsctl() -> str:
    tools = os.environ.get("COMPOSEFS_TOOLS")
    if not tools:
        raise ktap.Skipped("COMPOSEFS_TOOLS names no directory with cfsctl")
    return f"{tools}/cfsctl"


def made_by_mkcomposefs(image: Image) -> str:
    with tempfile.TemporaryDirectory(dir=fixtures.SCRATCH) as work:
        made = f"{work}/image"
        subprocess.run(
            [cfsctl(), "mkcomposefs", f"--digest-store={work}/objects",
             *MKCOMPOSEFS[image.name], image.source or "", made], check=True)
        said = subprocess.run(["fsverity", "digest", "--compact", made],
                              capture_output=True, check=True, text=True)
        return f"sha256:{said.stdout.strip()}"


def made_by_cfsctl(image: Image) -> str:
    with tempfile.TemporaryDirectory(dir=fixtures.SCRATCH) as work:
        command = [cfsctl(), "--repo", f"{work}/repository"]
        subprocess.run([*command, "init", "--algorithm",
                        f"fsverity-{image.algorithm}-12"], check=True,
                       stdout=subprocess.DEVNULL)
        said = subprocess.run(
            [*command, "--erofs-version", str(CFSCTL[image.name]),
             "create-image", "--no-propagate-usr-to-root",
             image.source or ""], capture_output=True, check=True, text=True)
        digest = said.stdout.split()[-1].split(":")[-1]
        return f"{image.algorithm}:{digest}"


def same_bytes(test: ktap.Test, image: Image) -> None:
    """Makes the image here. The digest is that of its bytes."""
    make = (made_by_mkcomposefs if image.name in MKCOMPOSEFS
            else made_by_cfsctl)
    test.equal(make(image), image.digest, "digest")


def add_tests() -> None:
    top = mount_other()
    os.environ["COMPOSEFS_FIXTURES"] = str(top)
    with open(top / "manifest.json", encoding="utf-8") as file:
        manifest = json.load(file)
    # The trees of the others were not kept.
    kept = {entry["name"] for entry in manifest["images"]
            if (entry["source"] or "").startswith("trees/")}
    for image in fixtures.load():
        if image.name not in kept:
            continue
        if "no-digests" not in image.name:
            suite.add(f"{image.name} by its digest equals erofs + overlayfs",
                      lambda test, image=image:
                      compare_with_reference(test, image))
            suite.add(f"{image.name} has the content of its tree",
                      lambda test, image=image:
                      compare_with_tree(test, image))
        if image.name in MKCOMPOSEFS | CFSCTL:
            suite.add(f"{image.name} is the same when it is made here",
                      lambda test, image=image: same_bytes(test, image))


reference.require_support()
add_tests()
suite.run()
