#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""What must not wait, or must not go wrong, while something does not answer:
a disk, or the server of a file system."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import dm, fixtures, fuse, ktap, matrix_image, mounts, objects
from lib.mounts import Options

suite = ktap.Suite()

# What waits is still there after so many seconds; what does not wait is gone.
SOON, PATIENCE = 3, 60
MODULE = "composefs"


class Child:
    """Something that may wait, done in a child."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            try:
                function()
                os._exit(0)
            finally:
                os._exit(1)

    def status(self, seconds: float) -> int | None:
        """What it ended with, or None if it has not by then."""
        for _ in range(int(seconds * 10)):
            if self._status is not None:
                break
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
            else:
                time.sleep(0.1)
        return self._status


def standard() -> Options:
    image = matrix_image.image()
    return mounts.composefs_options(image.path, image.objects)


@contextmanager
def dirty_disk() -> Iterator[dm.Device]:
    """An ext4 that sync(2) has to write to."""
    image = fixtures.SCRATCH / "dirty.img"
    with open(image, "wb") as file:
        file.truncate(64 << 20)
    loop = subprocess.run(["losetup", "--find", "--show", image],
                          capture_output=True, text=True,
                          check=True).stdout.strip()
    try:
        device = dm.Device(loop, 64 << 20)
        try:
            subprocess.run(["mke2fs", "-q", "-t", "ext4", device.path],
                           check=True)
            with mounts.directory() as top:
                subprocess.run(["mount", device.path, top], check=True)
                try:
                    Path(top, "file").write_bytes(bytes(4 << 20))
                    yield device
                finally:
                    mounts.umount(top)
        finally:
            device.remove()
    finally:
        subprocess.run(["losetup", "--detach", loop], check=True)
        image.unlink()


@suite.test("the module is unloaded while sync(2) waits for a disk")
def unloaded_during_sync(test: ktap.Test) -> None:
    if not Path(f"/sys/module/{MODULE}/initstate").exists():
        raise ktap.Skipped("composefs is no module that is loaded")
    with mounts.mounted("composefs", standard()) as top:
        matrix_image.check(test, top, "before")
    # A walk of all super blocks keeps the one before the one that it waits
    # for: let that be one which was made when the module was loaded, if any
    # is.
    for options in (["--remove"], []):
        subprocess.run(["modprobe", *options, MODULE], check=True)
    os.sync()
    with dirty_disk() as device:
        with device.stalled():
            sync = Child(os.sync)
            test.equal(sync.status(SOON), None, "sync(2), as the disk waits")
            remove = Child(lambda: subprocess.run(
                ["modprobe", "--remove", MODULE], check=True))
            remove.status(SOON)
        test.equal(sync.status(PATIENCE), 0, "sync(2)")
    # Refused or not, it may be loaded again.
    remove.status(PATIENCE)
    os.sync()
    subprocess.run(["modprobe", MODULE], check=True)
    with mounts.mounted("composefs", standard()) as top:
        matrix_image.check(test, top, "then")


@suite.test("an image whose server does not answer keeps nobody waiting")
def image_never_read(test: ktap.Test) -> None:
    image = matrix_image.image()
    # The server takes a byte for each read that it answers.
    reader, writer = os.pipe()
    with fuse.mounted({"image": Path(image.path).read_bytes()},
                      before_read=lambda: os.read(reader, 1)) as server:
        try:
            mount = Child(lambda: mounts.new_mount(
                "composefs", mounts.composefs_options(
                    f"{server}/image", image.objects)))
            test.equal(mount.status(SOON), None, "the mount")
            for what, action in (
                    ("sync(2)", os.sync),
                    ("another mount", lambda: mounts.new_mount(
                        "composefs", standard())),
                    ("drop_caches", lambda: Path(
                        "/proc/sys/vm/drop_caches").write_text(
                            "2\n", encoding="ascii"))):
                child = Child(action)
                test.need(child.status(PATIENCE) == 0,
                          f"{what} waits for the mount")
        finally:
            os.write(writer, bytes(1000))
        test.equal(mount.status(PATIENCE), 0, "the mount, then")
    os.close(writer)
    os.close(reader)


fixtures.require()
objects.require_verity()
dm.require()
suite.run()
