# SPDX-License-Identifier: GPL-2.0

"""System calls on a mounted image, each of which has to read the image.

A Baseline records the result of each probe while everything works. Later, with
a damaged image or a failing disk, a probe may return that result or fail with
an error. It may never return a different result.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from . import dirents, handles, ktap, special_image
from .files import opened

# Takes the path where the image "special-v0" is mounted.
Probe = Callable[[str], object]

BIG = "directories/big"


class PartialListing(OSError):
    """A listing that failed after it had returned some names."""

    def __init__(self, error: OSError, names: list[bytes]) -> None:
        super().__init__(error.errno, error.strerror)
        self.names = names


def listing(path: str) -> Probe:
    """Lists a directory by small buffers, so that it can fail in between."""
    def probe(top: str) -> list[bytes]:
        names: list[bytes] = []
        with opened(f"{top}/{path}", os.O_RDONLY | os.O_DIRECTORY) as fd:
            buffer = dirents.Buffer(4096)
            try:
                while some := buffer.read(fd):
                    names += [entry.name for entry in some]
            except OSError as error:
                raise PartialListing(error, names) from None
        return names
    return probe


def attributes(path: str) -> Probe:
    def probe(top: str) -> tuple[int, ...]:
        found = os.lstat(f"{top}/{path}")
        return (found.st_mode, found.st_ino, found.st_nlink, found.st_uid,
                found.st_gid, found.st_size, found.st_mtime_ns)
    return probe


def absent(path: str) -> Probe:
    def probe(top: str) -> str:
        try:
            os.lstat(f"{top}/{path}")
        except FileNotFoundError:
            return "absent"
        return "present"
    return probe


def xattr(path: str, name: str) -> Probe:
    return lambda top: os.getxattr(f"{top}/{path}", name)


def xattr_names(path: str) -> Probe:
    return lambda top: os.listxattr(f"{top}/{path}")


def target(path: str) -> Probe:
    return lambda top: os.readlink(f"{top}/{path}")


def content(path: str) -> Probe:
    return lambda top: Path(top, path).read_bytes()


def file_system(top: str) -> tuple[int, ...]:
    found = os.statvfs(top)
    return found.f_bsize, found.f_namemax, found.f_fsid


# Probes that read the image and no object.
METADATA: dict[str, Probe] = {
    "a large listing": listing(BIG),
    "a small listing": listing("directories/340"),
    "a lookup": attributes(f"{BIG}/entry-05000"),
    "a lookup of an absent name": absent(f"{BIG}/entry-05000-no"),
    "attributes": attributes("owners/1000000-2000000"),
    "an xattr": xattr("xattrs/many", "user.50"),
    "a long xattr": xattr("xattrs/long", "user.long-20000"),
    "a shared xattr": xattr("xattrs/shared-7", "trusted.shared"),
    "names of xattrs": xattr_names("xattrs/many"),
    "an access control list": xattr("acls/one", "system.posix_acl_access"),
    "a short link": target("links/60"),
    "a long link": target("links/4095"),
    "an inline file": content("sizes/64"),
    "a deep path": attributes("/".join(
        ["deep", *(f"level-{level}" for level in range(60)), "bottom"])),
    "statfs": file_system,
}

# Probes that also read an object.
CONTENT: dict[str, Probe] = {
    "a file in an object": content("sizes/4097"),
    "a large file": content(special_image.LARGE),
}

ALL = {**METADATA, **CONTENT}

# Probes that succeed without reading the image: the super block answers them.
CACHED = ("statfs",)
HANDLE = "a handle"


def by_handle(top: str, path: str) -> Probe:
    """Opens a file by its handle. The handle is made here, not by the probe.
    """
    handle = handles.of(f"{top}/{path}")

    def probe(top: str) -> tuple[int, int]:
        with opened(top) as mount, handles.opened(mount, handle) as fd:
            found = os.fstat(fd)
        return found.st_ino, found.st_size
    return probe


class Baseline:
    """The results of some probes, recorded while everything works."""

    def __init__(self, top: str, probes: dict[str, Probe]) -> None:
        self.top = top
        self.probes = dict(probes)
        self.probes[HANDLE] = by_handle(top, f"{BIG}/entry-07000")
        self.expected = {name: probe(top)
                         for name, probe in self.probes.items()}

    def run(self, name: str) -> str:
        """Runs a probe again: "right", the name of an error, or how the
        result differs."""
        expected = self.expected[name]
        try:
            found = self.probes[name](self.top)
        except PartialListing as error:
            assert isinstance(expected, list)
            if error.names != expected[:len(error.names)]:
                return f"wrong names before {ktap.errno_name(error.errno)}"
            return ktap.errno_name(error.errno)
        except OSError as error:
            # open_by_handle_at(2) turns every error but ENOMEM into ESTALE,
            # for any file system.
            if name == HANDLE and error.errno == errno.ESTALE:
                return "EIO"
            return ktap.errno_name(error.errno)
        return "right" if found == expected else "wrong result"

    def run_all(self) -> Iterator[tuple[str, str]]:
        for name in self.probes:
            yield name, self.run(name)

    def check(self, test: ktap.Test, what: str, *allowed: str,
              unaffected: tuple[str, ...] = ()) -> set[str]:
        """Runs all probes and returns their outcomes as a set. The probes
        named in `unaffected` have to be right."""
        outcomes = set()
        for name, outcome in self.run_all():
            outcomes.add(outcome)
            may_be = ("right",) if name in unaffected else allowed
            test.check(outcome in may_be, f"{what}: {name}: {outcome}, not "
                                          f"{' or '.join(may_be)}")
        return outcomes
