#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Uprobes on programs of a mount, as perf probe and bpftrace set them.

This needs CONFIG_UPROBE_EVENTS.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import elf, fixtures, ktap, mounts, objects, overlayfs, reference
from lib.files import opened

suite = ktap.Suite()

TRACING = Path("/sys/kernel/tracing")
PROGRAM = "usr/bin/true"
RUNS = 3


@contextmanager
def uprobe(name: str, path: str,
           offset: int | None = None) -> Iterator[Callable[[], int]]:
    """Sets a uprobe on the entry point of PROGRAM, or at another offset. Gives
    a function that returns how often it fired. Setting it does not read the
    file."""
    if offset is None:
        offset = elf.entry_offset(Path("/", PROGRAM).read_bytes())

    def command(text: str) -> None:
        # O_TRUNC would remove all uprobes.
        with opened(str(TRACING / "uprobe_events"),
                    os.O_WRONLY | os.O_APPEND) as fd:
            os.write(fd, text.encode())

    def hits() -> int:
        profile = (TRACING / "uprobe_profile").read_text(encoding="utf-8")
        counts = {line.split()[-2]: int(line.split()[-1])
                  for line in profile.splitlines()}
        return counts[name]

    enable = TRACING / f"events/composefs_test/{name}/enable"
    command(f"p:composefs_test/{name} {path}:{offset:#x}\n")
    try:
        enable.write_text("1")
        yield hits
    finally:
        enable.write_text("0")
        command(f"-:composefs_test/{name}\n")


def run(path: str) -> None:
    for _ in range(RUNS):
        subprocess.run([path], check=True)


def image() -> fixtures.Image:
    return fixtures.named("debian-v0")


@contextmanager
def mounted(basedirs: list[str] | None = None) -> Iterator[str]:
    with mounts.composefs(
            image().path, image().objects if basedirs is None else basedirs,
            ("digest", image().digest)) as top:
        yield top


@contextmanager
def stacked() -> Iterator[str]:
    """A writable overlayfs on a mount of composefs."""
    with (
        mounted() as lower,
        overlayfs.writable([("lowerdir+", lower)]) as merged,
    ):
        yield merged.top


@suite.test("a uprobe on a file fires, as on erofs + overlayfs")
def on_file(test: ktap.Test) -> None:
    reference.require_support()
    for what, mount in (("composefs", mounted()),
                        ("erofs + overlayfs", reference.mount(image())),
                        ("overlayfs on composefs", stacked())):
        with mount as top:
            path = f"{top}/{PROGRAM}"
            with uprobe("file", path) as hits:
                test.equal(hits(), 0, f"{what}: before")
                run(path)
                test.equal(hits(), RUNS, f"{what}: set before the first use")
            with uprobe("again", path) as hits:
                run(path)
                test.equal(hits(), RUNS, f"{what}: set after the first use")


@suite.test("a uprobe on a file fires in all mounts that share its object")
def everywhere(test: ktap.Test) -> None:
    with mounted() as top, reference.mount(image()) as other:
        with uprobe("everywhere", f"{top}/{PROGRAM}") as hits:
            run(f"{other}/{PROGRAM}")
            test.equal(hits(), RUNS, "run from another mount")
        digest = objects.measure_verity(f"{top}/{PROGRAM}")
        name = f"{image().objects[0]}/{objects.object_name(digest)}"
        with uprobe("object", name) as hits:
            run(f"{top}/{PROGRAM}")
            test.equal(hits(), RUNS, "set on the object")


@suite.test("a uprobe on an inline file can be set")
def in_image(test: ktap.Test) -> None:
    # A program cannot be as small, but the file has pages.
    small = fixtures.named("special-v0")
    with mounts.composefs(small.path, small.objects) as top, \
            uprobe("image", f"{top}/sizes/64", 0) as hits:
        test.equal(hits(), 0, "hits")


@suite.test(
    "a uprobe on a file without a right object is set on no other file"
)
def without(test: ktap.Test) -> None:
    data = Path("/", PROGRAM).read_bytes()
    name = objects.object_name(objects.digest_of(data))
    with objects.store() as store, mounted([store.path]) as top:
        path = f"{top}/{PROGRAM}"
        with uprobe("missing", path):
            test.fails(errno.EIO, "no object", run, path)
        store.verified(name, data)
        with uprobe("found", path) as hits:
            run(path)
            test.equal(hits(), RUNS, "an object that appears later")
    with objects.store() as store, mounted([store.path]) as top:
        path = f"{top}/{PROGRAM}"
        wrong = store.verified(name, data + b"more")
        wrong.chmod(0o755)
        with uprobe("wrong", path) as hits:
            run(str(wrong))
            test.equal(hits(), 0, "another file of the object's name")
            test.fails(errno.EIO, "a wrong object", run, path)


fixtures.require()
mounts.require_root()
if not (TRACING / "uprobe_events").exists():
    ktap.skip_all("the kernel has no CONFIG_UPROBE_EVENTS")
suite.run()
