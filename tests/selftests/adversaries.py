#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Who can write the image, the disk below it or the objects, or choose
options, and what they can do with it.

Each test says what it promises. "Verifying" modes are all but noverity.
adversaries_store.py has who can write the object store, options.py and
remount.py the options that are refused.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from lib import access, disk, fixtures, ktap, matrix, mounts, objects
from lib.disk import forget
from lib.modes import (EIO, GOOD, MODES, OTHER, VERIFYING, mounted, other,
                       outcome_of, read)
from lib.objects import Store
from lib.process import as_user
from lib.special import opened

suite = ktap.Suite()

FILE = matrix.FILE


def forged_digest() -> bytes:
    """The image, with the digest of other content for a file."""
    data = matrix.data()
    wanted = objects.digest_of(data).rpartition(":")[2]
    instead = objects.digest_of(other(data)).rpartition(":")[2]
    image = Path(matrix.image().path).read_bytes()
    assert bytes.fromhex(wanted) in image
    return image.replace(bytes.fromhex(wanted), bytes.fromhex(instead))


def forged_path(template: str) -> tuple[bytes, str]:
    """The image, with another path of the object of a file. * in it becomes a
    name that makes it as long as it was; the name is returned, too."""
    wanted = "/" + matrix.object_name()
    image = Path(matrix.image().path).read_bytes()
    assert wanted.encode() in image
    name = "n" * (len(wanted) - len(template) + 1)
    return image.replace(wanted.encode(),
                         template.replace("*", name).encode()), name


def forged_mode() -> bytes:
    """The image, with a file that is of root and set-user-id."""
    image = bytearray(Path(matrix.image().path).read_bytes())
    with mounts.composefs(matrix.image().path, []) as top:
        at = os.stat(f"{top}/{FILE}").st_ino * 32
    image[at + 4:at + 6] = (stat.S_IFREG | 0o4755).to_bytes(2, "little")
    return bytes(image)


@suite.test("the image: one with digest= cannot be written to, nor replaced")
def pinned_image(test: ktap.Test) -> None:
    """Under digest= there is no other image: the file cannot be written to,
    and whatever has its name is refused by the mount. What is mounted goes
    on."""
    image = matrix.image()
    with objects.store() as work:
        matrix.add_to(work)
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
            forget()
            test.equal(read(file), GOOD, "the mount of before")


@suite.test("the image: without digest= its writer chooses what is read")
def forged_digests(test: ktap.Test) -> None:
    """verity makes objects be what the image says. Without digest= that is
    worth as much as who can write the image: they choose digests, and so
    content, in every mode."""
    data = matrix.data()
    with objects.store() as work:
        path = work.verified("image", forged_digest())
        work.verified(matrix.object_name(), other(data))
        for mode in MODES:
            if mode == "digest=":
                continue
            with mounted(mode, work.path, str(path)) as file:
                test.equal(read(file), OTHER, mode)


@suite.test("the image: without digest= its writer chooses modes and owners")
def forged_modes(test: ktap.Test) -> None:
    """Without digest= modes, owners and devices are those of who can write
    the image; nosuid and nodev are the mounter's answer to that."""
    with objects.store() as work:
        matrix.add_to(work)
        path = work.verified("image", forged_mode())
        for mode in MODES:
            if mode == "digest=":
                continue
            with mounted(mode, work.path, str(path)) as file:
                found = os.stat(file)
                test.equal((oct(found.st_mode), found.st_uid),
                           (oct(stat.S_IFREG | 0o4755), 0), mode)


@suite.test("the image: its paths lead to nothing outside of the store")
def forged_paths(test: ktap.Test) -> None:
    """Whoever wrote the image, and whatever the mode, only what is in an
    object directory can be read through it."""
    unclean = "open: EUCLEAN"
    for template, expected in (("/*/inside", GOOD), ("/*", EIO),
                               ("/*/../../outside", unclean),
                               ("/../*", unclean), ("/./*", unclean),
                               ("//*", unclean), ("/*/", unclean),
                               ("/link/*", EIO)):
        image, name = forged_path(template)
        with objects.store() as work:
            store = Store(work.top / "store")
            work.verified("outside", matrix.data())
            store.verified(f"{name}/inside", matrix.data())
            work.verified(name, matrix.data())
            (store.top / "link").symlink_to("..")
            path = work.plain("image", image)
            for mode in MODES:
                if mode == "digest=":
                    continue
                with mounted(mode, store.path, str(path)) as file:
                    test.equal(read(file), expected, f"{mode}: {template}")


# Who can write the disk

@suite.test("the disk: a whole other image in the place of a pinned one")
def disk_of_image(test: ktap.Test) -> None:
    """Who can write the disk below an image can put another one there, with
    a Merkle tree to match. Under digest= a mount that is there gives EIO for
    what was changed, and another mount is refused. Without digest= they
    choose what is read."""
    image = matrix.image()
    with objects.store() as store, disk.mounted() as where:
        store.verified(matrix.object_name(), other(matrix.data()))
        top = Store(where.top)
        path = top.verified("image", Path(image.path).read_bytes())
        forged = top.verified("forged", forged_digest())
        where.seal()
        with mounts.composefs(str(path), [store.path],
                              ("digest", image.digest)) as mount:
            test.equal(read(f"{mount}/{FILE}"), EIO, "digest=: before")
            where.overwrite(path, forged)
            forget()
            found = read(f"{mount}/{FILE}")
            test.check(found in (EIO, "open: EIO"), f"digest=: {found}")
        forget()
        test.fails(errno.EIO, "digest=: another mount", mounts.new_mount,
                   "composefs", [("source", str(path)),
                                 ("digest", image.digest)])
        with mounted("verity", store.path, str(path)) as file:
            test.equal(read(file), OTHER, "verity")


@suite.test("the disk: a whole other object in the place of a good one")
def disk_of_object(test: ktap.Test) -> None:
    """Who can write the disk below the objects can put another one there,
    with a Merkle tree to match. In a verifying mode who reads it gets the
    content or EIO, before and after it was opened. Under noverity they choose
    the content."""
    data = matrix.data()
    for mode in MODES:
        with disk.mounted() as where:
            top = Store(where.top)
            path = top.verified(matrix.object_name(), data)
            bad = top.verified("bad", other(data))
            where.seal()
            with mounted(mode, str(where.top)) as file:
                with opened(file) as fd:
                    test.equal(outcome_of(fd, access.pread, data), GOOD,
                               f"{mode}: before")
                    where.overwrite(path, bad)
                    forget()
                    # The root hash of who has it open is in memory.
                    test.equal(outcome_of(fd, access.pread, data), EIO,
                               f"{mode}: who had it open")
                forget()
                test.equal(read(file), OTHER if mode == "noverity" else EIO,
                           f"{mode}: who opens it")


# Who can choose options

@suite.test("options: a noverity mount of the same image beside a pinned one")
def beside(test: ktap.Test) -> None:
    """What is mounted with weaker options, and read there, does not weaken
    another mount of the same image and objects."""
    image = matrix.image()
    with objects.store() as store:
        store.verified(matrix.object_name(), other(matrix.data()))
        with mounted("noverity", store.path) as weak:
            with opened(weak) as fd:
                test.equal(outcome_of(fd, access.pread, matrix.data()), OTHER,
                           "noverity")
                for mode in VERIFYING:
                    with mounted(mode, store.path) as strong:
                        for _ in range(2):
                            test.equal(read(strong), EIO, mode)
                        test.check(os.stat(strong).st_dev
                                   != os.stat(weak).st_dev, f"{mode}: shared")
            with mounts.composefs(image.path, [store.path],
                                  ("digest", image.digest)) as top:
                test.equal(read(f"{top}/{FILE}"), EIO, "after it")
                test.equal(read(weak), OTHER, "noverity then")


@suite.test("options: a mount is not weakened by changing it")
def reconfigured(test: ktap.Test) -> None:
    """A mount keeps its mode and its object directories: whoever may change
    it can only mount anew."""
    with objects.store() as store, objects.store() as elsewhere:
        store.verified(matrix.object_name(), other(matrix.data()))
        elsewhere.plain(matrix.object_name(), matrix.data())
        for mode in VERIFYING:
            with mounted(mode, store.path) as file:
                top = os.path.dirname(file)
                for key, value in (("noverity", None),
                                   ("basedir", elsewhere.path),
                                   ("digest", "0" * 64)):
                    with mounts.Context.pick(top) as context:
                        test.fails(errno.EINVAL, f"{mode}: {key}",
                                   change, context, key, value)
                test.equal(read(file), EIO, f"{mode}: then")


def change(context: mounts.Context, key: str, value: mounts.Value) -> None:
    context.set(key, value)
    context.reconfigure()


@suite.test("options: a user without rights mounts and changes nothing")
def user(test: ktap.Test) -> None:
    """Without CAP_SYS_ADMIN there is neither mounting nor changing."""
    image = matrix.image()
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
        test.equal(read(file), GOOD, "then")


fixtures.require()
objects.require_verity()
disk.require_tools()
if os.geteuid() != 0:
    ktap.skip_all("only root can mount")
suite.run()
