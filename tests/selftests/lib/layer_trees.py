# SPDX-License-Identifier: GPL-2.0

"""The trees of layers, each built on the one before, with all that a layer can
do to those below."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from . import special_tree
from .layers import ALL_GONE, GONE
from .special_tree import content, write

# Files of the first layer that have objects. Each has another size.
FILES = (
    "opaque/old", "opaque/below/old", "opaque/again/old", "opaque/same",
    "gone/file", "gone/stays", "gone/comes-back", "gone/directory/file",
    "gone/directory/deep/file", "gone/only/file", "kinds/was-file",
    "kinds/was-directory/file", "kinds/was-link-target", "kinds/changed",
    "kinds/attributes", "across/file", "usr/shared", "usr/next")

CAPABILITY = b"\1\0\0\2\0\4\0\0" + bytes(12)


def first_content(name: str) -> bytes:
    """The content of a file in the first layer."""
    return content(20000 + FILES.index(name), 1)


def leave_out(top: Path) -> None:
    """Removes what one of the tools cannot have: cfsctl no time before 1970,
    umoci none after 2262 and no empty attribute, mkcomposefs not as many
    attributes or as long ones."""
    for name in ("times/before-1970", "times/before-1970-nanoseconds",
                 "times/2400", "xattrs/many", "xattrs/long"):
        (top / name).unlink()
    for name in ("all-file", "all-directory"):
        for prefix in ("user", "trusted", "security"):
            os.removexattr(top / "xattrs" / name, f"{prefix}.empty")


def base(top: Path) -> None:
    """The first layer."""
    for part in (special_tree.types, special_tree.modes, special_tree.owners,
                 special_tree.names, special_tree.links,
                 special_tree.hardlinks, special_tree.times,
                 special_tree.xattrs, special_tree.deep):
        (top / part.__name__).mkdir()
        part(str(top / part.__name__))
    leave_out(top)
    for name in ("usr", "opaque/below", "opaque/again", "gone/directory/deep",
                 "gone/only", "gone/opaque-and-gone", "kinds/was-directory",
                 "sparse", "across"):
        (top / name).mkdir(parents=True)
    for name in FILES:
        write(str(top / name), first_content(name))
    (top / "kinds/was-link").symlink_to("was-link-target")
    (top / "gone/link").symlink_to("file")
    os.mknod(top / "gone/device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.link(top / "gone/stays", top / "gone/linked")
    os.link(top / "across/file", top / "across/in-the-same-layer")
    with open(top / "sparse/holes", "wb") as file:
        file.truncate(1 << 20)
        file.seek(700005)
        file.write(b"data in a hole")
    with open(top / "sparse/only-a-hole", "wb") as file:
        file.truncate(300000)


def changes(top: Path) -> None:
    """The second layer changes files, and what kind of file they are."""
    for name in ("kinds", "across", "xattrs"):
        (top / name).mkdir()
    write(str(top / "kinds/changed"), content(30000, 2))
    write(str(top / "kinds/was-link"), content(30001, 2))
    write(str(top / "kinds/was-directory"), content(30002, 2))
    (top / "kinds/was-file").mkdir()
    write(str(top / "kinds/was-file/new"), content(30003, 2))
    # The same content as below: its object belongs to the first layer.
    write(str(top / "kinds/attributes"), first_content("kinds/attributes"))
    os.chmod(top / "kinds/attributes", 0o4750)
    os.chown(top / "kinds/attributes", 12, 345)
    write(str(top / "xattrs/capability"), content(30004, 2))
    os.setxattr(top / "xattrs/capability", "security.capability",
                CAPABILITY)
    os.setxattr(top / "xattrs/capability", "user.new", b"\xff binary \0")
    # A link to a file of the layer below, which is not in this one.
    write(str(top / "across/file"))
    os.link(top / "across/file", top / "across/in-the-next-layer")


def deletes(top: Path) -> None:
    """A layer that has nothing but deletions."""
    (top / "gone/only").mkdir(parents=True)
    for name in ("file", "directory", "link", "device", "linked", "comes-back",
                 "only/file", "opaque-and-gone"):
        path = top / "gone" / name
        write(str(path.with_name(GONE + path.name)))


def replaces(top: Path) -> None:
    """A layer that replaces directories."""
    for name in ("opaque", "opaque/again", "opaque/new"):
        (top / name).mkdir()
    for name in ("opaque", "opaque/again", "opaque/new"):
        write(str(top / name / ALL_GONE))
    write(str(top / "opaque/same"), content(40000, 3))
    write(str(top / "opaque/again/new"), content(40001, 3))
    (top / "gone").mkdir()
    write(str(top / "gone/comes-back"), content(40002, 3))


def replaces_next(top: Path) -> None:
    """The last layer of a later version of the image."""
    (top / "opaque").mkdir()
    write(str(top / "opaque" / ALL_GONE))
    write(str(top / "opaque/next"), content(50000, 4))


def empty(top: Path) -> None:
    """An archive without a file."""
    del top


LAYERS: tuple[Callable[[Path], None], ...] = (
    base, changes, empty, deletes, replaces)
