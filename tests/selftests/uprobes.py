#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Uprobes on programs of a mount, as perf probe and bpftrace set them."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import fixtures, ktap, mounts, objects, overlayfs, reference
from lib.files import opened

suite = ktap.Suite()

TRACING = Path("/sys/kernel/tracing")
PROGRAM = "usr/bin/true"
RUNS = 3
PT_LOAD = 1


def entry(program: bytes) -> int:
    """Where in the file the first instruction of an x86-64 program is."""
    address, headers = struct.unpack_from("<QQ", program, 24)
    size, count = struct.unpack_from("<HH", program, 54)
    for at in range(headers, headers + size * count, size):
        kind, _, offset, start, _, length = struct.unpack_from("<IIQQQQ",
                                                               program, at)
        if kind == PT_LOAD and start <= address < start + length:
            return int(address - start + offset)
    raise AssertionError("the program begins nowhere")


@contextmanager
def uprobe(name: str, path: str,
           offset: int | None = None) -> Iterator[Callable[[], int]]:
    """Counts how often a program starts. To set it reads nothing of it."""
    if offset is None:
        offset = entry(Path("/", PROGRAM).read_bytes())

    def command(text: str) -> None:
        # Not to be truncated, which removes all, nor sought in.
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
    """A container's overlayfs on a mount."""
    with (
        mounted() as lower,
        overlayfs.writable([("lowerdir+", lower)]) as merged,
    ):
        yield merged.top


@suite.test("one on a file of a mount fires, as on erofs + overlayfs")
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
                test.equal(hits(), RUNS, f"{what}: set after it was used")


@suite.test("one on a file fires for each mount that has its object")
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


@suite.test("one on a file whose data are in the image can be set")
def in_image(test: ktap.Test) -> None:
    # Nothing as small can run, but it has pages of its own.
    small = fixtures.named("special-v0")
    with mounts.composefs(small.path, small.objects) as top, \
            uprobe("image", f"{top}/sizes/64", 0) as hits:
        test.equal(hits(), 0, "hits")


@suite.test("one on a file without a right object is set on nothing else")
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
            test.equal(hits(), RUNS, "an object that has come")
    with objects.store() as store, mounted([store.path]) as top:
        path = f"{top}/{PROGRAM}"
        wrong = store.verified(name, data + b"more")
        wrong.chmod(0o755)
        with uprobe("wrong", path) as hits:
            run(str(wrong))
            test.equal(hits(), 0, "an object that is not the file's")
            test.fails(errno.EIO, "a wrong object", run, path)


fixtures.require()
if os.geteuid() != 0:
    ktap.skip_all("only root can mount")
if not (TRACING / "uprobe_events").exists():
    ktap.skip_all("the kernel has no CONFIG_UPROBE_EVENTS")
suite.run()
