#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Mounts in a user namespace. The mounter is an attacker, who may not get any
access that it does not have without the mount.
"""

from __future__ import annotations

import mmap
import os
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lib import (fixtures, handles, ktap, matrix_image, module, mounts,
                 objects, userns)
from lib.files import opened
from lib.mounts import Options, Value
from lib.process import as_user, become, in_child
from lib.userns import ALONE, USUAL, in_namespace

suite = ktap.Suite()

OVERFLOW = 65534
# A basedir with files that the mounter may not read.
ROOT = "/tmp"
SECRET = "of-root"


# Read before the tests, as some of the fixtures can only be read by root.
fixtures.require()
IMAGE = fixtures.named("rights")
MATRIX = matrix_image.image()


def options(*more: tuple[str, Value]) -> Options:
    return mounts.composefs_options(IMAGE.path, IMAGE.objects, *more)


def test_with(name: str, allowed: bool) -> Callable[
        [Callable[[ktap.Test], None]], Callable[[ktap.Test], None]]:
    """A test with the module parameter userns_mount on or off."""
    def decorate(function: Callable[[ktap.Test], None]) -> Callable[
            [ktap.Test], None]:
        def run(test: ktap.Test) -> None:
            with module.loaded_with(*["userns_mount=1"] * allowed):
                function(test)
        suite.add(name, run)
        return function
    return decorate


def mounting(function: Callable[[str], Any],
             given: Options | None = None) -> Callable[[], Any]:
    """A function that mounts, and calls another one with the mount."""
    def run() -> Any:
        with mounts.mounted("composefs", options() if given is None
                            else given) as top:
            return function(top)
    return run


def attempt(given: Options) -> tuple[int | None, list[str]]:
    """Mounts. Returns the errno and the messages of a failure."""
    try:
        os.close(mounts.new_mount("composefs", given))
    except mounts.MountError as error:
        return error.errno, error.messages
    return None, []


@test_with("without userns_mount=1 a mount is EPERM, with a message", False)
def not_allowed(test: ktap.Test) -> None:
    number, messages = in_namespace(lambda: attempt(options()))
    test.equal(ktap.errno_name(number), "EPERM", "fsopen(2)")
    test.check(any("userns_mount" in line for line in messages),
               f"messages: {messages}")
    test.equal(in_namespace(lambda: ktap.outcome(lambda: mounts.mount(
        IMAGE.path, "/tmp", "composefs"))), "EPERM", "mount(2)")


@test_with("root of a namespace can mount and read verified files",
           True)
def allowed(test: ktap.Test) -> None:
    expected = [
        matrix_image.data(name)
        for name in (matrix_image.FILE, matrix_image.INLINE)
    ]
    for more in ((), (("digest", MATRIX.digest),), (("verity", None),)):
        given = mounts.composefs_options(MATRIX.path, MATRIX.objects, *more)
        found = in_namespace(
            mounting(
                lambda top: [
                    Path(top, name).read_bytes()
                    for name in (matrix_image.FILE, matrix_image.INLINE)
                ],
                given,
            )
        )
        test.check(found == expected, f"{more}: wrong content")


@test_with("a user who is not root of the namespace cannot mount", True)
def not_root(test: ktap.Test) -> None:
    def attempt() -> str:
        become(5)
        return ktap.outcome(
            lambda: os.close(mounts.new_mount("composefs", options()))
        )
    test.equal(in_namespace(attempt), "EPERM", "a user of the namespace")
    test.equal(as_user(userns.USER, lambda: ktap.outcome(lambda: os.close(
        mounts.new_mount("composefs", options())))), "EPERM",
        "a user without a namespace")


@test_with("owners are mapped as the namespace maps them", True)
def owners(test: ktap.Test) -> None:
    def seen(top: str) -> dict[str, tuple[int, int]]:
        return {name: (os.stat(f"{top}/{name}").st_uid,
                       os.stat(f"{top}/{name}").st_gid)
                for name in ("of-root", "of-1000", "of-1001", "of-100000",
                             "of-nobody-known")}
    found = in_namespace(mounting(seen), USUAL)
    for name, owner in (("of-root", 0), ("of-1000", 1000), ("of-1001", 1001),
                        ("of-100000", OVERFLOW),
                        ("of-nobody-known", OVERFLOW)):
        test.equal(found[name], (owner, owner), name)
    found = in_namespace(mounting(seen), ALONE)
    for name, owner in (("of-root", 0), ("of-1000", OVERFLOW)):
        test.equal(found[name], (owner, owner), f"alone: {name}")

    def as_owner(top: str) -> dict[str, str]:
        return {name: ktap.outcome(lambda: Path(top, name).read_bytes())
                for name in ("of-root", "of-1000", "of-1000-small",
                             "of-100000", "of-100000-small")}
    test.equal(in_namespace(mounting(as_owner)), {
        "of-root": "success", "of-1000": "success",
        "of-1000-small": "success", "of-100000": "EACCES",
        "of-100000-small": "EACCES"}, "reads by root of the namespace")

    def as_other(top: str) -> dict[str, str]:
        def run() -> dict[str, str]:
            become(1000)
            return as_owner(top)
        return in_child(run)
    test.equal(in_namespace(mounting(as_other)), {
        "of-root": "EACCES", "of-1000": "success",
        "of-1000-small": "success", "of-100000": "EACCES",
        "of-100000-small": "EACCES"}, "reads by a user of the namespace")


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


@contextmanager
def directory(mode: int = 0o755) -> Iterator[Path]:
    """A directory of root, on the tmpfs at ROOT."""
    with tempfile.TemporaryDirectory(prefix="s-", dir=ROOT) as path:
        os.chmod(path, mode)
        yield Path(path)


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
        return in_namespace(mounting(
            lambda top: ways(top, name, content),
            [("source", path), ("basedir", str(basedir)),
             ("noverity", None)]))


def check_no_access(test: ktap.Test, found: dict[str, str], what: str) -> None:
    for way, result in found.items():
        test.check(result in ("EIO", "EACCES", "EPERM", "ENOEXEC", "nothing",
                              "EINVAL", "ENOTTY", "EOPNOTSUPP"),
                   f"{what}: {way} gives {result}")
    for way in ("read", "mapped", "sent"):
        test.equal(found[way], "EIO", f"{what}: {way}")


@test_with("basedir=/ is refused where it would uncover hidden mounts", True)
def uncovered(test: ktap.Test) -> None:
    number, messages = in_namespace(lambda: attempt(
        [("source", IMAGE.path), ("basedir", "/")]))
    test.equal(ktap.errno_name(number), "EINVAL", "error")
    test.check(any("uncover" in line for line in messages),
               f"messages: {messages}")


@test_with(
    "basedir= gives no access to files that the mounter may not read", True
)
def secrets(test: ktap.Test) -> None:
    for name in (SECRET, "plain"):
        program = name == "plain"
        with directory() as where:
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
                check_no_access(
                    test, attack(secret, name), f"{name} of {uid}, {mode:o}"
                )
            # Root of the namespace has CAP_DAC_OVERRIDE over its own files.
            os.chown(secret, userns.USER, userns.USER)
            os.chmod(secret, 0)
            test.equal(attack(secret, name)["read"], "all bytes",
                       f"{name}: read, a file of the mounter")


@test_with("basedir= gives no access to directories that the mounter may not "
           "search", True)
def hidden(test: ktap.Test) -> None:
    with directory() as where:
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
            check_no_access(
                test, attack(secret, SECRET, basedir), str(basedir)
            )


@test_with("mounting an image that the mounter may not read is EACCES", True)
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


def identity(fd: int, name: str) -> list[str]:
    """The ids and capabilities that a program of the image runs with."""
    said = subprocess.run([f"/proc/self/fd/{fd}/{name}", "/proc/self/status"],
                          pass_fds=[fd], capture_output=True, text=True,
                          check=True).stdout
    return [line for line in said.splitlines()
            if line.startswith(("Uid:", "Gid:", "CapEff:"))]


@test_with("a setuid program of such a mount gives no privilege outside", True)
def setuid_outside(test: ktap.Test) -> None:
    names = ("plain", "setuid", "setgid", "setuid-1000", "capable")

    def inside() -> int:
        fd = mounts.new_mount("composefs", options())
        mounts.attach(fd, "/mnt")
        return os.open("/mnt", os.O_RDONLY | os.O_DIRECTORY)

    def outside(fd: int) -> dict[str, list[str]]:
        become(1001)
        return {name: identity(fd, name) for name in names}
    found = userns.pass_to_outside(inside, outside)
    for name in names[1:]:
        test.equal(found[name], found["plain"], name)

    # In a mount by root these programs do give privileges.
    with mounts.mounted("composefs", options()) as top:
        with opened(top, os.O_RDONLY | os.O_DIRECTORY) as fd:
            trusted = in_child(lambda: outside(fd))
    for name in names[1:]:
        test.check(trusted[name] != trusted["plain"],
                   f"{name}: no privilege in a mount by root")


@test_with("a setuid program runs with an id of the namespace inside", True)
def setuid_inside(test: ktap.Test) -> None:
    def run(top: str) -> list[str]:
        with opened(top, os.O_RDONLY | os.O_DIRECTORY) as fd:
            def other() -> list[str]:
                become(5)
                return identity(fd, "setuid-1000")
            return in_child(other)
    found = in_namespace(mounting(run))
    test.equal(found[0].split(), ["Uid:", "5", "1000", "1000", "1000"],
               "ids")


@test_with("a device of such a mount cannot be opened", True)
def devices(test: ktap.Test) -> None:
    def run(top: str) -> list[Any]:
        found = os.stat(f"{top}/null")
        return [
            stat.S_ISCHR(found.st_mode),
            os.major(found.st_rdev),
            ktap.outcome(lambda: os.close(os.open(f"{top}/null", os.O_RDWR))),
        ]
    test.equal(in_namespace(mounting(run)), [True, 1, "EACCES"], "null")
    with mounts.mounted("composefs", options()) as top:
        test.equal(run(top)[2], "success", "in a mount by root")


@test_with("an fs context that is passed to root outside is EPERM", True)
def handed_on(test: ktap.Test) -> None:
    with tempfile.NamedTemporaryFile(dir=ROOT) as secret:
        secret.write(Path(IMAGE.path).read_bytes())
        secret.flush()
        os.chmod(secret.name, 0o600)

        def inside() -> int:
            context = mounts.Context.open("composefs")
            context.set("source", secret.name)
            return context.fd

        def outside(fd: int) -> list[Any]:
            context = mounts.Context(fd)
            return [ktap.outcome(context.create), context.messages()]
        found = userns.pass_to_outside(inside, outside)
    test.equal(found[0], "EPERM", "fsconfig(2)")
    test.check(any("user namespace" in line for line in found[1]),
               f"messages: {found[1]}")


@test_with(
    "such mounts do not share a super block with other namespaces", True
)
def apart(test: ktap.Test) -> None:
    given = mounts.composefs_options(MATRIX.path, MATRIX.objects)
    with mounts.mounted("composefs", given) as top:
        ours = os.stat(top).st_dev

        def twice(other: str) -> list[int]:
            with mounts.mounted("composefs", given) as third:
                return [os.stat(path).st_dev for path in (other, third, top)]
        first = in_namespace(mounting(twice, given))
        test.equal(first[0], first[1], "twice in one namespace")
        test.check(first[0] != ours, "shared with root's")
        test.equal(first[2], ours, "root's, seen from the namespace")


@test_with(
    "a user's own object directory is read with the mounter's credentials",
    True,
)
def own_store(test: ktap.Test) -> None:
    """The reader cannot read the object itself."""
    content = matrix_image.data()
    with directory() as where:
        path = where / matrix_image.object_name()
        path.parent.mkdir()
        path.write_bytes(content)
        os.chown(path, userns.USER, userns.USER)
        os.chmod(path, 0o600)

        def read(top: str) -> list[Any]:
            def other() -> list[Any]:
                become(7)
                return [ktap.outcome(path.read_bytes),
                        Path(top, matrix_image.FILE).read_bytes() == content]
            return in_child(other)
        test.equal(in_namespace(mounting(read, mounts.composefs_options(
            MATRIX.path, [str(where)], ("noverity", None)))),
            ["EACCES", True], "the object, and the file")


@test_with("writes are EROFS, also after a remount", True)
def read_only(test: ktap.Test) -> None:
    def run(top: str) -> list[str]:
        return [
            ktap.outcome(lambda: Path(top, "new").write_bytes(b"")),
            ktap.outcome(lambda: os.chmod(f"{top}/plain", 0o777)),
            ktap.outcome(lambda: os.chown(f"{top}/plain", 1, 1)),
            ktap.outcome(
                lambda: mounts.mount(None, top, None, mounts.MS_REMOUNT)
            ),
        ]
    found = in_namespace(mounting(run))
    test.equal(found[:3], ["EROFS"] * 3, "writes")

    def still(top: str) -> str:
        ktap.outcome(lambda: mounts.mount(None, top, None, mounts.MS_REMOUNT))
        return ktap.outcome(lambda: Path(top, "new").write_bytes(b""))
    test.equal(in_namespace(mounting(still)), "EROFS", "after a remount")


objects.require_verity()
suite.run()
