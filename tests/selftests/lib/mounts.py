# SPDX-License-Identifier: GPL-2.0

"""Mounting by system call.

mount(8) is not used: it changes options before it passes them on.
"""

from __future__ import annotations

import ctypes
import errno
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from . import ktap

SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_FSOPEN, SYS_FSCONFIG, SYS_FSMOUNT, \
    SYS_FSPICK = 428, 429, 430, 431, 432, 433

FSOPEN_CLOEXEC = 1
FSPICK_CLOEXEC, FSPICK_EMPTY_PATH = 1, 8
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_SET_BINARY, \
    FSCONFIG_SET_PATH, FSCONFIG_SET_PATH_EMPTY, FSCONFIG_SET_FD, \
    FSCONFIG_CMD_CREATE, FSCONFIG_CMD_RECONFIGURE, \
    FSCONFIG_CMD_CREATE_EXCL = range(9)
MOVE_MOUNT_F_EMPTY_PATH = 4
OPEN_TREE_CLONE = 1
AT_FDCWD = -100

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = (
    1, 2, 4, 8, 32, 4096)
MNT_DETACH = 2

libc = ctypes.CDLL(None, use_errno=True)


class At(NamedTuple):
    """A path that starts at a file descriptor. "" is the file itself."""

    path: str
    fd: int = AT_FDCWD


# The value of an option: None for a flag, a number for a file descriptor.
Value = str | bytes | int | At | None
Options = list[tuple[str, Value]]


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _bytes(text: str | bytes | None) -> bytes | None:
    return os.fsencode(text) if text is not None else None


class Context:
    """A file system context: fsopen(2) or fspick(2), fsconfig(2)."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def open(cls, name: str) -> Context:
        return cls(_check(libc.syscall(SYS_FSOPEN, name.encode(),
                                       FSOPEN_CLOEXEC), f"fsopen({name})"))

    @classmethod
    def pick(cls, path: str | bytes) -> Context:
        return cls(_check(libc.syscall(SYS_FSPICK, AT_FDCWD, _bytes(path),
                                       FSPICK_CLOEXEC), f"fspick({path!r})"))

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def config(self, command: int, key: str | None,
               value: str | bytes | None = None, aux: int = 0) -> None:
        _check(libc.syscall(SYS_FSCONFIG, self.fd, command, _bytes(key),
                            _bytes(value), aux),
               f"fsconfig({command}, {key}, {value!r})")

    def set(self, key: str, value: Value = None) -> None:
        if value is None:
            self.config(FSCONFIG_SET_FLAG, key)
        elif isinstance(value, At):
            self.config(FSCONFIG_SET_PATH if value.path
                        else FSCONFIG_SET_PATH_EMPTY, key, *value)
        elif isinstance(value, int):
            self.config(FSCONFIG_SET_FD, key, aux=value)
        else:
            self.config(FSCONFIG_SET_STRING, key, value)

    def create(self) -> None:
        self.config(FSCONFIG_CMD_CREATE, None)

    def create_exclusive(self) -> None:
        self.config(FSCONFIG_CMD_CREATE_EXCL, None)

    def reconfigure(self) -> None:
        self.config(FSCONFIG_CMD_RECONFIGURE, None)

    def mount(self) -> int:
        """fsmount(2). Returns the descriptor of a detached mount."""
        return _check(libc.syscall(SYS_FSMOUNT, self.fd, FSMOUNT_CLOEXEC, 0),
                      "fsmount")

    def messages(self) -> list[str]:
        """The messages of the context: "e text", "w text" or "i text"."""
        found = []
        while True:
            try:
                found.append(os.read(self.fd, 4096).decode(
                    errors="backslashreplace").rstrip("\n"))
            except OSError as error:
                if error.errno == errno.ENODATA:
                    return found
                raise


class MountError(OSError):
    """A failed mount, with the messages of the fs context."""

    def __init__(self, error: OSError, messages: list[str]) -> None:
        super().__init__(error.errno, f"{error.strerror}; messages: "
                         f"{'; '.join(messages) or 'none'}")
        self.messages = messages


def attach(fd: int, target: str) -> None:
    """move_mount(2) of a detached mount."""
    _check(libc.syscall(SYS_MOVE_MOUNT, fd, b"", AT_FDCWD, os.fsencode(target),
                        MOVE_MOUNT_F_EMPTY_PATH), f"move_mount({target})")


def new_mount(kind: str, options: Options) -> int:
    """fsopen(2), fsconfig(2), fsmount(2). Returns the descriptor of the
    detached mount."""
    with Context.open(kind) as context:
        try:
            for key, value in options:
                context.set(key, value)
            context.create()
            return context.mount()
        except OSError as error:
            raise MountError(error, context.messages()) from None


def mount_at(kind: str, options: Options, target: str) -> None:
    """Mounts with the calls of new_mount(), at a path."""
    fd = new_mount(kind, options)
    try:
        attach(fd, target)
    finally:
        os.close(fd)


def new_tree(path: str | bytes) -> int:
    """open_tree(2). Returns the descriptor of a detached clone of a mount."""
    return _check(libc.syscall(SYS_OPEN_TREE, AT_FDCWD, _bytes(path),
                               OPEN_TREE_CLONE), f"open_tree({path!r})")


def mount(source: str | bytes | None, target: str | bytes, kind: str | None,
          flags: int = 0, data: str | bytes | None = None) -> None:
    """mount(2)"""
    _check(libc.mount(_bytes(source), _bytes(target), _bytes(kind),
                      ctypes.c_ulong(flags), _bytes(data)),
           f"mount({source!r}, {kind}, {data!r})")


def umount(target: str | bytes, flags: int = 0) -> None:
    """umount2(2)"""
    _check(libc.umount2(_bytes(target), flags), f"umount({target!r})")


def umount_soon(target: str, seconds: float = 30) -> None:
    """As umount(), and retries while it is EBUSY. A kernel worker may still
    hold a file: io_uring drops its files after its ring was closed."""
    end = time.monotonic() + seconds
    while True:
        try:
            umount(target)
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > end:
                raise
        time.sleep(0.1)


@contextmanager
def directory() -> Iterator[str]:
    """A directory to mount on, removed at the end of the context."""
    path = tempfile.mkdtemp(prefix="mount-", dir="/tmp")
    try:
        yield path
    finally:
        os.rmdir(path)


@contextmanager
def attached(fd: int) -> Iterator[str]:
    """Attaches a detached mount, and closes its descriptor. Gives the path.
    It is unmounted at the end of the context."""
    with directory() as path:
        try:
            attach(fd, path)
        finally:
            os.close(fd)
        try:
            yield path
        finally:
            umount_soon(path)


@contextmanager
def mounted(kind: str, options: Options) -> Iterator[str]:
    """Mounts with the calls of new_mount(). Gives the path."""
    with attached(new_mount(kind, options)) as path:
        yield path


@contextmanager
def mounted_by_mount2(source: str, data: str, flags: int = 0
                      ) -> Iterator[str]:
    """Mounts composefs with mount(2). Gives the path."""
    with directory() as top:
        mount(source, top, "composefs", flags, data)
        try:
            yield top
        finally:
            umount(top)


@contextmanager
def bound(source: str | Path, target: str | Path) -> Iterator[str]:
    """Mounts a file or directory at another path, with MS_BIND."""
    mount(str(source), str(target), None, MS_BIND)
    try:
        yield str(target)
    finally:
        umount(str(target))


def mountinfo() -> list[list[str]]:
    """The fields of each line of /proc/self/mountinfo before and after the
    separator: ..., root, mount point, ..., type, source, options."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return [line.rstrip("\n").split(" ") for line in file]


class Info(NamedTuple):
    """What /proc/self/mountinfo shows of a mount's super block."""

    type: str
    source: str
    options: list[str]


def info(path: str) -> Info:
    """Of the topmost mount at a path."""
    found = [fields[-3:] for fields in mountinfo() if fields[4] == path]
    if not found:
        raise AssertionError(f"nothing is mounted at {path}")
    kind, source, options = found[-1]
    return Info(kind, source, options.split(","))


def require_root() -> None:
    """Ends the program unless it may mount."""
    if os.geteuid() != 0:
        ktap.skip_all("only root can mount")


@contextmanager
def composefs(image: Value, basedirs: list[str],
              *options: tuple[str, Value]) -> Iterator[str]:
    """Mounts an image of composefs. Gives the path."""
    with mounted("composefs",
                 composefs_options(image, basedirs, *options)) as path:
        yield path


def composefs_options(image: Value, basedirs: list[str],
                      *options: tuple[str, Value]) -> Options:
    return [("source", image),
            *(("basedir", escape(path)) for path in basedirs), *options]


def escape(path: str) -> str:
    """A directory's name as an element of basedir=."""
    return path.replace("\\", "\\\\").replace(":", "\\:")
