#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Mounts with other attributes: idmapped, nosuid, nodev, noexec, bind.

They are compared with erofs + overlayfs. overlayfs cannot be idmapped, but its
lower layer can. Then overlayfs shows mapped owners.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import fixtures, handles, idmap, ktap, mounts, objects, reference
from lib.files import opened
from lib.process import as_user
from lib.userns import Range

suite = ktap.Suite()

OVERFLOW = 65534
ACL = "system.posix_acl_access"
# An id of the file system, the id in the mount, and the count.
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


def mapped_id(number: int, ranges: tuple[Range, ...] = MAP) -> int:
    """The id in an idmapped mount of an id of the file system."""
    for one in ranges:
        if one.inside <= number < one.inside + one.count:
            return number - one.inside + one.outside
    return OVERFLOW


def owner(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_uid, found.st_gid


def read_as(uid: int, path: str) -> str:
    return str(as_user(uid, lambda: ktap.outcome(Path(path).read_bytes)))


@suite.test("owners are mapped, and an unmapped one is the overflow id")
def owners(test: ktap.Test) -> None:
    with mounted() as top, idmap.mapped(top, MAP) as other:
        for name in FILES:
            uid, gid = owner(f"{top}/{name}")
            test.equal(owner(f"{other}/{name}"),
                       (mapped_id(uid), mapped_id(gid)), name)
            with opened(f"{other}/{name}", os.O_PATH) as fd:
                test.equal(os.fstat(fd).st_uid, mapped_id(uid),
                           f"{name}, fstat")
            test.equal(os.stat(f"{other}/{name}").st_ino,
                       os.stat(f"{top}/{name}").st_ino, f"{name}, inode")
        test.equal(owner(f"{other}/of-nobody-known"), (OVERFLOW, OVERFLOW),
                   "an unmapped id")
        test.equal(owner(f"{top}/of-1000"), (1000, 1000),
                   "the original mount")


@suite.test("all owners of a large tree are those that erofs shows")
def as_erofs(test: ktap.Test) -> None:
    with mounted(special()) as ours, reference.erofs(special()) as theirs:
        with idmap.mapped(ours, MAP) as one, idmap.mapped(theirs,
                                                          MAP) as two:
            names = [f"owners/{name}" for name in os.listdir(
                f"{ours}/owners")] + ["types", "acls/one", "links/1", "."]
            for name in names:
                test.equal(owner(f"{one}/{name}"), owner(f"{two}/{name}"),
                           name)


@suite.test("a user with the mapped id of the owner has the owner's access")
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
                # CAP_DAC_OVERRIDE does not apply to a file with unmapped ids.
                ("of-nobody-known", 0, "EACCES"),
                ("plain", 12345, "success")):
            for kind in ("", "-small") if name.startswith("of-") else ("",):
                test.equal(read_as(uid, f"{other}/{name}{kind}"), expected,
                           f"{name}{kind} by {uid}")
            if name.startswith("of-"):
                test.equal(read_as(uid, f"{theirs}/{name}-small"), expected,
                           f"erofs: {name}-small by {uid}")
        test.equal(read_as(1000, f"{top}/of-1000"), "success",
                   "the original mount")


def entries(path: str) -> list[tuple[int, int, int]]:
    """Tag, permissions and id of each entry of an ACL."""
    data = os.getxattr(path, ACL)
    return list(struct.iter_unpack("<HHI", data[4:]))


@suite.test("ids in ACLs are mapped, as on erofs")
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
                   "a user whose entry grants nothing")


@suite.test("a setuid program runs with the mapped id")
def setuid(test: ktap.Test) -> None:
    with mounted() as top, idmap.mapped(top, MAP) as other:
        for name, expected in (("setuid", "10000"), ("setuid-1000", "11000")):
            test.equal(effective(other, name, 12345)[1], expected, name)


@suite.test("handles are the same on an idmapped mount")
def by_handle(test: ktap.Test) -> None:
    with mounted() as top, idmap.mapped(top, MAP) as other:
        handle = handles.of(f"{other}/of-1000")
        test.equal(handle, handles.of(f"{top}/of-1000"), "handles")
        with opened(other) as mount:
            with handles.opened(mount, handle, os.O_RDONLY) as fd:
                test.equal(os.fstat(fd).st_uid, 11000, "owner")


@suite.test("overlayfs on an idmapped mount, as on erofs")
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


@suite.test(
    "objects on an idmapped mount are read with the mounter's credentials"
)
def basedir(test: ktap.Test) -> None:
    content = Path(image().source or "", "of-root").read_bytes()
    with objects.store() as store:
        path = store.verified(objects.object_name(
            objects.digest_of(content)), content)
        os.chown(path, 1000, 1000)
        os.chmod(path, 0o400)
        os.chmod(store.path, 0o755)
        for ranges, expected in (
                # Root has CAP_DAC_OVERRIDE over mapped ids, not over unmapped
                # ones.
                ((Range(0, 0, 1), Range(1000, 5000, 1)), "success"),
                ((Range(0, 0, 1),), "EIO")):
            with idmap.mapped(store.path, ranges) as basedir_path:
                test.equal(owner(f"{basedir_path}/" + str(
                    path.relative_to(store.top)))[0],
                    mapped_id(1000, ranges), "owner of the object")
                for value in (basedir_path, os.open(basedir_path,
                                                    os.O_PATH)):
                    try:
                        with mounts.mounted("composefs", [
                                ("source", image().path),
                                ("basedir", value)]) as top:
                            test.equal(ktap.outcome(
                                Path(top, "of-root").read_bytes), expected,
                                f"{ranges} given as {type(value).__name__}")
                    finally:
                        if isinstance(value, int):
                            os.close(value)


@suite.test("an image on an idmapped mount")
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


@suite.test("mapping an idmapped mount again is EPERM")
def twice(test: ktap.Test) -> None:
    for kind in ("composefs", "erofs"):
        with mounted() if kind == "composefs" else reference.erofs(
                image()) as top, idmap.mapped(top, MAP) as other:
            def again(path: str = other) -> None:
                with idmap.mapped(path, MAP):
                    pass
            test.fails(errno.EPERM, kind, again)


def effective(top: str, name: str, uid: int) -> tuple[str, str, str]:
    """Effective uid, gid and capabilities of a program run by a user."""
    def run() -> tuple[str, str, str]:
        said = subprocess.run([f"{top}/{name}", "/proc/self/status"],
                              capture_output=True, text=True,
                              check=True).stdout
        lines = {line.partition(":")[0]: line.split()[1:]
                 for line in said.splitlines()}
        return name, lines["Uid"][1], lines["Gid"][1] + lines["CapEff"][0]
    found = as_user(uid, run)
    return found[0], found[1], found[2]


def outcomes(top: str) -> dict[str, str]:
    """The outcomes that depend on the attributes of a mount."""
    found = {f"{name} runs as": " ".join(effective(top, name, 1234)[1:])
             for name in ("plain", "setuid", "setgid", "capable")} \
        if ktap.outcome(lambda: subprocess.run(
            [f"{top}/plain", "/dev/null"], check=True)) == "success" else {
                "plain": "EACCES"}
    found["null"] = ktap.outcome(
        lambda: os.close(os.open(f"{top}/null", os.O_RDWR))
    )
    found["write"] = ktap.outcome(lambda: Path(top, "new").write_bytes(b""))
    return found


@suite.test(
    "nosuid, nodev, noexec and ro have the effect that they have on overlayfs"
)
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
                found[what] = outcomes(one)
                test.equal(found[what], outcomes(two), what)
        test.equal(outcomes(ours), found["none"], "the first mount")
    none = found["none"]
    test.check(none["setuid runs as"].startswith("0 ") and
               none["setgid runs as"] != none["plain runs as"] and
               none["capable runs as"] != none["plain runs as"] and
               none["null"] == "success", f"without attributes: {none}")
    nosuid = found["nosuid"]
    for name in ("setuid", "setgid", "capable"):
        test.equal(nosuid[f"{name} runs as"], nosuid["plain runs as"],
                   f"nosuid: {name}")
    test.equal(found["nodev"]["null"], "EACCES", "nodev")
    test.equal(found["noexec"], {"plain": "EACCES", "null": "success",
                                 "write": "EROFS"}, "noexec")
    test.equal({one["write"] for one in found.values()}, {"EROFS"}, "writes")


@suite.test("a file of a noexec mount cannot be mapped with PROT_EXEC")
def noexec_map(test: ktap.Test) -> None:
    with mounted() as top, idmap.clone(
            top, idmap.MOUNT_ATTR_NOEXEC) as other:
        for where, expected in ((top, None), (other, errno.EPERM)):
            for name in ("plain", "of-root-small"):
                with opened(f"{where}/{name}") as fd:
                    test.fails(expected, f"{where}/{name}", mmap.mmap, fd, 9,
                               mmap.MAP_PRIVATE,
                               mmap.PROT_READ | mmap.PROT_EXEC)


@suite.test("bind mounts of a file and of a directory")
def below(test: ktap.Test) -> None:
    with mounted(special()) as top:
        with mounts.directory() as target, \
                mounts.bound(f"{top}/sizes", target):
            test.equal(sorted(os.listdir(target)),
                       sorted(os.listdir(f"{top}/sizes")), "names")
            test.equal(Path(target, "4097").read_bytes(),
                       Path(top, "sizes/4097").read_bytes(), "content")
            test.equal(os.stat(target).st_dev, os.stat(top).st_dev, "device")
            test.check(stat.S_ISDIR(os.stat(f"{target}/..").st_mode), "..")
        with objects.store() as work:
            file = work.plain("target", b"")
            with mounts.bound(f"{top}/sizes/4097", file):
                test.equal(file.read_bytes(),
                           Path(top, "sizes/4097").read_bytes(), "a file")


fixtures.require()
objects.require_verity()
suite.run()
