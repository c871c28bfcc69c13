# SPDX-License-Identifier: GPL-2.0

"""What can be asked of a mounted image so that the image has to be read.

Each question has one right answer, which is asked for while all is well. Then
only that answer or an error will do, never another answer.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from . import dirents, handles, ktap, special
from .special import opened

# The answer, given where the image "special-v0" is mounted.
Question = Callable[[str], object]

BIG = "directories/big"


class CutOff(OSError):
    """A listing that failed after it had given some names."""

    def __init__(self, error: OSError, names: list[bytes]) -> None:
        super().__init__(error.errno, error.strerror)
        self.names = names


def listing(path: str) -> Question:
    """In pieces, so that it can fail in the middle."""
    def ask(top: str) -> list[bytes]:
        names: list[bytes] = []
        with opened(f"{top}/{path}", os.O_RDONLY | os.O_DIRECTORY) as fd:
            room = dirents.Buffer(4096)
            try:
                while some := room.read(fd):
                    names += [entry.name for entry in some]
            except OSError as error:
                raise CutOff(error, names) from None
        return names
    return ask


def attributes(path: str) -> Question:
    def ask(top: str) -> tuple[int, ...]:
        found = os.lstat(f"{top}/{path}")
        return (found.st_mode, found.st_ino, found.st_nlink, found.st_uid,
                found.st_gid, found.st_size, found.st_mtime_ns)
    return ask


def absent(path: str) -> Question:
    def ask(top: str) -> str:
        try:
            os.lstat(f"{top}/{path}")
        except FileNotFoundError:
            return "absent"
        return "present"
    return ask


def xattr(path: str, name: str) -> Question:
    return lambda top: os.getxattr(f"{top}/{path}", name)


def xattr_names(path: str) -> Question:
    return lambda top: os.listxattr(f"{top}/{path}")


def target(path: str) -> Question:
    return lambda top: os.readlink(f"{top}/{path}")


def content(path: str) -> Question:
    return lambda top: Path(top, path).read_bytes()


def file_system(top: str) -> tuple[int, ...]:
    found = os.statvfs(top)
    return found.f_bsize, found.f_namemax, found.f_fsid


# All of the image alone, but for the contents that are in objects.
OF_IMAGE: dict[str, Question] = {
    "a large listing": listing(BIG),
    "a small listing": listing("directories/340"),
    "a lookup": attributes(f"{BIG}/entry-05000"),
    "a lookup of what is not there": absent(f"{BIG}/entry-05000-no"),
    "attributes": attributes("owners/1000000-2000000"),
    "an xattr": xattr("xattrs/many", "user.50"),
    "a long xattr": xattr("xattrs/long", "user.long-20000"),
    "a shared xattr": xattr("xattrs/shared-7", "trusted.shared"),
    "names of xattrs": xattr_names("xattrs/many"),
    "an access control list": xattr("acls/one", "system.posix_acl_access"),
    "a short link": target("links/60"),
    "a long link": target("links/4095"),
    "a file in the image": content("sizes/64"),
    "a deep path": attributes("/".join(
        ["deep", *(f"level-{level}" for level in range(60)), "bottom"])),
    "the file system": file_system,
}

OF_OBJECTS: dict[str, Question] = {
    "a file in an object": content("sizes/4097"),
    "a large file": content(special.LARGE),
}

EVERYTHING = {**OF_IMAGE, **OF_OBJECTS}

# Answered without the image.
OF_MEMORY = ("the file system",)
HANDLE = "a handle"


def by_handle(top: str, path: str) -> Question:
    """What a handle leads to, which is made here and now."""
    handle = handles.of(f"{top}/{path}")

    def ask(top: str) -> tuple[int, int]:
        with opened(top) as mount:
            fd = handles.open_by(mount, handle)
        try:
            found = os.fstat(fd)
        finally:
            os.close(fd)
        return found.st_ino, found.st_size
    return ask


class Answers:
    """The right answers, as long as all is well."""

    def __init__(self, top: str, questions: dict[str, Question]) -> None:
        self.top = top
        self.questions = dict(questions)
        self.questions[HANDLE] = by_handle(top, f"{BIG}/entry-07000")
        self.right = {name: question(top)
                      for name, question in self.questions.items()}

    def ask(self, name: str) -> str:
        """"right", the name of an error, or what is wrong."""
        right = self.right[name]
        try:
            found = self.questions[name](self.top)
        except CutOff as error:
            assert isinstance(right, list)
            if error.names != right[:len(error.names)]:
                return f"other names before {ktap.errno_name(error.errno)}"
            return ktap.errno_name(error.errno)
        except OSError as error:
            # The kernel makes it of every error but ENOMEM, for any file
            # system.
            if name == HANDLE and error.errno == errno.ESTALE:
                return "EIO"
            return ktap.errno_name(error.errno)
        return "right" if found == right else "another answer"

    def ask_all(self) -> Iterator[tuple[str, str]]:
        for name in self.questions:
            yield name, self.ask(name)

    def check(self, test: ktap.Test, what: str, *allowed: str,
              but: tuple[str, ...] = ()) -> set[str]:
        """Asks everything, and gives the set of the outcomes. What is named
        in `but` has to be right."""
        outcomes = set()
        for name, outcome in self.ask_all():
            outcomes.add(outcome)
            may_be = ("right",) if name in but else allowed
            test.check(outcome in may_be, f"{what}: {name}: {outcome}, not "
                                          f"{' or '.join(may_be)}")
        return outcomes
