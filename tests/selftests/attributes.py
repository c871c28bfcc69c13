#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Permissions, ACLs and xattrs, and who may read them.

They are compared with the tree that the image was made from, on its own file
system. statx.py has statfs(2) and statx(2).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any

from lib import fixtures, ktap, mounts, process, reference, special_image
from lib.mounts import libc
from lib.special_image import KINDS

suite = ktap.Suite()

XATTR_SIZE_MAX = 65536

# Uid, gid and supplementary groups: the ACLs of the tree name these.
USERS = ((1000, 1000, ()), (1001, 1001, ()), (1002, 70000, ()),
         (1002, 1002, (70000,)), (1003, 1003, ()), (1003, 0, ()),
         (65534, 65534, ()))


def rights(top: str) -> dict[tuple[str, str], str]:
    """The outcome of each way of reading each file, by the caller."""
    found = {}
    for directory in ("modes", "owners", "acls", "acls/directory"):
        try:
            names = sorted(os.listdir(f"{top}/{directory}"))
        except OSError as error:
            found[directory, "list"] = ktap.errno_name(error.errno)
            continue
        for name in names:
            path = f"{top}/{directory}/{name}"
            for what, call in ATTEMPTS.items():
                found[f"{directory}/{name}", what] = str(
                    ktap.result(call, path))
    return found


def open_close(path: str) -> str:
    os.close(os.open(path, os.O_RDONLY))
    return "success"


ATTEMPTS: dict[str, Callable[[str], Any]] = {
    "read": open_close,
    "access for reading": lambda path: os.access(path, os.R_OK),
    "access for executing": lambda path: os.access(path, os.X_OK),
    "access for both": lambda path: os.access(path, os.R_OK | os.X_OK),
    "effective access": lambda path: os.access(path, os.R_OK,
                                               effective_ids=True),
    "list": lambda path: sorted(os.listdir(path)) or "empty",
    "look up": lambda path: os.lstat(f"{path}/absent"),
    "O_NOATIME": lambda path: os.close(os.open(
        path, os.O_RDONLY | os.O_NOATIME)),
    "the ACL": lambda path: os.getxattr(path, "system.posix_acl_access"),
    "xattrs": lambda path: sorted(os.listxattr(path)),
}


def check_access(test: ktap.Test, name: str) -> None:
    image = fixtures.named(name)
    test.need(image.source, "no tree to compare with")
    with mounts.composefs(image.path, image.objects) as top:
        denied = 0
        for uid, gid, groups in USERS:
            ours = process.as_user(uid, lambda: rights(top), gid, groups)
            theirs = process.as_user(uid, lambda: rights(image.source or ""),
                                     gid, groups)
            for key, expected in theirs.items():
                test.equal(ours.get(key), expected,
                           f"{uid}, {gid}, {groups}: {key}")
                denied += expected == "EACCES"
        test.check(denied > 100, f"only {denied} accesses were denied")


for a_name in ("special-v0", "special-v1", "special-v2"):
    suite.add(f"{a_name}: users have the access that they have in its tree",
              lambda test, name=a_name: check_access(test, name))


def visible(top: str) -> dict[str, dict[str, bytes]]:
    """All xattrs that the caller can see."""
    found = {}
    for name in sorted(os.listdir(f"{top}/xattrs")):
        path = f"{top}/xattrs/{name}"
        found[name] = {attribute: os.getxattr(path, attribute,
                                              follow_symlinks=False)
                       for attribute in os.listxattr(
                           path, follow_symlinks=False)}
    return found


@suite.test("trusted.* is for root alone, in lists and by name")
def trusted(test: ktap.Test) -> None:
    source = special_image.image().source or ""
    with special_image.mounted() as top:
        ours, theirs = visible(top), visible(source)
        test.check(any("trusted.a" in names for names in ours.values()),
                   "root sees no trusted.*")
        for name, expected in theirs.items():
            test.equal(ours[name], expected, f"root, {name}")
        mine = process.as_user(1000, lambda: visible(top))
        test.check(not any(attribute.startswith("trusted.")
                           for names in mine.values() for attribute in names),
                   "a user sees trusted.*")
        for name, expected in process.as_user(
                1000, lambda: visible(source)).items():
            test.equal(mine[name], expected, f"a user, {name}")
        for where in (top, source):
            for attribute in ("trusted.a", "trusted.absent",
                              "trusted.overlay.metacopy"):
                test.fails(61, f"a user, {attribute}", process.as_user, 1000,
                           lambda where=where, attribute=attribute:
                           os.getxattr(f"{where}/xattrs/all-file", attribute))


def raw_get(path: str, name: str, size: int) -> int | str:
    room = ctypes.create_string_buffer(max(size, 1))
    found = libc.lgetxattr(os.fsencode(path), os.fsencode(name), room,
                           ctypes.c_size_t(size))
    return found if found >= 0 else ktap.errno_name(ctypes.get_errno())


def raw_list(path: str, size: int) -> int | str:
    room = ctypes.create_string_buffer(max(size, 1))
    found = libc.llistxattr(os.fsencode(path), room, ctypes.c_size_t(size))
    return found if found >= 0 else ktap.errno_name(ctypes.get_errno())


@suite.test("xattrs with buffers of all sizes: errors and lengths")
def buffers(test: ktap.Test) -> None:
    # The length of a list is compared with the tree: that of overlayfs is too
    # large.
    with special_image.mounted() as top:
        for name in ("all-file", "long", "many", "symlink", "fifo",
                     "shared-0", "capability"):
            ours, theirs = (f"{where}/xattrs/{name}"
                            for where in (top, special_image.image().source))
            attributes = os.listxattr(ours, follow_symlinks=False)
            for attribute in attributes[:12]:
                length = raw_get(ours, attribute, 0)
                assert isinstance(length, int), (name, attribute, length)
                for size in {0, 1, length - 1, length, length + 1,
                             XATTR_SIZE_MAX, XATTR_SIZE_MAX + 1, 1 << 20}:
                    if size >= 0:
                        test.equal(raw_get(ours, attribute, size),
                                   raw_get(theirs, attribute, size),
                                   f"{name}, {attribute} by {size}")
            length = raw_list(ours, 0)
            assert isinstance(length, int)
            for size in (0, 1, length - 1, length, length + 1, 65536, 65537):
                test.equal(raw_list(ours, size), raw_list(theirs, size),
                           f"{name}: list by {size}")
                if length > 1 and size in (1, length - 1):
                    test.equal(raw_list(ours, size), "ERANGE",
                               f"{name}: list by {size}")


@suite.test("xattr names that are malformed or absent, on files of all types")
def bad_names(test: ktap.Test) -> None:
    with special_image.mounted() as top, \
            reference.mount(special_image.image()) as their_top:
        for path in KINDS.values():
            for name in ("", "user", "user.", "trusted.", "security.",
                         "system.", "system.nonsense", "nonsense",
                         "nonsense.a", "user.absent", "trusted.absent",
                         "security.absent", "security.capability",
                         "system.posix_acl_access",
                         "system.posix_acl_default", "lustre.a",
                         "trusted.overlay.metacopy",
                         "trusted.overlay.redirect", "trusted.overlay.opaque",
                         "user.overlay.metacopy",
                         "user." + "n" * 250, "user." + "n" * 251,
                         "user." + "n" * 300):
                test.equal(raw_get(f"{top}/{path}", name, 1000),
                           raw_get(f"{their_top}/{path}", name, 1000),
                           f"{path}: {name!r}")


@suite.test("atime does not change on any access")
def atime(test: ktap.Test) -> None:
    with special_image.mounted() as top:
        for path in ("sizes/4097", "sizes/64", "types", "types/symlink"):
            full = f"{top}/{path}"
            before = os.lstat(full)
            if os.path.islink(full):
                os.readlink(full)
            elif os.path.isdir(full):
                os.listdir(full)
            else:
                with open(full, "rb") as file:
                    file.read()
            after = os.lstat(full)
            test.equal(after.st_atime_ns, before.st_atime_ns, path)
            test.equal(after.st_atime_ns, after.st_mtime_ns,
                       f"{path}: atime is mtime")


reference.require_support()
fixtures.require()
mounts.require_root()
suite.run()
