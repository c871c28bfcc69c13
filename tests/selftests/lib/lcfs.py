# SPDX-License-Identifier: GPL-2.0

"""Calls the functions of libcomposefs that mount: lcfs-mount.h."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import ktap

REQUIRE_VERITY, READONLY, UNUSED, IDMAP, TRY_VERITY = (
    1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4)

# The library of the package libcomposefs1.
C_LIBRARY = "libcomposefs.so.1"
OUR_FILE = "liblcfs_mount.so"


class _Options(ctypes.Structure):
    """struct lcfs_mount_options_s."""

    _fields_ = [
        ("objdirs", ctypes.POINTER(ctypes.c_char_p)),
        ("n_objdirs", ctypes.c_size_t),
        ("workdir", ctypes.c_char_p),
        ("upperdir", ctypes.c_char_p),
        ("expected_fsverity_digest", ctypes.c_char_p),
        ("flags", ctypes.c_uint32),
        ("idmap_fd", ctypes.c_int),
        ("image_mountdir", ctypes.c_char_p),
        ("reserved", ctypes.c_uint32 * 4),
        ("reserved2", ctypes.c_void_p * 4),
    ]


@dataclass(frozen=True)
class Options:
    """The same, as Python has it."""

    objdirs: tuple[str | None, ...] = ()
    # If it is not the number of the object directories.
    n_objdirs: int | None = None
    # A null pointer instead of a list of object directories.
    no_list: bool = False
    workdir: str | None = None
    upperdir: str | None = None
    digest: str | None = None
    flags: int = 0
    idmap_fd: int = -1
    image_mountdir: str | None = None

    def encode(self) -> _Options:
        """For a call. It keeps all alive that it points to."""
        def text(path: str | None) -> bytes | None:
            return None if path is None else os.fsencode(path)

        found = _Options()
        if not self.no_list:
            found.objdirs = (ctypes.c_char_p * len(self.objdirs))(
                *map(text, self.objdirs))
        found.n_objdirs = len(self.objdirs) if self.n_objdirs is None \
            else self.n_objdirs
        found.workdir, found.upperdir = text(self.workdir), text(self.upperdir)
        found.expected_fsverity_digest = text(self.digest)
        found.flags, found.idmap_fd = self.flags, self.idmap_fd
        found.image_mountdir = text(self.image_mountdir)
        return found


class Library:
    """A library that has the functions."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.library = ctypes.CDLL(path, use_errno=True)

    def mount(self, image: str | int | None, target: str | None,
              options: Options | None) -> None:
        """lcfs_mount_image(), or lcfs_mount_fd() if the image is a number."""
        encoded = options and options.encode()
        where = None if target is None else os.fsencode(target)
        pointer = None if encoded is None else ctypes.byref(encoded)
        function: Callable[..., int]
        if isinstance(image, int):
            function = self.library.lcfs_mount_fd
            result = function(image, where, pointer)
        else:
            function = self.library.lcfs_mount_image
            result = function(None if image is None else os.fsencode(image),
                              where, pointer)
        if result:
            number = ctypes.get_errno()
            raise OSError(number, f"{self.path}: {os.strerror(number)}")


def c_library() -> Library:
    """That of libcomposefs. Ends the program where it is not installed."""
    try:
        return Library(C_LIBRARY)
    except OSError as error:
        ktap.skip_all(f"{error}: install libcomposefs1")


def our_file() -> Path:
    """The file of our library. Ends the program where there is none."""
    directory = os.environ.get("COMPOSEFS_TOOLS")
    if not directory:
        ktap.skip_all("COMPOSEFS_TOOLS is not set: it names a directory with "
                      f"{OUR_FILE} of tools/libcomposefs-mount")
    path = Path(directory, OUR_FILE)
    if not path.exists():
        ktap.bail_out(f"no {path}")
    return path
