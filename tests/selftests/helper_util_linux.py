#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""mount(8), umount(8), findmnt(8) and fstab(5) with mount.composefs."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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
nothing_left = functools.partial(util_linux.nothing_left, scene)

# The options of the kinds of mount, and the type that the kernel shows.
KINDS = {"native": ("", "composefs"), "stack": (",prefer=stack", "overlay"),
         "upper": (",upperdir={upper},workdir={work}", "overlay")}


def options(more: str = "") -> str:
    return scene.expand(f"basedir={{store}}{more}")


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


@contextmanager
def other_namespace(prepare: Callable[[], None] = lambda: None
                    ) -> Iterator[int]:
    """A process with a mount namespace of its own, in which `prepare` was
    called. Gives the process."""
    def wait() -> None:
        os.unshare(os.CLONE_NEWNS)
        mounts.mount(None, "/", None, MS_REC | MS_PRIVATE)
        prepare()
        os.write(ready[1], b"x")
        while True:
            os.read(end[0], 1)

    ready, end = os.pipe(), os.pipe()
    try:
        with process.running(wait) as child:
            os.close(ready[1])
            if os.read(ready[0], 1) != b"x":
                raise AssertionError("the process has failed")
            yield child
    finally:
        for fd in (ready[0], *end):
            os.close(fd)


def in_namespace(child: int, more: str) -> util_linux.Done:
    return run(mount_helper.OURS, "-N", f"/proc/{child}/ns/mnt", "-o",
               options(scene.expand(more)), names["image"], names["target"])


def seen_by(child: int) -> str:
    """The mount point as a process has it."""
    return f"/proc/{child}/root{names['target']}"


@suite.test("-N mounts in another mount namespace")
def namespace(test: ktap.Test) -> None:
    with nothing_left(test), other_namespace() as child:
        works(test, "mount -N", run(
            "mount", "-N", f"/proc/{child}/ns/mnt", "-t", "composefs", "-o",
            options(), names["image"], names["target"]))
        test.equal(mounts_below(scene.top), [], "mounts here")
        test.equal(mount_helper.readable(seen_by(child)), TRUSTS,
                   "files there")
    with nothing_left(test), other_namespace() as child:
        works(test, "a stack", in_namespace(child, ",prefer=stack"))
        test.equal(mount_helper.readable(seen_by(child)), TRUSTS,
                   "a stack: files there")


@suite.test("-N where /proc is something else: no stack of another image")
def wrong_proc(test: ktap.Test) -> None:
    def prepare() -> None:
        mounts.mount("tmpfs", "/proc", "tmpfs")
        os.makedirs("/proc/self/fd")
        for fd in range(3, 30):
            os.symlink(names["unsealed"], f"/proc/self/fd/{fd}")

    given = ",digest={digest}"
    with nothing_left(test), other_namespace(prepare) as child:
        done = in_namespace(child, f"{given},prefer=stack")
        test.equal(done.status, 32, f"the stack: {done.says}")
        test.check("/proc does not have the open files" in done.says,
                   done.says)
        shown = Path(f"/proc/{child}/mountinfo").read_text(encoding="utf-8")
        test.check(names["target"] not in shown, "the stack is mounted")
        # composefs is given the open file.
        works(test, "native", in_namespace(child, given))
        test.equal(mount_helper.readable(seen_by(child)), VERIFIES,
                   "native: files")


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
