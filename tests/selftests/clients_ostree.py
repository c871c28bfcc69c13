#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""ostree-prepare-root, which mounts the root of a system that ostree has
deployed.

It calls libcomposefs. With liblcfs_mount.so preloaded, it has to do the same,
but the root has to be a composefs.

Debian's program is built without signatures, and only a signed image has a
digest to compare: libcomposefs.py has what is done with one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from lib import core, ktap, lcfs, module, mounts
from lib.ostree import PROGRAM, Result, Sysroot, ostree, sysroot
from lib.verity import enable_verity

suite = ktap.Suite()

ENABLED = "[composefs]\nenabled=true\n"
VERITY = "[composefs]\nenabled=verity\n"
MAYBE = "[composefs]\nenabled=maybe\n"
TRANSIENT = VERITY + "[root]\ntransient=true\n"
LARGE, OTHER = "usr/share/large", "usr/share/other"


def preloaded(system: Sysroot, configuration: str) -> Result:
    return system.prepare(configuration, LD_PRELOAD=str(lcfs.our_file()))


def check_same(test: ktap.Test, one: Result, other: Result) -> None:
    """Checks that the program has done the same."""
    for what in ("status", "output", "mounts", "writes", "booted"):
        test.equal(getattr(other, what), getattr(one, what), what)
    for name in one.files.keys() | other.files.keys():
        test.equal(other.files.get(name), one.files.get(name), name)


def check_both(test: ktap.Test, system: Sysroot, configuration: str) -> Result:
    """Runs the program without and with our library, and compares. Returns
    the result with it."""
    before = mounts.mountinfo()
    plain = system.prepare(configuration)
    ours = preloaded(system, configuration)
    check_same(test, plain, ours)
    test.equal(mounts.mountinfo(), before, "mounts of the guest")
    if ours.status == 0 and ours.root and plain.root:
        test.equal((plain.root.type, plain.root.source),
                   ("overlay", "composefs"), "the root, without our library")
    return ours


def check_mounted(test: ktap.Test, result: Result, *options: str) -> None:
    """Checks that the root is a composefs with these options."""
    test.equal(result.status, 0, f"{result.output}: status")
    test.need(result.root, "nothing is mounted")
    assert result.root
    test.equal((result.root.type, result.root.source),
               ("composefs", "composefs"), "the root")
    for option in options:
        test.check(option in result.root.options,
                   f"no {option}: {result.root.options}")
    test.equal(result.writes, "Read-only file system", "a new file")
    test.check("usr/bin/set" in result.files, "no files")


def check_refused(test: ktap.Test, result: Result, why: str) -> None:
    test.equal(result.status, 1, "status")
    test.check(why in result.output, result.output)
    test.equal(result.mounts, [], "mounts")


def add_tests(system: Sysroot) -> None:
    """Adds the tests of a deployment as ostree has made it."""

    @suite.test("composefs.enabled=true: the same root, but a composefs")
    def enabled(test: ktap.Test) -> None:
        test.note("ostree" + ostree("--version").split("\n")[1])
        result = check_both(test, system, ENABLED)
        check_mounted(test, result, "noverity", f"image={system.image}",
                      f"basedir={system.top}/ostree/repo/objects")

    @suite.test("composefs.enabled=verity")
    def verity(test: ktap.Test) -> None:
        check_mounted(test, check_both(test, system, VERITY), "verity")

    @suite.test("composefs.enabled=maybe")
    def maybe(test: ktap.Test) -> None:
        check_mounted(test, check_both(test, system, MAYBE))

    @suite.test("root.transient=true: an overlayfs on a composefs")
    def transient(test: ktap.Test) -> None:
        result = check_both(test, system, TRANSIENT)
        test.equal(result.status, 0, f"{result.output}: status")
        test.equal(result.writes, "success", "a new file")
        assert result.root
        shown = " ".join(result.root.options)
        test.check("datadir" not in shown and "upperdir" in shown,
                   f"the objects are a layer of overlayfs: {shown}")

    @suite.test("a kernel without composefs: as without our library")
    def absent(test: ktap.Test) -> None:
        with module.absent():
            result = check_both(test, system, VERITY)
        test.equal(result.root and result.root.type, "overlay", "the root")

    @suite.test("our library in the place of libcomposefs")
    def replaced(test: ktap.Test) -> None:
        with tempfile.TemporaryDirectory() as directory:
            os.symlink(lcfs.our_file(), f"{directory}/{lcfs.C_LIBRARY}")
            result = system.prepare(VERITY, LD_LIBRARY_PATH=directory)
        check_mounted(test, result, "verity")


def add_damage(system: Sysroot) -> None:
    """Adds the tests that damage the deployment."""

    @suite.test("a damaged object: reading it fails, if verity is asked for")
    def damaged(test: ktap.Test) -> None:
        path = system.object_of(LARGE)
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.unlink()
        path.write_bytes(data)
        enable_verity(path)
        for configuration, readable in ((VERITY, False), (ENABLED, True)):
            result = check_both(test, system, configuration)
            check_mounted(test, result)
            test.equal("Input/output error" not in result.files[LARGE],
                       readable, f"{configuration}: {result.files[LARGE]}")

    @suite.test("an object that lost its fs-verity")
    def no_verity(test: ktap.Test) -> None:
        path = system.object_of(OTHER)
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
        result = check_both(test, system, VERITY)
        check_mounted(test, result)
        test.check("Input/output error" in result.files[OTHER],
                   f"{result.files[OTHER]}")

    @suite.test("an image that is something else is refused")
    def no_image(test: ktap.Test) -> None:
        system.make_mutable()
        moved = system.image.with_suffix(".moved")
        system.image.rename(moved)
        shutil.copy("/etc/os-release", system.image)
        for configuration in (VERITY, ENABLED, MAYBE):
            check_refused(test, check_both(test, system, configuration),
                          "composefs: failed to mount: Invalid argument")
        system.image.unlink()
        moved.rename(system.image)

    @suite.test("an image that is missing is refused, unless it may be")
    def missing(test: ktap.Test) -> None:
        system.make_mutable()
        system.image.unlink()
        check_refused(test, check_both(test, system, VERITY),
                      "composefs: failed to mount: No such file or directory")
        plain, ours = system.prepare(MAYBE), preloaded(system, MAYBE)
        check_same(test, plain, ours)
        test.equal(ours.root and ours.root.type, "ext4", "the root")


def main() -> None:
    if not Path(PROGRAM).exists():
        ktap.skip_all(f"no {PROGRAM}: install ostree-boot")
    lcfs.our_file()
    with sysroot() as system:
        add_tests(system)
        add_damage(system)
        suite.run()


core.require_composefs()
ktap.require_programs("ostree", "ostree")
main()
