#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Mounts with attributes of their own: idmapped, nosuid, nodev, noexec, bind.

What they give is compared with erofs and overlayfs. overlayfs cannot be
idmapped; its lower layer can, and shows owners that are mapped then.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import fixtures, handles, idmap, ktap, mounts, objects, reference
from lib.process import as_user
from lib.special import opened
from lib.userns import Range

suite = ktap.Suite()

OVERFLOW = 65534
ACL = "system.posix_acl_access"
# Ids of the file system on the left, what they are in the mount on the right.
MAP = (Range(0, 10000, 500), Range(1000, 11000, 500),
       Range(100000, 210000, 10))
FILES = ("of-root", "of-1000", "of-1001", "of-100000", "of-nobody-known")


def image() -> fixtures.Image:
    return fixtures.named("rights")


def special() -> fixtures.Image:
    return fixtures.named("special-v0")


@contextmanager
def mounted(which: fixtures.Image | None = None) -> Iterator[str]:
    one = which or image()
    with mounts.composefs(one.path, one.objects) as top:
        yield top


def there(number: int) -> int:
    """What an id of the file system is in the mount."""
    for one in MAP:
        if one.inside <= number < one.inside + one.count:
            return number - one.inside + one.outside
    return OVERFLOW


def owner(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_uid, found.st_gid


def outcome(function: Callable[[], object]) -> str:
    try:
        function()
    except OSError as error:
        return ktap.errno_name(error.errno)
    return "success"


def read_as(uid: int, path: str) -> str:
    return str(as_user(uid, lambda: outcome(Path(path).read_bytes)))


@suite.test("owners are those of the map, and without one nobody's")
def owners(test: ktap.Test) -> None:
    with mounted() as top, idmap.mapped(top, MAP) as other:
        for name in FILES:
            uid, gid = owner(f"{top}/{name}")
            test.equal(owner(f"{other}/{name}"), (there(uid), there(gid)),
                       name)
            with opened(f"{other}/{name}", os.O_PATH) as fd:
                test.equal(os.fstat(fd).st_uid, there(uid), f"{name}, fstat")
            test.equal(os.stat(f"{other}/{name}").st_ino,
                       os.stat(f"{top}/{name}").st_ino, f"{name}, inode")
        test.equal(owner(f"{other}/of-nobody-known"), (OVERFLOW, OVERFLOW),
                   "an id that is not in the map")
        test.equal(owner(f"{top}/of-1000"), (1000, 1000),
                   "the mount that it was made from")


@suite.test("all owners of a large tree, and as erofs shows them")
def as_erofs(test: ktap.Test) -> None:
    with mounted(special()) as ours, reference.erofs(special()) as theirs:
        with idmap.mapped(ours, MAP) as one, idmap.mapped(theirs,
                                                          MAP) as two:
            names = [f"owners/{name}" for name in os.listdir(
                f"{ours}/owners")] + ["types", "acls/one", "links/1", "."]
            for name in names:
                test.equal(owner(f"{one}/{name}"), owner(f"{two}/{name}"),
                           name)


@suite.test("who has an id by the map may do what the owner may")
def access(test: ktap.Test) -> None:
    with mounted() as top, reference.erofs(image()) as metadata, \
            idmap.mapped(top, MAP) as other, \
            idmap.mapped(metadata, MAP) as theirs:
        for name, uid, expected in (
                ("of-1000", 11000, "success"), ("of-1000", 1000, "EACCES"),
                ("of-1000", 10000, "EACCES"), ("of-root", 10000, "success"),
                ("of-root", 11000, "EACCES"), ("of-root", 0, "success"),
                ("of-100000", 210000, "success"),
                ("of-100000", 100000, "EACCES"),
                ("of-1001", 11001, "success"), ("of-1001", 1001, "EACCES"),
                ("of-nobody-known", OVERFLOW, "EACCES"),
                ("of-nobody-known", 4000000, "EACCES"),
                # Not even root has a file that nobody has.
                ("of-nobody-known", 0, "EACCES"),
                ("plain", 12345, "success")):
            for kind in ("", "-small") if name.startswith("of-") else ("",):
                test.equal(read_as(uid, f"{other}/{name}{kind}"), expected,
                           f"{name}{kind} by {uid}")
            if name.startswith("of-"):
                test.equal(read_as(uid, f"{theirs}/{name}-small"), expected,
                           f"erofs: {name}-small by {uid}")
        test.equal(read_as(1000, f"{top}/of-1000"), "success",
                   "the mount that it was made from")


def entries(path: str) -> list[tuple[int, int, int]]:
    """Tag, permissions and id of each entry of an access control list."""
    data = os.getxattr(path, ACL)
    return list(struct.iter_unpack("<HHI", data[4:]))


@suite.test("access control lists are mapped, as erofs does")
def acls(test: ktap.Test) -> None:
    ranges = (Range(0, 0, 1000), Range(1000, 31000, 100),
              Range(70000, 80000, 1))
    with mounted(special()) as top, reference.erofs(special()) as metadata, \
            idmap.mapped(top, ranges) as other, \
            idmap.mapped(metadata, ranges) as theirs:
        found = entries(f"{other}/acls/one")
        test.equal(found, entries(f"{theirs}/acls/one"), "with erofs")
        ids = {number for tag, _, number in found if tag in (2, 8)}
        test.equal(ids, {31000, 31001, 80000}, "ids")
        test.equal({number for tag, _, number in entries(f"{top}/acls/one")
                    if tag in (2, 8)}, {1000, 1001, 70000}, "without a map")
        for where, allowed, denied in ((top, 1000, 31000),
                                       (other, 31000, 1000)):
            test.equal(read_as(allowed, f"{where}/acls/one"), "success",
                       f"{where}: {allowed}")
            test.equal(read_as(denied, f"{where}/acls/one"), "EACCES",
                       f"{where}: {denied}")
        test.equal(read_as(31001, f"{other}/acls/one"), "EACCES",
                   "who has an entry without rights")


@suite.test("a setuid program has the id of the map")
def setuid(test: ktap.Test) -> None:
    with mounted() as top, idmap.mapped(top, MAP) as other:
        for name, expected in (("setuid", "10000"), ("setuid-1000", "11000")):
            test.equal(effective(other, name, 12345)[1], expected, name)


@suite.test("handles of an idmapped mount are those of the file system")
def by_handle(test: ktap.Test) -> None:
    with mounted() as top, idmap.mapped(top, MAP) as other:
        handle = handles.of(f"{other}/of-1000")
        test.equal(handle, handles.of(f"{top}/of-1000"), "handles")
        with opened(other) as mount:
            fd = handles.open_by(mount, handle, os.O_RDONLY)
            try:
                test.equal(os.fstat(fd).st_uid, 11000, "owner")
            finally:
                os.close(fd)


@suite.test("overlayfs over an idmapped mount, as over erofs")
def layers_below(test: ktap.Test) -> None:
    found = []
    with mounted() as top, reference.erofs(image()) as metadata, \
            idmap.mapped(top, MAP) as ours, \
            idmap.mapped(metadata, MAP) as theirs:
        for lower in ([("lowerdir+", ours), ("lowerdir+", "/tmp")],
                      [("lowerdir+", theirs),
                       *(("datadir+", path) for path in image().objects)]):
            with mounts.mounted("overlay", [
                    ("source", "layers"), ("metacopy", "on"),
                    ("redirect_dir", "on"), *lower]) as merged:
                found.append({name: (owner(f"{merged}/{name}"),
                                     read_as(11000, f"{merged}/{name}"))
                              for name in FILES})
    test.equal(found[0], found[1], "owners and access")
    test.equal(found[0]["of-1000"], ((11000, 11000), "success"), "of-1000")


@suite.test("objects on an idmapped mount: read with the mounter's rights")
def basedir(test: ktap.Test) -> None:
    content = Path(image().source or "", "of-root").read_bytes()
    with objects.store() as store:
        path = store.verified(objects.object_name(
            objects.digest_of(content)), content)
        os.chown(path, 1000, 1000)
        os.chmod(path, 0o400)
        os.chmod(store.path, 0o755)
        for ranges, expected in (
                # Root has what somebody has, and not what nobody has.
                ((Range(0, 0, 1), Range(1000, 5000, 1)), "success"),
                ((Range(0, 0, 1),), "EIO")):
            with idmap.mapped(store.path, ranges) as basedir_path:
                test.equal(owner(f"{basedir_path}/" + str(
                    path.relative_to(store.top)))[0],
                    there_in(ranges, 1000), "owner of the object")
                for value in (basedir_path, os.open(basedir_path,
                                                    os.O_PATH)):
                    try:
                        with mounts.mounted("composefs", [
                                ("source", image().path),
                                ("basedir", value)]) as top:
                            test.equal(outcome(
                                Path(top, "of-root").read_bytes), expected,
                                f"{ranges} given as {type(value).__name__}")
                    finally:
                        if isinstance(value, int):
                            os.close(value)


def there_in(ranges: tuple[Range, ...], number: int) -> int:
    for one in ranges:
        if one.inside <= number < one.inside + one.count:
            return number - one.inside + one.outside
    return OVERFLOW


@suite.test("the image on an idmapped mount")
def image_mapped(test: ktap.Test) -> None:
    with objects.store() as work:
        copy = work.plain("image", Path(image().path).read_bytes())
        os.chmod(copy, 0o400)
        os.chown(copy, 1000, 1000)
        os.chmod(work.path, 0o755)
        os.chown(work.path, 1000, 1000)
        with idmap.mapped(work.path, (Range(1000, 0, 1),)) as top:
            with mounts.composefs(f"{top}/image", image().objects) as ours:
                test.equal(owner(f"{ours}/of-1000"), (1000, 1000), "owner")


@suite.test("an idmapped mount that is mapped again is refused")
def twice(test: ktap.Test) -> None:
    for kind in ("composefs", "erofs"):
        with mounted() if kind == "composefs" else reference.erofs(
                image()) as top, idmap.mapped(top, MAP) as other:
            def again(path: str = other) -> None:
                with idmap.mapped(path, MAP):
                    pass
            test.fails(errno.EPERM, kind, again)


def effective(top: str, name: str, uid: int) -> tuple[str, str, str]:
    """Effective uid, gid and capabilities of a program that a user runs."""
    def run() -> tuple[str, str, str]:
        said = subprocess.run([f"{top}/{name}", "/proc/self/status"],
                              capture_output=True, text=True,
                              check=True).stdout
        lines = {line.partition(":")[0]: line.split()[1:]
                 for line in said.splitlines()}
        return name, lines["Uid"][1], lines["Gid"][1] + lines["CapEff"][0]
    found = as_user(uid, run)
    return found[0], found[1], found[2]


def attributes(top: str) -> dict[str, str]:
    """What a mount's attributes decide."""
    found = {f"{name} runs as": " ".join(effective(top, name, 1234)[1:])
             for name in ("plain", "setuid", "setgid", "capable")} \
        if outcome(lambda: subprocess.run(
            [f"{top}/plain", "/dev/null"], check=True)) == "success" else {
                "plain": "EACCES"}
    found["null"] = outcome(lambda: os.close(os.open(f"{top}/null",
                                                     os.O_RDWR)))
    found["write"] = outcome(lambda: Path(top, "new").write_bytes(b""))
    return found


@suite.test("nosuid, nodev, noexec and bind count, as on the reference")
def honoured(test: ktap.Test) -> None:
    reference.require_support()
    choices = {"none": 0, "nosuid": idmap.MOUNT_ATTR_NOSUID,
               "nodev": idmap.MOUNT_ATTR_NODEV,
               "noexec": idmap.MOUNT_ATTR_NOEXEC,
               "ro": idmap.MOUNT_ATTR_RDONLY,
               "all": idmap.MOUNT_ATTR_NOSUID | idmap.MOUNT_ATTR_NODEV
               | idmap.MOUNT_ATTR_NOEXEC}
    found = {}
    with mounted() as ours, reference.mount(image()) as theirs:
        for what, bits in choices.items():
            with idmap.clone(ours, bits) as one, idmap.clone(theirs,
                                                             bits) as two:
                found[what] = attributes(one)
                test.equal(found[what], attributes(two), what)
        test.equal(attributes(ours), found["none"], "the first mount")
    none = found["none"]
    test.check(none["setuid runs as"].startswith("0 ") and
               none["setgid runs as"] != none["plain runs as"] and
               none["capable runs as"] != none["plain runs as"] and
               none["null"] == "success", f"without any: {none}")
    nosuid = found["nosuid"]
    for name in ("setuid", "setgid", "capable"):
        test.equal(nosuid[f"{name} runs as"], nosuid["plain runs as"],
                   f"nosuid: {name}")
    test.equal(found["nodev"]["null"], "EACCES", "nodev")
    test.equal(found["noexec"], {"plain": "EACCES", "null": "success",
                                 "write": "EROFS"}, "noexec")
    test.equal({one["write"] for one in found.values()}, {"EROFS"}, "writes")


@suite.test("a library of a noexec mount cannot be mapped to run")
def noexec_map(test: ktap.Test) -> None:
    with mounted() as top, idmap.clone(
            top, idmap.MOUNT_ATTR_NOEXEC) as other:
        for where, expected in ((top, None), (other, errno.EPERM)):
            for name in ("plain", "of-root-small"):
                with opened(f"{where}/{name}") as fd:
                    test.fails(expected, f"{where}/{name}", mmap.mmap, fd, 9,
                               mmap.MAP_PRIVATE,
                               mmap.PROT_READ | mmap.PROT_EXEC)


@suite.test("a bind mount of a file and of a directory below")
def below(test: ktap.Test) -> None:
    with mounted(special()) as top, mounts.directory() as place:
        mounts.mount(f"{top}/sizes", place, None, mounts.MS_BIND)
        try:
            test.equal(sorted(os.listdir(place)),
                       sorted(os.listdir(f"{top}/sizes")), "names")
            test.equal(Path(place, "4097").read_bytes(),
                       Path(top, "sizes/4097").read_bytes(), "content")
            test.equal(os.stat(place).st_dev, os.stat(top).st_dev, "device")
            test.check(stat.S_ISDIR(os.stat(f"{place}/..").st_mode), "..")
        finally:
            mounts.umount(place)
        with objects.store() as work:
            target = work.plain("target", b"")
            mounts.mount(f"{top}/sizes/4097", str(target), None,
                         mounts.MS_BIND)
            try:
                test.equal(target.read_bytes(),
                           Path(top, "sizes/4097").read_bytes(), "a file")
            finally:
                mounts.umount(str(target))


fixtures.require()
objects.require_verity()
suite.run()
