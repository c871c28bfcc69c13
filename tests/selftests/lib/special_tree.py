# SPDX-License-Identifier: GPL-2.0

"""A tree with all that a file system can hold, common or not.

It is the source of the `special-*` images. Each function makes one directory
of it, so the path of a difference says which function to look at.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Callable

ACL_USER_OBJ, ACL_USER, ACL_GROUP_OBJ, ACL_GROUP, ACL_MASK, ACL_OTHER = (
    0x01, 0x02, 0x04, 0x08, 0x10, 0x20)
NO_ID = 0xffffffff

# Sizes around those at which mkcomposefs and the page cache change what they
# do. mkcomposefs stores files of up to 64 bytes in the image.
SIZES = (0, 1, 63, 64, 65, 511, 512, 513, 4095, 4096, 4097, 8192, 131072,
         1048576)
LINK_SIZES = (1, 59, 60, 63, 64, 65, 1023, 1024, 4000, 4094, 4095)
BIG_DIRECTORY = 10_000


def content(size: int, seed: int) -> bytes:
    """Bytes that differ from those of any other size or seed."""
    pattern = struct.pack("<QQ", size, seed)
    return (pattern * (size // len(pattern) + 1))[:size]


def write(path: str | bytes, data: bytes = b"") -> None:
    with open(path, "wb") as file:
        file.write(data)


def acl(entries: list[tuple[int, int, int]]) -> bytes:
    """An access control list as the xattr holds it."""
    packed = b"".join(struct.pack("<HHI", *entry) for entry in entries)
    return struct.pack("<I", 2) + packed


def types(top: str) -> None:
    write(f"{top}/regular", b"regular\n")
    os.mkdir(f"{top}/directory")
    os.symlink("regular", f"{top}/symlink")
    os.mkfifo(f"{top}/fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        # A socket's address has no room for a long path.
        os.chdir(top)
        listener.bind("socket")
        os.chdir("/")
    for major, minor in ((1, 3), (0, 1), (255, 255), (256, 256), (0, 256),
                         (4095, 1048575)):
        device = os.makedev(major, minor)
        os.mknod(f"{top}/char-{major}-{minor}", stat.S_IFCHR | 0o640, device)
        os.mknod(f"{top}/block-{major}-{minor}", stat.S_IFBLK | 0o604, device)
    os.mknod(f"{top}/block-0-0", stat.S_IFBLK | 0o600, 0)


def modes(top: str) -> None:
    for mode in (0o0, 0o1, 0o777, 0o1777, 0o2755, 0o4755, 0o6755, 0o7777):
        write(f"{top}/file-{mode:o}", b"mode")
        os.chmod(f"{top}/file-{mode:o}", mode)
        os.mkdir(f"{top}/directory-{mode:o}")
        os.chmod(f"{top}/directory-{mode:o}", mode)


def owners(top: str) -> None:
    for uid, gid in ((1, 2), (65534, 65535), (65535, 65536), (65536, 0),
                     (1000000, 2000000), (4294967294, 4294967294)):
        path = f"{top}/{uid}-{gid}"
        write(path, b"owner")
        os.chown(path, uid, gid)


def names(top: str) -> None:
    base = os.fsencode(top)
    odd = [b" ", b"  two spaces ", b"new\nline", b"\n", b"tab\t", b"\x01",
           b"\x7f", b"\xff\xfe", b"latin-\xe9", "utf-8-\u00e9\u65e5".encode(),
           b"...", b"....", b"..a", b".hidden", b"-", b"--", b"!before-dot",
           b"back\\slash", b'"quoted"', b"'", b"a=b", b"#", b"*?[", b"$HOME",
           b"n" * 255, b"n" * 254, "\u65e5".encode() * 85,
           # Each name is a prefix of the next one, for the search in a block.
           b"pre", b"prefix", b"prefix-more",
           # The names of the root's whiteout stubs are ordinary names here.
           b"00", b"7f", b"ff"]
    for number, name in enumerate(odd):
        write(base + b"/" + name, b"%d" % number)


def sizes(top: str) -> None:
    for size in SIZES:
        write(f"{top}/{size}", content(size, 1))
    with open(f"{top}/sparse", "wb") as file:
        file.truncate(16 << 20)
        file.seek((12 << 20) + 5)
        file.write(b"data in a hole")
    # The same content twice is one object.
    write(f"{top}/same-as-4097", content(4097, 1))


def links(top: str) -> None:
    for size in LINK_SIZES:
        os.symlink("/".join(["t" * 49] * 82)[:size], f"{top}/{size}")
    os.symlink(b"\xff\xfe\n not utf-8", os.fsencode(f"{top}/bytes"))
    os.symlink("dangling/target", f"{top}/dangling")
    os.symlink("loop", f"{top}/loop")
    os.symlink("../types", f"{top}/to-directory")


def hardlinks(top: str) -> None:
    os.mkdir(f"{top}/a")
    os.mkdir(f"{top}/b")
    write(f"{top}/a/file", content(5000, 2))
    write(f"{top}/a/small", b"small")
    os.symlink("file", f"{top}/a/symlink")
    os.mkfifo(f"{top}/a/fifo")
    os.mknod(f"{top}/a/device", stat.S_IFCHR | 0o600, os.makedev(5, 6))
    for name in ("file", "small", "symlink", "fifo", "device"):
        for other in (f"a/{name}-2", f"b/{name}", f"{name}"):
            os.link(f"{top}/a/{name}", f"{top}/{other}",
                    follow_symlinks=False)


def times(top: str) -> None:
    for name, nanoseconds in {
        "epoch": 0,
        "nanoseconds": 1_600_000_000_123_456_789,
        "last-nanosecond": 1_600_000_000_999_999_999,
        "one-nanosecond": 1,
        "before-1970": -86_400_000_000_000 * 365,
        "before-1970-nanoseconds": -1,
        "2038": (1 << 31) * 10**9,
        "2106": (1 << 32) * 10**9 + 7,
        "2400": 13_569_465_600 * 10**9,
    }.items():
        write(f"{top}/{name}", b"time")
        os.utime(f"{top}/{name}", ns=(nanoseconds, nanoseconds))


def xattrs(top: str) -> None:
    shared = {"user.shared": b"the same value on many files",
              "trusted.shared": b"s" * 100,
              "security.shared": b"\0binary\xff"}
    for number in range(20):
        path = f"{top}/shared-{number}"
        write(path, b"x")
        for name, value in shared.items():
            os.setxattr(path, name, value)
        os.setxattr(path, "user.own", b"%d" % number)
    for kind in ("file", "directory"):
        path = f"{top}/all-{kind}"
        if kind == "file":
            write(path, content(300, 3))
        else:
            os.mkdir(path)
        for prefix in ("user", "trusted", "security"):
            os.setxattr(path, f"{prefix}.empty", b"")
            os.setxattr(path, f"{prefix}.a", b"1")
            os.setxattr(path, f"{prefix}.ab", b"12")
            os.setxattr(path, f"{prefix}.{'n' * 240}", b"long name")
            os.setxattr(path, f"{prefix}.dots.in.a.name", b"dots")
    write(f"{top}/many", content(300, 4))
    for number in range(100):
        os.setxattr(f"{top}/many", f"user.{number}", b"v%d" % number)
    write(f"{top}/long", content(300, 5))
    for size in (255, 4000, 4096, 20000):
        os.setxattr(f"{top}/long", f"user.long-{size}", content(size, 6))
    for target, path in (("symlink", "symlink"), (None, "fifo")):
        if target:
            os.symlink(target, f"{top}/{path}")
        else:
            os.mkfifo(f"{top}/{path}")
        os.setxattr(f"{top}/{path}", "trusted.on-special", b"t",
                    follow_symlinks=False)
    # As setcap(8) writes it: cap_net_raw, permitted and effective.
    write(f"{top}/capability", b"c")
    os.setxattr(f"{top}/capability", "security.capability",
                struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0))


def acls(top: str) -> None:
    access = [(ACL_USER_OBJ, 6, NO_ID), (ACL_USER, 4, 1000),
              (ACL_USER, 0, 1001), (ACL_GROUP_OBJ, 4, NO_ID),
              (ACL_GROUP, 2, 70000), (ACL_MASK, 6, NO_ID),
              (ACL_OTHER, 0, NO_ID)]
    packed = acl([(tag, perm, entry) for tag, perm, entry in access])
    for name in ("one", "two"):
        write(f"{top}/{name}", content(100, 7))
        os.chmod(f"{top}/{name}", 0o640)
        os.setxattr(f"{top}/{name}", "system.posix_acl_access", packed)
    os.mkdir(f"{top}/directory")
    os.setxattr(f"{top}/directory", "system.posix_acl_access", packed)
    os.setxattr(f"{top}/directory", "system.posix_acl_default",
                acl([(ACL_USER_OBJ, 7, NO_ID), (ACL_USER, 5, 1000),
                     (ACL_GROUP_OBJ, 5, NO_ID), (ACL_MASK, 5, NO_ID),
                     (ACL_OTHER, 1, NO_ID)]))
    # Inherits the default list of its directory.
    write(f"{top}/directory/inherits", content(100, 8))


def overlay(top: str) -> None:
    """Names that belong to overlayfs, as in the layer of a container."""
    write(f"{top}/file", content(100, 9))
    os.mkdir(f"{top}/opaque")
    os.setxattr(f"{top}/opaque", "trusted.overlay.opaque", b"y")
    os.setxattr(f"{top}/opaque", "user.overlay.opaque", b"y")
    for name, value in {"metacopy": b"", "redirect": b"/elsewhere",
                        "origin": b"\0" * 29, "nlink": b"U+1",
                        "other": b"not known", "overlay.other": b"twice",
                        "overlay.overlay.other": b"thrice",
                        "overlay.metacopy": b"nested"}.items():
        os.setxattr(f"{top}/file", f"trusted.overlay.{name}", value)
    for name in ("trusted.overlay", "trusted.overlayed", "trusted.overlay-x",
                 "user.overlay.metacopy", "user.overlay.other"):
        os.setxattr(f"{top}/file", name, b"plain")


def whiteouts(top: str) -> None:
    os.mkdir(f"{top}/only")
    for path in ("gone", "only/gone"):
        os.mknod(f"{top}/{path}", stat.S_IFCHR, 0)
    write(f"{top}/stays", b"stays")


def deep(top: str) -> None:
    path = top
    for level in range(60):
        path = f"{path}/level-{level}"
        os.mkdir(path)
    write(f"{path}/bottom", content(200, 10))


def directories(top: str) -> None:
    os.mkdir(f"{top}/empty")
    os.mkdir(f"{top}/one")
    write(f"{top}/one/file", b"")
    # Blocks of directory entries that are just full, and one more.
    for count in (40, 100, 340, 341):
        os.mkdir(f"{top}/{count}")
        for number in range(count):
            os.mknod(f"{top}/{count}/{number:03}")
    os.mkdir(f"{top}/big")
    for number in range(BIG_DIRECTORY):
        os.mknod(f"{top}/big/entry-{number:05}")


PARTS: tuple[Callable[[str], None], ...] = (
    types, modes, owners, names, sizes, links, hardlinks, times, xattrs, acls,
    overlay, whiteouts, deep, directories)


def make(top: str) -> None:
    """Makes the tree at `top`, which must not be there."""
    os.umask(0o022)
    os.mkdir(top)
    for part in PARTS:
        os.mkdir(f"{top}/{part.__name__}")
        part(f"{top}/{part.__name__}")
    # Files with the names of stubs in the root, and a whiteout beside them.
    write(f"{top}/aa", content(100, 11))
    os.mkdir(f"{top}/bb")
    os.symlink("aa", f"{top}/cc")
    os.mknod(f"{top}/gone", stat.S_IFCHR, 0)
    os.setxattr(top, "user.on-root", b"root")
    # Each directory gets a time of its own.
    for number, part in enumerate(PARTS):
        when = (1_700_000_000 + number) * 10**9 + number
        os.utime(f"{top}/{part.__name__}", ns=(when, when))
