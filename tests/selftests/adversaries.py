#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Attackers who can write an image or a disk, or choose mount options.

The docstring of each test says what composefs promises against that attacker.
"Verifying" modes are all but noverity. adversaries_store.py has the attackers
who can write an object directory, options.py and remount.py have the options
that are refused.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from lib import (caches, disk, fixtures, ktap, matrix_image, mounts, objects,
                 read_whole)
from lib.files import opened
from lib.objects import Store
from lib.process import as_user
from lib.verity_modes import (EIO, GOOD, MODES, OTHER, VERIFYING, mounted,
                              other, read_open, read)

suite = ktap.Suite()

FILE = matrix_image.FILE


def forged_digest() -> bytes:
    """The image, with the digest of FILE replaced by that of other content."""
    data = matrix_image.data()
    wanted = objects.digest_of(data).rpartition(":")[2]
    instead = objects.digest_of(other(data)).rpartition(":")[2]
    image = Path(matrix_image.image().path).read_bytes()
    assert bytes.fromhex(wanted) in image
    return image.replace(bytes.fromhex(wanted), bytes.fromhex(instead))


def forged_path(template: str) -> tuple[bytes, str]:
    """The image, with another path for the object of FILE. "*" in `template`
    becomes a name that pads the path to its former length. Returns the image
    and that name."""
    wanted = "/" + matrix_image.object_name()
    image = Path(matrix_image.image().path).read_bytes()
    assert wanted.encode() in image
    name = "n" * (len(wanted) - len(template) + 1)
    return image.replace(wanted.encode(),
                         template.replace("*", name).encode()), name


def forged_mode() -> bytes:
    """The image, with FILE owned by root and set-user-id."""
    image = bytearray(Path(matrix_image.image().path).read_bytes())
    with matrix_image.mounted(basedirs=[]) as top:
        at = os.stat(f"{top}/{FILE}").st_ino * 32
    image[at + 4:at + 6] = (stat.S_IFREG | 0o4755).to_bytes(2, "little")
    return bytes(image)


@suite.test("the image: with digest= it can be neither changed nor replaced")
def pinned_image(test: ktap.Test) -> None:
    """The image file is immutable, and digest= refuses another file of that
    name. A mount that exists is not affected."""
    image = matrix_image.image()
    with objects.store() as work:
        matrix_image.add_to(work)
        path = work.verified("image", Path(image.path).read_bytes())
        with mounted("digest=", work.path, str(path)) as file:
            test.fails(errno.EPERM, "open to write", os.open, path,
                       os.O_WRONLY)
            test.fails(errno.EPERM, "truncate", os.truncate, path, 0)
            for what, data, number in (
                    ("other digests", forged_digest(), errno.EIO),
                    ("another mode", forged_mode(), errno.EIO)):
                for verity, expected in ((True, number),
                                         (False, errno.ENODATA)):
                    make = work.verified if verity else work.plain
                    make("image", data)
                    test.fails(expected, f"{what}, fs-verity {verity}",
                               mounts.new_mount, "composefs", [
                                   ("source", str(path)),
                                   ("digest", image.digest)])
            caches.drop_all()
            test.equal(read(file), GOOD, "the mount that exists")


@suite.test(
    "the image: without digest= its writer chooses the content of files"
)
def forged_digests(test: ktap.Test) -> None:
    """verity makes objects match the image. Without digest= the attacker
    chooses the digests in the image, and so the content, in every mode."""
    data = matrix_image.data()
    with objects.store() as work:
        path = work.verified("image", forged_digest())
        work.verified(matrix_image.object_name(), other(data))
        for mode in MODES:
            if mode == "digest=":
                continue
            with mounted(mode, work.path, str(path)) as file:
                test.equal(read(file), OTHER, mode)


@suite.test("the image: without digest= its writer chooses modes and owners")
def forged_modes(test: ktap.Test) -> None:
    """Without digest= the attacker chooses modes, owners and devices. The
    mounter can use nosuid and nodev against that."""
    with objects.store() as work:
        matrix_image.add_to(work)
        path = work.verified("image", forged_mode())
        for mode in MODES:
            if mode == "digest=":
                continue
            with mounted(mode, work.path, str(path)) as file:
                found = os.stat(file)
                test.equal((oct(found.st_mode), found.st_uid),
                           (oct(stat.S_IFREG | 0o4755), 0), mode)


@suite.test(
    "the image: its paths lead to nothing outside the object directories"
)
def forged_paths(test: ktap.Test) -> None:
    """Only files in an object directory can be read through an image, in
    every mode."""
    unclean = "open: EUCLEAN"
    for template, expected in (("/*/inside", GOOD), ("/*", EIO),
                               ("/*/../../outside", unclean),
                               ("/../*", unclean), ("/./*", unclean),
                               ("//*", unclean), ("/*/", unclean),
                               ("/link/*", EIO)):
        image, name = forged_path(template)
        with objects.store() as work:
            store = Store(work.top / "store")
            work.verified("outside", matrix_image.data())
            store.verified(f"{name}/inside", matrix_image.data())
            work.verified(name, matrix_image.data())
            (store.top / "link").symlink_to("..")
            path = work.plain("image", image)
            for mode in MODES:
                if mode == "digest=":
                    continue
                with mounted(mode, store.path, str(path)) as file:
                    test.equal(read(file), expected, f"{mode}: {template}")


# Attackers who can write the disk

@suite.test("the disk: a pinned image is overwritten with another image")
def disk_of_image(test: ktap.Test) -> None:
    """The attacker overwrites an image on the disk, with its Merkle tree.
    With digest=, a mount that exists returns EIO for the changed blocks, and a
    new mount is refused. Without digest= the attacker chooses the content."""
    image = matrix_image.image()
    with objects.store() as store, disk.mounted() as where:
        store.verified(matrix_image.object_name(), other(matrix_image.data()))
        top = Store(where.top)
        path = top.verified("image", Path(image.path).read_bytes())
        forged = top.verified("forged", forged_digest())
        where.seal()
        with mounts.composefs(str(path), [store.path],
                              ("digest", image.digest)) as mount:
            test.equal(read(f"{mount}/{FILE}"), EIO, "digest=: before")
            where.overwrite(path, forged)
            caches.drop_all()
            found = read(f"{mount}/{FILE}")
            test.check(found in (EIO, "open: EIO"), f"digest=: {found}")
        caches.drop_all()
        test.fails(errno.EIO, "digest=: a new mount", mounts.new_mount,
                   "composefs", [("source", str(path)),
                                 ("digest", image.digest)])
        with mounted("verity", store.path, str(path)) as file:
            test.equal(read(file), OTHER, "verity")


@suite.test("the disk: an object is overwritten with another object")
def disk_of_object(test: ktap.Test) -> None:
    """The attacker overwrites an object on the disk, with its Merkle tree. In
    a verifying mode a read returns the right content or EIO, through old and
    new open files. Under noverity the attacker chooses the content."""
    data = matrix_image.data()
    for mode in MODES:
        with disk.mounted() as where:
            top = Store(where.top)
            path = top.verified(matrix_image.object_name(), data)
            bad = top.verified("bad", other(data))
            where.seal()
            with mounted(mode, str(where.top)) as file:
                with opened(file) as fd:
                    test.equal(read_open(fd, read_whole.pread, data), GOOD,
                               f"{mode}: before")
                    where.overwrite(path, bad)
                    caches.drop_all()
                    # An inode in memory keeps the root hash of its file.
                    test.equal(read_open(fd, read_whole.pread, data), EIO,
                               f"{mode}: an old open file")
                caches.drop_all()
                test.equal(read(file), OTHER if mode == "noverity" else EIO,
                           f"{mode}: a new open file")


# Attackers who can choose options

@suite.test("options: a noverity mount does not weaken a pinned one")
def beside(test: ktap.Test) -> None:
    """A mount with weaker options does not weaken another mount of the same
    image and objects, also after a file was read through it."""
    image = matrix_image.image()
    with objects.store() as store:
        store.verified(matrix_image.object_name(), other(matrix_image.data()))
        with mounted("noverity", store.path) as weak:
            with opened(weak) as fd:
                test.equal(
                    read_open(fd, read_whole.pread, matrix_image.data()),
                    OTHER,
                    "noverity",
                )
                for mode in VERIFYING:
                    with mounted(mode, store.path) as strong:
                        for _ in range(2):
                            test.equal(read(strong), EIO, mode)
                        test.check(os.stat(strong).st_dev
                                   != os.stat(weak).st_dev, f"{mode}: shared")
            with mounts.composefs(image.path, [store.path],
                                  ("digest", image.digest)) as top:
                test.equal(read(f"{top}/{FILE}"), EIO,
                           "with a noverity mount beside it")
                test.equal(read(weak), OTHER, "noverity afterwards")


@suite.test("options: a remount does not weaken a mount")
def reconfigured(test: ktap.Test) -> None:
    """A remount changes neither the mode nor the object directories."""
    with objects.store() as store, objects.store() as elsewhere:
        store.verified(matrix_image.object_name(), other(matrix_image.data()))
        elsewhere.plain(matrix_image.object_name(), matrix_image.data())
        for mode in VERIFYING:
            with mounted(mode, store.path) as file:
                top = os.path.dirname(file)
                for key, value in (("noverity", None),
                                   ("basedir", elsewhere.path),
                                   ("digest", "0" * 64)):
                    with mounts.Context.pick(top) as context:
                        test.fails(errno.EINVAL, f"{mode}: {key}",
                                   change, context, key, value)
                test.equal(read(file), EIO, f"{mode}: afterwards")


def change(context: mounts.Context, key: str, value: mounts.Value) -> None:
    context.set(key, value)
    context.reconfigure()


@suite.test("options: an unprivileged user can neither mount nor remount")
def user(test: ktap.Test) -> None:
    """Mounting and remounting need CAP_SYS_ADMIN."""
    image = matrix_image.image()
    with mounted("digest=", image.objects[0]) as file:
        top = os.path.dirname(file)
        test.fails(errno.EPERM, "fsopen", as_user, 1000,
                   lambda: mounts.Context.open("composefs"))
        test.fails(errno.EPERM, "fspick", as_user, 1000,
                   lambda: mounts.Context.pick(top))
        test.fails(errno.EPERM, "mount", as_user, 1000,
                   lambda: mounts.mount(image.path, top, "composefs"))
        test.fails(errno.EPERM, "remount", as_user, 1000,
                   lambda: mounts.mount(None, top, None, mounts.MS_REMOUNT,
                                        "noverity"))
        test.equal(read(file), GOOD, "afterwards")


fixtures.require()
objects.require_verity()
disk.require_tools()
mounts.require_root()
suite.run()
