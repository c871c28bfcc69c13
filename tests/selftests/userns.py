#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Mounts in a user namespace: who can mount, and which ids and privileges the
mount gives.

userns_basedir.py has the files that such a mount can read. The tests reload
the module with the parameter userns_mount.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from lib import (fixtures, kernel_log, ktap, matrix_image, mounts, objects,
                 userns)
from lib.files import opened
from lib.mounts import Options, Value
from lib.process import as_user, become, in_child
from lib.userns import ALONE, USUAL, in_namespace
from lib.userns_mount import (ROOT, attempt, mounting, root_directory,
                              userns_test)

suite = ktap.Suite()

OVERFLOW = 65534

# Read before the tests, as some of the fixtures can only be read by root.
fixtures.require()
IMAGE = fixtures.named("rights")
MATRIX = matrix_image.image()


def options(*more: tuple[str, Value]) -> Options:
    return mounts.composefs_options(IMAGE.path, IMAGE.objects, *more)


@userns_test(suite, "without userns_mount=1 a mount is EPERM, with a message",
             False)
def not_allowed(test: ktap.Test) -> None:
    number, messages = in_namespace(lambda: attempt(options()))
    test.equal(ktap.errno_name(number), "EPERM", "fsopen(2)")
    test.check(any("userns_mount" in line for line in messages),
               f"messages: {messages}")
    test.equal(in_namespace(lambda: ktap.outcome(lambda: mounts.mount(
        IMAGE.path, "/tmp", "composefs"))), "EPERM", "mount(2)")


@userns_test(suite, "root of a namespace can mount and read verified files")
def allowed(test: ktap.Test) -> None:
    names = (matrix_image.FILE, matrix_image.INLINE)
    expected = [matrix_image.data(name) for name in names]
    for more in ((), (("digest", MATRIX.digest),), (("verity", None),)):
        given = mounts.composefs_options(MATRIX.path, MATRIX.objects, *more)
        found = in_namespace(mounting(given, lambda top: [
            Path(top, name).read_bytes() for name in names]))
        test.check(found == expected, f"{more}: wrong content")


@userns_test(suite, "root of a namespace gets no line into the kernel log")
def no_log(test: ktap.Test) -> None:
    given = mounts.composefs_options(MATRIX.path, MATRIX.objects,
                                     ("digest", "0" * 64))
    with kernel_log.watch() as lines:
        number, messages = in_namespace(lambda: attempt(given))
    test.equal(ktap.errno_name(number), "EIO", "a wrong digest")
    test.check(any("0" * 64 in line for line in messages),
               f"messages: {messages}")
    test.equal(kernel_log.of_composefs(lines), [], "the kernel log")


@userns_test(suite, "a user who is not root of the namespace cannot mount")
def not_root(test: ktap.Test) -> None:
    def as_user_inside() -> int | None:
        become(5)
        return attempt(options())[0]
    test.equal(in_namespace(as_user_inside), errno.EPERM,
               "a user of the namespace")
    test.equal(as_user(userns.USER, lambda: attempt(options())[0]),
               errno.EPERM, "a user without a namespace")


@userns_test(suite, "owners are mapped as the namespace maps them")
def owners(test: ktap.Test) -> None:
    def seen(top: str) -> dict[str, tuple[int, int]]:
        return {name: (os.stat(f"{top}/{name}").st_uid,
                       os.stat(f"{top}/{name}").st_gid)
                for name in ("of-root", "of-1000", "of-1001", "of-100000",
                             "of-nobody-known")}
    found = in_namespace(mounting(options(), seen), USUAL)
    for name, owner in (("of-root", 0), ("of-1000", 1000), ("of-1001", 1001),
                        ("of-100000", OVERFLOW),
                        ("of-nobody-known", OVERFLOW)):
        test.equal(found[name], (owner, owner), name)
    found = in_namespace(mounting(options(), seen), ALONE)
    for name, owner in (("of-root", 0), ("of-1000", OVERFLOW)):
        test.equal(found[name], (owner, owner), f"alone: {name}")

    def as_owner(top: str) -> dict[str, str]:
        return {name: ktap.outcome(lambda: Path(top, name).read_bytes())
                for name in ("of-root", "of-1000", "of-1000-small",
                             "of-100000", "of-100000-small")}
    test.equal(in_namespace(mounting(options(), as_owner)), {
        "of-root": "success", "of-1000": "success",
        "of-1000-small": "success", "of-100000": "EACCES",
        "of-100000-small": "EACCES"}, "reads by root of the namespace")

    def as_other(top: str) -> dict[str, str]:
        def run() -> dict[str, str]:
            become(1000)
            return as_owner(top)
        return in_child(run)
    test.equal(in_namespace(mounting(options(), as_other)), {
        "of-root": "EACCES", "of-1000": "success",
        "of-1000-small": "success", "of-100000": "EACCES",
        "of-100000-small": "EACCES"}, "reads by a user of the namespace")


def identity(fd: int, name: str) -> list[str]:
    """The ids and capabilities that a program of the image runs with."""
    said = subprocess.run([f"/proc/self/fd/{fd}/{name}", "/proc/self/status"],
                          pass_fds=[fd], capture_output=True, text=True,
                          check=True).stdout
    return [line for line in said.splitlines()
            if line.startswith(("Uid:", "Gid:", "CapEff:"))]


@userns_test(suite,
             "a setuid program of such a mount gives no privilege outside")
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


@userns_test(suite, "a setuid program runs with an id of the namespace inside")
def setuid_inside(test: ktap.Test) -> None:
    def run(top: str) -> list[str]:
        with opened(top, os.O_RDONLY | os.O_DIRECTORY) as fd:
            def other() -> list[str]:
                become(5)
                return identity(fd, "setuid-1000")
            return in_child(other)
    found = in_namespace(mounting(options(), run))
    test.equal(found[0].split(), ["Uid:", "5", "1000", "1000", "1000"],
               "ids")


@userns_test(suite, "a device of such a mount cannot be opened")
def devices(test: ktap.Test) -> None:
    def run(top: str) -> list[Any]:
        found = os.stat(f"{top}/null")
        return [
            stat.S_ISCHR(found.st_mode),
            os.major(found.st_rdev),
            ktap.outcome(lambda: os.close(os.open(f"{top}/null", os.O_RDWR))),
        ]
    test.equal(in_namespace(mounting(options(), run)), [True, 1, "EACCES"],
               "null")
    with mounts.mounted("composefs", options()) as top:
        test.equal(run(top)[2], "success", "in a mount by root")


@userns_test(suite, "an fs context that is passed to root outside is EPERM")
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


@userns_test(suite,
             "such mounts do not share a super block with other namespaces")
def apart(test: ktap.Test) -> None:
    given = mounts.composefs_options(MATRIX.path, MATRIX.objects)
    with mounts.mounted("composefs", given) as top:
        ours = os.stat(top).st_dev

        def twice(other: str) -> list[int]:
            with mounts.mounted("composefs", given) as third:
                return [os.stat(path).st_dev for path in (other, third, top)]
        first = in_namespace(mounting(given, twice))
        test.equal(first[0], first[1], "twice in one namespace")
        test.check(first[0] != ours, "shared with root's")
        test.equal(first[2], ours, "root's, seen from the namespace")


@userns_test(
    suite,
    "a user's own object directory is read with the mounter's credentials",
)
def own_store(test: ktap.Test) -> None:
    """The reader cannot read the object itself."""
    content = matrix_image.data()
    with root_directory() as where:
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
        test.equal(in_namespace(mounting(mounts.composefs_options(
            MATRIX.path, [str(where)], ("noverity", None)), read)),
            ["EACCES", True], "the object, and the file")


@userns_test(suite, "writes are EROFS, also after a remount")
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
    found = in_namespace(mounting(options(), run))
    test.equal(found[:3], ["EROFS"] * 3, "writes")

    def still(top: str) -> str:
        ktap.outcome(lambda: mounts.mount(None, top, None, mounts.MS_REMOUNT))
        return ktap.outcome(lambda: Path(top, "new").write_bytes(b""))
    test.equal(in_namespace(mounting(options(), still)), "EROFS",
               "after a remount")


objects.require_verity()
suite.run()
