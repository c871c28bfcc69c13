#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""source=: paths, descriptors and devices, and files that are not images."""

from __future__ import annotations

import errno
import os
import random
import socket
import stat
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import (caches, dm, file_systems, fixtures, ktap, loop, matrix_image,
                 mounts, objects)
from lib.files import opened
from lib.mounts import Value
from lib.refused import refused

suite = ktap.Suite()

# Offset and size of the EROFS super block.
SUPER_OFFSET, SUPER_SIZE = 1024, 128


def content() -> bytes:
    return Path(matrix_image.image().path).read_bytes()


def check_mount(
    test: ktap.Test, what: str, source: Value, *more: tuple[str, Value]
) -> None:
    try:
        with mounts.composefs(source, matrix_image.image().objects,
                              *more) as top:
            matrix_image.check(test, top, what)
    except mounts.MountError as error:
        test.fail(f"{what}: {error}")


def check_refused(
    test: ktap.Test, what: str, number: int, source: Value, *words: str
) -> None:
    refused(test, what, number,
            mounts.composefs_options(source, matrix_image.image().objects),
            *words)


@contextmanager
def memfd() -> Iterator[int]:
    """The image in a memfd."""
    fd = os.memfd_create("image")
    try:
        os.write(fd, content())
        yield fd
    finally:
        os.close(fd)


@suite.test("a path, also relative and through a symbolic link")
def path(test: ktap.Test) -> None:
    image = matrix_image.image()
    digest = ("digest", image.digest)
    check_mount(test, "a path", image.path, digest)
    with objects.store() as work:
        (work.top / "link").symlink_to(image.path)
        check_mount(test, "a symbolic link", f"{work.path}/link", digest)
        before = os.getcwd()
        os.chdir(os.path.dirname(image.path))
        try:
            check_mount(test, "a relative path", os.path.basename(image.path),
                        digest)
        finally:
            os.chdir(before)


@suite.test("names with special characters, and bytes that are not text")
def odd_names(test: ktap.Test) -> None:
    with objects.store() as work:
        for name in (b"comma,comma", b"colon:colon", b"back\\slash", b"a b",
                     b"new\nline", b"tab\t", b"a=b", b"#", b"\xff\xfe",
                     b"\\040", b"%s%d%n"):
            path = os.fsencode(work.path) + b"/" + name
            with open(path, "wb") as file:
                file.write(content())
            check_mount(test, repr(name), path)


@suite.test("descriptors: O_RDONLY, O_PATH, O_RDWR")
def descriptor(test: ktap.Test) -> None:
    image = matrix_image.image()
    digest = ("digest", image.digest)
    with opened(image.path) as fd:
        check_mount(test, "a descriptor", fd, digest)
        check_mount(test, "/proc/self/fd", f"/proc/self/fd/{fd}", digest)
    with opened(image.path, os.O_PATH) as fd:
        check_mount(test, "a descriptor of O_PATH", fd, digest)
        check_mount(test, "/proc/self/fd of O_PATH", f"/proc/self/fd/{fd}",
                    digest)
    # The image is opened again, for reading.
    with objects.store() as work:
        copy = work.plain("copy", content())
        with opened(copy, os.O_RDWR) as fd:
            check_mount(test, "a descriptor for writing", fd)
    test.fails(errno.EBADF, "a bad descriptor", mounts.new_mount,
               "composefs", [("source", 9999)])


@suite.test("a descriptor of an image that was unlinked")
def unlinked(test: ktap.Test) -> None:
    with objects.store() as work:
        copy = work.verified("copy", content())
        with opened(copy) as fd:
            copy.unlink()
            check_mount(test, "a descriptor", fd,
                        ("digest", matrix_image.image().digest))
            check_mount(test, "/proc/self/fd", f"/proc/self/fd/{fd}")


@suite.test("a memfd")
def in_memory(test: ktap.Test) -> None:
    with memfd() as fd:
        check_mount(test, "a descriptor", fd)
        check_mount(test, "/proc/self/fd", f"/proc/self/fd/{fd}")
        refused(test, "with digest=", errno.ENODATA,
                [("source", fd), ("digest", matrix_image.image().digest)],
                "no fs-verity")


@suite.test("the descriptor of an image may be closed after the mount")
def closed(test: ktap.Test) -> None:
    with memfd() as fd:
        mount = mounts.new_mount("composefs", mounts.composefs_options(
            fd, matrix_image.image().objects))
    with mounts.attached(mount) as top:
        caches.drop()
        matrix_image.check(test, top, "after close(2)")


def on_file_system(test: ktap.Test, kind: str) -> None:
    with file_systems.mounted(kind, {"image": content()}) as top:
        check_mount(test, kind, f"{top}/image")


for a_kind in ("tmpfs", "overlayfs", "xfs", "btrfs"):
    suite.add(f"an image on {a_kind}",
              lambda test, kind=a_kind: on_file_system(test, kind))


@suite.test("a block device, which has no digest")
def block_device(test: ktap.Test) -> None:
    image = matrix_image.image()
    with loop.device(image.path, "--read-only") as device:
        check_mount(test, "a path", device)
        with opened(device) as fd:
            check_mount(test, "a descriptor", fd)
        refused(test, "with digest=", errno.ENODATA,
                [("source", device), ("digest", image.digest)], device,
                "no fs-verity")


@contextmanager
def loop_device(data: bytes) -> Iterator[str]:
    """A writable device with these bytes."""
    with objects.store() as work, \
            loop.device(work.plain("disk", data)) as device:
        yield device


def uses(device: str) -> dict[str, str]:
    """The outcomes of uses of a device."""
    found = {}
    for what, flags in (("read", os.O_RDONLY), ("write", os.O_RDWR),
                        ("claim", os.O_RDONLY | os.O_EXCL),
                        ("claim to write", os.O_RDWR | os.O_EXCL)):
        found[what] = ktap.outcome(
            lambda: os.close(os.open(device, flags)))
    for command in (["wipefs", "--all"], ["mkfs.ext4", "-q"]):
        done = subprocess.run([*command, device], capture_output=True,
                              stdin=subprocess.DEVNULL, check=False)
        found[command[0]] = "done" if done.returncode == 0 else "refused"
    return found


@suite.test("a mounted block device is claimed, as by erofs")
def claimed(test: ktap.Test) -> None:
    image = content() + bytes(4 << 20)
    with loop_device(image) as device, mounts.mounted(
            "erofs", [("source", device), ("ro", None)]):
        expected = uses(device)
    test.equal([expected[what] for what in ("claim", "mkfs.ext4")],
               ["EBUSY", "refused"], "erofs")
    ours = matrix_image.image().objects
    with loop_device(image) as device:
        with mounts.composefs(device, ours) as top:
            test.equal(uses(device), expected, "composefs")
            # composefs shares the claim with itself.
            with mounts.composefs(device, ours) as again:
                matrix_image.check(test, again, "mounted twice")
            test.equal(uses(device), expected, "one of two mounts is left")
            caches.drop()
            matrix_image.check(test, top, "afterwards")
        # The claim ends with the last mount. A failed mount keeps none.
        test.equal(set(uses(device).values()), {"success", "done"},
                   "unmounted")
        check_refused(test, "a device without an image", errno.EUCLEAN, device,
                      device)
        test.equal(set(uses(device).values()), {"success", "done"},
                   "after a failed mount")


@suite.test("a block device that is claimed is EBUSY, as for erofs")
def held(test: ktap.Test) -> None:
    image = content() + bytes(4 << 20)

    def busy(what: str, device: str) -> None:
        test.fails(errno.EBUSY, f"{what}: erofs", mounts.new_mount, "erofs",
                   [("source", device), ("ro", None)])
        check_refused(test, what, errno.EBUSY, device, device, "is busy")

    with loop_device(image) as device:
        with opened(device, os.O_RDONLY | os.O_EXCL):
            busy("opened with O_EXCL", device)
        with mounts.mounted("erofs", [("source", device), ("ro", None)]):
            check_refused(test, "mounted by erofs", errno.EBUSY, device,
                          device, "is busy")
        check_mount(test, "unmounted by erofs", device)
        with opened(device, os.O_RDONLY):
            check_mount(test, "open for reading", device)
        mapped = dm.Device(device, len(image) // dm.SECTOR * dm.SECTOR)
        try:
            busy("below device mapper", device)
            check_mount(test, "the mapped device", mapped.path)
        finally:
            mapped.remove()
        check_mount(test, "removed from device mapper", device)


@suite.test("a block device that is suspended, or removed")
def goes_away(test: ktap.Test) -> None:
    image = content() + bytes(4 << 20)
    with loop_device(image) as device:
        mapped = dm.Device(device, len(image) // dm.SECTOR * dm.SECTOR)
        try:
            with mounts.composefs(mapped.path,
                                  matrix_image.image().objects) as top:
                # This freezes the file system that holds the device.
                dm.dmsetup("suspend", mapped.name)
                dm.dmsetup("resume", mapped.name)
                caches.drop()
                matrix_image.check(test, top, "after a suspend")
                mapped.vanish()
                caches.drop()
                caches.drop()
                test.fails(errno.EIO, "after it was removed", os.listdir, top)
        finally:
            mapped.remove()


@suite.test("a block device on a nodev mount is EACCES")
def no_devices(test: ktap.Test) -> None:
    with loop.device(matrix_image.image().path, "--read-only") as device, \
            mounts.mounted("tmpfs", [("source", "devices")]) as top:
        node = f"{top}/device"
        os.mknod(node, 0o666 | stat.S_IFBLK, os.stat(device).st_rdev)
        check_mount(test, "without nodev", node)
        subprocess.run(["mount", "-o", "remount,nodev", top], check=True)
        check_refused(test, "with nodev", errno.EACCES, node, node,
                      "permission denied")


@suite.test("not a file: the errno, and a message with the name")
def no_file(test: ktap.Test) -> None:
    with objects.store() as work:
        os.mkfifo(work.at("fifo"))
        (work.top / "dangling").symlink_to("nowhere")
        (work.top / "loop").symlink_to("loop")
        work.plain("file", b"")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{work.path}/socket")
        for name, number, word in (
                ("missing", errno.ENOENT, "be found"),
                ("dangling", errno.ENOENT, "be found"),
                ("loop", errno.ELOOP, "be found"),
                ("file/below", errno.ENOTDIR, "be found"),
                ("", errno.EINVAL, "neither"),
                ("fifo", errno.EINVAL, "neither"),
                ("socket", errno.EINVAL, "neither")):
            path = f"{work.path}/{name}"
            check_refused(test, name, number, path, path.rstrip("/"), word)
        check_refused(test, "a character device", errno.EINVAL, "/dev/null",
                      "/dev/null", "neither")
        with opened(work.path) as fd:
            check_refused(test, "a descriptor of a directory", errno.EINVAL,
                          fd, work.path, "neither")
        reader, writer = os.pipe()
        try:
            check_refused(test, "a pipe", errno.EINVAL, reader, "neither")
        finally:
            os.close(reader)
            os.close(writer)


@suite.test("a file that is not an image is EUCLEAN")
def no_image(test: ktap.Test) -> None:
    image = content()
    noise = random.Random(20).randbytes(len(image))
    with objects.store() as work:
        for what, data in {
            "empty": b"",
            "a byte": b"\0",
            "a text": b"not an image\n" * 1000,
            "zeros": bytes(len(image)),
            "noise": noise,
            "noise behind the header": image[:32] + noise[32:],
            "noise behind the super block": image[:1152] + noise[1152:],
            "a header alone": image[:32],
            "half a super block": image[:SUPER_OFFSET + SUPER_SIZE // 2],
            "a super block alone": image[:SUPER_OFFSET + SUPER_SIZE],
            "without a header": bytes(32) + image[32:],
            "shifted by a byte": b"\0" + image,
        }.items():
            path = str(work.plain(what, data))
            check_refused(test, what, errno.EUCLEAN, path, f"image {path}: ")


@suite.test("an image of early 2023 is EUCLEAN, and the message names a program")
def first_format(test: ktap.Test) -> None:
    # Version, magic, position of the data; then an inode.
    header = struct.pack("<IIQ112x", 1, 0xc078629a, 128 + 96)
    with objects.store() as work:
        for what, data in {"small": header + bytes(96),
                           "large": header + bytes(1 << 20)}.items():
            path = str(work.plain(what, data))
            check_refused(test, what, errno.EUCLEAN, path, f"image {path}: ",
                          "early 2023", "composefs-old-image")


@suite.test("an ext4, or an erofs without the header of composefs, is EUCLEAN")
def other_images(test: ktap.Test) -> None:
    with objects.store() as work:
        ext4 = work.plain("ext4", bytes(4 << 20))
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", ext4], check=True)
        erofs = work.top / "erofs"
        (work.top / "tree").mkdir()
        work.plain("tree/file", b"file")
        subprocess.run(["mkfs.erofs", "--quiet", erofs, work.top / "tree"],
                       check=True, stdout=subprocess.DEVNULL)
        for path in (ext4, erofs):
            check_refused(test, path.name, errno.EUCLEAN, str(path), str(path))


fixtures.require()
objects.require_verity()
suite.run()
