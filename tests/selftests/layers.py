#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""An image of layers, signed: from the layers of a container to a mount.

A server has OCI layers. cfsctl of the composefs project merges them to one
image, and the objects of each layer go to a directory of their own. The image
is signed. A client that has the image, its signature and the directories
mounts it. The tree has to be the one that umoci unpacks from the same layers.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from lib import (caches, fixtures, kernel_log, ktap, layer_trees, layers,
                 mounts, objects, signing)
from lib.compare import Differences, attributes, same_content
from lib.layer_trees import LAYERS
from lib.layers import GONE
from lib.refused import refused
from lib.signing import Signer
from lib.special_tree import content, write
from lib.tree import Entry, link_groups, walk
from lib.verity import enable_verity

# What cfsctl keeps of the extended attributes, and what it can be asked to.
KEPT: tuple[str, ...] = ("security.capability",)
KEPT_OF_USERS = ("security.capability", "user.")

suite = ktap.Suite()


class Story:
    """The images, and what a client has of them."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.server = layers.Server(top)
        self.server.new("none")
        below = "none"
        for layer in LAYERS:
            self.add(below, layer.__name__, layer)
            below = layer.__name__
        self.add("deletes", "next", layer_trees.replaces_next)
        self.image = self.client("replaces")
        self.next = self.client("next")
        self.objects = self.server.brought("replaces")
        self.next_objects = self.server.brought("next")
        for number, names in enumerate(self.objects, 1):
            self.server.ship(names, top / f"D{number}")
        self.server.ship(self.next_objects[-1], top / "D5-next")
        last = len(self.objects)
        self.basedirs = [str(top / f"D{number}")
                         for number in range(last, 0, -1)]
        self.next_basedirs = [str(top / "D5-next"), *self.basedirs[1:]]

    def add(self, below: str, tag: str,
            layer: Callable[[Path], None]) -> None:
        """Makes a layer and adds it to an image."""
        tree = self.top / tag
        tree.mkdir()
        layer(tree)
        archive = layers.pack(tree)
        if layer is layer_trees.changes:
            # Its second name is a link to what the archive does not have.
            layers.run("tar", "--delete", f"--file={archive}", "across/file")
        self.server.add(below, tag, archive)

    def client(self, tag: str) -> Path:
        """The image at the client, with fs-verity."""
        copy = self.top / f"{tag}.img"
        shutil.copyfile(self.server.pull(tag), copy)
        enable_verity(copy)
        return copy

    def options(self, image: Path, basedirs: list[str]) -> mounts.Options:
        """Of a mount by a signature that the vendor makes."""
        signature = signing.write(f"{image.name}.p7s",
                                  Signer.vendor().sign_file(str(image)))
        return mounts.composefs_options(str(image), basedirs,
                                        ("signature", signature))

    def mounted(self) -> AbstractContextManager[str]:
        return mounts.mounted("composefs",
                              self.options(self.image, self.basedirs))

    def mounted_next(self) -> AbstractContextManager[str]:
        return mounts.mounted("composefs",
                              self.options(self.next, self.next_basedirs))


def visible(entry: Entry, kept: tuple[str, ...]) -> dict[str, object]:
    """What has to be the same in both trees."""
    found = attributes(entry)
    if entry.format == stat.S_IFDIR:
        # ext4 has its own.
        del found["size"], found["nlink"]
    found["xattrs"] = {name: value for name, value in entry.xattrs.items()
                       if name.startswith(kept)}
    return found


def compare(test: ktap.Test, top: str, other: Path,
            kept: tuple[str, ...]) -> dict[bytes, Entry]:
    """Compares a mount with a tree, entry for entry. Returns our entries."""
    differences = Differences()
    ours = {entry.path: entry for entry in walk(top)}
    theirs = {entry.path: entry for entry in walk(str(other))}
    # cfsctl takes the root's attributes from /usr.
    differences.compare("names", b"", sorted(ours), sorted(theirs))
    for path in (ours.keys() & theirs.keys()) - {b""}:
        differences.compared += 1
        expected = visible(theirs[path], kept)
        for kind, value in visible(ours[path], kept).items():
            differences.compare(kind, path, value, expected[kind])
        if ours[path].format == theirs[path].format == stat.S_IFREG:
            differences.compare("content", path, same_content(
                os.fsencode(top) + path, os.fsencode(other) + path,
                theirs[path].stat.st_size), None)
    differences.compare("hard links", b"", link_groups(ours.values())
                        ^ link_groups(theirs.values()), set())
    differences.report(test)
    test.note(f"{differences.compared} names")
    return ours


@suite.test("the tree of all layers is the one that umoci unpacks")
def whole_tree(test: ktap.Test) -> None:
    with signing.trusting(Signer.vendor()), STORY.mounted() as top:
        ours = compare(test, top, UNPACKED, KEPT)
        # The comparison would be worth little if umoci did as little.
        for name, there in (
                ("gone/file", False), ("gone/directory", False),
                ("gone/linked", False), ("gone/stays", True),
                ("gone/comes-back", True), ("gone/only", True),
                ("gone/only/file", False), ("opaque/old", False),
                ("opaque/below", False), ("opaque/again/old", False),
                ("opaque/again/new", True), ("opaque/new", True)):
            test.equal(os.fsencode(f"/{name}") in ours, there, name)
        test.check(not any(GONE.encode() in path for path in ours), "marks")
        inodes = {os.stat(f"{top}/across/{name}").st_ino for name in (
            "file", "in-the-same-layer", "in-the-next-layer")}
        test.equal(len(inodes), 1, "inodes of a file with links across layers")
        test.equal(os.getxattr(f"{top}/xattrs/capability",
                               "security.capability"),
                   layer_trees.CAPABILITY, "capability")


@suite.test("the same with the extended attributes of users")
def with_xattrs(test: ktap.Test) -> None:
    image = STORY.top / "xattrs.img"
    dump = STORY.server.dump("replaces", "--xattrs=keep-user-xattrs")
    layers.run("mkcomposefs", "--from-file", "-", image, stdin=dump)
    enable_verity(image)
    with signing.trusting(Signer.vendor()), mounts.mounted(
            "composefs", STORY.options(image, STORY.basedirs)) as top:
        compare(test, top, UNPACKED, KEPT_OF_USERS)
        test.equal(os.getxattr(f"{top}/xattrs/capability", "user.new"),
                   b"\xff binary \0", "user.new")


@suite.test("each layer brings its own objects, and no other")
def own_objects(test: ktap.Test) -> None:
    sizes = [sorted((STORY.server.repository / "objects" / name).stat().st_size
                    for name in names) for names in STORY.objects]
    test.equal(sizes[1:], [[30000, 30001, 30002, 30003, 30004], [], [],
                           [40000, 40001, 40002]], "sizes by layer")
    test.check(len(sizes[0]) > 10, f"the first layer: {sizes[0]}")
    test.equal(STORY.next_objects[:-1], STORY.objects[:-1], "shared layers")
    test.equal(len(STORY.next_objects[-1]), 1, "objects of the next version")


@suite.test("without the objects of a layer, its files cannot be read")
def missing_layer(test: ktap.Test) -> None:
    with signing.trusting(Signer.vendor()), mounts.mounted(
            "composefs", STORY.options(STORY.image, [
                path for path in STORY.basedirs
                if not path.endswith("D2")])) as top:
        test.fails(errno.EIO, "a file of the second layer",
                   Path(top, "kinds/changed").read_bytes)
        test.equal(Path(top, "usr/shared").read_bytes(),
                   layer_trees.first_content("usr/shared"),
                   "a file of the first layer")


def page_cache() -> int:
    """How many bytes are in the page cache."""
    # Each processor counts for itself first.
    Path("/proc/sys/vm/stat_refresh").write_text("1\n", encoding="ascii")
    [line] = [line for line in Path("/proc/meminfo").read_text(
        encoding="ascii").splitlines() if line.startswith("Cached:")]
    return int(line.split()[1]) * 1024


def in_memory(path: str) -> int:
    """How many bytes of the files below a path are in the page cache."""
    said = layers.run("find", path, "-type", "f", "-exec", "fincore",
                      "--bytes", "--noheadings", "--output=RES", "{}", "+")
    return sum(int(line) for line in said.split())


@suite.test("two images that share layers share their objects in memory")
def shared_in_memory(test: ktap.Test) -> None:
    shared = STORY.basedirs[-1]
    with signing.trusting(Signer.vendor()), STORY.mounted() as top, \
            STORY.mounted_next() as other:
        caches.drop_all()
        before = in_memory(shared)
        names = [path.relative_to(top) for path in Path(top).rglob("*")
                 if path.is_file() and not path.is_symlink()]
        for name in names:
            Path(top, name).read_bytes()
        after = in_memory(shared)
        test.check(after > before + 1500000, f"{before}, then {after} bytes")
        whole = page_cache()
        for name in names:
            if Path(other, name).exists():
                Path(other, name).read_bytes()
        grown = page_cache() - whole
        test.check(grown < 500000, f"the page cache grows by {grown} bytes")
        test.equal(in_memory(shared), after, "bytes in memory afterwards")
        test.equal(Path(other, "opaque/next").read_bytes(), content(50000, 4),
                   "a file of the later version")
        test.equal(sorted(os.listdir(f"{other}/opaque")), ["next"],
                   "the directory that is replaced")


@suite.test("a layer that umoci makes of the changes in a tree")
def repacked(test: ktap.Test) -> None:
    tree = STORY.server.unpack("deletes")
    (tree / "kinds/changed").unlink()
    shutil.rmtree(tree / "hardlinks/a")
    write(str(tree / "usr/shared"), content(60000, 5))
    os.link(tree / "usr/next", tree / "usr/next-linked")
    os.chmod(tree / "across", 0o711)
    STORY.server.repack(tree, "repacked")
    # umoci packs times in seconds, so the tree itself has others.
    expected = STORY.server.unpack("repacked")
    image = STORY.client("repacked")
    STORY.server.ship(STORY.server.brought("repacked")[-1], STORY.top / "D6")
    with signing.trusting(Signer.vendor()), mounts.mounted(
            "composefs", STORY.options(image, [
                str(STORY.top / "D6"), *STORY.basedirs])) as top:
        ours = compare(test, top, expected, KEPT)
        for name in ("kinds/changed", "hardlinks/a"):
            test.check(os.fsencode(f"/{name}") not in ours, name)
        test.equal(Path(top, "usr/shared").read_bytes(), content(60000, 5),
                   "a changed file")


def forged() -> Path:
    """The image with another owner of a file."""
    image = STORY.top / "forged.img"
    if not image.exists():
        dump = STORY.server.dump("replaces")
        [line] = [line for line in dump.splitlines()
                  if line.startswith(b"/kinds/attributes ")]
        fields = line.split(b" ")
        fields[4] = b"0"
        layers.run("mkcomposefs", "--from-file", "-", image,
                   stdin=dump.replace(line, b" ".join(fields)))
        enable_verity(image)
    return image


@suite.test("a changed image, and one of another signer, are refused")
def refuses(test: ktap.Test) -> None:
    stranger = Signer("stranger", "second")
    genuine = signing.write("genuine", Signer.vendor().sign_file(
        str(STORY.image)))
    other = signing.write("other", stranger.sign_file(str(forged())))
    with signing.trusting(Signer.vendor()):
        for what, signature, number, words in (
                ("the signature of another image", genuine,
                 errno.EKEYREJECTED, "not a good signature"),
                ("another signer", other, errno.ENOKEY, "trusted keys")):
            with kernel_log.watch() as lines:
                refused(test, what, number, mounts.composefs_options(
                    str(forged()), STORY.basedirs, ("signature", signature)),
                    f"image {forged()}: ", words)
            test.check(any(words in line for line in lines),
                       f"{what}: no line in the kernel log")
        with STORY.mounted() as top:
            test.equal(Path(top, "usr/shared").read_bytes(),
                       layer_trees.first_content("usr/shared"), "afterwards")


objects.require_verity()
signing.require()
layers.require()
with tempfile.TemporaryDirectory(prefix="layers-",
                                 dir=fixtures.SCRATCH) as _folder:
    STORY = Story(Path(_folder))
    UNPACKED = STORY.server.unpack("replaces")
    suite.run()
