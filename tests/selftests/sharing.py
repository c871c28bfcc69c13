#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Which mounts share a super block.

Mounts that share one have the same st_dev. A mount that does not share may not
fail because of that.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lib import (caches, fixtures, ktap, matrix_image, mounts, objects,
                 process, slab, syscalls)
from lib.mounts import Context, Options, Value, libc

suite = ktap.Suite()

KEYCTL_JOIN_SESSION_KEYRING = 1
PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP = 28, 1 << 2

MANY = 20
# The number of files of the big directory that a walk looks up.
COUNTED = 1500


def device(top: str) -> int:
    return os.stat(top).st_dev


@contextmanager
def mounted_by(options: Options,
               change: Callable[[], object]) -> Iterator[str]:
    """Mounts in a child, after a change of its credentials."""
    with mounts.directory() as top:
        def run() -> None:
            change()
            fd = mounts.new_mount("composefs", options)
            mounts.attach(fd, top)
        process.in_child(run)
        try:
            yield top
        finally:
            mounts.umount(top)


def shares(test: ktap.Test, what: str, expected: bool, first: Options,
           second: Options) -> None:
    """Checks whether two mounts share a super block, and that both work."""
    with mounts.mounted("composefs", first) as one, \
            mounts.mounted("composefs", second) as two:
        test.equal(device(one) == device(two), expected, f"{what}: shared")
        matrix_image.check(test, one, f"{what}, the first")
        matrix_image.check(test, two, f"{what}, the second")


@suite.test("equal mounts share, also by descriptors or a copy of the image")
def same(test: ktap.Test) -> None:
    image = matrix_image.image()
    for more in ((), (("verity", None),), (("noverity", None),),
                 (("tryverity", None),), (("digest", image.digest),)):
        shares(test, f"{more}", True, matrix_image.options(*more),
               matrix_image.options(*more))
    pinned = matrix_image.options(("digest", image.digest))
    shares(test, "digest= with verity", True, pinned,
           matrix_image.options(("digest", image.digest), ("verity", None)))
    fds = [os.open(image.path, os.O_RDONLY),
           os.open(image.objects[0], os.O_PATH)]
    try:
        shares(test, "descriptors", True, matrix_image.options(),
               [("source", fds[0]), ("basedir", fds[1])])
    finally:
        for fd in fds:
            os.close(fd)
    with objects.store() as work:
        # An image is identified by its digest, not by its path. But a copy on
        # another file system is not shared, as either one may fail.
        content = Path(image.path).read_bytes()
        first, second = (mounts.composefs_options(
            str(work.verified(name, content)), image.objects,
            ("digest", image.digest)) for name in ("first", "second"))
        shares(test, "a copy", True, first, second)
        test.need(os.stat(work.path).st_dev != os.stat(image.path).st_dev,
                  "the image is on the scratch file system")
        shares(test, "a copy on another file system", False, pinned, first)


@suite.test("mounts with other options do not share")
def options(test: ktap.Test) -> None:
    image = matrix_image.image()
    digest: tuple[str, Value] = ("digest", image.digest)
    words: list[tuple[tuple[str, Value], ...]] = [
        (), (("verity", None),), (("tryverity", None),), (("noverity", None),),
        (digest,)]
    for number, first in enumerate(words):
        for second in words[number + 1:]:
            shares(test, f"{first}, {second}", False,
                   matrix_image.options(*first), matrix_image.options(*second))
    for flag in ("sync", "dirsync", "lazytime"):
        shares(test, flag, False, matrix_image.options(),
               matrix_image.options((flag, None)))


@suite.test("mounts with other object directories do not share")
def basedirs(test: ktap.Test) -> None:
    path = matrix_image.image().objects[0]
    source: tuple[str, Value] = ("source", matrix_image.image().path)
    one: tuple[str, Value] = ("basedir", mounts.escape(path))
    other: tuple[str, Value] = ("basedir", "/tmp")
    for what, first, second in (
            ("one more", [one], [one, other]),
            ("one more before", [one], [other, one]),
            ("another order", [one, other], [other, one]),
            ("twice", [one], [one, one])):
        shares(test, what, False, [source, *first], [source, *second])
    shares(test, "the same two", True, [source, one, other],
           [source, ("basedir", f"{mounts.escape(path)}:/tmp")])
    with mounts.directory() as bound:
        with mounts.bound(path, bound):
            again: tuple[str, Value] = ("basedir", bound)
            shares(test, "by a bind mount", True, [source, one],
                   [source, again])
            mounts.mount(None, bound, None, mounts.MS_REMOUNT
                         | mounts.MS_BIND | mounts.MS_NOSUID, None)
            shares(test, "by a mount with other flags", False, [source, one],
                   [source, again])


@suite.test("mounts of other images do not share")
def images(test: ktap.Test) -> None:
    other = fixtures.named("special-v0")
    with mounts.mounted("composefs", matrix_image.options()) as one, \
            mounts.composefs(other.path, matrix_image.image().objects) as two:
        test.check(device(one) != device(two),
                   "two images share a super block")
        test.check("types" in os.listdir(two),
                   "the second mount shows another image")
        matrix_image.check(test, one, "the first")


@suite.test("mounts of an image without fs-verity do not share")
def no_digest(test: ktap.Test) -> None:
    image = matrix_image.image()
    with objects.store() as work:
        copy = work.plain("copy", Path(image.path).read_bytes())
        plain = mounts.composefs_options(str(copy), image.objects)
        shares(test, "the same file twice", False, plain, plain)
        shares(test, "with the image", False, matrix_image.options(), plain)


def change_fsuid() -> None:
    libc.setfsuid(1000)
    assert libc.setfsuid(1000) == 1000, "setfsuid"


def change_fsgid() -> None:
    libc.setfsgid(1000)
    assert libc.setfsgid(1000) == 1000, "setfsgid"


def change_session() -> None:
    if libc.syscall(syscalls.number("keyctl"), KEYCTL_JOIN_SESSION_KEYRING,
                    None) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"keyctl: {os.strerror(number)}")


def change_securebits() -> None:
    if libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


CHANGES: dict[str, Callable[[], object]] = {
    "fsuid": change_fsuid,
    "fsgid": change_fsgid,
    "groups": lambda: os.setgroups([1, 2, 3]),
    "fewer capabilities": lambda: process.drop_capabilities(
        process.CAP_DAC_OVERRIDE),
    "secure bits": change_securebits,
    "keyring": change_session,
}


@suite.test("mounters with other credentials do not share, and do not fail")
def rights(test: ktap.Test) -> None:
    with (
        mounts.mounted("composefs", matrix_image.options()) as ours,
        ExitStack() as stack,
    ):
        seen = {device(ours): "root"}
        for what, change in CHANGES.items():
            try:
                top = stack.enter_context(
                    mounted_by(matrix_image.options(), change)
                )
            except OSError as error:
                if what == "keyring" and error.errno == errno.ENOSYS:
                    test.note("the kernel has no keyrings")
                    continue
                test.fail(f"{what}: {error}")
                continue
            test.check(device(top) not in seen,
                       f"{what}: shared with {seen.get(device(top))}")
            seen[device(top)] = what
            matrix_image.check(test, top, what)
            if what == "keyring":
                continue
            with mounted_by(matrix_image.options(), change) as again:
                test.equal(device(again), device(top),
                           f"{what}, twice: device")
        with mounted_by(matrix_image.options(), lambda: os.setgroups(
                os.getgroups())) as same_rights:
            test.equal(device(same_rights), device(ours),
                       "equal values in new credentials: device")


@suite.test("objects are read with the mounter's credentials")
def reads_with(test: ktap.Test) -> None:
    with objects.store() as store:
        os.chmod(store.path, 0o755)
        name = matrix_image.add_to(store)
        os.chmod(store.top / name, 0o600)
        options = mounts.composefs_options(matrix_image.image().path,
                                           [store.path])
        with mounted_by(options, change_fsuid) as weak, \
                mounts.mounted("composefs", options) as strong:
            test.check(device(weak) != device(strong), "shared")
            with open(f"{strong}/{matrix_image.FILE}", "rb") as file:
                test.equal(file.read(), matrix_image.data(), "mounted by root")
            with open(f"{weak}/{matrix_image.FILE}", "rb",
                      buffering=0) as file:
                test.fails(errno.EIO, "mounted by a user", file.read, 1)


@suite.test("umount of a mount does not affect others that share with it")
def umounts(test: ktap.Test) -> None:
    with ExitStack() as stack:
        tops = []
        for _ in range(3):
            one = stack.enter_context(ExitStack())
            tops.append((one, one.enter_context(
                mounts.mounted("composefs", matrix_image.options()))))
        with open(f"{tops[0][1]}/{matrix_image.FILE}", "rb") as held:
            test.fails(errno.EBUSY, "umount with an open file",
                       mounts.umount, tops[0][1])
            test.check(held.read(10) == matrix_image.data()[:10],
                       "a held file")
        number = device(tops[0][1])
        for gone, (one, _) in enumerate(tops, 1):
            one.close()
            for _, top in tops[gone:]:
                matrix_image.check(test, top, f"without the first {gone}")
                test.equal(device(top), number, "device")


@suite.test("FSCONFIG_CMD_CREATE_EXCL of a shared super block is EBUSY")
def exclusive(test: ktap.Test) -> None:
    def create(options_: Options) -> None:
        with Context.open("composefs") as context:
            for key, value in options_:
                context.set(key, value)
            context.create_exclusive()

    test.fails(None, "the first", create, matrix_image.options())
    with mounts.mounted("composefs", matrix_image.options()) as top:
        test.fails(errno.EBUSY, "the same", create, matrix_image.options())
        test.fails(None, "another", create,
                   matrix_image.options(("noverity", None)))
        matrix_image.check(test, top, "afterwards")


@suite.test(f"{MANY} mounts have the inodes of one mount")
def one_memory(test: ktap.Test) -> None:
    image = fixtures.named("special-v0")
    options_ = mounts.composefs_options(image.path, image.objects,
                                        ("digest", image.digest))
    caches.drop()
    before = slab.all_inodes()
    with ExitStack() as stack:
        tops = [stack.enter_context(mounts.mounted("composefs", options_))
                for _ in range(MANY)]
        test.equal(len({device(top) for top in tops}), 1, "devices")
        counts = []
        for top in tops:
            big = f"{top}/directories/big"
            for name in sorted(os.listdir(big))[:COUNTED]:
                os.lstat(f"{big}/{name}")
            counts.append(slab.all_inodes() - before)
        test.note(f"inodes after each walk: {counts}")
        # A few inodes of other file systems come and go in between.
        test.check(counts[0] >= COUNTED * 0.9,
                   f"a walk of {COUNTED} files made {counts[0]} inodes")
        test.check(counts[-1] < counts[0] * 1.2,
                   f"{MANY} walks made {counts[-1]} inodes, one {counts[0]}")


@suite.test("mounting and unmounting the same image in parallel")
def race(test: ktap.Test) -> None:
    def loop() -> None:
        for number in range(40):
            top = f"{place}/{os.getpid()}"
            os.mkdir(top)
            mounts.mount_at("composefs", matrix_image.options(), top)
            try:
                with open(f"{top}/{matrix_image.INLINE}", "rb") as file:
                    if file.read() != inline:
                        raise OSError(errno.EILSEQ, f"round {number}")
            finally:
                mounts.umount(top)
                os.rmdir(top)

    inline = matrix_image.data(matrix_image.INLINE)
    with mounts.directory() as place:
        children = []
        for _ in range(4):
            child = os.fork()
            if child == 0:
                try:
                    loop()
                    os._exit(0)
                except OSError as error:
                    os._exit(error.errno or 255)
                finally:
                    os._exit(254)
            children.append(child)
        for child in children:
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            test.equal(ktap.errno_name(code or None), "success", "a child")


fixtures.require()
objects.require_verity()
suite.run()
