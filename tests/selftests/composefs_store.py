#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""composefs-store: images are added to a store and removed from it, and what
is in use stays whole.

The program is tools/composefs-store.
"""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import core, ktap, module, mounts, scratch
from lib.store import SECONDS, SIZE, Store, plant, read_all, tool
from lib.verity import enable_verity

FILES = 20
# So many that adding them takes a while.
MANY = 400

suite = ktap.Suite()


Check = Callable[[ktap.Test, Store], None]


def stored(check: Check, algorithm: str = "sha256") -> Callable[[ktap.Test],
                                                                None]:
    """A test with an empty store."""
    def run(test: ktap.Test) -> None:
        with scratch.ext4() as top:
            check(test, Store(top, algorithm))
    return run


def versions() -> tuple[list[str], list[str]]:
    """The files of an image and of its update: one is changed, one added."""
    old = [f"file {number}" for number in range(FILES)]
    return old, [*old[:3], "changed", *old[4:], "added"]


def update(test: ktap.Test, store: Store) -> None:
    """Checks an update, and that its removal takes away what it brought."""
    old, new = versions()
    first, told = store.add("first", old)
    before = store.objects()
    size = store.image(first).stat().st_size
    count = FILES + 1, FILES * SIZE + size
    test.equal(told, "%d objects with %d bytes, %d of them new with %d bytes"
               % (count * 2), "the first image")
    second, told = store.add("second", new)
    size = store.image(second).stat().st_size
    test.equal(told.split(", ")[1],
               f"3 of them new with {2 * SIZE + size} bytes", "the second one")
    test.equal(len(store.objects() - before), 3, "new objects")
    listed = store.lines()
    test.equal(listed[second], [
        str(FILES + 2), str((FILES + 1) * SIZE + size), "3",
        str(2 * SIZE + size), "-", "second"], "the line of the second one")
    test.equal(listed[first][2], "2", "objects that only the first one needs")
    with store.mounted(second) as top:
        read_all(top, new)
        test.equal(store.lines()[second][4], "in-use", "while it is mounted")
    test.equal(store.run("remove", "second")[0],
               f"3 objects with {2 * SIZE + size} bytes removed", "remove")
    test.equal(store.objects(), before, "objects after it")
    test.equal(store.names(), {f"images/{first}", "images/refs/first"},
               "names after it")
    with store.mounted(first) as top:
        read_all(top, old)
    test.equal(store.run("clean")[0], "0 objects with 0 bytes removed",
               "another clean")
    test.check("has no image" in store.refused("remove", "second"),
               "it can be removed twice")


def inline(test: ktap.Test, store: Store) -> None:
    """Checks an image that has small files in itself."""
    old, _ = versions()
    first, _ = store.add("first", old)
    before = store.objects()
    tree = store.top / "small"
    plant(tree, old)
    sizes = 65, 1000, 1024, 1025
    for size in sizes:
        (tree / str(size)).write_bytes(b"%d" % size * (size // len(str(size))))
        os.truncate(tree / str(size), size)
    digest, _ = store.run("add", "--inline", "1024", tree, "small")
    # The image, and the one file that is too large.
    test.equal(len(store.objects() - before), 2, "new objects")
    test.equal(before - store.objects(), set(), "objects that are gone")
    for way in (Store.mounted, stack):
        with way(store, digest) as top:
            read_all(top, old)
            for size in sizes:
                test.equal(Path(top, str(size)).read_bytes(),
                           (tree / str(size)).read_bytes(),
                           f"{size} bytes by {way.__name__}")
    # The largest, while an image of the store is damaged.
    image = store.image(digest)
    good = image.read_bytes()
    image.unlink()
    image.write_bytes(good[:4096])
    large = store.top / "large"
    plant(large, old)
    (large / "2048").write_bytes(b"large".ljust(2048, b"."))
    added, told = store.run("add", "--inline", "2048", large, "large")
    test.check('"composefs-store clean" later' in told, told)
    for way in (Store.mounted, stack):
        with way(store, added) as top:
            test.equal(Path(top, "2048").read_bytes(),
                       (large / "2048").read_bytes(), way.__name__)
    image.unlink()
    image.write_bytes(good)
    enable_verity(image, store.algorithm)
    store.run("remove", "large")
    for wrong in "0", "2049":
        why = store.refused("add", "--inline", wrong, str(tree))
        test.check("1..=2048" in why, why)
    store.run("remove", "small")
    test.equal(store.objects(), before, "objects after it was removed")
    with store.mounted(first) as top:
        read_all(top, old)


@contextmanager
def in_namespace(store: Store, digest: str) -> Iterator[str]:
    """Mounts in another mount namespace. Gives the path from here."""
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec",
               'mount -i -t composefs "$1" /mnt -o "$2"; echo; exec cat',
               "sh", store.image(digest),
               f"basedir={store.path}/objects,digest={digest}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        process.stdout.readline()
        try:
            yield str(Path("/proc", str(process.pid), "root", "mnt"))
        finally:
            process.stdin.close()
            process.wait()


@contextmanager
def detached(store: Store, digest: str) -> Iterator[str]:
    """A mount that is in no namespace. Gives a path to it."""
    fd = mounts.new_mount("composefs", store.options(digest))
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


@contextmanager
def stack(store: Store, digest: str) -> Iterator[str]:
    """Mounts by erofs and overlayfs."""
    with module.absent(), mounts.directory() as top:
        subprocess.run(["mount", "-t", "composefs", store.image(digest), top,
                        "-o", f"basedir={store.path}/objects,digest={digest}"],
                       check=True)
        try:
            yield top
        finally:
            mounts.umount_soon(top)


WAYS = {
    "a mount": Store.mounted,
    "a mount in another namespace": in_namespace,
    "a detached mount": detached,
    "a stack": stack,
}


def in_use(test: ktap.Test, store: Store,
           way: Callable[..., Iterator[str]]) -> None:
    """Checks that an image which is in use is neither removed nor loses an
    object, even if its names are gone."""
    old, new = versions()
    first, _ = store.add("first", old)
    second, _ = store.add("second", new)
    objects, names = store.objects(), store.names()
    with way(store, second) as top:
        why = store.refused("remove", first, "second")
        test.equal(why, f"composefs-store: the image {second} is in use; "
                        "unmount it first. Nothing is removed", "remove")
        test.equal(store.names(), names, "names after it")
        for name in ("refs/second", second):
            (store.path / "images" / name).unlink()
        test.equal(store.run("clean"), (
            "0 objects with 0 bytes removed",
            f"composefs-store: the image {second} is in use, but had no name "
            "in images/; it has one again"), "clean")
        test.equal(store.objects(), objects, "objects after it")
        test.equal(store.names(), names - {"images/refs/second"},
                   "names after it")
        store.run("remove", "first")
        Path("/proc/sys/vm/drop_caches").write_text("3")
        read_all(top, new)
    store.run("remove", second)
    test.equal((store.objects(), store.names()), (set(), set()),
               "what is left when it is unmounted")


def adding(store: Store, words: list[str]) -> subprocess.Popen[str]:
    """Starts to add an image. Returns the process, which has stored something
    and was stopped."""
    plant(store.top / "slow", words)
    before = len(store.objects())
    process = subprocess.Popen(  # pylint: disable=consider-using-with
        store.command("add", store.top / "slow", "slow"), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while len(store.objects()) < before + 10 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    if "images/refs/slow" in store.names() or process.poll() is not None:
        process.kill()
        raise ktap.Skipped("it was added too fast")
    return process


def concurrent(test: ktap.Test, store: Store) -> None:
    """Checks that nothing is removed while an image is added."""
    old, new = versions()
    store.add("first", old)
    # Some of its objects are there, and needed by no other image.
    store.add("second", new)
    words = [*new, *(f"slow {number}" for number in range(MANY))]
    adder = adding(store, words)
    with subprocess.Popen(store.command("remove", "second"), text=True,
                          stdout=subprocess.PIPE) as remover:
        time.sleep(3)
        test.equal(remover.poll(), None, "remove while an image is added")
        adder.send_signal(signal.SIGCONT)
        digest, _ = adder.communicate(timeout=SECONDS)
        test.equal(adder.returncode, 0, "add")
        told, _ = remover.communicate(timeout=SECONDS)
        test.check(told.startswith("1 objects"), f"remove: {told}")
    with store.mounted(digest.strip()) as top:
        read_all(top, words)


def killed(test: ktap.Test, store: Store) -> None:
    """Checks that what a killed program leaves is removed."""
    old, _ = versions()
    first, _ = store.add("first", old)
    objects, names = store.objects(), store.names()
    adder = adding(store, [f"slow {number}" for number in range(MANY)])
    adder.kill()
    adder.communicate()
    test.check(len(store.objects()) > len(objects), "add has left nothing")
    left = (store.path / ".symlink-left", store.path / "objects/.tmp-object-l")
    left[0].symlink_to("../nowhere")
    left[1].write_bytes(b"left")
    # Of an image that lost its digest's name, and of one that lost its file.
    (store.path / "images" / ("0" * 64)).symlink_to("../objects/00/" + "0" * 62)
    told, _ = store.run("clean")
    test.check(re.fullmatch(r"[1-9]\d+ objects with \d+ bytes removed", told),
               f"clean: {told}")
    test.equal((store.objects(), store.names()), (objects, names),
               "what is left")
    for path in left:
        test.check(not os.path.lexists(path), f"{path} is left")
    with store.mounted(first) as top:
        read_all(top, old)


def damaged(test: ktap.Test, store: Store) -> None:
    """Checks that nothing is removed while an image cannot be read."""
    old, new = versions()
    first, _ = store.add("first", old)
    second, _ = store.add("second", new)
    store.run("remove", "first")
    (store.path / "objects/ff").mkdir(exist_ok=True)
    needless = store.path / "objects/ff" / ("f" * 62)
    needless.write_bytes(b"nobody needs this")
    data = bytearray(store.image(second).read_bytes())
    data[len(data) // 2] ^= 1
    store.image(second).unlink()
    store.image(second).write_bytes(data)
    enable_verity(store.image(second), store.algorithm)
    objects = store.objects()
    test.check(f"failed to read the image {second}" in store.refused("clean"),
               "the image is not named")
    test.equal(store.objects(), objects, "objects after it")
    # Removing it is possible, and all is well again.
    store.run("remove", second)
    test.equal(store.objects(), set(), "objects at last")


suite.add("sha256: an update, its objects and its removal", stored(update))
suite.add("sha512: an update, its objects and its removal",
          stored(update, "sha512"))
suite.add("small files can be in the image", stored(inline))
for what, how in WAYS.items():
    suite.add(f"an image in use by {what} stays whole",
              stored(functools.partial(in_use, way=how)))
suite.add("nothing is removed while an image is added", stored(concurrent))
suite.add("what killed programs have left is removed", stored(killed))
suite.add("nothing is removed while an image cannot be read", stored(damaged))

core.require_composefs()
tool("composefs-store")
suite.run()
