#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""A disk, or the server of a file system, that does not answer.

Unloading the module, and other mounts, may not wait for it.
"""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import (dm, fixtures, fuse, ktap, loop, matrix_image, module, mounts,
                 objects)

suite = ktap.Suite()

# After SOON seconds a call counts as waiting. A call that does not wait
# returns within LIMIT seconds.
SOON, LIMIT = 3, 60


class Child:
    """Calls a function that may block, in a child."""

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
        """The exit status, or None if the child runs longer than that."""
        for _ in range(int(seconds * 10)):
            if self._status is not None:
                break
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
            else:
                time.sleep(0.1)
        return self._status


@contextmanager
def dirty_disk() -> Iterator[dm.Device]:
    """A device with an ext4 that has dirty pages."""
    image = fixtures.SCRATCH / "dirty.img"
    with open(image, "wb") as file:
        file.truncate(64 << 20)
    with loop.device(image) as below:
        device = dm.Device(below, 64 << 20)
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
    image.unlink()


@suite.test("unloading the module while sync(2) waits for a disk")
def unloaded_during_sync(test: ktap.Test) -> None:
    module.require_loaded()
    with mounts.mounted("composefs", matrix_image.options()) as top:
        matrix_image.check(test, top, "before")
    # While iterate_supers() waits for a super block it holds the one before it
    # in the list. Let that be one that was made when the module was loaded.
    module.reload()
    os.sync()
    with dirty_disk() as device:
        with device.stalled():
            sync = Child(os.sync)
            test.equal(sync.status(SOON), None,
                       "sync(2), with the disk suspended")
            remove = Child(module.unload)
            remove.status(SOON)
        test.equal(sync.status(LIMIT), 0, "sync(2)")
    # Whether that succeeded or not, the module can be loaded.
    remove.status(LIMIT)
    os.sync()
    module.load()
    with mounts.mounted("composefs", matrix_image.options()) as top:
        matrix_image.check(test, top, "afterwards")


@suite.test("a mount that waits for the image's server does not block others")
def image_never_read(test: ktap.Test) -> None:
    image = matrix_image.image()
    # The server waits for a byte before it answers a read.
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
                        "composefs", matrix_image.options())),
                    ("drop_caches", lambda: Path(
                        "/proc/sys/vm/drop_caches").write_text(
                            "2\n", encoding="ascii"))):
                child = Child(action)
                test.need(child.status(LIMIT) == 0,
                          f"{what} waits for the mount")
        finally:
            os.write(writer, bytes(1000))
        test.equal(mount.status(LIMIT), 0,
                   "the mount, when the server answers")
    os.close(writer)
    os.close(reader)


@suite.test("a remount that waits for a signature's server does not block "
            "others")
def signature_never_read(test: ktap.Test) -> None:
    options = matrix_image.options(("digest", matrix_image.image().digest))
    reader, writer = os.pipe()

    def remount(path: str) -> None:
        with mounts.Context.pick(top) as context:
            context.set("signature", path)
            try:
                context.reconfigure()
            except OSError as error:
                # No key is trusted.
                if error.errno != errno.ENOKEY:
                    raise

    with mounts.mounted("composefs", options) as top, \
            fuse.mounted({"signature": bytes(100)},
                         before_read=lambda: os.read(reader, 1)) as server:
        try:
            waiting = Child(lambda: remount(f"{server}/signature"))
            test.equal(waiting.status(SOON), None, "the remount")
            child = Child(os.sync)
            test.need(child.status(LIMIT) == 0,
                      "sync(2) waits for the remount")
        finally:
            os.write(writer, bytes(1000))
        test.equal(waiting.status(LIMIT), 0,
                   "the remount, when the server answers")
    os.close(writer)
    os.close(reader)


fixtures.require()
objects.require_verity()
dm.require()
suite.run()
