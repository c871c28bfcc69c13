#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""The composefs crate (composefs-rs): its repository stores a tree, and
composefs-mount mounts it.

The program is tests/clients. It has the crate's function that mounts as the
manual shows it, with composefs-mount.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import mmap
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import core, ktap, module, mounts, scratch
from lib.verity import enable_verity

PROGRAM = "composefs-clients"
SIZE = 100000
INLINE, SMALL, LARGE = "inline", "etc/small", "usr/large"

suite = ktap.Suite()


def program() -> str:
    """The program. Ends this one where there is none."""
    directory = os.environ.get("COMPOSEFS_TOOLS")
    if not directory:
        ktap.skip_all("COMPOSEFS_TOOLS is not set: it names a directory with "
                      f"{PROGRAM} of tests/clients")
    return str(Path(directory, PROGRAM))


def plant(tree: Path) -> None:
    """Makes the tree that is stored."""
    for name, data in ((INLINE, b"inline\n"), (SMALL, b"small\n" * 100),
                       (LARGE, b"large\n".ljust(SIZE, b"."))):
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tree / "usr/setuid").write_bytes(b"program\n" * 100)
    os.chown(tree / "usr/setuid", 1, 2)
    (tree / "usr/setuid").chmod(0o4711)
    (tree / "link").symlink_to(LARGE)
    os.link(tree / LARGE, tree / "usr/again")
    os.setxattr(tree / SMALL, "user.sample", b"value")
    os.mknod(tree / "null", 0o20666, os.makedev(1, 3))


class Repository:
    """A repository with an image of a tree, on a disk of its own."""

    def __init__(self, top: Path, algorithm: str) -> None:
        self.path, self.tree = top / "repository", top / "tree"
        self.algorithm = algorithm
        self.tree.mkdir()
        plant(self.tree)
        self.digest = self.run("store", str(self.tree))

    def run(self, *words: str) -> str:
        done = subprocess.run(
            [program(), "--algorithm", self.algorithm, self.path, *words],
            capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        return done.stdout.strip()

    @contextmanager
    def mounted(self, how: str, *options: str) -> Iterator[str]:
        """Mounts the image. Gives the path."""
        with mounts.directory() as target:
            self.run("mount", "--how", how, *options, self.digest, target)
            try:
                yield target
            finally:
                mounts.umount_soon(target)

    def image(self) -> Path:
        """The file of the image."""
        return (self.path / "images" / self.digest).resolve()

    def object_of(self, name: str) -> Path:
        """The object of a file."""
        data = (self.tree / name).read_bytes()
        [found] = [path for path in self.path.glob("objects/*/*")
                   if path.stat().st_size == len(data)
                   and path.read_bytes() == data]
        return found


def seen(top: str | Path) -> dict[str, tuple[object, ...]]:
    """All that can be seen of a tree."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(Path(top).rglob("*")):
        info = path.lstat()
        what: tuple[object, ...] = (info.st_mode, info.st_uid, info.st_gid,
                                    info.st_mtime_ns, info.st_rdev)
        if path.is_symlink():
            what += (os.readlink(path),)
        elif path.is_file():
            what += (info.st_nlink, path.read_bytes(),
                     os.getxattr(path, "user.sample")
                     if "user.sample" in os.listxattr(path) else None)
        found[str(path.relative_to(top))] = what
    return found


def check_tree(test: ktap.Test, repository: Repository, top: str) -> None:
    """Checks that a mount has the tree."""
    found, expected = seen(top), seen(repository.tree)
    for name in found.keys() | expected.keys():
        test.equal(found.get(name), expected.get(name), name)


def check_mount(test: ktap.Test, repository: Repository, how: str,
                kind: str, *shown: str) -> None:
    """Mounts in one way, and checks the mount and the tree."""
    with repository.mounted(how) as top:
        info = mounts.info(top)
        test.equal((info.type, info.source),
                   (kind, f"composefs:{repository.digest}"), f"{how}: mount")
        for option in shown:
            test.check(option in info.options,
                       f"{how}: no {option}: {info.options}")
        check_tree(test, repository, top)


def native(test: ktap.Test, repository: Repository) -> None:
    """Mounts by composefs."""
    image = f"image={repository.image()}"
    check_mount(test, repository, "function", "composefs", "verity", image,
                f"basedir={repository.path}/objects")
    check_mount(test, repository, "digest", "composefs", image,
                f"digest={repository.algorithm}:{repository.digest}")


def crate(test: ktap.Test, repository: Repository) -> None:
    """Mounts as the crate itself does."""
    if not fits_erofs(repository):
        raise ktap.Skipped("the image ends within a page of memory, and the "
                           "crate has no way to mount it by erofs then")
    check_mount(test, repository, "crate", "overlay", "verity=require")


def fits_erofs(repository: Repository) -> bool:
    """Whether erofs can mount the file of the image."""
    return repository.image().stat().st_size % mmap.PAGESIZE == 0


def stack(test: ktap.Test, repository: Repository) -> None:
    """Mounts as a stack."""
    check_mount(test, repository, "stack", "overlay", "verity=require")
    with module.absent():
        check_mount(test, repository, "function", "overlay", "verity=require")
        check_mount(test, repository, "digest", "overlay", "verity=require")


def locked(test: ktap.Test, repository: Repository) -> None:
    """Checks that a lock on the image holds while it is mounted."""
    fd = os.open(repository.image(), os.O_RDONLY)
    try:
        with repository.mounted("digest", "--lock"):
            test.fails(errno.EAGAIN, "a lock while it is mounted", fcntl.flock, fd,
                       fcntl.LOCK_EX | fcntl.LOCK_NB)
        test.fails(None, "a lock afterwards", fcntl.flock, fd,
                   fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(fd)


def wrong_digest(test: ktap.Test, repository: Repository) -> None:
    """Checks that the image of another digest is not mounted."""
    before = mounts.mountinfo()
    image = repository.path / "images" / repository.digest
    other = repository.digest[:-1] + "%x" % (
        int(repository.digest[-1], 16) ^ 1)
    # The name that is asked for leads to the image.
    (repository.path / "images/refs").mkdir(exist_ok=True)
    link = repository.path / "images/refs" / other
    link.symlink_to(image)
    with mounts.directory() as target:
        for how in ("digest", "stack"):
            try:
                repository.run("mount", "--how", how, other, target)
                test.fail(f"{how}: it is mounted")
                mounts.umount(target)
            except RuntimeError as error:
                test.check(f"wrong fs-verity digest: expected "
                           f"{repository.algorithm}:{other}, found "
                           f"{repository.algorithm}:{repository.digest}"
                           in str(error), f"{how}: {error}")
    link.unlink()
    test.equal(mounts.mountinfo(), before, "mounts")


def damaged(test: ktap.Test, repository: Repository) -> None:
    """Checks that a damaged object cannot be read."""
    path = repository.object_of(LARGE)
    data = bytearray(path.read_bytes())
    data[SIZE // 2] ^= 1
    path.unlink()
    path.write_bytes(data)
    enable_verity(path, repository.algorithm)
    for how in ("function", "digest", "stack", "crate"):
        if how == "crate" and not fits_erofs(repository):
            continue
        with repository.mounted(how) as top:
            test.fails(errno.EIO, f"{how}: the damaged file",
                       Path(top, LARGE).read_bytes)
            test.equal(Path(top, SMALL).read_bytes(), b"small\n" * 100,
                       f"{how}: another file")


TESTS = {
    "a native mount": native,
    "the crate's own stack": crate,
    "a stack, and a kernel without composefs": stack,
    "a lock on the image holds while it is mounted": locked,
    "another digest is refused": wrong_digest,
    # The last one: it does damage.
    "a damaged object is refused": damaged,
}


def main() -> None:
    if not os.access(program(), os.X_OK):
        ktap.bail_out(f"no {program()}")
    with scratch.ext4() as first, scratch.ext4() as second:
        for top, algorithm in ((first, "sha256"), (second, "sha512")):
            repository = Repository(top, algorithm)
            for name, function in TESTS.items():
                suite.add(f"{algorithm}: {name}", functools.partial(
                    function, repository=repository))
        suite.run()


core.require_composefs()
main()
