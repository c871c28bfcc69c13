# SPDX-License-Identifier: GPL-2.0

"""Images of layers, by the tools of others: tar(1) packs a layer, umoci(1)
makes an OCI image of some and unpacks it, cfsctl(1) of the composefs project
merges the layers to one image of composefs.

COMPOSEFS_TOOLS names a directory with umoci and cfsctl.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from . import ktap
from .verity import enable_verity

# In a layer, these names say that a file or the other files of a directory of
# the layers below are gone.
GONE, ALL_GONE = ".wh.", ".wh..wh..opq"


def require() -> None:
    """Ends the program where the tools are missing."""
    directory = os.environ.get("COMPOSEFS_TOOLS")
    if not directory:
        ktap.skip_all("COMPOSEFS_TOOLS is not set: it names a directory with "
                      "umoci and cfsctl")
    os.environ["PATH"] = f"{directory}:{os.environ['PATH']}"
    for package, program in (("umoci", "umoci"), ("composefs-ctl", "cfsctl"),
                             ("composefs", "mkcomposefs"), ("tar", "tar")):
        ktap.require_programs(package, program)


def run(*command: str | Path, stdin: bytes = b"") -> bytes:
    """Runs a program. Returns what it prints."""
    done = subprocess.run(command, input=stdin, capture_output=True,
                          check=False)
    if done.returncode:
        raise AssertionError(f"{command}: {done.stderr.decode()}")
    return done.stdout


def pack(tree: Path) -> Path:
    """The archive of a layer. Its paths do not begin with "./"."""
    archive = tree.with_suffix(".tar")
    names = b"\0".join(sorted(os.listdir(os.fsencode(tree))))
    run("tar", "--create", f"--file={archive}", f"--directory={tree}",
        "--sort=name", "--numeric-owner", "--format=posix", "--xattrs",
        "--xattrs-include=*", "--null", "--files-from=-", stdin=names)
    return archive


class Server:
    """Makes images of layers, in a directory."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.layout = top / "oci"
        self.repository = top / "repository"
        self.objects_of: dict[str, set[str]] = {}
        run("umoci", "init", "--layout", self.layout)
        self.cfsctl("init", "--algorithm=fsverity-sha256-12")

    def cfsctl(self, *words: str) -> bytes:
        return run("cfsctl", f"--repo={self.repository}", *words)

    def new(self, tag: str) -> None:
        """An image without layers."""
        run("umoci", "new", "--image", f"{self.layout}:{tag}")

    def add(self, below: str, tag: str, archive: Path) -> None:
        """An image with one more layer than another one."""
        run("umoci", "raw", "add-layer", "--image", f"{self.layout}:{below}",
            "--tag", tag, archive)

    def unpack(self, tag: str) -> Path:
        """The tree of a container engine."""
        bundle = self.top / f"unpacked-{tag}"
        run("umoci", "unpack", "--image", f"{self.layout}:{tag}", bundle)
        return bundle / "rootfs"

    def repack(self, tree: Path, tag: str) -> None:
        """An image with one more layer, in which umoci notes what was changed
        in the tree since it was unpacked."""
        run("umoci", "repack", "--image", f"{self.layout}:{tag}", tree.parent)

    def pull(self, tag: str) -> Path:
        """The image of composefs that cfsctl makes. Returns its file."""
        self.cfsctl("oci", "pull", f"oci:{self.layout}:{tag}", tag)
        digest = json.loads(self.cfsctl("oci", "inspect", tag)
                            )["composefs_erofs"]
        return self.repository / "objects" / digest[:2] / digest[2:]

    def dump(self, tag: str, *options: str) -> bytes:
        """The merged layers as mkcomposefs reads them."""
        return self.cfsctl("oci", "dump", *options, tag)

    def brought(self, tag: str) -> list[set[str]]:
        """For each layer, the names of the objects that no layer below has."""
        config: dict[str, Any] = json.loads(
            self.cfsctl("oci", "inspect", "--config", tag))
        before: set[str] = set()
        found = []
        for layer in config["rootfs"]["diff_ids"]:
            names = self.objects_of.get(layer)
            if names is None:
                names = self._objects(layer)
                self.objects_of[layer] = names
            found.append(names - before)
            before |= names
        return found

    def _objects(self, layer: str) -> set[str]:
        """The names of a layer's objects."""
        lines = self.cfsctl("oci", "layer", "--dumpfile", layer).splitlines()
        # The fields of a line are separated by spaces, and have none. The last
        # one that all lines have is the digest, if the file has an object.
        fields = [line.split(b" ") for line in lines]
        return {field[8].decode() for field in fields if field[10] != b"-"}

    def ship(self, names: set[str], directory: Path) -> None:
        """Copies objects to a new directory, and enables fs-verity."""
        directory.mkdir()
        for name in names:
            copy = directory / name
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(self.repository / "objects" / name, copy)
            enable_verity(copy)
