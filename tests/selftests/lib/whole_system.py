# SPDX-License-Identifier: GPL-2.0

"""Programs in a system whose root is an image of the guest's own system.

The root is a composefs, or an overlayfs with a composefs as the lower layer.
For comparison there are the same on erofs: the stack, and an overlayfs with
the stack's layers as lower ones.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from . import fixtures, mounts, overlayfs, reference
from .verity import enable_verity, measure_verity

# Where programs find what the guest was given beside its packages.
GIVEN = "/opt"
# Its directory in the guest.
SHARE = os.environ.get("COMPOSEFS_OTHERS", "")

READ_ONLY, WRITABLE = "composefs", "overlayfs on composefs"
STACK, STACK_WRITABLE = "erofs + overlayfs", "overlayfs on erofs"
# No other root, but one of two programs that mount.
HELPER, C_HELPER = "mount.composefs", "mount.composefs in C"
# What each is compared with.
REFERENCE = {READ_ONLY: STACK, WRITABLE: STACK_WRITABLE, HELPER: C_HELPER}
HELPERS = {HELPER: "/usr/sbin/mount.composefs",
           C_HELPER: "/usr/libexec/composefs-c/mount.composefs"}

# Starts a command with $1 as the root, in namespaces of its own. Directories
# of a read-only root that a running system writes to are file systems of their
# own.
ENTER = r"""
set -e
root=$1 read_only=$2
shift 2
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
if [ "$read_only" ]; then
    for dir in tmp var/tmp root; do
        mount -t tmpfs -o mode=1777 tmpfs "$root/$dir"
    done
fi
cd "$root"
pivot_root . .
umount -l .
cd /tmp
ulimit -c 0
exec "$@"
"""


class Result(NamedTuple):
    """How a command has ended. Without a status, it took too long."""

    status: int | None
    output: str


def _make(work: Path) -> None:
    """Makes the image and its objects: the guest's root file system, without
    what is mounted in it, and what it was given."""
    with mounts.directory() as root, mounts.bound("/", root), ExitStack() as on:
        if SHARE:
            on.enter_context(mounts.bound(SHARE, root + GIVEN))
        subprocess.run(["mkcomposefs", f"--digest-store={work}/objects",
                        root, work / "new"], check=True)
    enable_verity(work / "new")
    (work / "new").rename(work / "image")


def image() -> fixtures.Image:
    """The image. The first program makes it, others of the same boot find
    it."""
    work = fixtures.SCRATCH / "whole-system"
    if not (work / "image").exists():
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        _make(work)
    path = str(work / "image")
    version, has_acl = fixtures.read_header(path)
    return fixtures.Image(
        name="whole-system", path=path, version=version, has_acl=has_acl,
        objects=[f"{work}/objects"], digest=measure_verity(path))


@contextmanager
def mounted(kind: str) -> Iterator[str]:
    """Mounts the image in one of the four ways. Gives the path. A new layer
    to write to is empty, and gone afterwards."""
    if kind in HELPERS:
        yield "/"
        return
    found = image()
    with ExitStack() as on:
        if kind == STACK:
            yield on.enter_context(reference.mount(found))
        elif kind == STACK_WRITABLE:
            metadata = on.enter_context(reference.erofs(found))
            yield on.enter_context(overlayfs.writable(
                [("lowerdir+", metadata),
                 *(("datadir+", path) for path in found.objects),
                 ("metacopy", "on"), ("redirect_dir", "on")])).top
        else:
            top = on.enter_context(mounts.composefs(
                found.path, found.objects, ("digest", found.digest)))
            if kind == WRITABLE:
                top = on.enter_context(
                    overlayfs.writable([("lowerdir+", top)])).top
            yield top


def run(root: str, kind: str, command: Sequence[str],
        seconds: float, **environment: str) -> Result:
    """Runs a command, with a root that mounted() has given."""
    read_only = "yes" if kind in (READ_ONLY, STACK) else ""
    script = ENTER
    if kind in HELPERS:
        script = "shift 2; mount -t proc proc /proc; exec \"$@\""
        environment["HELPER"] = HELPERS[kind]
    with tempfile.TemporaryFile() as output:
        with subprocess.Popen(
                ["unshare", "--mount", "--pid", "--fork", "--kill-child",
                 "--propagation=private", "sh", "-c", script, "sh", root,
                 read_only, *command], stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, cwd="/", env={
                    "PATH": os.environ["PATH"], "LANG": "C.UTF-8",
                    "HOME": "/root", "USER": "root", **environment}) as child:
            status: int | None = None
            try:
                status = child.wait(seconds)
            except subprocess.TimeoutExpired:
                # With the first process of a namespace, all others of it end.
                child.kill()
        output.seek(0)
        return Result(status, output.read().decode(errors="backslashreplace"))
