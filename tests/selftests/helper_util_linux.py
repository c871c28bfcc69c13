#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""mount(8), umount(8), findmnt(8) and fstab(5) with mount.composefs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

from lib import (core, helper_scene, ktap, loop, mount_helper, mounts,
                 process, util_linux)
from lib.helper_row import TRUSTS, VERIFIES
from lib.helper_scene import ODD_NAMES
from lib.make_images import MS_PRIVATE, MS_REC
from lib.userns import USER
from lib.util_linux import line, mounts_below, run

suite = ktap.Suite()
stack = contextlib.ExitStack()
core.require_composefs()
mount_helper.require(mount_helper.OURS)
scene = stack.enter_context(helper_scene.scene())
names = scene.names

# The options of the kinds of mount, and the type that the kernel shows.
KINDS = {"native": ("", "composefs"), "stack": (",prefer=stack", "overlay"),
         "upper": (",upperdir={upper},workdir={work}", "overlay")}


def options(more: str = "") -> str:
    return scene.expand(f"basedir={{store}}{more}")


@contextmanager
def nothing_left(test: ktap.Test) -> Iterator[None]:
    """Unmounts all at the end, and checks that nothing else is left."""
    scene.fresh()
    before = mount_helper.Leftovers(scene)
    try:
        yield
    finally:
        util_linux.unmount_below(scene.top)
    before.check(test, "the test")


def works(test: ktap.Test, what: str, done: util_linux.Done) -> bool:
    return test.equal(done.status, 0, f"{what}: {done.says}")


def check(test: ktap.Test, what: str, target: str, kind: str = "composefs",
          reads: str = TRUSTS) -> None:
    """Checks the one mount that there is."""
    found = mounts_below(scene.top)
    test.equal([(mount.target, mount.type) for mount in found],
               [(target, kind)], f"{what}: mounts")
    if found:
        test.equal(mount_helper.readable(target), reads, f"{what}: files")


@contextmanager
def fstab(*lines: str) -> Iterator[str]:
    path = scene.path("fstab")
    path.write_text("".join(lines), encoding="utf-8")
    yield str(path)


@suite.test("mount -t composefs runs mount.composefs; -v says how it mounts")
def verbose(test: ktap.Test) -> None:
    for name, (more, kind) in KINDS.items():
        with nothing_left(test):
            done = run("mount", "-v", "-t", "composefs", "-o",
                       options(scene.expand(more)), names["image"],
                       names["target"])
            works(test, name, done)
            lines = [text for text in done.says.split("\n")
                     if text.startswith("mount.composefs: ")]
            test.equal(len(lines), 1, f"{name}: lines: {done.says}")
            word = "overlayfs" if name == "stack" else "native"
            test.check(word in done.says, f"{name}: {done.says}")
            check(test, name, names["target"], kind)


@suite.test("an image with another digest: the message, and no mount")
def wrong_digest(test: ktap.Test) -> None:
    for more in ("", ",prefer=stack"):
        with nothing_left(test):
            done = run("mount", "-t", "composefs", "-o",
                       options(scene.expand(f",digest={{wrong}}{more}")),
                       names["image"], names["target"])
            test.equal(done.status, 32, "exit code")
            test.check(done.says.startswith(
                f"mount.composefs: Failed to mount composefs {names['image']}:"
                " Image has wrong fs-verity\n"), done.says)
            test.equal(mounts_below(scene.top), [], "mounts")


@suite.test("a line of fstab: by mount point, by image, by both")
def by_name(test: ktap.Test) -> None:
    with fstab(line(names["image"], names["target"],
                    options(scene.expand(",noauto,digest={digest}")))) as tab:
        for words in ([names["target"]], [names["image"]], ["target"],
                      ["image"], ["--target", names["target"]],
                      ["--source", names["image"]]):
            with nothing_left(test):
                works(test, f"{words}", run("mount", "-T", tab, *words,
                                            cwd=scene.top))
                check(test, f"{words}", names["target"], reads=VERIFIES)


@suite.test("mount -a mounts each line of fstab once, without noauto")
def mount_all(test: ktap.Test) -> None:
    for name, (more, kind) in KINDS.items():
        with nothing_left(test), fstab(
                line(names["image"], names["file"], options(",noauto")),
                line(names["image"], names["target"],
                     options(scene.expand(more)))) as tab:
            for count in ("once", "twice"):
                works(test, f"{name} {count}", run("mount", "-T", tab, "-a"))
                check(test, f"{name} {count}", names["target"], kind)


@suite.test("mount -a and nofail: a missing image, as a missing disk of ext4")
def nofail(test: ktap.Test) -> None:
    for more in ("", ",nofail"):
        codes = []
        for kind, given in (("composefs", options()), ("ext4", "ro")):
            with nothing_left(test), fstab(
                    line(names["missing"], names["target"], given + more,
                         kind)) as tab:
                codes.append(run("mount", "-T", tab, "-a").status)
        test.equal(codes[0] == 0, codes[1] == 0, f"success with {more!r}")
        test.equal(codes[1] == 0, bool(more), f"success of ext4 with {more!r}")


@suite.test("umount: by mount point, by image, -R, -a -t composefs")
def unmount(test: ktap.Test) -> None:
    nested = f"{names['upper']}/new"
    for words in ([names["target"]], [names["image"]],
                  ["-R", names["target"]], ["-a", "-t", "composefs"]):
        with nothing_left(test):
            works(test, "mount", run(
                "mount", "-t", "composefs", "-o", options(), names["image"],
                names["target"]))
            works(test, f"umount {words}", run("umount", *words))
            test.equal(mounts_below(scene.top), [], f"{words}: mounts")
    with nothing_left(test):
        os.mkdir(nested)
        works(test, "mount", run(
            "mount", "-t", "composefs", "-o", options(scene.expand(
                KINDS["upper"][0])), names["image"], names["target"]))
        works(test, "mount below it", run(
            "mount", "-t", "composefs", "-o", options(), names["image"],
            f"{names['target']}/new"))
        works(test, "umount -R", run("umount", "-R", names["target"]))
        test.equal(mounts_below(scene.top), [], "mounts")


@suite.test("bind mounts and propagation flags, as for ext4")
def propagation(test: ktap.Test) -> None:
    with util_linux.ext4(scene.top) as disk:
        for flags in ("private", "shared", "slave", "unbindable", "rprivate"):
            found = []
            for kind, source, given in (
                    ("composefs", names["image"], options()),
                    ("ext4", disk, "loop")):
                with nothing_left(test):
                    done = [run("mount", "-t", kind, "-o", f"{given},{flags}",
                                source, names["target"]).status,
                            run("mount", "--bind", "-o", "nosuid",
                                names["target"], names["upper"]).status,
                            run("mount", "-o", "bind,ro", names["target"],
                                names["work"]).status]
                    found.append((done, [
                        (mount.target, mount.flags, mount.propagation)
                        for mount in mounts_below(scene.top)]))
            test.equal(found[0], found[1], flags)
            test.equal(found[0][0][0], 0, f"{flags}: exit code")


@suite.test("the option user: its flags; a user without rights mounts nothing")
def user_option(test: ktap.Test) -> None:
    with fstab(line(names["image"], names["target"],
                    options(",user"))) as tab:
        with nothing_left(test):
            works(test, "root", run("mount", "-T", tab, names["target"]))
            check(test, "root", names["target"])
            for mount in mounts_below(scene.top):
                test.equal(mount.flags, "rw,nosuid,nodev,noexec,relatime",
                           "flags")
        with nothing_left(test):
            done = run("mount", "-T", tab, names["target"], user=USER)
            test.check(done.status, "a user could mount")
            test.equal(mounts_below(scene.top), [], "mounts of a user")


@suite.test("X-mount.mkdir, x-systemd options and comments")
def other_options(test: ktap.Test) -> None:
    new = f"{names['target']}/new/directory"
    with nothing_left(test), fstab(
            line(names["image"], new, options(
                ",X-mount.mkdir=0700,x-systemd.requires=/,comment=a,_netdev"
            ))) as tab:
        works(test, "mount", run("mount", "-T", tab, new))
        check(test, "mount", new)


@suite.test("the option loop: the image on a block device")
def on_loop(test: ktap.Test) -> None:
    with nothing_left(test):
        works(test, "mount", run(
            "mount", "-t", "composefs", "-o", options(",loop,ro"),
            names["image"], names["target"]))
        check(test, "mount", names["target"])
        test.check("image" in loop.attached(), "no loop device has the image")


@suite.test("-N mounts in another mount namespace")
def namespace(test: ktap.Test) -> None:
    def wait() -> None:
        os.unshare(os.CLONE_NEWNS)
        mounts.mount(None, "/", None, MS_REC | MS_PRIVATE)
        os.write(ready[1], b"x")
        while True:
            os.read(end[0], 1)

    ready, end = os.pipe(), os.pipe()
    with nothing_left(test), process.running(wait) as child:
        os.read(ready[0], 1)
        works(test, "mount -N", run(
            "mount", "-N", f"/proc/{child}/ns/mnt", "-t", "composefs", "-o",
            options(), names["image"], names["target"]))
        test.equal(mounts_below(scene.top), [], "mounts here")
        seen = f"/proc/{child}/root{names['target']}"
        test.equal(mount_helper.readable(seen), TRUSTS, "files there")
    for fd in (*ready, *end):
        os.close(fd)


@suite.test("-f checks everything and mounts nothing")
def fake(test: ktap.Test) -> None:
    with nothing_left(test):
        for image, more, status in (
                ("image", "", 0), ("image", ",digest={digest}", 0),
                ("missing", "", 32), ("image", ",digest={wrong}", 32)):
            done = run("mount", "-f", "-t", "composefs", "-o",
                       options(scene.expand(more)), names[image],
                       names["target"])
            test.equal(done.status, status, f"{image}{more}: {done.says}")
        test.equal(mounts_below(scene.top), [], "mounts")


@suite.test("findmnt --verify finds no error; findmnt shows the mount")
def findmnt(test: ktap.Test) -> None:
    with nothing_left(test), fstab(line(
            names["image"], names["target"],
            options(scene.expand(",digest={digest},nodev,nofail")))) as tab:
        done = run("findmnt", "--verify", "--tab-file", tab)
        test.check("0 parse errors, 0 errors" in done.says, done.says)
        works(test, "mount", run("mount", "-T", tab, names["target"]))
        done = run("findmnt", "-n", "-o", "SOURCE,FSTYPE", names["target"])
        test.equal(done.says.split(), [names["image"], "composefs"],
                   "source and type")


@suite.test("names with special characters: image, basedir and mount point")
def odd_names(test: ktap.Test) -> None:
    for number, name in enumerate(ODD_NAMES):
        image, target = names[f"odd{number}"], names[f"odd{number}_target"]
        given = f"basedir={names[f'odd{number}_store']},ro,nofail"
        what = repr(name)
        if '"' in name:
            # mount(8) drops an option with one quotation mark.
            given = options(",ro,nofail")
        with nothing_left(test):
            works(test, what, run("mount", "-t", "composefs", "-o", given,
                                  image, target))
            check(test, what, target)
            works(test, f"{what}: umount", run("umount", target))
        with nothing_left(test), fstab(line(image, target, given)) as tab:
            for _ in range(2):
                works(test, f"{what} in fstab", run("mount", "-T", tab, "-a"))
                check(test, f"{what} in fstab", target)
            works(test, f"{what} in fstab: umount", run("umount", target))


@suite.test("a quotation mark in a basedir, which mount(8) drops, is refused")
def quotation_mark(test: ktap.Test) -> None:
    with nothing_left(test):
        done = run("mount", "-t", "composefs", "-o", options("\""),
                   names["image"], names["target"])
        test.check("No object dirs specified" in done.says, done.says)
        test.equal(mounts_below(scene.top), [], "mounts")


with stack:
    suite.run()
