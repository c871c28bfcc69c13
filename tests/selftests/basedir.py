#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""basedir=: how directories are named, and where objects are looked up."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lib import fixtures, ktap, matrix_image, mounts, objects, overlayfs
from lib.mounts import Options, Value
from lib.objects import Store
from lib.refused import refused

suite = ktap.Suite()

# Names with characters that are special in options, in lines of /proc/mounts,
# or in a list of directories.
SPECIAL = (
    "comma,comma",
    "colon:colon",
    "back\\slash",
    "\\",
    "a b",
    "tab\there",
    "new\nline",
    "a=b",
    "\\,",
    "\\:",
    ",",
    ":",
    ":\\,:\\\\",
    "\\054",
    "#",
)

# fsconfig(2) takes strings of up to 255 bytes.
LONGEST_STRING = 255


def escaped_for_mount(path: str) -> str:
    """Escapes a name for basedir= in the options of mount(2)."""
    return mounts.escape(path).replace(",", "\\,")


def options(*pairs: tuple[str, Value]) -> Options:
    """The image as source, and other options."""
    return [("source", matrix_image.image().path), *pairs]


def read_mounted(options_: Options) -> bytes | str:
    """What a read of FILE returns, or the name of its error."""
    with mounts.mounted("composefs", options_) as top:
        found: bytes | str = ktap.result(
            Path(top, matrix_image.FILE).read_bytes)
        return found


@contextmanager
def stores(count: int) -> Iterator[list[Store]]:
    with ExitStack() as stack:
        yield [stack.enter_context(objects.store()) for _ in range(count)]


@suite.test("several directories are searched in order, by each syntax")
def order(test: ktap.Test) -> None:
    good = matrix_image.data()
    bad = bytes(byte ^ 1 for byte in good)
    name = matrix_image.object_name()
    with stores(3) as (empty, first, second):
        first.plain(name, good)
        second.plain(name, bad)
        for what, directories, expected in (
                ("good before bad", (empty, first, second), good),
                ("bad before good", (second, empty, first), bad),
                ("the same twice", (empty, empty, second), bad),
                ("in no directory", (empty, empty), "EIO")):
            paths = [mounts.escape(store.path) for store in directories]
            fds = [os.open(store.path, os.O_PATH) for store in directories]
            off = ("noverity", None)
            syntaxes: dict[str, list[tuple[str, Value]]] = {
                "with colons": [("basedir", ":".join(paths))],
                "repeated": [("basedir", path) for path in paths],
                "as descriptors": [("basedir", fd) for fd in fds],
                "as a path and descriptors": [
                    ("basedir", paths[0]), *(("basedir", fd)
                                             for fd in fds[1:])]}
            try:
                for syntax, pairs in syntaxes.items():
                    test.equal(read_mounted(options(*pairs, off)), expected,
                               f"{what}, {syntax}")
            finally:
                for fd in fds:
                    os.close(fd)
            with mounts.mounted_by_mount2(
                    matrix_image.image().path,
                    f"basedir={':'.join(paths)},noverity") as top:
                test.equal(ktap.result(
                    Path(top, matrix_image.FILE).read_bytes), expected,
                    f"{what}, by mount(2)")


@suite.test("a wrong object in the first directory hides those in later ones")
def first_counts(test: ktap.Test) -> None:
    name = matrix_image.object_name()
    with stores(2) as (first, second):
        first.verified(name, matrix_image.data()[::-1])
        matrix_image.add_to(second)
        both = [("basedir", mounts.escape(store.path))
                for store in (first, second)]
        test.equal(read_mounted(options(*both)), "EIO",
                   "the wrong object first")
        test.equal(read_mounted(options(*reversed(both))), matrix_image.data(),
                   "the right object first")


@suite.test("names with special characters, by fsconfig(2)")
def odd_fsconfig(test: ktap.Test) -> None:
    with objects.store() as work:
        for name in SPECIAL:
            store = Store(work.top / name)
            matrix_image.add_to(store)
            test.equal(
                read_mounted(options(("basedir", mounts.escape(store.path)))),
                matrix_image.data(),
                repr(name),
            )
            test.equal(read_mounted(options(
                ("basedir", f"/tmp:{escaped_for_mount(store.path)}:/"))),
                matrix_image.data(), f"{name!r} in a list")


@suite.test("names with special characters, by mount(2)")
def odd_mount(test: ktap.Test) -> None:
    with objects.store() as work:
        for name in SPECIAL:
            store = Store(work.top / name)
            matrix_image.add_to(store)
            escaped = escaped_for_mount(store.path)
            for data in (f"basedir={escaped}",
                         f"verity,basedir=/tmp:{escaped}:/,verity"):
                try:
                    with mounts.mounted_by_mount2(
                            matrix_image.image().path, data) as top:
                        test.equal(Path(top, matrix_image.FILE).read_bytes(),
                                   matrix_image.data(), data)
                except OSError as error:
                    test.fail(f"{data}: {error}")


@suite.test("the longest string, and many long ones")
def long_names(test: ktap.Test) -> None:
    with objects.store() as work:
        store = Store(work.top / ("n" * 100) / ("m" * 100))
        matrix_image.add_to(store)
        room = LONGEST_STRING - len(store.path)
        test.need(room > 0, f"{store.path} is too long for the test")
        padded = store.path.replace("/m", "/" * room + "m")
        test.equal(len(padded), LONGEST_STRING - 1, "length")
        test.equal(read_mounted(options(("basedir", padded))),
                   matrix_image.data(), "254 bytes")
        test.equal(
            read_mounted(
                options(*[("basedir", f"/{'/' * 250}tmp")] * 20,
                        ("basedir", padded))
            ),
            matrix_image.data(),
            "after 20 long ones",
        )


@suite.test("malformed lists are EINVAL")
def bad_lists(test: ktap.Test) -> None:
    for text in ("", ":", "/tmp:", ":/tmp", "/tmp::/tmp", "/tmp\\",
                 "/tmp:/tmp\\", "\\"):
        refused(test, repr(text), errno.EINVAL, options(("basedir", text)),
                "basedir")


@suite.test("more than 500 directories are EINVAL")
def too_many(test: ktap.Test) -> None:
    refused(test, "501", errno.EINVAL, options(*[("basedir", "/tmp")] * 501),
            "basedir", "500")
    with mounts.mounted("composefs", options(*[("basedir", "/tmp")] * 500)):
        test.check(True, "")


@suite.test("not a directory: the errno, and a message with the name")
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
                        options(("basedir", before + path)), "basedir", path,
                        word)
        fd = os.open(work.top / "file", os.O_RDONLY)
        try:
            refused(test, "a descriptor of a file", errno.ENOTDIR,
                    options(("basedir", fd)), "basedir", f"{work.path}/file")
        finally:
            os.close(fd)


@suite.test("descriptors: O_RDONLY, O_PATH, a detached mount")
def descriptors(test: ktap.Test) -> None:
    with objects.store() as store:
        matrix_image.add_to(store)
        for what, fd in (
                ("O_RDONLY", os.open(store.path, os.O_RDONLY)),
                ("O_PATH", os.open(store.path, os.O_PATH)),
                ("open_tree(2)", mounts.new_tree(store.path))):
            options_ = options(("basedir", fd))
            try:
                test.equal(read_mounted(options_), matrix_image.data(), what)
            finally:
                os.close(fd)


@suite.test("a symbolic link, which may be removed after the mount")
def through_link(test: ktap.Test) -> None:
    with objects.store() as store, objects.store() as work:
        matrix_image.add_to(store)
        link = work.top / "link"
        link.symlink_to(store.path)
        with matrix_image.mounted(basedirs=[str(link)]) as top:
            link.unlink()
            test.equal(Path(top, matrix_image.FILE).read_bytes(),
                       matrix_image.data(), "a read")


@suite.test("a directory may be renamed while it is in use")
def pinned(test: ktap.Test) -> None:
    with objects.store() as work:
        store = Store(work.top / "before")
        matrix_image.add_to(store)
        with matrix_image.mounted(basedirs=[store.path]) as top:
            os.rename(store.path, work.top / "after")
            test.equal(Path(top, matrix_image.FILE).read_bytes(),
                       matrix_image.data(), "a read after rename(2)")


def own_mount(test: ktap.Test, as_descriptor: bool) -> None:
    """Unmounts an object directory, which is the root of a mount, before the
    first read."""
    with mounts.directory() as place:
        mounts.mount_at("tmpfs", [("source", "store")], place)
        Store(Path(place)).plain(matrix_image.object_name(),
                                 matrix_image.data())
        value: Value = place
        if as_descriptor:
            value = os.open(place, os.O_PATH)
        try:
            mount = mounts.new_mount("composefs", options(
                ("basedir", value), ("noverity", None)))
        finally:
            if isinstance(value, int):
                os.close(value)
        try:
            with mounts.attached(mount) as top:
                test.fails(None, "umount of the directory", mounts.umount,
                           place)
                test.equal(os.listdir(place), [], "the unmounted directory")
                test.equal(Path(top, matrix_image.FILE).read_bytes(),
                           matrix_image.data(), "a read")
        finally:
            if os.path.ismount(place):
                mounts.umount(place)


@suite.test("the directory's own mount can be unmounted: given as a path")
def unmounted_path(test: ktap.Test) -> None:
    own_mount(test, False)


@suite.test(
    "the directory's own mount can be unmounted: given as a descriptor"
)
def unmounted_descriptor(test: ktap.Test) -> None:
    own_mount(test, True)


@suite.test("objects on a mount below the directory are not found")
def crossing(test: ktap.Test) -> None:
    name = matrix_image.object_name()
    with objects.store() as store, mounts.mounted(
            "tmpfs", [("source", "store")]) as other:
        below = store.top / name.partition("/")[0]
        below.mkdir()
        Path(other, Path(name).name).write_bytes(matrix_image.data())
        with mounts.bound(other, below):
            test.equal(read_mounted(options(("basedir", store.path),
                                            ("noverity", None))),
                       "EIO", "a read")


@suite.test("on overlayfs: refused unless noverity or tryverity")
def on_overlay(test: ktap.Test) -> None:
    with stores(2) as (lower, other):
        matrix_image.add_to(lower)
        with overlayfs.read_only(lower.path, other.path) as top:
            basedir = ("basedir", top)
            for more in ((), (("verity", None),),
                         (("digest", matrix_image.image().digest),)):
                refused(test, f"{more}", errno.EINVAL, options(basedir, *more),
                        "basedir", top, "overlayfs")
            for word in ("noverity", "tryverity"):
                test.equal(read_mounted(options(basedir, (word, None))),
                           matrix_image.data(), word)


@suite.test("a stack of too many file systems is EINVAL, with a message")
def too_deep(test: ktap.Test) -> None:
    with stores(3) as (lower, second, third):
        matrix_image.add_to(lower)
        with overlayfs.read_only(lower.path, second.path) as one, \
                overlayfs.read_only(one, third.path) as two:
            off = ("noverity", None)
            test.equal(read_mounted(options(("basedir", one), off)),
                       matrix_image.data(), "one overlayfs")
            refused(test, "two", errno.EINVAL, options(("basedir", two), off),
                    "too many file systems")


fixtures.require()
objects.require_verity()
suite.run()
