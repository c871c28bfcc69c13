# SPDX-License-Identifier: GPL-2.0

"""Images, object directories and other files for command lines of
mount.composefs.

All are on a file system of their own, which can be unmounted only if no mount,
loop device or process still uses them.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import image, mounts, scratch, userns
from .image import Inode
from .verity import enable_verity

SIZE = 10000
# What a file of the image has: the user who owns it is 1, the group 2.
OWNER, GROUP = 1, 2
# The owners that the user namespace {userns} maps those to.
MAP = (userns.Range(0, 100000, 1000),)

# The files of the image, and what is wrong with their objects.
GOOD, INLINE = "good", "inline"
PLAIN = "plain"             # no fs-verity
FORGED = "forged"           # other content, with another digest
UNDIGESTED = "undigested"   # the image has no digest
SECOND = "second"           # only in the second object directory
FILES = (GOOD, PLAIN, FORGED, UNDIGESTED, SECOND, INLINE)

# Names that need escapes somewhere.
ODD_NAMES = ("a b", "a,b", "a:b", "a\\b", "a\\", "a=b", "a\tb", "a\nb",
             "a#b", "\u00e9", "'\"$(x)")


def escape(path: str) -> str:
    """A path as a value of an option in a list."""
    return "".join(f"\\{char}" if char in "\\,:" else char
                   for char in path)


def content(name: str) -> bytes:
    return (name.encode() + b"\n").ljust(SIZE, b".")


def _file(name: str, algorithm: str) -> Inode:
    if name == INLINE:
        inode = image.regular(content(name)[:50])
    else:
        digest = image.verity_digest(content(name), algorithm)
        inode = image.external(SIZE, image.object_path(digest),
                               b"" if name == UNDIGESTED else digest)
    inode.uid, inode.gid = OWNER, GROUP
    return inode


def tree(algorithm: str = "sha256") -> Inode:
    """The tree of the image."""
    return image.directory({name: _file(name, algorithm) for name in FILES})


def _add(store: Path, name: str, algorithm: str) -> None:
    """Adds the object of a file to a store. Without an algorithm it has no
    fs-verity."""
    digest = image.verity_digest(content(name), algorithm or "sha256")
    path = Path(f"{store}{image.object_path(digest)}")
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(content("other" if name == FORGED else name))
    if algorithm and name != PLAIN:
        enable_verity(path, algorithm)


def padded(data: bytes) -> bytes:
    """An image with zeros behind it up to the end of a page. The C program
    cannot mount a file that ends within one."""
    return data.ljust(-(-len(data) // mmap.PAGESIZE) * mmap.PAGESIZE, b"\0")


class Scene:
    """The files. `names` has what {NAME} is in a command line."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.names: dict[str, str] = {}
        self._images()
        self._stores()
        self._odd_names()

    def path(self, name: str) -> Path:
        """A path, which is {NAME} in a command line."""
        found = self.top / name
        self.names[name] = str(found)
        return found

    def expand(self, text: str) -> str:
        """Replaces each {NAME} in a text."""
        return text.format_map(self.names)

    def _images(self) -> None:
        self.path("unpadded").write_bytes(image.pack(tree()))
        data = padded(image.pack(tree()))
        digest = image.verity_digest(data).hex()
        self.path("image").write_bytes(data)
        enable_verity(self.path("image"))
        long = padded(image.pack(tree("sha512")))
        self.path("sha512").write_bytes(long)
        enable_verity(self.path("sha512"), "sha512")
        self.names |= {
            "digest": digest, "DIGEST": digest.upper(),
            "wrong": digest[:-1] + "%x" % (int(digest[-1], 16) ^ 1),
            "short": digest[:-2], "odd": digest[:-1],
            "not_hex": digest[:-1] + "g",
            "long_digest": image.verity_digest(long, "sha512").hex(),
            "zeros": "0" * 64}
        self.path("unsealed").write_bytes(data)
        self.path("empty_file").write_bytes(b"")
        self.path("short_file").write_bytes(data[:20])
        self.path("cut").write_bytes(data[:2000])
        self.path("text").write_bytes(b"no image\n" * 1000)
        self.path("wrong_magic").write_bytes(
            struct.pack("<I", 0xd078629b) + data[4:])
        self.path("not_erofs").write_bytes(
            data[:1024] + bytes(4) + data[1028:])
        # A composefs_version that the kernel's composefs does not know.
        self.path("newer").write_bytes(
            data[:12] + struct.pack("<I", 3) + data[16:])
        self.path("link").symlink_to("image")
        self.path("secret").write_bytes(data)
        self.path("secret").chmod(0o600)

    def _stores(self) -> None:
        for name in ("store", "store2", "store512", "empty", "a,b", "a:b"):
            self.path(name).mkdir()
        self.names |= {"comma": self.names.pop("a,b"),
                       "colon": self.names.pop("a:b")}
        for algorithm, store in (("sha256", "store"), ("sha512", "store512")):
            for name in FILES:
                if name not in (SECOND, INLINE):
                    _add(self.path(store), name, algorithm)
        _add(self.path("store2"), SECOND, "sha256")
        for name in ("comma", "colon"):
            shutil.rmtree(self.names[name])
            subprocess.run(["cp", "-al", self.path("store"),
                            self.names[name]], check=True)
        deep = self.top / "/".join(["d" * 200] * 2)
        deep.parent.mkdir(parents=True)
        subprocess.run(["cp", "-al", self.path("store"), deep], check=True)
        self.names["deep"] = str(deep)
        # Values of basedir= that are longer than a page, or than a path.
        many = [self.top / f"many-{number:03}{'m' * 150}"
                for number in range(40)]
        for path in many:
            path.mkdir()
        self.names["many"] = ":".join(map(str, many))
        self.names["dots"] = f"{self.top}{'/.' * 200}/store"
        self.names["too_long"] = f"{self.top}{'/.' * 2100}/store"
        self.names["parent"] = str(self.top)
        self.path("missing")
        self.names["null"] = "/dev/null"

    def _odd_names(self) -> None:
        """For each odd name an image {oddN}, a store {oddN_store}, which is
        escaped as a value of basedir=, and a directory {oddN_target}."""
        for number, name in enumerate(ODD_NAMES):
            top = self.top / f"odd{number}"
            top.mkdir()
            os.link(self.path("image"), top / f"image {name}")
            for kind in ("store", "target"):
                (top / f"{kind}{name}").mkdir()
            subprocess.run(["cp", "-al", f"{self.path('store')}/.",
                            top / f"store{name}"], check=True)
            self.names |= {
                f"odd{number}": str(top / f"image {name}"),
                f"odd{number}_store": escape(str(top / f"store{name}")),
                f"odd{number}_target": str(top / f"target{name}")}

    def fresh(self) -> None:
        """Makes what a command line may change."""
        for name in ("upper", "work", "target"):
            path = self.path(name)
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
        self.path("file").write_bytes(b"")
        link = self.path("target_link")
        link.unlink(missing_ok=True)
        link.symlink_to("target")


@contextmanager
def scene() -> Iterator[Scene]:
    """The files, on a new file system. {ram} and {ram_store} are on a tmpfs.
    """
    with scratch.ext4() as top, \
            tempfile.TemporaryDirectory(prefix="ram-", dir="/tmp") as ram, \
            userns.namespace(MAP) as namespace:
        made = Scene(top)
        made.names["ram"] = shutil.copy(made.names["image"], ram)
        made.names["ram_store"] = f"{ram}/store"
        for name in (GOOD, PLAIN, FORGED, UNDIGESTED):
            _add(Path(ram, "store"), name, "")
        made.names["userns"] = f"/proc/{os.getpid()}/fd/{namespace}"
        yield made
        left = [fields[4] for fields in mounts.mountinfo()
                if fields[4].startswith(f"{top}/")]
        if left:
            raise AssertionError(f"still mounted: {left}")
