#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""The functions of libcomposefs that mount, and ours of these names, side by
side.

A test is a call. libcomposefs mounts erofs and overlayfs. Ours has to do what
libcomposefs does, or what the row says, with the module of composefs and then
without it. Nothing may be left afterwards.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from lib import (core, helper_scene, ktap, lcfs, loop, module, mount_helper,
                 mounts)
from lib.helper_scene import Scene
from lib.lcfs import (IDMAP, READONLY, REQUIRE_VERITY, TRY_VERITY, UNUSED,
                      Library, Options)
from lib.mount_helper import Outcome

C_PROGRAM = "/usr/libexec/composefs-c/mount.composefs"

# What is mounted if nothing is verified.
MOUNTED = Outcome(0, "success", "rw,relatime",
                  "good plain forged undigested inline", helper_scene.OWNER,
                  "EROFS")

suite = ktap.Suite()


@dataclass(frozen=True)
class Row:
    """A call."""

    title: str
    # Changes the usual options. The paths have {NAME} for the files of the
    # scene.
    options: Options | None = Options(("{store}",))
    # A number stands for lcfs_mount_fd() with the image open, -1 with -1.
    image: str | int | None = "{image}"
    target: str | None = "{target}"
    # The error of ours, if libcomposefs does something else.
    ours: str | None = None
    # Whether libcomposefs fails where ours mounts, unless a mounted device can
    # be written to.
    mends: bool = False
    # As `ours`, if only the kernel's composefs is meant.
    native: str | None = None
    # libcomposefs would not survive it.
    fatal: bool = False


def usual(**changes: object) -> Options:
    return dataclasses.replace(Options(("{store}",)),
                               **changes)  # type: ignore[arg-type]


LAYERS = {"upperdir": "{upper}", "workdir": "{work}"}

ROWS = [
    Row("no flags"),
    Row("by descriptor", image=0),
    Row("REQUIRE_VERITY", usual(flags=REQUIRE_VERITY)),
    Row("TRY_VERITY", usual(flags=TRY_VERITY)),
    Row("both", usual(flags=REQUIRE_VERITY | TRY_VERITY)),
    Row("READONLY", usual(flags=READONLY)),
    Row("a flag that means nothing", usual(flags=UNUSED)),
    Row("an unknown flag", usual(flags=1 << 5)),
    Row("all bits", usual(flags=0xffffffff)),
    Row("digest", usual(digest="{digest}")),
    Row("digest, by descriptor", usual(digest="{digest}"), image=0),
    Row("digest in capitals", usual(digest="{DIGEST}")),
    Row("digest and REQUIRE_VERITY",
        usual(digest="{digest}", flags=REQUIRE_VERITY)),
    Row("digest and TRY_VERITY",
        usual(digest="{digest}", flags=TRY_VERITY)),
    Row("wrong digest", usual(digest="{wrong}")),
    Row("wrong digest and REQUIRE_VERITY",
        usual(digest="{wrong}", flags=REQUIRE_VERITY)),
    Row("wrong digest, by descriptor",
        usual(digest="{wrong}", flags=REQUIRE_VERITY), image=0),
    Row("digest of an image without fs-verity", usual(digest="{digest}"),
        image="{unsealed}"),
    Row("digest of an image without fs-verity, and REQUIRE_VERITY",
        usual(digest="{digest}", flags=REQUIRE_VERITY), image="{unsealed}"),
    Row("digest of an image on tmpfs", usual(digest="{digest}"),
        image="{ram}"),
    Row("digest: empty", usual(digest=""), ours="EINVAL"),
    Row("digest: too short", usual(digest="{short}"), ours="EINVAL"),
    Row("digest: odd", usual(digest="{odd}")),
    Row("digest: no hexadecimal digits", usual(digest="{not_hex}")),
    Row("digest: twice", usual(digest="{digest}{digest}"), ours="EILSEQ"),
    Row("digest: too long", usual(digest="{digest}{digest}00")),
    Row("digest of another image, and an unknown flag",
        usual(digest="{wrong}", flags=1 << 6)),
    Row("a SHA-512 image", Options(("{store512}",)), image="{sha512}"),
    Row("a SHA-512 image and REQUIRE_VERITY",
        Options(("{store512}",), flags=REQUIRE_VERITY), image="{sha512}"),
    Row("two object directories", Options(("{store}", "{store2}"))),
    Row("two, the first without objects", Options(("{empty}", "{store}"))),
    Row("an object directory that is missing", Options(("{missing}",))),
    # libcomposefs asks overlayfs in two ways, and the second one says EINVAL.
    Row("an object directory that is a file", Options(("{file}",)),
        ours="ENOTDIR"),
    Row("an object directory with a comma", Options(("{comma}",))),
    Row("an object directory with a colon", Options(("{colon}",))),
    Row("a long name of an object directory", Options(("{deep}",))),
    Row("no object directory", Options(())),
    Row("no list of object directories", Options(no_list=True)),
    Row("an object directory that is null", Options((None,)), fatal=True,
        ours="EINVAL"),
    Row("one object directory in no list", Options(n_objdirs=1, no_list=True),
        fatal=True, ours="EINVAL"),
    Row("upper layer", usual(**LAYERS)),
    Row("upper layer and REQUIRE_VERITY",
        usual(**LAYERS, flags=REQUIRE_VERITY)),
    Row("upper layer and READONLY", usual(**LAYERS, flags=READONLY)),
    Row("upper layer without work directory", usual(upperdir="{upper}")),
    Row("work directory alone", usual(workdir="{work}")),
    Row("upper layer that is missing",
        usual(upperdir="{missing}", workdir="{work}")),
    Row("owners", usual(flags=IDMAP)),
    Row("owners and an upper layer", usual(**LAYERS, flags=IDMAP)),
    Row("owners without a namespace", usual(flags=IDMAP, idmap_fd=-2)),
    Row("a namespace without the flag", usual(idmap_fd=1 << 20)),
    Row("a namespace that is closed", usual(flags=IDMAP, idmap_fd=1 << 20)),
    Row("directory for erofs", usual(image_mountdir="{empty}")),
    Row("an image that is missing", image="{missing}"),
    Row("an image that is a directory", image="{empty}"),
    Row("an empty image", image="{empty_file}"),
    Row("a short image", image="{short_file}"),
    Row("a text", image="{text}"),
    Row("a wrong magic number", image="{wrong_magic}"),
    # The kernel's composefs says that the image is damaged.
    Row("no erofs", image="{not_erofs}", native="EUCLEAN"),
    # libcomposefs has the loop device still open for writing.
    Row("an image on tmpfs", image="{ram}", mends=True),
    Row("a closed descriptor", image=-1),
    Row("a target that is missing", target="{missing}"),
    # It says what is wrong.
    Row("a target that is a file", target="{file}", ours="ENOTDIR"),
    Row("no image", image=None, ours="EINVAL"),
    Row("no target", target=None, ours="EINVAL"),
    Row("no options", None, fatal=True, ours="EINVAL"),
]


def expanded(row: Row, scene: Scene, namespace: int) -> Options | None:
    """The options of a call, with the paths of the scene."""
    options = row.options
    if options is None:
        return None
    changes: dict[str, object] = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if isinstance(value, str):
            changes[field.name] = scene.expand(value)
    changes["objdirs"] = tuple(path and scene.expand(path)
                               for path in options.objdirs)
    if options.flags & IDMAP and options.idmap_fd == -1:
        changes["idmap_fd"] = namespace
    return dataclasses.replace(options, **changes)  # type: ignore[arg-type]


def call(library: Library, row: Row, scene: Scene) -> Outcome:
    """Makes a call, looks at the mount, and unmounts it."""
    before = mounts.mountinfo()
    with contextlib.ExitStack() as stack:
        namespace = os.open(scene.names["userns"], os.O_RDONLY)
        stack.callback(os.close, namespace)
        image: str | int | None = row.image
        if isinstance(image, str):
            image = scene.expand(image)
        elif image == 0:
            image = os.open(scene.names["image"], os.O_RDONLY)
            stack.callback(os.close, image)
        target = row.target and scene.expand(row.target)
        says = ktap.outcome(library.mount, image, target,
                            expanded(row, scene, namespace))
    new = [fields for fields in mounts.mountinfo() if fields not in before]
    if not new:
        return Outcome(0, says)
    try:
        return mount_helper.look(0, says, new)
    finally:
        for fields in reversed(new):
            mounts.umount(mount_helper.unescape(fields[4]))


def run(test: ktap.Test, library: Library, row: Row, scene: Scene,
        what: str) -> Outcome:
    """Makes a call, and checks that nothing is left."""
    scene.fresh()
    before = mount_helper.Leftovers(scene)
    outcome = call(library, row, scene)
    before.check(test, what)
    return outcome


class Table:
    """The rows, and what they need."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.c_library = lcfs.c_library()
        self.ours = Library(str(lcfs.our_file()))
        self.by_c: dict[str, Outcome] = {}
        # Closed to load the module again.
        self.absent = contextlib.ExitStack()
        self.is_absent = False

    def expected(self, test: ktap.Test, row: Row) -> Outcome:
        """What ours has to do, and libcomposefs does if the row does not say
        otherwise."""
        if row.fatal:
            return Outcome(0, row.ours or "")
        if row.title not in self.by_c:
            self.by_c[row.title] = run(test, self.c_library, row, self.scene,
                                       "libcomposefs")
        by_c = self.by_c[row.title]
        if row.mends:
            test.equal(by_c.says == "success", loop.writable_while_mounted(),
                       "libcomposefs can do it")
            return MOUNTED
        if row.ours:
            test.check(by_c.says != row.ours, "libcomposefs does the same")
            return Outcome(0, row.ours)
        return by_c

    def native(self, test: ktap.Test, row: Row) -> None:
        """Runs a row where the kernel has composefs."""
        expected = self.expected(test, row)
        if row.native:
            expected = Outcome(0, row.native)
        found = run(test, self.ours, row, self.scene, "ours")
        # Without an upper layer, it is the mount of composefs that has the
        # map.
        found = dataclasses.replace(
            found, flags=found.flags.replace(",idmapped", ""))
        test.check(found == expected, f"expected {expected}\nfound {found}")
        by_c = self.by_c.get(row.title)
        if by_c and by_c != found:
            test.note(f"libcomposefs: {by_c}\nours: {found}")

    def stack(self, test: ktap.Test, row: Row) -> None:
        """Runs a row where the kernel has no composefs."""
        if not self.is_absent:
            self.absent.enter_context(module.absent())
            self.is_absent = True
        expected = self.expected(test, row)
        found = run(test, self.ours, row, self.scene, "ours")
        test.check(found == expected, f"expected {expected}\nfound {found}")


def kind_of_mount(call_it: Callable[[str], None]) -> tuple[str, str]:
    """The type and the source of the mount that a call makes."""
    with mounts.directory() as target:
        call_it(target)
        try:
            info = mounts.info(target)
            return info.type, info.source
        finally:
            mounts.umount(target)


def check_kinds(test: ktap.Test, table: Table) -> None:
    """Checks which file system is mounted, and its source."""
    options = Options((table.scene.names["store"],))

    def mount(library: Library, target: str) -> None:
        library.mount(table.scene.names["image"], target, options)

    for library, found in ((table.ours, "composefs"),
                           (table.c_library, "overlay")):
        test.equal(kind_of_mount(functools.partial(mount, library)),
                   (found, "composefs"), library.path)
    with module.absent():
        test.equal(kind_of_mount(functools.partial(mount, table.ours)),
                   ("overlay", "composefs"), "no module")


def check_program(test: ktap.Test, scene: Scene, **environment: str) -> None:
    """Runs the C program, which is linked with libcomposefs."""
    def mount(words: list[str], target: str) -> None:
        done = subprocess.run(
            [C_PROGRAM, *words, scene.names["image"], target],
            env={**os.environ, **environment}, capture_output=True, text=True,
            check=False)
        test.equal(done.stderr, "", "messages")
        test.equal(done.returncode, 0, "exit")

    scene.fresh()
    basedir = f"basedir={scene.names['store']}"
    for more in ("", f",digest={scene.names['digest']}"):
        words = ["-o", basedir + more]
        kind = "composefs" if environment else "overlay"
        test.equal(kind_of_mount(functools.partial(mount, words)),
                   (kind, "composefs"), f"{words}")
    done = subprocess.run(
        [C_PROGRAM, "-o", f"{basedir},digest={scene.names['wrong']}",
         scene.names["image"], scene.names["target"]],
        env={**os.environ, **environment}, capture_output=True, text=True,
        check=False)
    test.check("Image has wrong fs-verity" in done.stderr,
               f"wrong digest: {done.stderr}")
    test.check(not os.path.ismount(scene.names["target"]),
               "wrong digest: mounted")


def add_programs(scene: Scene) -> None:
    """Adds the tests with a program of others."""
    path = lcfs.our_file()

    @suite.test("a program that is linked with libcomposefs: as it is")
    def unchanged(test: ktap.Test) -> None:
        check_program(test, scene)

    @suite.test("a program that is linked with libcomposefs: ours preloaded")
    def preloaded(test: ktap.Test) -> None:
        check_program(test, scene, LD_PRELOAD=str(path))

    @suite.test("a program that is linked with libcomposefs: ours in its place")
    def replaced(test: ktap.Test) -> None:
        with tempfile.TemporaryDirectory() as directory:
            os.symlink(path, f"{directory}/{lcfs.C_LIBRARY}")
            check_program(test, scene, LD_LIBRARY_PATH=directory)


def main() -> None:
    with helper_scene.scene() as scene:
        table = Table(scene)
        suite.add("which file system is mounted, with which source",
                  functools.partial(check_kinds, table=table))
        add_programs(scene)
        for row in ROWS:
            suite.add(f"native: {row.title}",
                      functools.partial(table.native, row=row))
        for row in ROWS:
            suite.add(f"without the module: {row.title}",
                      functools.partial(table.stack, row=row))
        with table.absent:
            suite.run()


core.require_composefs()
main()
