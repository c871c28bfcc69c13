# SPDX-License-Identifier: GPL-2.0

"""A system that ostree has deployed, and ostree-prepare-root on it."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from . import mounts, scratch
from .process import in_child

PROGRAM = "/usr/lib/ostree/ostree-prepare-root"
CONFIGURATION = "/etc/ostree"
# Where the program mounts before it moves the mount.
TEMPORARY = "/sysroot.tmp"
SIZE = 100000

MS_REC, MS_PRIVATE = 1 << 14, 1 << 18


@dataclass
class Result:
    """What the program did."""

    status: int
    output: str
    # The new mounts: mount point, root, flags.
    mounts: list[tuple[str, str, str]] = field(default_factory=list)
    # Type, source and options of the file system at the root.
    root: mounts.Info | None = None
    # Each path, and what can be seen of it.
    files: dict[str, tuple[object, ...]] = field(default_factory=dict)
    # The file that tells later programs about the root.
    booted: bytes = b""
    # What a new file in the root gives: "success" or an error.
    writes: str = ""


def ostree(*words: str) -> str:
    """Runs ostree(1)."""
    done = subprocess.run(["ostree", *words], check=False, text=True,
                          capture_output=True)
    if done.returncode:
        raise RuntimeError(f"ostree {' '.join(words)}: {done.stderr}")
    return done.stdout.strip()


def _plant(tree: Path) -> None:
    """Makes the files of a minimal system."""
    for name in ("boot", "dev", "proc", "run", "sys", "sysroot", "tmp", "var",
                 "usr/bin", "usr/etc", "usr/share", "usr/lib/modules/1.0",
                 "usr/lib/ostree"):
        (tree / name).mkdir(parents=True)
    files = {
        "usr/lib/modules/1.0/vmlinuz": "kernel",
        "usr/lib/modules/1.0/initramfs.img": "initramfs",
        # With this, "ostree admin deploy" makes an image.
        "usr/lib/ostree/prepare-root.conf": "[composefs]\nenabled=true\n",
        "usr/lib/os-release": "NAME=sample\nID=sample\n",
        "usr/etc/setting": "1\n",
        "usr/share/small": "small\n",
        "usr/share/large": "large\n".ljust(SIZE, "."),
        "usr/share/other": "other\n".ljust(SIZE, "."),
    }
    for name, text in files.items():
        (tree / name).write_text(text, encoding="ascii")
    (tree / "usr/bin/set").write_text("#!/bin/sh\n", encoding="ascii")
    (tree / "usr/bin/set").chmod(0o4755)
    (tree / "bin").symlink_to("usr/bin")
    (tree / "ostree").symlink_to("sysroot/ostree")
    os.setxattr(tree / "usr/share/large", "user.sample", b"value")


class Sysroot:
    """A disk with one deployment."""

    def __init__(self, top: Path) -> None:
        self.top = top
        repo = f"--repo={top}/ostree/repo"
        ostree("admin", "init-fs", "--modern", str(top))
        ostree("admin", "stateroot-init", "sample", f"--sysroot={top}")
        ostree(repo, "config", "set", "sysroot.bootloader", "none")
        ostree(repo, "config", "set", "ex-integrity.composefs", "true")
        tree = top / "tree"
        _plant(tree)
        self.commit = ostree(repo, "commit", "--branch=main",
                             f"--tree=dir={tree}",
                             "--generate-composefs-metadata")
        ostree("admin", "deploy", f"--sysroot={top}", "--os=sample", "main")
        [entry] = (top / "boot/loader/entries").glob("*.conf")
        [self.command_line] = [
            line.removeprefix("options ")
            for line in entry.read_text(encoding="ascii").splitlines()
            if line.startswith("options ")]
        self.deployment = top / f"ostree/deploy/sample/deploy/{self.commit}.0"
        self.image = self.deployment / ".ostree.cfs"

    def object_of(self, name: str) -> Path:
        """The object of a file of the deployment."""
        number = (self.deployment / name).stat().st_ino
        [found] = [path for path in (
            self.top / "ostree/repo/objects").glob("*/*.file")
            if path.lstat().st_ino == number]
        return found

    def make_mutable(self) -> None:
        """Lets names in the deployment be changed."""
        subprocess.run(["chattr", "-i", self.deployment], check=True)

    def prepare(self, configuration: str, **environment: str) -> Result:
        """Runs the program in a mount namespace of its own, with a
        configuration, and looks at what it has made."""
        return in_child(lambda: self._prepare(configuration, environment))

    def _prepare(self, configuration: str,
                 environment: dict[str, str]) -> Result:
        os.unshare(os.CLONE_NEWNS)
        mounts.mount(None, "/", None, MS_REC | MS_PRIVATE)
        os.makedirs(CONFIGURATION, exist_ok=True)
        for path in ("/run", CONFIGURATION):
            mounts.mount("tmpfs", path, "tmpfs")
        Path(CONFIGURATION, "prepare-root.conf").write_text(
            configuration, encoding="ascii")
        before = mounts.mountinfo()
        done = subprocess.run(
            [PROGRAM, self.top, self.command_line], text=True, check=False,
            env={**os.environ, **environment}, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)
        result = Result(done.returncode, done.stdout)
        # The program moves the disk's mount: its place is what matters.
        known = [fields[3:6] for fields in before]
        result.mounts = sorted(
            (fields[4], fields[3], fields[5]) for fields in mounts.mountinfo()
            if fields[3:6] not in known)
        if done.returncode == 0:
            self._look(result)
        return result

    def _look(self, result: Result) -> None:
        result.root = mounts.info(str(self.top))
        result.files = look(self.top)
        result.booted = Path("/run/ostree-booted").read_bytes()
        try:
            (self.top / "usr/share/new").write_text("new", encoding="ascii")
            result.writes = "success"
        except OSError as error:
            result.writes = os.strerror(error.errno or 0)


def look(top: Path) -> dict[str, tuple[object, ...]]:
    """All that can be seen of the files of a tree, but of /sysroot."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(top.rglob("*")):
        name = str(path.relative_to(top))
        if name.startswith("sysroot/"):
            continue
        info = path.lstat()
        what: tuple[object, ...] = (info.st_mode, info.st_uid, info.st_gid,
                                    info.st_mtime_ns)
        if stat.S_ISLNK(info.st_mode):
            what += (os.readlink(path),)
        elif stat.S_ISREG(info.st_mode):
            what += (info.st_size, _content(path), sorted(os.listxattr(path)))
        found[name] = what
    return found


def _content(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return os.strerror(error.errno or 0)


@contextmanager
def sysroot() -> Iterator[Sysroot]:
    """A new disk with a deployment. What the program leaves on the guest's
    root is removed afterwards."""
    made = [path for path in (TEMPORARY, CONFIGURATION)
            if not os.path.exists(path)]
    with scratch.ext4(128 << 20) as top:
        try:
            yield Sysroot(top)
        finally:
            for path in made:
                if os.path.isdir(path):
                    os.rmdir(path)
