#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""mount -o remount with mount.composefs, which mount(8) runs for it.

The same commands on an erofs and on an ext4 have to give the same exit codes
and flags.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Sequence

from lib import core, helper_scene, ktap, mount_helper, util_linux
from lib.helper_row import TRUSTS, VERIFIES
from lib.util_linux import line, mounts_below, run

suite = ktap.Suite()
core.require_composefs()
mount_helper.require(mount_helper.OURS)
stack = contextlib.ExitStack()
scene = stack.enter_context(helper_scene.scene())
names = scene.names
nothing_left = functools.partial(util_linux.nothing_left, scene)

# Words of mount(8), one command after the other. {source} and {target} are
# what was mounted. {tab} is a fstab with a line for it, with nosuid.
OTHER = "another file system"
NO_TAB = ("-T", "{empty_file}")
SEQUENCES: dict[str, Sequence[Sequence[str]]] = {
    "flags, without a line of fstab": [
        (*NO_TAB, "-o", "remount,nodev", "{target}"),
        (*NO_TAB, "-o", "remount,noexec", "{target}"),
        (*NO_TAB, "-o", "remount,dev", "{target}"),
        (*NO_TAB, "-o", "remount,ro", "{target}"),
        (*NO_TAB, "-o", "remount,nosymfollow", "{target}"),
        (*NO_TAB, "-o", "remount,rw", "{target}"),
        (*NO_TAB, "-o", "remount", "{target}"),
    ],
    "flags, with a line of fstab": [
        ("-T", "{tab}", "-o", "remount,nodev", "{target}"),
        ("-T", "{tab}", "-o", "remount,suid", "{target}"),
        ("-T", "{tab}", "-o", "remount,ro", "{target}"),
        ("-T", "{tab}", "-o", "remount,rw,noexec", "{target}"),
        ("-T", "{tab}", "-o", "remount", "{target}"),
        ("-T", "{tab}", "-o", "remount,nodev", "{source}"),
    ],
    "flags, with source and mount point": [
        ("-t", "{type}", "-o", "remount,nodev{own}", "{source}", "{target}"),
        ("-t", "{type}", "-o", "remount,nosuid,nodev,noexec{own}", "{source}",
         "{target}"),
        ("-t", "{type}", "-o", "remount{own}", "{source}", "{target}"),
    ],
    "times of access": [
        (*NO_TAB, "-o", f"remount,{flag}", "{target}")
        for flag in ("noatime", "nodev", "relatime", "strictatime", "noexec",
                     "nodiratime", "diratime", "atime")
    ],
    "bind": [
        (*NO_TAB, "-o", "remount,bind,noexec", "{target}"),
        (*NO_TAB, "-o", "remount,bind,ro", "{target}"),
        (*NO_TAB, "-o", "remount,nodev", "{target}"),
        (*NO_TAB, "-o", "remount,bind,rw", "{target}"),
    ],
    "options of mount(8)": [
        ("-f", *NO_TAB, "-o", "remount,nodev", "{target}"),
        ("-n", *NO_TAB, "-o", "remount,noexec", "{target}"),
        ("-r", *NO_TAB, "-o", "remount", "{target}"),
        ("-w", *NO_TAB, "-o", "remount", "{target}"),
    ],
    OTHER: [
        (*NO_TAB, "-o", "remount,nodev", "{other}"),
    ],
}


def options(more: str = "") -> str:
    return scene.expand(f"basedir={{store}}{more}")


def flags() -> list[str]:
    """The flags of the mounts below the scene."""
    return [mount.flags for mount in mounts_below(scene.top)]


def sequence(kind: str, source: str, own: str,
             commands: Sequence[Sequence[str]]
             ) -> tuple[list[tuple[object, ...]], str]:
    """Mounts, and runs commands. Returns the exit code and the flags after
    each, and what they printed."""
    target = names["target"]
    tab = scene.path("fstab")
    tab.write_text(line(source, target, f"{own},nosuid", kind))
    words = {"source": source, "target": target, "tab": str(tab),
             "type": kind, "own": f",{own}", "other": names["upper"],
             "empty_file": names["empty_file"]}
    found: list[tuple[object, ...]] = []
    said = ""
    for command in (("-T", str(tab), target), *commands):
        done = run("mount", *(word.format_map(words) for word in command))
        found.append((done.status, flags()))
        said += done.says
    return found, said


def without_ro(found: list[tuple[object, ...]]) -> str:
    return repr(found).replace("'ro,", "'rw,")


def compare(test: ktap.Test, name: str) -> None:
    """Compares the outcomes of commands with those of other file systems.

    ext4 can be written to, but composefs and erofs cannot: mount(8) repeats
    the "ro" that it finds in /proc/self/mountinfo.
    """
    commands = SEQUENCES[name]
    with nothing_left(test):
        found, said = sequence("composefs", names["image"], options(),
                               commands)
        if name != OTHER:
            test.equal(mount_helper.readable(names["target"]), TRUSTS,
                       "files")
    with nothing_left(test):
        erofs, _ = sequence("erofs", names["unsealed"], "loop", commands)
    with util_linux.ext4(scene.top) as disk, nothing_left(test):
        ext4, _ = sequence("ext4", disk, "loop", commands)
    if name != OTHER:
        test.equal({status for status, _ in ext4}, {0}, "codes of ext4")
    for step, command in enumerate(((), *commands)):
        test.equal(found[step], erofs[step], f"{command}: as for erofs")
        test.equal(without_ro(found[step:step + 1]),
                   without_ro(ext4[step:step + 1]), f"{command}: as for ext4")
    if said:
        test.note(said)


for a_name in SEQUENCES:
    suite.add(f"as for erofs and ext4: {a_name}",
              functools.partial(compare, name=a_name))


def mount(test: ktap.Test, more: str, image: str = "image") -> None:
    done = run("mount", "-t", "composefs", "-o", options(more), names[image],
               names["target"])
    test.need(done.status == 0, f"mount: {done.says}")


def remount(*given: str) -> util_linux.Done:
    """mount(8) with a line of fstab that has the option `given`."""
    tab = scene.path("fstab")
    tab.write_text(line(names["image"], names["target"], ",".join(given)))
    return run("mount", "-T", str(tab), "-o", "remount,nodev",
               names["target"])


@suite.test("with all options that were given at the mount")
def same_options(test: ktap.Test) -> None:
    for more in ("", ",verity", ",tryverity", ",noverity",
                 ",digest={digest}", ":{store2}", ",ro", ",nosuid,noatime",
                 ",idmap={userns}", ",prefer=stack",
                 ",prefer=stack,digest={digest}",
                 ",upperdir={upper},workdir={work}"):
        with nothing_left(test):
            given = options(scene.expand(more))
            mount(test, scene.expand(more))
            reads = mount_helper.readable(names["target"])
            done = remount(given)
            test.equal(done.status, 0, f"{more}: {done.says}")
            test.check(all("nodev" in shown for shown in flags()),
                       f"{more}: {flags()}")
            test.equal(len(flags()), 1, f"{more}: mounts")
            test.equal(mount_helper.readable(names["target"]), reads,
                       f"{more}: files")


@suite.test("other options are refused, and change nothing")
def other_options(test: ktap.Test) -> None:
    for more, given in (
            (",digest={digest}", options(",digest={wrong}")),
            (",digest={digest}", options(",noverity")),
            (",verity", options(",noverity")),
            ("", options(",verity")), ("", options(",digest={digest}")),
            ("", "basedir={store2}"), ("", "basedir={store2}:{store}"),
            ("", options(",image={unsealed}")),
            (",image={image},verity", options(",image={unsealed}")),
            (",image={image},verity", options(",image={missing}")),
            ("", options(",nonsense"))):
        with nothing_left(test):
            mount(test, scene.expand(more))
            before = flags()
            done = remount(scene.expand(given))
            test.check(done.status, f"{more}, then {given}: success")
            test.check(done.says.startswith("mount.composefs: "),
                       f"{more}, then {given}: {done.says!r}")
            test.equal(flags(), before, f"{more}, then {given}: flags")
            test.equal(mount_helper.readable(names["target"]),
                       VERIFIES if more else TRUSTS,
                       f"{more}, then {given}: files")


@suite.test("another file system is refused, and not changed")
def another(test: ktap.Test) -> None:
    target = names["target"]
    with nothing_left(test):
        run("mount", "-t", "tmpfs", "tmpfs", target)
        before = flags()
        done = run(mount_helper.OURS, names["image"], target, "-o",
                   "remount,ro,nodev")
        test.equal((done.status, done.says.splitlines()[-1]), (
            32, "mount.composefs: neither composefs nor overlayfs is mounted "
            f"on {target}"), "code and message")
        test.equal(flags(), before, "flags")


@suite.test("after the image or an object directory was renamed or removed")
def gone(test: ktap.Test) -> None:
    image = scene.path("gone")
    store = scene.path("gone_store")
    for renamed in (image, store):
        os.link(names["image"], image)
        store.mkdir()
        with nothing_left(test):
            done = run("mount", "-t", "composefs", "-o", f"basedir={store}",
                       str(image), names["target"])
            test.equal(done.status, 0, done.says)
            renamed.rename(names["missing"])
            done = run("mount", "-T", names["empty_file"], "-o",
                       "remount,nodev", names["target"])
            test.equal(done.status, 0, f"{renamed.name}: {done.says}")
            test.check("nodev" in flags()[0], f"{renamed.name}: {flags()}")
            os.rename(names["missing"], renamed)
        image.unlink()
        store.rmdir()


@suite.test("after another directory has taken the name of an object directory")
def replaced(test: ktap.Test) -> None:
    store, link = scene.path("replaced"), scene.path("link_to_store")
    link.symlink_to(names["store"])
    store.mkdir()
    with nothing_left(test):
        given = f"basedir={store}:{link}"
        done = run("mount", "-t", "composefs", "-o", given, names["image"],
                   names["target"])
        test.equal(done.status, 0, done.says)
        for what, expected in (("as it was", 0), ("gone", 0),
                               ("replaced, spelled in another way", 32)):
            # As /proc/mounts shows them, and as they were given.
            for table in (names["empty_file"], ""):
                if table:
                    done = run("mount", "-T", table, "-o", "remount,nodev",
                               names["target"])
                    test.equal(done.status, 0, f"{what}: {done.says}")
                else:
                    done = remount(given)
                    test.equal(done.status, expected, f"{what}: {done.says}")
            if what == "as it was":
                store.rmdir()
            elif what == "gone":
                store.mkdir()
        test.equal(mount_helper.readable(names["target"]), TRUSTS, "files")


@suite.test("a label: the image may be given again")
def label(test: ktap.Test) -> None:
    with nothing_left(test):
        given = options(scene.expand(",image={image}"))
        done = run("mount", "-t", "composefs", "-o", given, "label",
                   names["target"])
        test.equal(done.status, 0, done.says)
        tab = scene.path("fstab")
        tab.write_text(line("label", names["target"], given))
        for table in (names["empty_file"], str(tab)):
            done = run("mount", "-T", table, "-o", "remount,nodev",
                       names["target"])
            test.equal(done.status, 0, f"{table}: {done.says}")
            test.check("nodev" in flags()[0], f"{table}: {flags()}")


@suite.test("where nothing is mounted, the message says so")
def not_mounted(test: ktap.Test) -> None:
    with nothing_left(test):
        done = run(mount_helper.OURS, names["image"], names["target"], "-o",
                   "remount,nodev")
        test.equal(done.status, 32, "exit code")
        test.check(f"nothing is mounted on {names['target']}" in done.says,
                   done.says)


@suite.test("names with special characters")
def odd_names(test: ktap.Test) -> None:
    for number, name in enumerate(helper_scene.ODD_NAMES):
        if '"' in name:
            continue
        image, target = names[f"odd{number}"], names[f"odd{number}_target"]
        given = f"basedir={names[f'odd{number}_store']}"
        tab = scene.path("fstab")
        tab.write_text(line(image, target, given))
        for table in (names["empty_file"], str(tab)):
            with nothing_left(test):
                done = run("mount", "-t", "composefs", "-o", given, image,
                           target)
                test.equal(done.status, 0, f"{name!r}: mount: {done.says}")
                done = run("mount", "-T", table, "-o", "remount,nodev",
                           target)
                test.equal(done.status, 0, f"{name!r}, {table}: {done.says}")
                test.check(all("nodev" in shown for shown in flags()),
                           f"{name!r}, {table}: {flags()}")


with stack:
    suite.run()
