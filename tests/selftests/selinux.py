#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""SELinux: the labels of an image are enforced, unless context= replaces them.

This loads its own policy, so it runs only where no other one is loaded. Labels
and decisions are compared with erofs + overlayfs.
"""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lib import (caches, fixtures, handles, kernel_log, ktap, module, mounts,
                 objects, process, reference, selinux)
from lib.mounts import Value
from lib.selinux import in_domain, label, label_of

suite = ktap.Suite()

WITHOUT, WITH = ("selinux.cil",), ("selinux.cil", "composefs.cil")
NAMES = ("", "public", "public-small", "private", "private-small", "locked",
         "locked/public", "locked/public-small", "unknown", "unknown-small",
         "unlabelled", "unlabelled-small", "malformed", "link",
         "private-link", "fifo", "entry", "runs", "runs-not")
# A domain that the labels of files confine.
CONFINED = "confined_t"


def image() -> fixtures.Image:
    return fixtures.named("labels")


@contextmanager
def mounted(*options: tuple[str, Value],
            basedirs: list[str] | None = None) -> Iterator[str]:
    with mounts.composefs(image().path,
                          image().objects if basedirs is None else basedirs,
                          *options) as top:
        yield top


@contextmanager
def both() -> Iterator[list[tuple[str, str]]]:
    """composefs and the reference: their names and paths."""
    reference.require_support()
    with mounted() as ours, reference.mount(image()) as theirs:
        yield [("composefs", ours), ("erofs + overlayfs", theirs)]


def labels(top: str) -> dict[str, str]:
    return {name: label_of(f"{top}/{name}") for name in NAMES}


def read(path: str) -> bytes:
    return Path(path).read_bytes()


def mapped(path: str, protection: int) -> bytes:
    with open(path, "rb") as file, mmap.mmap(
            file.fileno(), 0, mmap.MAP_PRIVATE, protection) as view:
        return view[:10]


def run(path: str, *arguments: str) -> str:
    return subprocess.run([path, *arguments], capture_output=True, text=True,
                          check=True).stdout


def uses(top: str) -> dict[str, str]:
    """The outcome of each access to the files that a program may try."""
    def at(name: str) -> str:
        return f"{top}/{name}"

    found = {"list": ktap.outcome(lambda: os.listdir(top)),
             "list locked": ktap.outcome(lambda: os.listdir(at("locked"))),
             "open fifo": ktap.outcome(lambda: os.close(os.open(
                 at("fifo"), os.O_RDONLY | os.O_NONBLOCK))),
             "readlink link": ktap.outcome(lambda: os.readlink(at("link"))),
             "readlink private-link": ktap.outcome(
                 lambda: os.readlink(at("private-link"))),
             "follow private-link": ktap.outcome(
                 lambda: os.stat(at("private-link")))}
    for name in ("public", "private", "locked/public", "unknown",
                 "unlabelled", "malformed"):
        for path in (name, f"{name}-small"):
            if path not in NAMES:
                continue
            found[f"stat {path}"] = ktap.outcome(lambda: os.stat(at(path)))
            found[f"read {path}"] = ktap.outcome(lambda: read(at(path)))
            found[f"map {path}"] = ktap.outcome(
                lambda: mapped(at(path), mmap.PROT_READ))
            found[f"map {path} to execute"] = ktap.outcome(
                lambda: mapped(at(path), mmap.PROT_READ | mmap.PROT_EXEC))
    for name in ("runs", "runs-not"):
        found[f"execute {name}"] = ktap.outcome(
            lambda: run(at(name), "/dev/null")
        )
    return found


@suite.test("without a rule for composefs in the policy, labels are ignored")
def no_line(test: ktap.Test) -> None:
    selinux.load(*WITHOUT)
    with mounted() as top:
        test.equal(set(labels(top).values()), {label("unlabeled_t")},
                   "labels")
    selinux.load(*WITH)
    with mounted() as top:
        test.equal(label_of(f"{top}/private"), label("private_t"),
                   "with composefs.cil")


@suite.test("the module can be loaded after the policy")
def load_again(test: ktap.Test) -> None:
    with module.loaded_with():
        with mounted() as top:
            test.equal(label_of(f"{top}/private"), label("private_t"),
                       "label")


@suite.test("labels are those of the image, as on erofs + overlayfs")
def shown(test: ktap.Test) -> None:
    with both() as tops:
        ours, theirs = (labels(top) for _, top in tops)
        test.equal(ours, theirs, "labels, with the reference")
    expected = {
        "": "public_t", "public": "public_t", "public-small": "public_t",
        "private": "private_t", "locked": "private_t",
        "locked/public-small": "public_t", "link": "public_t",
        "private-link": "private_t", "fifo": "private_t",
        "entry": "confined_exec_t", "unlabelled": "file_t",
        "unlabelled-small": "file_t"}
    for name, kind in expected.items():
        test.equal(ours[name], label(kind), name or "/")
    # CAP_MAC_ADMIN sees a label that the policy does not know.
    test.equal(ours["unknown"], label("in_no_policy_t"), "unknown")
    test.equal(ours["malformed"], "no label", "malformed")
    for name in ("unknown", "unknown-small", "malformed"):
        with mounted() as top:
            test.equal(in_domain(CONFINED, lambda: process.as_user(
                1000, lambda: label_of(f"{top}/{name}"))),
                label("unlabeled_t"), f"{name}, to a user")


@suite.test("a label is a listed xattr that cannot be changed")
def attribute(test: ktap.Test) -> None:
    with both() as tops:
        for what, top in tops:
            for name in ("public", "unlabelled", "private-link"):
                path = f"{top}/{name}"
                test.equal(selinux.XATTR in os.listxattr(
                    path, follow_symlinks=False), name != "unlabelled",
                    f"{what}: {name}: listed")
                test.fails(errno.EROFS, f"{what}: {name}: setxattr",
                           os.setxattr, path, selinux.XATTR,
                           label("public_t").encode(), follow_symlinks=False)


@suite.test("a label is the same after the inode was evicted")
def again(test: ktap.Test) -> None:
    with mounted() as top:
        before = labels(top)
        held = {name: handles.of(f"{top}/{name}")
                for name in ("private", "locked", "locked/public")}
        caches.drop()
        fd = os.open(top, os.O_RDONLY)
        try:
            for name, handle in held.items():
                found = handles.open_by(fd, handle, os.O_RDONLY)
                test.equal(label_of(found), before[name],
                           f"{name}, by its handle")
                os.close(found)
        finally:
            os.close(fd)
        test.equal(labels(top), before, "labels")


@suite.test(
    "accesses are denied or allowed by the labels, as on the reference"
)
def confined(test: ktap.Test) -> None:
    with both() as tops, selinux.enforcing():
        ours, theirs = (in_domain(CONFINED, lambda: uses(top))
                        for _, top in tops)
        test.equal(ours, theirs, "with the reference")
        allowed = {what for what, end in ours.items() if end == "success"}
        denied = {what for what, end in ours.items() if end == "EACCES"}
        test.equal(allowed | denied, set(ours), "ends")
    test.check(allowed >= {
        "list", "readlink link", "stat public", "read public",
        "read public-small", "map public to execute", "read unlabelled",
        "execute runs"}, f"allowed: {sorted(allowed)}")
    test.check(denied >= {
        "list locked", "open fifo", "readlink private-link",
        "follow private-link", "stat private", "read private",
        "read private-small", "map private", "stat locked/public",
        "read unknown", "read malformed", "execute runs-not"},
        f"denied: {sorted(denied)}")


@suite.test("a denial is logged, with the label of the file")
def logged(test: ktap.Test) -> None:
    with mounted() as top, selinux.enforcing(), selinux.denials() as log:
        test.fails(errno.EACCES, "read", in_domain, CONFINED,
                   lambda: read(f"{top}/private"))
        test.check(log.find("read|getattr|open", CONFINED, "private_t"),
                   f"no line: {log.lines}")


@suite.test("in permissive mode everything is allowed")
def permissive(test: ktap.Test) -> None:
    with mounted() as top:
        found = in_domain(CONFINED, lambda: uses(top))
        test.equal({what: end for what, end in found.items()
                    if end != "success"}, {}, "denied")


@suite.test("a program's label starts a domain transition, unless nosuid")
def transition(test: ktap.Test) -> None:
    with both() as tops, selinux.enforcing():
        for what, top in tops:
            for name, kind in (("entry", CONFINED), ("runs", "kernel_t")):
                test.equal(
                    run(f"{top}/{name}",
                        "/proc/thread-self/attr/current").rstrip("\0\n"),
                    f"system_u:system_r:{kind}:s0",
                    f"{what}: {name}",
                )
            mounts.mount(None, top, None, mounts.MS_BIND | mounts.MS_REMOUNT
                         | mounts.MS_NOSUID)
            test.equal(run(f"{top}/entry",
                           "/proc/thread-self/attr/current").rstrip("\0\n"),
                       selinux.OWN_DOMAIN, f"{what}: nosuid")


@suite.test("context= is the label of all files, and is shown in /proc/mounts")
def context(test: ktap.Test) -> None:
    for kind, readable in (("context_t", "success"), ("private_t", "EACCES")):
        with mounted(("context", label(kind))) as top:
            test.equal(set(labels(top).values()), {label(kind)}, "labels")
            test.check(f"context={label(kind)}" in
                       mounts.info(top).options,
                       f"{mounts.info(top)}")
            with selinux.enforcing():
                found = in_domain(CONFINED, lambda: uses(top))
            for name in ("public", "private", "private-small", "unknown"):
                test.equal(found[f"read {name}"], readable,
                           f"{kind}: {name}")
                test.equal(found[f"map {name}"], "EACCES",
                           f"{kind}: map {name}")


@suite.test(
    "mounts of an image with other contexts do not share a super block"
)
def apart(test: ktap.Test) -> None:
    choices: list[tuple[tuple[str, Value], ...]] = [
        (), (("context", label("context_t")),),
        (("context", label("private_t")),), (),
        (("context", label("context_t")),),
        (("rootcontext", label("context_t")),)]
    with ExitStack() as stack:
        tops = [stack.enter_context(mounted(*choice)) for choice in choices]
        devices = [os.stat(top).st_dev for top in tops]
        test.equal(len(set(devices)), 5, "super blocks")
        test.equal(devices[0], devices[3], "mounts without options")
        test.equal([label_of(f"{top}/private") for top in tops],
                   [label(kind) for kind in (
                       "private_t", "context_t", "private_t", "private_t",
                       "context_t", "private_t")], "labels")
        test.equal([label_of(top) for top in tops],
                   [label(kind) for kind in (
                       "public_t", "context_t", "private_t", "public_t",
                       "context_t", "context_t")], "labels of the roots")


@suite.test("mounters in different domains do not share a super block")
def other_domain(test: ktap.Test) -> None:
    with mounted() as top, mounted_by("mounter_t", image().objects) as other:
        test.check(os.stat(top).st_dev != os.stat(other).st_dev, "shared")


@suite.test("fscontext=, defcontext= and rootcontext= as on erofs")
def other_contexts(test: ktap.Test) -> None:
    known, unknown = label("context_t"), label("in_no_policy_t")
    one = [(name, known) for name in ("fscontext", "defcontext",
                                      "rootcontext", "context")]
    choices: list[list[tuple[str, Value]]] = [
        *([option] for option in one), one[:3], [one[0], one[3]],
        [one[2], one[3]], [one[1], one[3]], [("fscontext", unknown)],
        [("context", unknown)], [("context", "no label")], [("context", "")],
        [("context", None)], [one[3], ("context", label("private_t"))],
        [("seclabel", None)]]
    for more in choices:
        found = []
        for kind, options in (
                ("composefs", mounts.composefs_options(
                    image().path, image().objects, *more)),
                ("erofs", [("source", image().path), ("ro", None), *more])):
            try:
                with mounts.mounted(kind, options) as top:
                    shown_options = {
                        option for option in
                        mounts.info(top).options
                        if "context" in option or option == "seclabel"}
                    found.append((labels(top), shown_options))
            except OSError as error:
                found.append((ktap.errno_name(error.errno), set()))
        test.equal(found[0], found[1], f"{more}")
    with mounted(*one[1:3]) as top:
        test.equal(label_of(f"{top}/unlabelled"), known, "defcontext")
        test.equal(label_of(top), known, "rootcontext")
        test.equal(label_of(f"{top}/public"), label("public_t"),
                   "a labelled file")


@suite.test("a remount does not change labels")
def remount(test: ktap.Test) -> None:
    given = ("context", label("context_t"))
    for first, second, expected in (
            ([given], [given], None), ([given], [], None), ([], [], None),
            ([given], [("context", label("private_t"))], errno.EINVAL),
            ([], [given], errno.EINVAL)):
        for kind, options in (
                ("composefs", mounts.composefs_options(
                    image().path, image().objects, *first)),
                ("erofs", [("source", image().path), ("ro", None), *first])):
            with mounts.mounted(kind, options) as top:
                before = labels(top)
                with mounts.Context.pick(top) as fs:
                    for name, value in second:
                        fs.set(name, value)
                    test.fails(expected, f"{kind}: {first} to {second}",
                               fs.reconfigure)
                test.equal(labels(top), before, f"{kind}: labels")


@contextmanager
def labelled_store(kind: str) -> Iterator[objects.Store]:
    """The objects of the larger files, with another label."""
    with objects.store() as store:
        for name in ("public", "private"):
            data = read(f"{image().source}/{name}")
            path = store.verified(
                objects.object_name(objects.digest_of(data)), data)
            os.setxattr(path, selinux.XATTR, label(kind).encode())
        yield store


@contextmanager
def mounted_by(kind: str, basedirs: list[str]) -> Iterator[str]:
    """Mounts in a domain."""
    with mounts.directory() as top:
        def run_mount() -> None:
            mounts.attach(mounts.new_mount(
                "composefs", mounts.composefs_options(image().path,
                                                      basedirs)), top)
        in_domain(kind, run_mount)
        try:
            yield top
        finally:
            mounts.umount(top)


@suite.test("an object is opened with the mounter's credentials")
def of_mounter(test: ktap.Test) -> None:
    with labelled_store("store_t") as store, \
            mounted(basedirs=[store.path]) as top, selinux.enforcing():
        path = next(str(found) for found in store.top.glob("*/*"))
        test.fails(errno.EACCES, "the object itself", in_domain, CONFINED,
                   lambda: read(path))
        for name, end in (("public", "success"), ("private", "EACCES")):
            for how, use in (
                    ("read", read),
                    ("map", lambda path: mapped(path, mmap.PROT_READ)),
                    ("map to execute", lambda path: mapped(
                        path, mmap.PROT_READ | mmap.PROT_EXEC))):
                test.equal(in_domain(CONFINED, lambda: ktap.outcome(
                    lambda: use(f"{top}/{name}"))), end, f"{how} {name}")


@suite.test("an object that the mounter may not open is EIO for all")
def not_of_mounter(test: ktap.Test) -> None:
    kernel_log.reset_ratelimit()
    with labelled_store("store_t") as store, selinux.enforcing(), \
            mounted_by("mounter_t", [store.path]) as top, \
            selinux.denials() as log:
        with kernel_log.watch() as lines:
            for how, use in (("read", read), ("map", lambda path: mapped(
                    path, mmap.PROT_READ))):
                for who, name in (("kernel_t", "public"),
                                  ("kernel_t", "private"),
                                  (CONFINED, "public")):
                    test.equal(in_domain(who, lambda: ktap.outcome(
                        lambda: use(f"{top}/{name}"))), "EIO",
                        f"{who}: {how} {name}")
                    test.equal(in_domain(who, lambda: ktap.outcome(
                        lambda: read(f"{top}/public-small"))), "success",
                        f"{who}: an inline file")
        test.check(log.find("open|read", "mounter_t", "store_t"),
                   f"no denial: {log.lines}")
        test.check(any("cannot be opened: permission denied" in line
                       for line in lines), f"no log line: {lines}")


@suite.test("mounting an image that the mounter may not read is EACCES")
def image_of_others(test: ktap.Test) -> None:
    with objects.store() as work:
        copy = work.plain("image", read(image().path))
        os.setxattr(copy, selinux.XATTR, label("private_t").encode())

        def try_mount() -> list[str]:
            try:
                os.close(mounts.new_mount("composefs", [("source",
                                                         str(copy))]))
            except mounts.MountError as error:
                return [ktap.errno_name(error.errno), *error.messages]
            return []
        with selinux.enforcing():
            found = in_domain("mounter_t", try_mount)
            test.equal(found[:1], ["EACCES"], "error")
            test.check(any("image" in line and "permission denied" in line
                           for line in found[1:]), f"{found}")
            test.equal(in_domain("kernel_t", try_mount), [], "with permission")


fixtures.require()
objects.require_verity()
selinux.require()
selinux.enforce(False)
selinux.load(*WITH)
suite.run()
