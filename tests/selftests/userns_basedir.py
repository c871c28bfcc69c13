#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Mounts in a user namespace: basedir= and source= of files that the mounter
may not read.

The mounter is an attacker, who makes the image. It may not get any access that
it does not have without the mount.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import fixtures, handles, ktap, objects, userns
from lib.files import opened
from lib.userns import in_namespace
from lib.userns_mount import (ROOT, attempt, mounting, root_directory,
                              userns_test)

suite = ktap.Suite()

SECRET = "of-root"

# Read before the tests, as some of the fixtures can only be read by root.
fixtures.require()
IMAGE = fixtures.named("rights")


def object_of(name: str) -> bytes:
    """The redirect of a file: the path of its object."""
    return os.fsencode("/" + objects.object_name(objects.digest_of(
        content_of(name))))


def content_of(name: str) -> bytes:
    return Path(IMAGE.source or "", name).read_bytes()


def secret_in(directory: Path, basedir: str | Path = ROOT) -> Path:
    """A path whose part below a basedir is as long as that of an object."""
    rest = len(object_of(SECRET)) - len(
        f"/{directory.relative_to(basedir)}/" if directory != Path(basedir)
        else "/")
    return directory / ("s" * rest)


@contextmanager
def forged(secret: Path, name: str,
           basedir: str | Path = ROOT) -> Iterator[str]:
    """An image in which the redirect of a file leads to another path."""
    data = Path(IMAGE.path).read_bytes()
    before = object_of(name)
    after = b"/" + os.fsencode(secret.relative_to(basedir))
    if len(after) != len(before) or data.count(before) != 1:
        raise RuntimeError(f"{secret} cannot be put into the image")
    with tempfile.NamedTemporaryFile(dir=ROOT) as file:
        file.write(data.replace(before, after))
        file.flush()
        os.chmod(file.name, 0o644)
        yield file.name


def ways(top: str, name: str, content: bytes) -> dict[str, str]:
    """The outcome of each way of reading a file."""
    path = f"{top}/{name}"

    def read() -> bytes:
        return Path(path).read_bytes()

    def mapped() -> bytes:
        with open(path, "rb") as file, mmap.mmap(
                file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ) as view:
            return view[:]

    def by_handle() -> bytes:
        handle = handles.of(path)
        with opened(top) as mount:
            fd = handles.open_by(mount, handle, os.O_RDONLY)
        with os.fdopen(fd, "rb") as file:
            return file.read()

    def direct() -> bytes:
        with opened(path, os.O_RDONLY | os.O_DIRECT) as fd, \
                mmap.mmap(-1, 1 << 17) as room:
            return room[:os.preadv(fd, [room], 0)]

    def sent() -> bytes:
        with opened(path) as fd, tempfile.TemporaryFile() as out:
            os.sendfile(out.fileno(), fd, 0, 1 << 20)
            return os.pread(out.fileno(), 1 << 20, 0)

    def digest() -> bytes:
        return objects.measure_verity(path).encode()

    def executed() -> bytes:
        return subprocess.run([path, path], capture_output=True,
                              check=False).stdout
    found = {}
    for way in (read, mapped, by_handle, direct, sent, digest, executed):
        try:
            data = way()
        except OSError as error:
            found[way.__name__] = ktap.errno_name(error.errno)
        else:
            found[way.__name__] = (
                "all bytes" if data == content else
                f"{len(data)} bytes" if data else "nothing")
    return found


def attack(secret: Path, name: str,
           basedir: str | Path = ROOT) -> dict[str, str]:
    """The outcomes for a mounter whose image has the redirect of a file lead
    to a secret file."""
    content = content_of(name)
    with forged(secret, name, basedir) as path:
        return in_namespace(
            mounting(
                [
                    ("source", path),
                    ("basedir", str(basedir)),
                    ("noverity", None),
                ],
                lambda top: ways(top, name, content),
            )
        )


def check_no_access(test: ktap.Test, found: dict[str, str], what: str) -> None:
    for way, result in found.items():
        test.check(result in ("EIO", "EACCES", "EPERM", "ENOEXEC", "nothing",
                              "EINVAL", "ENOTTY", "EOPNOTSUPP"),
                   f"{what}: {way} gives {result}")
    for way in ("read", "mapped", "sent"):
        test.equal(found[way], "EIO", f"{what}: {way}")


@userns_test(suite,
             "basedir=/ is refused where it would uncover hidden mounts")
def uncovered(test: ktap.Test) -> None:
    number, messages = in_namespace(lambda: attempt(
        [("source", IMAGE.path), ("basedir", "/")]))
    test.equal(ktap.errno_name(number), "EINVAL", "error")
    test.check(any("uncover" in line for line in messages),
               f"messages: {messages}")


@userns_test(suite,
             "basedir= gives no access to files that the mounter may not read")
def secrets(test: ktap.Test) -> None:
    for name in (SECRET, "plain"):
        program = name == "plain"
        with root_directory() as where:
            secret = secret_in(where)
            secret.write_bytes(content_of(name))
            os.chmod(secret, 0o755 if program else 0o644)
            found = attack(secret, name)
            for way in ("read", "mapped", "sent",
                        *(("executed",) if program else ())):
                test.equal(found[way], "all bytes",
                           f"{name}: {way}, readable by the mounter")
            for uid, mode in ((0, 0o600), (0, 0o711), (1001, 0o600), (0, 0)):
                os.chown(secret, uid, uid)
                os.chmod(secret, mode)
                check_no_access(test, attack(secret, name),
                                f"{name} of {uid}, {mode:o}")
            # Root of the namespace has CAP_DAC_OVERRIDE over its own files.
            os.chown(secret, userns.USER, userns.USER)
            os.chmod(secret, 0)
            test.equal(attack(secret, name)["read"], "all bytes",
                       f"{name}: read, a file of the mounter")


@userns_test(
    suite,
    "basedir= gives no access to directories that the mounter may not "
    "search",
)
def hidden(test: ktap.Test) -> None:
    with root_directory() as where:
        inner = where / "d"
        inner.mkdir()
        for basedir in (Path(ROOT), inner):
            secret = secret_in(inner, basedir)
            secret.write_bytes(content_of(SECRET))
            os.chmod(secret, 0o644)
            os.chmod(inner, 0o711)
            test.equal(attack(secret, SECRET, basedir)["read"], "all bytes",
                       f"{basedir}: a searchable directory")
            os.chmod(inner, 0o700)
            check_no_access(test, attack(secret, SECRET, basedir),
                            str(basedir))


@userns_test(suite,
             "mounting an image that the mounter may not read is EACCES")
def secret_image(test: ktap.Test) -> None:
    with tempfile.NamedTemporaryFile(dir=ROOT) as file:
        file.write(Path(IMAGE.path).read_bytes())
        file.flush()

        def try_mount() -> tuple[int | None, list[str]]:
            return attempt([("source", file.name)])
        os.chmod(file.name, 0o644)
        test.equal(in_namespace(try_mount)[0], None, "0644")
        os.chmod(file.name, 0o600)
        number, messages = in_namespace(try_mount)
        test.equal(ktap.errno_name(number), "EACCES", "0600")
        test.check(any("permission denied" in line for line in messages),
                   f"messages: {messages}")


objects.require_verity()
suite.run()
