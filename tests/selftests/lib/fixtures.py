# SPDX-License-Identifier: GPL-2.0

"""The images that the tests mount.

COMPOSEFS_FIXTURES is the root of the disk that scripts/make-fixtures fills.
COMPOSEFS_IMAGES is a directory of *.cfs.gz: images without their objects.
Either may be missing; then what needs it is skipped.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import shutil
from pathlib import Path

from . import ktap

# An ext4 with fs-verity to work on.
SCRATCH = Path(os.environ.get("COMPOSEFS_SCRATCH", "/scratch"))

# What kind of image a header says it is.
HEADER_MAGIC = 0xd078629a
FLAG_HAS_ACL = 1


@dataclasses.dataclass(frozen=True)
class Image:
    """An image and what is known about it."""

    name: str
    path: str
    version: int
    # Whether it has POSIX ACLs, by its header.
    has_acl: bool
    # Object directories.
    objects: list[str]
    # Its fs-verity digest, "sha256:...".
    digest: str | None = None
    # The tree that it was made from.
    source: str | None = None
    # By which its objects are named.
    algorithm: str = "sha256"
    # Whether names of one inode in the tree are one in the image.
    hardlinks: bool = True
    # Whether its objects are there.
    has_objects: bool = True

    def at(self, path: Path) -> Image:
        """A copy of it that is elsewhere."""
        return dataclasses.replace(self, path=str(path))


def read_header(path: str) -> tuple[int, bool]:
    """Version and ACL flag of an image."""
    with open(path, "rb") as file:
        header = file.read(16)
    magic, _, flags, version = (int.from_bytes(header[at:at + 4], "little")
                                for at in range(0, 16, 4))
    if magic != HEADER_MAGIC:
        ktap.bail_out(f"{path} is no composefs image: it begins with "
                      f"{header[:4]!r}")
    return version, bool(flags & FLAG_HAS_ACL)


def top() -> Path | None:
    """The root of the fixtures."""
    path = os.environ.get("COMPOSEFS_FIXTURES")
    if not path:
        return None
    if not (Path(path) / "manifest.json").exists():
        ktap.bail_out(f"COMPOSEFS_FIXTURES={path} has no manifest.json: it "
                      "was not made by scripts/make-fixtures, or not to the "
                      "end")
    return Path(path)


def load() -> list[Image]:
    """All images of the fixtures."""
    root = top()
    if root is None:
        return []
    images = []
    with open(root / "manifest.json", encoding="utf-8") as file:
        manifest = json.load(file)
    for entry in manifest["images"]:
        path = str(root / entry["image"])
        version, has_acl = read_header(path)
        if version != entry["version"]:
            ktap.bail_out(f"{path} is of version {version}, not "
                          f"{entry['version']}")
        source = entry["source"]
        images.append(Image(
            name=entry["name"], path=path, version=version, has_acl=has_acl,
            objects=[str(root / name) for name in entry["objects"]],
            digest=entry["digest"],
            # An absolute one is of the guest, not of the disk.
            source=source and str(root / source),
            algorithm=entry["algorithm"], hardlinks=entry["hardlinks"]))
    return images


def require() -> list[Image]:
    """All images of the fixtures, or the end of the program."""
    images = load()
    if not images:
        ktap.skip_all("COMPOSEFS_FIXTURES is not set: scripts/make-fixtures "
                      "makes what it has to name")
    return images


def named(name: str) -> Image:
    """The image of this name."""
    for image in load():
        if image.name == name:
            return image
    raise ktap.Skipped(f"no image {name} in COMPOSEFS_FIXTURES")


def many() -> Image:
    """An image of 300 directories with 100 names each, and no objects."""
    root = top()
    path = root and root / "images/many.cfs"
    if path is None or not path.exists():
        raise ktap.Skipped("no images/many.cfs in COMPOSEFS_FIXTURES")
    version, has_acl = read_header(str(path))
    return Image(name="many", path=str(path), version=version,
                 has_acl=has_acl, objects=[str(path.parent)],
                 has_objects=False)


def bare_names() -> list[str]:
    """Names of the images without objects."""
    directory = os.environ.get("COMPOSEFS_IMAGES")
    if not directory:
        return []
    found = sorted(Path(directory).glob("*.cfs.gz"))
    if not found:
        ktap.bail_out(f"COMPOSEFS_IMAGES={directory} holds no *.cfs.gz")
    return [path.name.removesuffix(".cfs.gz") for path in found]


def bare(name: str) -> Image:
    """Unpacks an image without objects."""
    packed = Path(os.environ["COMPOSEFS_IMAGES"]) / f"{name}.cfs.gz"
    work = SCRATCH / "bare"
    (work / "no-objects").mkdir(parents=True, exist_ok=True)
    path = work / f"{name}.cfs"
    with gzip.open(packed) as source, open(path, "wb") as target:
        shutil.copyfileobj(source, target)
    version, has_acl = read_header(str(path))
    return Image(name=name, path=str(path), version=version, has_acl=has_acl,
                 objects=[str(work / "no-objects")], has_objects=False)
