#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Write operations of all kinds, and the error of each.

Each is tried on files of all types, by root and by a user. The errors have to
be those of erofs, and of erofs + overlayfs.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Callable

from lib import fixtures, ktap, objects, process, reference, special_image
from lib.mounts import libc
from lib.special_image import KINDS
from lib.verity import FS_IOC_ENABLE_VERITY

suite = ktap.Suite()

FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR = 0x40086602, 0x401c5820
FICLONE, FIDEDUPERANGE = 0x40049409, 0xc0189436
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
AT_FDCWD = -100
USER = 1000

# Takes the path of a file, of an absent one, and of another file.
Operation = Callable[[str, str, str], object]


def opening(flags: int) -> Operation:
    def run(path: str, _absent: str, _other: str) -> None:
        os.close(os.open(path, flags | os.O_NONBLOCK, 0o600))
    return run


def creating(flags: int) -> Operation:
    def run(_path: str, absent: str, _other: str) -> None:
        os.close(os.open(absent, flags | os.O_NONBLOCK, 0o600))
    return run


def on_descriptor(call: Callable[[int], object]) -> Operation:
    def run(path: str, _absent: str, _other: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            call(fd)
        finally:
            os.close(fd)
    return run


def renameat2(old: str, new: str, flags: int) -> None:
    if libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new),
                      flags):
        raise OSError(ctypes.get_errno(), "renameat2")


def fallocate(fd: int) -> None:
    if libc.fallocate(fd, 0, ctypes.c_long(0), ctypes.c_long(10)):
        raise OSError(ctypes.get_errno(), "fallocate")


OPENS = {
    "O_RDONLY": os.O_RDONLY, "O_WRONLY": os.O_WRONLY, "O_RDWR": os.O_RDWR,
    "O_RDONLY|O_TRUNC": os.O_RDONLY | os.O_TRUNC,
    "O_WRONLY|O_TRUNC": os.O_WRONLY | os.O_TRUNC,
    "O_WRONLY|O_APPEND": os.O_WRONLY | os.O_APPEND,
    "O_RDONLY|O_CREAT": os.O_RDONLY | os.O_CREAT,
    "O_WRONLY|O_CREAT": os.O_WRONLY | os.O_CREAT,
    "O_WRONLY|O_CREAT|O_TRUNC": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "O_RDONLY|O_CREAT|O_EXCL": os.O_RDONLY | os.O_CREAT | os.O_EXCL,
    "O_WRONLY|O_CREAT|O_EXCL": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
    "O_RDWR|O_TMPFILE": os.O_RDWR | os.O_TMPFILE,
    "O_RDONLY|O_DIRECTORY": os.O_RDONLY | os.O_DIRECTORY,
    "O_RDONLY|O_NOFOLLOW": os.O_RDONLY | os.O_NOFOLLOW,
    "O_RDONLY|O_NOATIME": os.O_RDONLY | os.O_NOATIME,
    "O_PATH": os.O_PATH,
}

XATTRS = ("user.new", "trusted.new", "security.new", "nonsense.new",
          "system.posix_acl_access", "system.posix_acl_default",
          "trusted.overlay.new")

OPERATIONS: dict[str, Operation] = {
    **{f"open {name}": opening(flags) for name, flags in OPENS.items()},
    **{f"open {name}, absent": creating(flags)
       for name, flags in OPENS.items()},
    "truncate": lambda path, absent, other: os.truncate(path, 0),
    "truncate to its size": lambda path, absent, other: os.truncate(
        path, os.stat(path).st_size),
    "truncate to -1": lambda path, absent, other: os.truncate(path, -1),
    "truncate, absent": lambda path, absent, other: os.truncate(absent, 0),
    "chmod": lambda path, absent, other: os.chmod(path, 0o600),
    "chmod, absent": lambda path, absent, other: os.chmod(absent, 0o600),
    "lchown": lambda path, absent, other: os.lchown(path, 1, 1),
    "lchown to -1": lambda path, absent, other: os.lchown(path, -1, -1),
    "utime to now": lambda path, absent, other: os.utime(
        path, follow_symlinks=False),
    "utime": lambda path, absent, other: os.utime(
        path, ns=(1, 1), follow_symlinks=False),
    **{f"setxattr {name} {flags}": lambda path, absent, other, name=name,
       flags=flags: os.setxattr(path, name, b"value", flags,
                                follow_symlinks=False)
       for name in XATTRS
       for flags in (0, os.XATTR_CREATE, os.XATTR_REPLACE)},
    **{f"removexattr {name}": lambda path, absent, other, name=name:
       os.removexattr(path, name, follow_symlinks=False) for name in XATTRS},
    "setxattr, absent": lambda path, absent, other: os.setxattr(
        absent, "user.new", b""),
    "link": lambda path, absent, other: os.link(
        path, absent, follow_symlinks=False),
    "link to another": lambda path, absent, other: os.link(
        path, other, follow_symlinks=False),
    "link of absent": lambda path, absent, other: os.link(absent, path),
    "link from elsewhere": lambda path, absent, other: os.link(
        "/etc/passwd", absent),
    "symlink": lambda path, absent, other: os.symlink("x", absent),
    "symlink over it": lambda path, absent, other: os.symlink("x", path),
    "unlink": lambda path, absent, other: os.unlink(path),
    "unlink, absent": lambda path, absent, other: os.unlink(absent),
    "unlink with a slash": lambda path, absent, other: os.unlink(path + "/"),
    "rmdir": lambda path, absent, other: os.rmdir(path),
    "rmdir, absent": lambda path, absent, other: os.rmdir(absent),
    "rmdir of its dot": lambda path, absent, other: os.rmdir(path + "/."),
    "rmdir of its dots": lambda path, absent, other: os.rmdir(path + "/.."),
    "mkdir": lambda path, absent, other: os.mkdir(path),
    "mkdir, absent": lambda path, absent, other: os.mkdir(absent),
    "mkdir, absent with a slash": lambda path, absent, other: os.mkdir(
        absent + "/"),
    "mkdir of its dot": lambda path, absent, other: os.mkdir(path + "/."),
    "mkdir below it": lambda path, absent, other: os.mkdir(path + "/new"),
    "mkdir below absent": lambda path, absent, other: os.mkdir(
        absent + "/new"),
    "mkdir of a long name": lambda path, absent, other: os.mkdir(
        absent + "n" * 256),
    **{f"mknod {name}{where}": lambda path, absent, other, kind=kind,
       where=where: os.mknod(absent if where else path, kind | 0o600,
                             os.makedev(1, 3))
       for name, kind in (("file", stat.S_IFREG), ("fifo", stat.S_IFIFO),
                          ("device", stat.S_IFCHR), ("socket", stat.S_IFSOCK))
       for where in ("", ", absent")},
    "rename": lambda path, absent, other: os.rename(path, absent),
    "rename over another": lambda path, absent, other: os.rename(path, other),
    "rename to itself": lambda path, absent, other: os.rename(path, path),
    "rename of absent": lambda path, absent, other: os.rename(absent, path),
    "rename below itself": lambda path, absent, other: os.rename(
        path, path + "/below"),
    "rename to elsewhere": lambda path, absent, other: os.rename(
        path, "/tmp/elsewhere"),
    "rename to dots": lambda path, absent, other: os.rename(
        path, path + "/.."),
    **{f"renameat2 {flags} {where}": lambda path, absent, other, flags=flags,
       where=where: renameat2(path, absent if where == "absent" else other,
                              flags)
       for flags in (RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT, 8)
       for where in ("absent", "other")},
    "ftruncate": on_descriptor(lambda fd: os.ftruncate(fd, 0)),
    "fchmod": on_descriptor(lambda fd: os.fchmod(fd, 0o600)),
    "fchown": on_descriptor(lambda fd: os.fchown(fd, 1, 1)),
    "futimens": on_descriptor(lambda fd: os.utime(fd)),
    "fsetxattr": on_descriptor(lambda fd: os.setxattr(fd, "user.new", b"")),
    "write": on_descriptor(lambda fd: os.write(fd, b"x")),
    "fallocate": on_descriptor(fallocate),
    "FS_IOC_SETFLAGS": on_descriptor(lambda fd: fcntl.ioctl(
        fd, FS_IOC_SETFLAGS, b"\0" * 8)),
    "FS_IOC_FSSETXATTR": on_descriptor(lambda fd: fcntl.ioctl(
        fd, FS_IOC_FSSETXATTR, b"\0" * 28)),
    "FS_IOC_ENABLE_VERITY": on_descriptor(lambda fd: fcntl.ioctl(
        fd, FS_IOC_ENABLE_VERITY, b"\0" * 128)),
    "FICLONE to itself": on_descriptor(lambda fd: fcntl.ioctl(
        fd, FICLONE, fd)),
    "FIDEDUPERANGE": on_descriptor(lambda fd: fcntl.ioctl(
        fd, FIDEDUPERANGE, b"\0" * 24)),
    "access for writing": lambda path, absent, other: os.access(
        path, os.W_OK) or access_error(path),
    "access for executing": lambda path, absent, other: os.access(
        path, os.X_OK) or access_error(path, os.X_OK),
}


def access_error(path: str, mode: int = os.W_OK) -> None:
    if libc.access(os.fsencode(path), mode):
        raise OSError(ctypes.get_errno(), "access")


def outcomes(top: str) -> dict[tuple[str, str], str]:
    """The outcome of each operation on each type of file."""
    found = {}
    for kind, path in KINDS.items():
        # In the same directory.
        absent = f"{top}/{os.path.dirname(path)}/absent"
        other = f"{top}/{os.path.dirname(path)}/regular"
        for what, operation in OPERATIONS.items():
            found[kind, what] = ktap.outcome(operation, f"{top}/{path}",
                                             absent, other)
    return found


def compare(test: ktap.Test, user: int | None, overlay: bool) -> None:
    image = special_image.image()
    view = reference.mount if overlay else reference.erofs
    with special_image.mounted() as top, view(image) as their_top:
        if user is None:
            ours, theirs = outcomes(top), outcomes(their_top)
        else:
            ours = process.as_user(user, lambda: outcomes(top))
            theirs = process.as_user(user, lambda: outcomes(their_top))
        differences = 0
        for key, expected in theirs.items():
            kind, what = key
            if overlay and what in NOT_ON_OVERLAYFS:
                continue
            if not test.equal(ours[key], expected, f"{kind}: {what}"):
                differences += 1
        test.note(f"{len(theirs)} outcomes, {differences} differ; "
                  f"{sum(1 for value in ours.values() if value == 'EROFS')} "
                  "are EROFS")
        test.check("EROFS" in ours.values(), "no outcome is EROFS")
        for what in ("open O_WRONLY", "truncate", "chmod", "unlink"):
            if user is None:
                test.equal(ours["regular", what], "EROFS", what)


# overlayfs accepts FIDEDUPERANGE without ranges, as its upper layer may
# support it. erofs and composefs do not.
NOT_ON_OVERLAYFS = frozenset({"FIDEDUPERANGE"})

for a_user in (None, USER):
    for is_overlay in (False, True):
        suite.add(f"errors for {'root' if a_user is None else 'a user'} as "
                  f"on {'erofs + overlayfs' if is_overlay else 'erofs'}",
                  lambda test, user=a_user, overlay=is_overlay: compare(
                      test, user, overlay))


@suite.test("creating an existing name is EEXIST, not EROFS")
def exists(test: ktap.Test) -> None:
    with special_image.mounted() as top:
        path = f"{top}/types/regular"
        test.fails(errno.EEXIST, "mkdir", os.mkdir, path)
        test.fails(errno.EEXIST, "mknod", os.mknod, path)
        test.fails(errno.EEXIST, "symlink", os.symlink, "x", path)
        test.fails(errno.EEXIST, "link", os.link, path, f"{top}/aa")
        test.fails(errno.EEXIST, "open with O_EXCL", os.open, path,
                   os.O_CREAT | os.O_EXCL)
        test.fails(None, "open with O_CREAT", opening(os.O_CREAT), path, "",
                   "")


reference.require_support()
fixtures.require()
objects.require_verity()
suite.run()
