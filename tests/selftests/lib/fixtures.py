# SPDX-License-Identifier: GPL-2.0

"""The images that the tests mount.

COMPOSEFS_FIXTURES names the root of a disk with images that the composefs tools
made. If it is not set, lib/make_images.py makes images, and a scratch directory
if COMPOSEFS_SCRATCH is not set either.
COMPOSEFS_IMAGES names a directory of *.cfs.gz: images without their objects. If
it is not set, tests that need it are skipped.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import shutil
from pathlib import Path

from . import ktap, make_images

# A directory to write to, on an ext4 with fs-verity.
SCRATCH = Path(os.environ.get("COMPOSEFS_SCRATCH", "/scratch"))

# The least size of a packed image that takes long to compare.
LARGE = 256 << 10

# Trees of other images in other versions of the format. The images "special"
# have all that differs between versions.
OTHER_VERSIONS = ("debian-v0", "debian-v2", "special-v1-sha512")

# struct lcfs_erofs_header_s, which an image begins with.
HEADER_MAGIC = 0xd078629a
FLAG_HAS_ACL = 1


@dataclasses.dataclass(frozen=True)
class Image:
    """An image and its properties."""

    name: str
    path: str
    version: int
    # Whether its header says that it has POSIX ACLs.
    has_acl: bool
    # Object directories.
    objects: list[str]
    # Its fs-verity digest, "sha256:...".
    digest: str | None = None
    # The path of the tree that it was made from.
    source: str | None = None
    # The algorithm of the digests in it.
    algorithm: str = "sha256"
    # Whether hard links of the tree are hard links in the image.
    hardlinks: bool = True
    # Whether its objects exist.
    has_objects: bool = True

    def at(self, path: Path) -> Image:
        """The same image, copied to another path."""
        return dataclasses.replace(self, path=str(path))


def read_header(path: str) -> tuple[int, bool]:
    """Returns version and ACL flag of an image."""
    with open(path, "rb") as file:
        header = file.read(16)
    magic, _, flags, version = (int.from_bytes(header[at:at + 4], "little")
                                for at in range(0, 16, 4))
    if magic != HEADER_MAGIC:
        ktap.bail_out(f"{path} is not a composefs image: it begins with "
                      f"{header[:4]!r}")
    return version, bool(flags & FLAG_HAS_ACL)


def _make() -> str:
    """Makes the images, or ends the program if that is impossible. Returns the
    root of their disk."""
    global SCRATCH  # pylint: disable=global-statement
    try:
        images, scratch = make_images.set_up()
    except ktap.Skipped as reason:
        ktap.skip_all(f"COMPOSEFS_FIXTURES is not set, and no images can be "
                      f"made: {reason}")
    os.environ["COMPOSEFS_FIXTURES"] = str(images)
    if "COMPOSEFS_SCRATCH" not in os.environ:
        SCRATCH = scratch
    return str(images)


def top() -> Path:
    """The root of the fixtures."""
    path = os.environ.get("COMPOSEFS_FIXTURES") or _make()
    if not (Path(path) / "manifest.json").exists():
        ktap.bail_out(f"COMPOSEFS_FIXTURES={path} has no manifest.json: "
                      "scripts/make-fixtures did not make it, or failed")
    return Path(path)


def load() -> list[Image]:
    """All images of the fixtures."""
    root = top()
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
            # An absolute path is one of the guest's own tree.
            source=source and str(root / source),
            algorithm=entry["algorithm"], hardlinks=entry["hardlinks"]))
    return images


def require() -> list[Image]:
    """All images of the fixtures. Ends the program if there can be none."""
    return load()


def named(name: str) -> Image:
    """The image of this name. Skips the test if there is none."""
    for image in load():
        if image.name == name:
            return image
    raise ktap.Skipped(f"no image {name} in {top()}")


def many() -> Image:
    """An image of 300 directories with 100 names each, and no objects."""
    path = top() / "images/many.cfs"
    version, has_acl = read_header(str(path))
    return Image(name="many", path=str(path), version=version,
                 has_acl=has_acl, objects=[str(path.parent)],
                 has_objects=False)


def names_without_objects(large: bool) -> list[str]:
    """The names of the images of COMPOSEFS_IMAGES: of those that are large, or
    of the others."""
    directory = os.environ.get("COMPOSEFS_IMAGES")
    if not directory:
        return []
    found = sorted(Path(directory).glob("*.cfs.gz"))
    if not found:
        ktap.bail_out(f"COMPOSEFS_IMAGES={directory} holds no *.cfs.gz")
    return [path.name.removesuffix(".cfs.gz") for path in found
            if (path.stat().st_size >= LARGE) == large]


def without_objects(name: str) -> Image:
    """Unpacks an image of COMPOSEFS_IMAGES."""
    packed = Path(os.environ["COMPOSEFS_IMAGES"]) / f"{name}.cfs.gz"
    work = SCRATCH / "without-objects"
    (work / "no-objects").mkdir(parents=True, exist_ok=True)
    path = work / f"{name}.cfs"
    with gzip.open(packed) as source, open(path, "wb") as target:
        shutil.copyfileobj(source, target)
    version, has_acl = read_header(str(path))
    return Image(name=name, path=str(path), version=version, has_acl=has_acl,
                 objects=[str(work / "no-objects")], has_objects=False)
