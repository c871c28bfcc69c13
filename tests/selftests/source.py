#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""What is mounted: paths, descriptors, devices, and what is no image."""

from __future__ import annotations

import errno
import os
import random
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import caches, dm, fixtures, ktap, matrix_image, mounts, objects
from lib.mounts import Value
from lib.refused import refused

suite = ktap.Suite()

# Where the EROFS super block is, and how long it is.
SUPER_OFFSET, SUPER_SIZE = 1024, 128


def content() -> bytes:
    return Path(matrix_image.image().path).read_bytes()


def is_image(test: ktap.Test, what: str, source: Value,
             *more: tuple[str, Value]) -> None:
    try:
        with mounts.composefs(
            source, matrix_image.image().objects, *more
        ) as top:
            matrix_image.check(test, top, what)
    except mounts.MountError as error:
        test.fail(f"{what}: {error}")


def is_none(test: ktap.Test, what: str, number: int, source: Value,
            *words: str) -> None:
    refused(
        test,
        what,
        number,
        mounts.composefs_options(source, matrix_image.image().objects),
        *words,
    )


@contextmanager
def opened(path: str | Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def memfd() -> Iterator[int]:
    """The image in memory, under no path."""
    fd = os.memfd_create("image")
    try:
        os.write(fd, content())
        yield fd
    finally:
        os.close(fd)


@suite.test("a path, also through a symbolic link and relative")
def path(test: ktap.Test) -> None:
    image = matrix_image.image()
    digest = ("digest", image.digest)
    is_image(test, "a path", image.path, digest)
    with objects.store() as work:
        (work.top / "link").symlink_to(image.path)
        is_image(test, "a symbolic link", f"{work.path}/link", digest)
        before = os.getcwd()
        os.chdir(os.path.dirname(image.path))
        try:
            is_image(test, "a relative path", os.path.basename(image.path),
                     digest)
        finally:
            os.chdir(before)


@suite.test("names that are bytes, with all that options are made of")
def odd_names(test: ktap.Test) -> None:
    with objects.store() as work:
        for name in (b"comma,comma", b"colon:colon", b"back\\slash", b"a b",
                     b"new\nline", b"tab\t", b"a=b", b"#", b"\xff\xfe",
                     b"\\040", b"%s%d%n"):
            path = os.fsencode(work.path) + b"/" + name
            with open(path, "wb") as file:
                file.write(content())
            is_image(test, repr(name), path)


@suite.test("a descriptor, also one of O_PATH, and one that is closed then")
def descriptor(test: ktap.Test) -> None:
    image = matrix_image.image()
    digest = ("digest", image.digest)
    with opened(image.path) as fd:
        is_image(test, "a descriptor", fd, digest)
        is_image(test, "/proc/self/fd", f"/proc/self/fd/{fd}", digest)
    with opened(image.path, os.O_PATH) as fd:
        is_image(test, "a descriptor of O_PATH", fd, digest)
        is_image(test, "/proc/self/fd of O_PATH", f"/proc/self/fd/{fd}",
                 digest)
    # It need not be one for reading: the image is opened anew.
    with objects.store() as work:
        copy = work.plain("copy", content())
        with opened(copy, os.O_RDWR) as fd:
            is_image(test, "a descriptor for writing", fd)
    test.fails(errno.EBADF, "a bad descriptor", mounts.new_mount,
               "composefs", [("source", 9999)])


@suite.test("a descriptor of an image that has no name any more")
def unlinked(test: ktap.Test) -> None:
    with objects.store() as work:
        copy = work.verified("copy", content())
        with opened(copy) as fd:
            copy.unlink()
            is_image(test, "a descriptor", fd,
                     ("digest", matrix_image.image().digest))
            is_image(test, "/proc/self/fd", f"/proc/self/fd/{fd}")


@suite.test("a memfd")
def in_memory(test: ktap.Test) -> None:
    with memfd() as fd:
        is_image(test, "a descriptor", fd)
        is_image(test, "/proc/self/fd", f"/proc/self/fd/{fd}")
        refused(test, "with digest=", errno.ENODATA,
                [("source", fd), ("digest", matrix_image.image().digest)],
                "no fs-verity")


@suite.test("an image that goes on being read when its descriptor is closed")
def closed(test: ktap.Test) -> None:
    with memfd() as fd:
        mount = mounts.new_mount("composefs", mounts.composefs_options(
            fd, matrix_image.image().objects))
    with mounts.directory() as top:
        mounts.attach(mount, top)
        os.close(mount)
        try:
            caches.drop()
            matrix_image.check(test, top, "after close(2)")
        finally:
            mounts.umount(top)


@suite.test("an image on tmpfs")
def on_tmpfs(test: ktap.Test) -> None:
    with mounts.mounted("tmpfs", [("source", "image")]) as top:
        store = objects.Store(Path(top))
        is_image(test, "tmpfs", str(store.plain("image", content())))


@suite.test("an image on overlayfs")
def on_overlay(test: ktap.Test) -> None:
    with objects.store() as lower, objects.store() as other:
        lower.verified("image", content())
        with mounts.mounted("overlay", [
                ("source", "image"), ("lowerdir+", lower.path),
                ("lowerdir+", other.path)]) as top:
            is_image(test, "overlayfs", f"{top}/image")


def on_disk(test: ktap.Test, kind: str, *make: str) -> None:
    """An image on a file system made for it."""
    known = Path("/proc/filesystems").read_text(encoding="ascii").split()
    if kind not in known:
        subprocess.run(["modprobe", "--quiet", kind], check=False)
        known = Path("/proc/filesystems").read_text(encoding="ascii").split()
    if kind not in known:
        raise ktap.Skipped(f"the kernel has no {kind}")
    with objects.store() as work:
        disk = work.top / "disk"
        with open(disk, "wb") as file:
            file.truncate(400 << 20)
        subprocess.run([*make, disk], check=True, stdout=subprocess.DEVNULL)
        with mounts.directory() as top:
            subprocess.run(["mount", "-t", kind, "-o", "loop", disk, top],
                           check=True)
            try:
                store = objects.Store(Path(top))
                is_image(test, kind, str(store.plain("image", content())))
            finally:
                subprocess.run(["umount", top], check=True)


@suite.test("an image on xfs")
def on_xfs(test: ktap.Test) -> None:
    on_disk(test, "xfs", "mkfs.xfs", "-q")


@suite.test("an image on btrfs")
def on_btrfs(test: ktap.Test) -> None:
    on_disk(test, "btrfs", "mkfs.btrfs", "-q")


@suite.test("an image on a block device, which has no digest")
def block_device(test: ktap.Test) -> None:
    image = matrix_image.image()
    device = subprocess.run(
        ["losetup", "--find", "--show", "--read-only", image.path],
        capture_output=True, text=True, check=True).stdout.strip()
    try:
        is_image(test, "a path", device)
        with opened(device) as fd:
            is_image(test, "a descriptor", fd)
        refused(test, "with digest=", errno.ENODATA,
                [("source", device), ("digest", image.digest)], device,
                "no fs-verity")
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@contextmanager
def loop_device(content_: bytes) -> Iterator[str]:
    """A device of its own that can be written to."""
    with objects.store() as work:
        device = subprocess.run(
            ["losetup", "--find", "--show", work.plain("disk", content_)],
            capture_output=True, text=True, check=True).stdout.strip()
        try:
            yield device
        finally:
            subprocess.run(["losetup", "--detach", device], check=True)


def uses(device: str) -> dict[str, str]:
    """What may be done with a device."""
    found = {}
    for what, flags in (("read", os.O_RDONLY), ("write", os.O_RDWR),
                        ("claim", os.O_RDONLY | os.O_EXCL),
                        ("claim to write", os.O_RDWR | os.O_EXCL)):
        try:
            os.close(os.open(device, flags))
            found[what] = "success"
        except OSError as error:
            found[what] = ktap.errno_name(error.errno)
    for command in (["wipefs", "--all"], ["mkfs.ext4", "-q"]):
        done = subprocess.run([*command, device], capture_output=True,
                              stdin=subprocess.DEVNULL, check=False)
        found[command[0]] = "done" if done.returncode == 0 else "refused"
    return found


@suite.test("a block device is in use while it is mounted, as by erofs")
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
            # It holds it together with itself.
            with mounts.composefs(device, ours) as again:
                matrix_image.check(test, again, "mounted twice")
            test.equal(uses(device), expected, "one of two is left")
            caches.drop()
            matrix_image.check(test, top, "after all that")
        # Neither does one keep it that is not mounted any more, or was not.
        test.equal(set(uses(device).values()), {"success", "done"},
                   "unmounted")
        is_none(test, "a device without an image", errno.EUCLEAN, device,
                device)
        test.equal(set(uses(device).values()), {"success", "done"},
                   "not mounted")


@suite.test("a block device that somebody else has is EBUSY, as for erofs")
def held(test: ktap.Test) -> None:
    image = content() + bytes(4 << 20)

    def busy(what: str, device: str) -> None:
        test.fails(errno.EBUSY, f"{what}: erofs", mounts.new_mount, "erofs",
                   [("source", device), ("ro", None)])
        is_none(test, what, errno.EBUSY, device, device, "is busy")

    with loop_device(image) as device:
        with opened(device, os.O_RDONLY | os.O_EXCL):
            busy("opened with O_EXCL", device)
        with mounts.mounted("erofs", [("source", device), ("ro", None)]):
            is_none(test, "mounted by erofs", errno.EBUSY, device, device,
                    "is busy")
        is_image(test, "left by erofs", device)
        with opened(device, os.O_RDONLY):
            is_image(test, "read by another", device)
        mapped = dm.Device(device, len(image) // dm.SECTOR * dm.SECTOR)
        try:
            busy("below device mapper", device)
            is_image(test, "device mapper's own", mapped.path)
        finally:
            mapped.remove()
        is_image(test, "left by device mapper", device)


@suite.test("a block device that is suspended, and one that goes away")
def goes_away(test: ktap.Test) -> None:
    image = content() + bytes(4 << 20)
    with loop_device(image) as device:
        mapped = dm.Device(device, len(image) // dm.SECTOR * dm.SECTOR)
        try:
            with mounts.composefs(mapped.path,
                                  matrix_image.image().objects) as top:
                # Which asks who holds the device to freeze what is on it.
                dm.dmsetup("suspend", mapped.name)
                dm.dmsetup("resume", mapped.name)
                caches.drop()
                matrix_image.check(test, top, "after it was suspended")
                mapped.vanish()
                caches.drop()
                caches.drop()
                test.fails(errno.EIO, "after it went away", os.listdir, top)
        finally:
            mapped.remove()


@suite.test("a block device on a mount that is to have none: EACCES")
def no_devices(test: ktap.Test) -> None:
    image = matrix_image.image()
    device = subprocess.run(
        ["losetup", "--find", "--show", "--read-only", image.path],
        capture_output=True, text=True, check=True).stdout.strip()
    try:
        with mounts.mounted("tmpfs", [("source", "devices")]) as top:
            node = f"{top}/device"
            os.mknod(node, 0o666 | stat.S_IFBLK, os.stat(device).st_rdev)
            is_image(test, "where devices may be", node)
            subprocess.run(["mount", "-o", "remount,nodev", top], check=True)
            is_none(test, "where they may not", errno.EACCES, node, node,
                    "permission denied")
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@suite.test("what is no file: its error, and a message with its name")
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
            is_none(test, name, number, path, path.rstrip("/"), word)
        is_none(test, "a character device", errno.EINVAL, "/dev/null",
                "/dev/null", "neither")
        with opened(work.path) as fd:
            is_none(test, "a descriptor of a directory", errno.EINVAL, fd,
                    work.path, "neither")
        reader, writer = os.pipe()
        try:
            is_none(test, "a pipe", errno.EINVAL, reader, "neither")
        finally:
            os.close(reader)
            os.close(writer)


@suite.test("a file that holds no image is EUCLEAN")
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
            is_none(test, what, errno.EUCLEAN, path, f"image {path}: ")


@suite.test("an image of ext4, or of erofs without our header, is EUCLEAN")
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
            is_none(test, path.name, errno.EUCLEAN, str(path), str(path))


fixtures.require()
objects.require_verity()
suite.run()
