#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""basedir=: where objects are looked for, and how the directories are named."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lib import fixtures, ktap, matrix, mounts, objects
from lib.mounts import Options, Value
from lib.objects import Store
from lib.refused import refused

suite = ktap.Suite()

# Everything that has a meaning in an option, in a line of /proc/mounts, or in
# a list of directories.
ODD = ("comma,comma", "colon:colon", "back\\slash", "\\", "a b", "tab\there",
       "new\nline", "a=b", "\\,", "\\:", ",", ":", ":\\,:\\\\", "\\054", "#")

# fs/namespace.c and fs_context.c cut at these lengths.
LONGEST_STRING = 255


def escaped_for_mount(path: str) -> str:
    """As basedir= has to be written for mount(2), where commas separate."""
    return mounts.escape(path).replace(",", "\\,")


@contextmanager
def mounted_by_mount2(data: str) -> Iterator[str]:
    with mounts.directory() as top:
        mounts.mount(matrix.image().path, top, "composefs", 0, data)
        try:
            yield top
        finally:
            mounts.umount(top)


def only(*pairs: tuple[str, Value]) -> Options:
    return [("source", matrix.image().path), *pairs]


def bytes_of(options: Options) -> bytes | str:
    """What a mount gives of the one file, or the name of the error."""
    with mounts.mounted("composefs", options) as top:
        try:
            return Path(top, matrix.FILE).read_bytes()
        except OSError as error:
            return ktap.errno_name(error.errno)


@contextmanager
def stores(count: int) -> Iterator[list[Store]]:
    with ExitStack() as stack:
        yield [stack.enter_context(objects.store()) for _ in range(count)]


@suite.test("several are searched in order, however they are given")
def order(test: ktap.Test) -> None:
    good = matrix.data()
    bad = bytes(byte ^ 1 for byte in good)
    name = matrix.object_name()
    with stores(3) as (empty, first, second):
        first.plain(name, good)
        second.plain(name, bad)
        for what, list_of, expected in (
                ("good before bad", (empty, first, second), good),
                ("bad before good", (second, empty, first), bad),
                ("the same twice", (empty, empty, second), bad),
                ("none that has it", (empty, empty), "EIO")):
            paths = [mounts.escape(store.path) for store in list_of]
            off = ("noverity", None)
            test.equal(bytes_of(only(("basedir", ":".join(paths)), off)),
                       expected, f"{what}, with colons")
            test.equal(bytes_of(only(*(("basedir", path) for path in paths),
                                     off)),
                       expected, f"{what}, repeated")
            fds = [os.open(store.path, os.O_PATH) for store in list_of]
            try:
                test.equal(bytes_of(only(*(("basedir", fd) for fd in fds),
                                         off)),
                           expected, f"{what}, as descriptors")
                test.equal(bytes_of(only(("basedir", paths[0]), *(
                    ("basedir", fd) for fd in fds[1:]), off)),
                    expected, f"{what}, as a path and descriptors")
            finally:
                for fd in fds:
                    os.close(fd)
            with mounted_by_mount2(f"basedir={':'.join(paths)},noverity") \
                    as top:
                try:
                    found: bytes | str = Path(top, matrix.FILE).read_bytes()
                except OSError as error:
                    found = ktap.errno_name(error.errno)
                test.equal(found, expected, f"{what}, by mount(2)")


@suite.test("a wrong object in the first one is not passed over")
def first_counts(test: ktap.Test) -> None:
    name = matrix.object_name()
    with stores(2) as (first, second):
        first.verified(name, matrix.data()[::-1])
        matrix.add_to(second)
        both = [("basedir", mounts.escape(store.path))
                for store in (first, second)]
        test.equal(bytes_of(only(*both)), "EIO", "a wrong one first")
        test.equal(bytes_of(only(*reversed(both))), matrix.data(),
                   "a good one first")


@suite.test("names with all that options are made of, by fsconfig(2)")
def odd_fsconfig(test: ktap.Test) -> None:
    with objects.store() as work:
        for name in ODD:
            store = Store(work.top / name)
            matrix.add_to(store)
            test.equal(bytes_of(only(("basedir", mounts.escape(store.path)))),
                       matrix.data(), repr(name))
            test.equal(bytes_of(only(
                ("basedir", f"/tmp:{escaped_for_mount(store.path)}:/"))),
                matrix.data(), f"{name!r} between two")


@suite.test("names with all that options are made of, by mount(2)")
def odd_mount(test: ktap.Test) -> None:
    with objects.store() as work:
        for name in ODD:
            store = Store(work.top / name)
            matrix.add_to(store)
            escaped = escaped_for_mount(store.path)
            for data in (f"basedir={escaped}",
                         f"verity,basedir=/tmp:{escaped}:/,verity"):
                try:
                    with mounted_by_mount2(data) as top:
                        test.equal(Path(top, matrix.FILE).read_bytes(),
                                   matrix.data(), data)
                except OSError as error:
                    test.fail(f"{data}: {error}")


@suite.test("the longest string, and more by repetition")
def long_names(test: ktap.Test) -> None:
    with objects.store() as work:
        store = Store(work.top / ("n" * 100) / ("m" * 100))
        matrix.add_to(store)
        room = LONGEST_STRING - len(store.path)
        test.need(room > 0, f"{store.path} is too long for the test")
        padded = store.path.replace("/m", "/" * room + "m")
        test.equal(len(padded), LONGEST_STRING - 1, "length")
        test.equal(bytes_of(only(("basedir", padded))), matrix.data(),
                   "254 bytes")
        test.equal(bytes_of(only(*[("basedir", f"/{'/' * 250}tmp")] * 20,
                                 ("basedir", padded))),
                   matrix.data(), "20 long ones before")


@suite.test("bad lists: no name, a backslash at the end")
def bad_lists(test: ktap.Test) -> None:
    for text in ("", ":", "/tmp:", ":/tmp", "/tmp::/tmp", "/tmp\\",
                 "/tmp:/tmp\\", "\\"):
        refused(test, repr(text), errno.EINVAL, only(("basedir", text)),
                "basedir")


@suite.test("more directories than there may be")
def too_many(test: ktap.Test) -> None:
    refused(test, "501", errno.EINVAL, only(*[("basedir", "/tmp")] * 501),
            "basedir", "500")
    with mounts.mounted("composefs", only(*[("basedir", "/tmp")] * 500)):
        test.check(True, "")


@suite.test("what is no directory: its error, and a message with its name")
def no_directory(test: ktap.Test) -> None:
    with objects.store() as work:
        work.plain("file", b"")
        (work.top / "dangling").symlink_to("nowhere")
        (work.top / "loop").symlink_to("loop")
        for name, number, word in (
                ("missing", errno.ENOENT, "be found"),
                ("dangling", errno.ENOENT, "be found"),
                ("loop", errno.ELOOP, "be found"),
                ("file", errno.ENOTDIR, "directory"),
                ("file/below", errno.ENOTDIR, "be found")):
            path = f"{work.path}/{name}"
            for before in ("", "/tmp:"):
                refused(test, before + name, number,
                        only(("basedir", before + path)), "basedir", path,
                        word)
        fd = os.open(work.top / "file", os.O_RDONLY)
        try:
            refused(test, "a descriptor of a file", errno.ENOTDIR,
                    only(("basedir", fd)), "basedir", f"{work.path}/file")
        finally:
            os.close(fd)


@suite.test("a descriptor: for reading, of O_PATH, of a mount that is nowhere")
def descriptors(test: ktap.Test) -> None:
    with objects.store() as store:
        matrix.add_to(store)
        for what, fd in (
                ("O_RDONLY", os.open(store.path, os.O_RDONLY)),
                ("O_PATH", os.open(store.path, os.O_PATH)),
                ("open_tree(2)", mounts.new_tree(store.path))):
            options = only(("basedir", fd))
            try:
                test.equal(bytes_of(options), matrix.data(), what)
            finally:
                os.close(fd)


@suite.test("through a symbolic link, which may change then")
def through_link(test: ktap.Test) -> None:
    with objects.store() as store, objects.store() as work:
        matrix.add_to(store)
        link = work.top / "link"
        link.symlink_to(store.path)
        with mounts.composefs(matrix.image().path, [str(link)]) as top:
            link.unlink()
            test.equal(Path(top, matrix.FILE).read_bytes(), matrix.data(),
                       "a read")


@suite.test("may be renamed, and its own mount go away")
def pinned(test: ktap.Test) -> None:
    with objects.store() as work:
        store = Store(work.top / "before")
        matrix.add_to(store)
        with mounts.composefs(matrix.image().path, [store.path]) as top:
            os.rename(store.path, work.top / "after")
            test.equal(Path(top, matrix.FILE).read_bytes(), matrix.data(),
                       "a read after rename(2)")


def own_mount(test: ktap.Test, as_descriptor: bool) -> None:
    """A store on a mount of its own, which is gone before the first read."""
    with mounts.directory() as top, mounts.directory() as place:
        fd = mounts.new_mount("tmpfs", [("source", "store")])
        mounts.attach(fd, place)
        os.close(fd)
        Store(Path(place)).plain(matrix.object_name(), matrix.data())
        value: Value = place
        if as_descriptor:
            value = os.open(place, os.O_PATH)
        try:
            mount = mounts.new_mount("composefs", only(
                ("basedir", value), ("noverity", None)))
        finally:
            if isinstance(value, int):
                os.close(value)
        mounts.attach(mount, top)
        os.close(mount)
        try:
            test.fails(None, "umount of the store", mounts.umount, place)
            test.equal(os.listdir(place), [], "where the store was")
            test.equal(Path(top, matrix.FILE).read_bytes(), matrix.data(),
                       "a read")
        finally:
            mounts.umount(top)
            if os.path.ismount(place):
                mounts.umount(place)


@suite.test("its mount can be unmounted: given as a path")
def unmounted_path(test: ktap.Test) -> None:
    own_mount(test, False)


@suite.test("its mount can be unmounted: given as a descriptor")
def unmounted_descriptor(test: ktap.Test) -> None:
    own_mount(test, True)


@suite.test("objects on another mount below it are not found")
def crossing(test: ktap.Test) -> None:
    name = matrix.object_name()
    with objects.store() as store, mounts.mounted(
            "tmpfs", [("source", "store")]) as other:
        below = store.top / name.partition("/")[0]
        below.mkdir()
        Path(other, Path(name).name).write_bytes(matrix.data())
        mounts.mount(other, str(below), None, mounts.MS_BIND)
        try:
            test.equal(bytes_of(only(("basedir", store.path),
                                     ("noverity", None))), "EIO", "a read")
        finally:
            mounts.umount(str(below))


@suite.test("on overlayfs: refused where digests count, else taken")
def on_overlay(test: ktap.Test) -> None:
    with stores(2) as (lower, other):
        matrix.add_to(lower)
        with mounts.mounted("overlay", [
                ("source", "store"), ("lowerdir+", lower.path),
                ("lowerdir+", other.path)]) as top:
            basedir = ("basedir", top)
            for more in ((), (("verity", None),),
                         (("digest", matrix.image().digest),)):
                refused(test, f"{more}", errno.EINVAL, only(basedir, *more),
                        "basedir", top, "overlayfs")
            for word in ("noverity", "tryverity"):
                test.equal(bytes_of(only(basedir, (word, None))),
                           matrix.data(), word)


@suite.test("too many file systems on top of each other: a message says so")
def too_deep(test: ktap.Test) -> None:
    with stores(3) as (lower, second, third):
        matrix.add_to(lower)
        with mounts.mounted("overlay", [
                ("source", "one"), ("lowerdir+", lower.path),
                ("lowerdir+", second.path)]) as one, \
            mounts.mounted("overlay", [
                ("source", "two"), ("lowerdir+", one),
                ("lowerdir+", third.path)]) as two:
            off = ("noverity", None)
            test.equal(bytes_of(only(("basedir", one), off)), matrix.data(),
                       "one overlayfs")
            refused(test, "two", errno.EINVAL, only(("basedir", two), off),
                    "too many file systems")


fixtures.require()
objects.require_verity()
suite.run()
