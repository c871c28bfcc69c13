# SPDX-License-Identifier: GPL-2.0

"""Makes images for the tests, and a scratch directory.

lib/image.py writes the images. They are on an ext4 in a file below /run. The
first program makes that file, the next ones use it again. Each program mounts
it in its own mount namespace, so nothing stays mounted.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import core, mounts, program_tree, scratch, special_tree
from . import image as writer
from .image import Inode
from .verity import enable_verity

PLACE = Path("/run/composefs-selftests")
CLONE_NEWNS = 0x00020000
MS_REC, MS_PRIVATE = 0x4000, 0x40000

# In bytes. The files are sparse.
IMAGES_SIZE = 512 << 20
SCRATCH_SIZE = 2 << 30

# An image holds the content of files of up to this size in bytes, as with
# mkcomposefs.
INLINE_SIZE = 64


def set_up() -> tuple[Path, Path]:
    """Mounts the images and an empty file system. Returns both directories."""
    core.require_composefs()
    if mounts.libc.unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    mounts.mount(None, "/", None, MS_REC | MS_PRIVATE)
    PLACE.mkdir(exist_ok=True)
    disk = PLACE / f"images-{_version()}.ext4"
    if not disk.exists():
        for old in PLACE.glob("*.ext4"):
            old.unlink()
        new = PLACE / f"new-{os.getpid()}.ext4"
        try:
            _make(new)
            new.rename(disk)
        finally:
            new.unlink(missing_ok=True)
    top = _mount(disk, PLACE / "images")
    empty = PLACE / f"scratch-{os.getpid()}.ext4"
    scratch.make(empty, SCRATCH_SIZE)
    try:
        return top, _mount(empty, PLACE / "scratch")
    finally:
        # Its blocks are freed when it is unmounted.
        empty.unlink()


def _version() -> str:
    """A hash of the programs that the images depend on."""
    sources = (__file__, writer.__file__, special_tree.__file__,
               program_tree.__file__)
    return hashlib.sha256(b"".join(Path(name).read_bytes()
                                   for name in sources)).hexdigest()[:16]


def _mount(disk: Path, top: Path) -> Path:
    top.mkdir(exist_ok=True)
    scratch.run("mount", "-o", "loop", str(disk), str(top))
    return top


def _make(disk: Path) -> None:
    """Makes the file system with the images."""
    scratch.make(disk, IMAGES_SIZE)
    top = _mount(disk, PLACE / "images")
    try:
        maker = Maker(top)
        maker.special()
        maker.matrix()
        maker.programs()
        maker.many()
        maker.finish()
    finally:
        mounts.umount_soon(str(top))


@dataclass(frozen=True)
class Kind:
    """How an image is made."""

    version: int = 0
    algorithm: str = "sha256"
    hardlinks: bool = True
    digests: bool = True


class Maker:
    """Fills a directory with what lib/fixtures.py reads."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.images: list[dict[str, object]] = []
        for name in ("images", "objects", "objects-sha512", "trees"):
            (top / name).mkdir()

    def special(self) -> None:
        special_tree.make(f"{self.top}/trees/special")
        for ending, kind in (("v0", Kind()),
                             ("v0-unlinked", Kind(hardlinks=False)),
                             ("v1", Kind(1)), ("v2", Kind(2)),
                             ("v1-sha512", Kind(1, "sha512")),
                             ("v2-sha512", Kind(2, "sha512"))):
            self.add(f"special-{ending}", "special", kind)

    def matrix(self) -> None:
        """Small images whose objects the tests make, and an image whose tree
        is an object directory."""
        tree = self.top / "trees/matrix"
        tree.mkdir()
        for number in range(40):
            special_tree.write(f"{tree}/file-{number:02}",
                               special_tree.content(20000, 100 + number))
        special_tree.write(f"{tree}/inline", b"in the image")
        self.add("matrix", "matrix")
        self.add("matrix-sha512", "matrix", Kind(1, "sha512"))
        self.add("matrix-no-digests", "matrix", Kind(digests=False))
        content = (tree / "file-00").read_bytes()
        path = writer.object_path(writer.verity_digest(content))
        file = Path(f"{self.top}/trees/store{path}")
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
        self.add("store", "store")

    def programs(self) -> None:
        for name, make in (("rights", program_tree.rights),
                           ("labels", program_tree.labels)):
            make(f"{self.top}/trees/{name}")
            self.add(name, name)

    def many(self) -> None:
        """An image of 30,000 files without objects. It is not in the manifest,
        because no test compares it with anything."""
        root = Inode(stat.S_IFDIR | 0o755)
        for number in range(300):
            directory = Inode(stat.S_IFDIR | 0o755)
            for file in range(100):
                digest = (number * 1000 + file + (1 << 250)).to_bytes(
                    32, "big")
                directory.entries[b"a-file-with-some-name-%03d" % file] = \
                    writer.external(5000, writer.object_path(digest), digest)
            root.entries[b"directory-%03d" % number] = directory
        writer.write(root, self.top / "images/many.cfs")

    def add(self, name: str, tree: str, kind: Kind = Kind()) -> None:
        """Makes an image of a tree, and the objects that are missing."""
        path = self.top / f"images/{name}.cfs"
        source = self.top / f"trees/{tree}"
        objects = "objects" if kind.algorithm == "sha256" else \
            "objects-sha512"
        reader = Reader(kind, self.top / objects)
        content = writer.pack(reader.root(os.fsencode(source)), kind.version)
        path.write_bytes(content)
        enable_verity(path, kind.algorithm)
        digest = writer.verity_digest(content, kind.algorithm).hex()
        self.images.append({
            "name": name, "image": f"images/{name}.cfs",
            "digest": f"{kind.algorithm}:{digest}", "objects": [objects],
            "source": f"trees/{tree}", "version": kind.version,
            "algorithm": kind.algorithm, "hardlinks": kind.hardlinks})

    def finish(self) -> None:
        (self.top / "manifest.json").write_text(
            json.dumps({"images": self.images}, indent=2))


class Reader:
    """Reads a tree, and makes its objects."""

    def __init__(self, kind: Kind, objects: Path) -> None:
        self.kind = kind
        self.objects = objects
        # Inodes with several hard links, by inode number.
        self.seen: dict[int, Inode] = {}

    def root(self, path: bytes) -> Inode:
        root = self.inode(path)
        if self.kind.version < 2:
            # With erofs + overlayfs, these hide an object directory.
            root.xattrs["trusted.overlay.opaque"] = b"y"
            for number in range(256):
                root.entries.setdefault(b"%02x" % number, writer.special(
                    stat.S_IFCHR | 0o644))
        return root

    def inode(self, path: bytes) -> Inode:
        found = os.lstat(path)
        if found.st_ino in self.seen:
            return self.seen[found.st_ino]
        inode = Inode(found.st_mode, uid=found.st_uid, gid=found.st_gid,
                      mtime=found.st_mtime_ns, rdev=found.st_rdev,
                      xattrs=dict(xattrs(path)))
        if self.kind.version == 2:
            inode.mtime -= inode.mtime % 10**9
        if self.kind.hardlinks and found.st_nlink > 1 \
                and not inode.is_directory():
            self.seen[found.st_ino] = inode
        if stat.S_ISDIR(found.st_mode):
            self.directory(inode, path)
        elif stat.S_ISLNK(found.st_mode):
            inode.content = os.readlink(path)
        elif stat.S_ISREG(found.st_mode):
            self.regular(inode, path)
        return inode

    def directory(self, inode: Inode, path: bytes) -> None:
        for name in os.listdir(path):
            child = self.inode(path + b"/" + name)
            if self.kind.version < 2 and child.rdev == 0 \
                    and stat.S_ISCHR(child.mode):
                # A whiteout is stored in a form that reaches an overlayfs on
                # top of the mount.
                child = Inode(stat.S_IFREG | stat.S_IMODE(child.mode),
                              uid=child.uid, gid=child.gid, mtime=child.mtime,
                              xattrs={**child.xattrs, **mark("whiteout")})
                inode.xattrs |= mark("whiteouts")
                if self.kind.version == 1:
                    inode.xattrs |= mark("opaque", b"x")
            inode.entries[name] = child

    def regular(self, inode: Inode, path: bytes) -> None:
        with open(path, "rb") as file:
            content = file.read()
        if len(content) <= INLINE_SIZE:
            inode.content = content
            return
        digest = writer.verity_digest(content, self.kind.algorithm)
        name = writer.object_path(digest)
        external = writer.external(len(content), name,
                                   digest if self.kind.digests else b"")
        inode.size = external.size
        inode.xattrs |= external.xattrs
        place = Path(f"{self.objects}{name}")
        if not place.exists():
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(content)
            enable_verity(place, self.kind.algorithm)


def xattrs(path: bytes) -> Iterator[tuple[str, bytes]]:
    """The xattrs of a file as the image stores them. Those of overlayfs are
    escaped: an overlayfs on the image shall not act on them."""
    for name in os.listxattr(path, follow_symlinks=False):
        value = os.getxattr(path, name, follow_symlinks=False)
        if name.startswith("trusted.overlay."):
            name = f"trusted.overlay.{name.removeprefix('trusted.')}"
        yield name, value


def mark(name: str, value: bytes = b"") -> dict[str, bytes]:
    """The xattrs of a stored whiteout, or of its directory."""
    return {f"trusted.overlay.overlay.{name}": value,
            f"user.overlay.{name}": value}
