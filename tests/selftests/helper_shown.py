#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""What the mount table shows of a mount that mount.composefs made, and names of
any bytes and of any length.

Mounting again with the shown options has to give the same super block.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import fixtures, ktap, matrix_image, mounts, objects
from lib.objects import Store
from lib.shown import shown, unescape

OURS = "/usr/sbin/mount.composefs"
# As they are on the command line, and in /proc/mounts.
ODD_NAMES = ("a,b", "a:b", "back\\slash", "at the end\\", "a b", "tab\there",
             "new\nline", "a=b", "#", "\\,", "\\054", "\\\\:", "quo\"te",
             "\udcff\udcfe", "\u00e9")

suite = ktap.Suite()


class Refused(Exception):
    """The program has not mounted anything. The first line that it printed."""


@contextmanager
def mounted(source: str, options: str, *program: str) -> Iterator[str]:
    """Mounts through the helper. Gives the path."""
    with mounts.directory() as top:
        done = subprocess.run([*(program or (OURS,)), source, top, "-o",
                               options], capture_output=True, check=False)
        if done.returncode:
            raise Refused(os.fsdecode(done.stderr).partition("\n")[0])
        try:
            yield top
        finally:
            mounts.umount_soon(top)


def escape(name: str) -> str:
    return "".join(f"\\{char}" if char in "\\,:" else char for char in name)


def basedirs(paths: list[str]) -> str:
    return "basedir=" + ":".join(map(escape, paths))


def source_of(top: str) -> str:
    """The source of any type of mount."""
    with open("/proc/mounts", encoding="utf-8",
              errors="surrogateescape") as file:
        found = [line.split(" ")[0] for line in file
                 if line.split(" ")[1] == top]
    return unescape(found[-1])


def check_again(test: ktap.Test, what: str, source: str, options: str,
                *program: str) -> None:
    """Mounts, and mounts again with what is shown."""
    try:
        with mounted(source, options) as top:
            found = shown(top)
            with mounted(*found, *program) as second:
                test.equal(shown(second), found, f"{what}: shown")
                matrix_image.check(test, second, what)
                test.equal(os.stat(second).st_dev, os.stat(top).st_dev,
                           f"{what}: device, with {found}")
    except Refused as error:
        test.fail(f"{what}: {error}")


def variants() -> dict[str, str]:
    """Options, by what they are."""
    image = matrix_image.image()
    pin = f",digest={image.digest}"
    own = basedirs(image.objects)
    return {
        "the default": own,
        "verity": f"{own},verity",
        "tryverity": f"{own},tryverity",
        "digest": own + pin,
        "two object directories": basedirs(["/tmp", *image.objects]) + pin,
        "two options": f"basedir=/tmp,{own}{pin}",
        "flags": f"{own}{pin},ro,nodev,noatime",
    }


@suite.test("mounting with what is shown gives the same super block")
def again(test: ktap.Test) -> None:
    image = matrix_image.image()
    for what, options in variants().items():
        check_again(test, what, image.path, options)
        check_again(test, f"{what}, by mount(8)", image.path, options,
                    "mount", "-t", "composefs")
        check_again(test, f"{what}, with a label", "composefs:label",
                    f"{options},image={escape(image.path)}")


@suite.test("what is not verified is shown as noverity")
def default(test: ktap.Test) -> None:
    image = matrix_image.image()
    for what, options in variants().items():
        with mounted(image.path, options) as top:
            test.equal("noverity" in shown(top)[1].split(","),
                       what == "the default", what)


@suite.test("the source is the image, without links, on a stack, too")
def source(test: ktap.Test) -> None:
    image = matrix_image.image()
    options = basedirs(image.objects)
    with objects.store() as work:
        link = work.top / "link"
        link.symlink_to(image.path)
        for kind in ("native", "stack"):
            with mounted(str(link), f"{options},prefer={kind}") as top:
                test.equal(source_of(top), image.path, kind)
            upper, work_dir = (work.top / f"{kind}-{name}"
                               for name in ("upper", "work"))
            upper.mkdir()
            work_dir.mkdir()
            with mounted(str(link), f"{options},prefer={kind},upperdir={upper}"
                         f",workdir={work_dir}") as top:
                test.equal(source_of(top), image.path, f"{kind}, upper")


def copy(store: Store) -> str:
    """Adds the image and two objects to a store. Returns the image."""
    for file in (matrix_image.FILE, matrix_image.INLINE):
        matrix_image.add_to(store, file)
    data = Path(matrix_image.image().path).read_bytes()
    return str(store.verified("image", data))


@suite.test("names of any bytes, on both kinds of mount")
def odd_names(test: ktap.Test) -> None:
    with objects.store() as work:
        for name in ODD_NAMES:
            store = Store(work.top / name)
            path = copy(store)
            options = basedirs([store.path])
            digest = f"{options},digest={matrix_image.image().digest}"
            check_again(test, repr(name), path, digest)
            check_again(test, f"{name!r} as a label", name,
                        f"{digest},image={escape(path)}")
            with mounted(path, f"{options},prefer=stack") as top:
                test.equal(source_of(top), path, f"{name!r}: stack: source")
                matrix_image.check(test, top, f"{name!r}: stack")


@suite.test("names that are longer than what fsconfig(2) takes")
def long_names(test: ktap.Test) -> None:
    with objects.store() as work:
        store = Store(work.top.joinpath(*["long" * 50] * 4))
        path = copy(store)
        options = basedirs([store.path])
        with mounted(path, options) as top:
            test.equal(shown(top)[0], path, "source")
            matrix_image.check(test, top, "native")
        with mounted(path, f"{options},prefer=stack") as top:
            # It cannot show the image.
            test.equal(source_of(top), "composefs", "stack: source")
            matrix_image.check(test, top, "stack")
        upper, work_dir = work.top / "upper", work.top / "work"
        upper.mkdir()
        work_dir.mkdir()
        with mounted(path, f"{options},upperdir={upper},workdir={work_dir}"
                     ) as top:
            test.equal(source_of(top), "composefs", "upper: source")
            matrix_image.check(test, top, "upper")


@suite.test("a label has at most 255 bytes")
def long_labels(test: ktap.Test) -> None:
    image = matrix_image.image()
    options = f"{basedirs(image.objects)},image={escape(image.path)}"
    for kind in ("native", "stack"):
        given = f"{options},prefer={kind}"
        with mounted("l" * 255, given) as top:
            test.equal(source_of(top), "l" * 255, kind)
        before = mounts.mountinfo()
        try:
            with mounted("l" * 256, given):
                test.fail(f"{kind}: 256 bytes are mounted")
        except Refused as error:
            test.check("Invalid argument" in str(error), f"{kind}: {error}")
        test.equal(mounts.mountinfo(), before, f"{kind}: mounts afterwards")


fixtures.require()
objects.require_verity()
if not os.access(OURS, os.X_OK):
    ktap.skip_all(f"no {OURS}")
suite.run()
