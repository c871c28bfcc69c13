#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""An image of layers, signed: from the layers of a container to a mount.

A server has OCI layers. cfsctl of the composefs project merges them to one
image, and the objects of each layer go to a directory of their own. The image
is signed. A client that has the image, its signature and the directories mounts
it. The tree has to be the one that umoci unpacks from the same layers.
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

from lib import (caches, fixtures, kernel_log, ktap, layers, mounts, objects,
                 signing, special_tree)
from lib.compare import Differences, attributes, same_content
from lib.layers import ALL_GONE, GONE
from lib.refused import refused
from lib.signing import Signer
from lib.special_tree import content, write
from lib.tree import Entry, link_groups, walk
from lib.verity import enable_verity

# What cfsctl keeps of the extended attributes, and what it can be asked to.
KEPT: tuple[str, ...] = ("security.capability",)
KEPT_OF_USERS = ("security.capability", "user.")

suite = ktap.Suite()


def leave_out(top: Path) -> None:
    """Removes what one of the tools cannot have: cfsctl no time before 1970,
    umoci none after 2262 and no empty attribute, mkcomposefs not as many
    attributes or as long ones."""
    for name in ("times/before-1970", "times/before-1970-nanoseconds",
                 "times/2400", "xattrs/many", "xattrs/long"):
        (top / name).unlink()
    for name in ("all-file", "all-directory"):
        for prefix in ("user", "trusted", "security"):
            os.removexattr(top / "xattrs" / name, f"{prefix}.empty")


def base(top: Path) -> None:
    """The first layer."""
    for part in (special_tree.types, special_tree.modes, special_tree.owners,
                 special_tree.names, special_tree.links,
                 special_tree.hardlinks, special_tree.times,
                 special_tree.xattrs, special_tree.deep):
        (top / part.__name__).mkdir()
        part(str(top / part.__name__))
    leave_out(top)
    for name in ("usr", "opaque/below", "opaque/again", "gone/directory/deep",
                 "gone/only", "gone/opaque-and-gone", "kinds/was-directory",
                 "sparse", "across"):
        (top / name).mkdir(parents=True)
    for number, name in enumerate((
            "opaque/old", "opaque/below/old", "opaque/again/old",
            "opaque/same", "gone/file", "gone/stays", "gone/comes-back",
            "gone/directory/file", "gone/directory/deep/file",
            "gone/only/file", "kinds/was-file", "kinds/was-directory/file",
            "kinds/was-link-target", "kinds/changed", "kinds/attributes",
            "across/file", "usr/shared", "usr/next")):
        write(str(top / name), content(20000 + number, 1))
    (top / "kinds/was-link").symlink_to("was-link-target")
    (top / "gone/link").symlink_to("file")
    os.mknod(top / "gone/device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.link(top / "gone/stays", top / "gone/linked")
    os.link(top / "across/file", top / "across/in-the-same-layer")
    with open(top / "sparse/holes", "wb") as file:
        file.truncate(1 << 20)
        file.seek(700005)
        file.write(b"data in a hole")
    with open(top / "sparse/only-a-hole", "wb") as file:
        file.truncate(300000)


def changes(top: Path) -> None:
    """The second layer changes files, and what kind of file they are."""
    for name in ("kinds", "across", "xattrs"):
        (top / name).mkdir()
    write(str(top / "kinds/changed"), content(30000, 2))
    write(str(top / "kinds/was-link"), content(30001, 2))
    write(str(top / "kinds/was-directory"), content(30002, 2))
    (top / "kinds/was-file").mkdir()
    write(str(top / "kinds/was-file/new"), content(30003, 2))
    # The same content as below: its object belongs to the first layer.
    shutil.copyfile(FOLDER / "base/kinds/attributes", top / "kinds/attributes")
    os.chmod(top / "kinds/attributes", 0o4750)
    os.chown(top / "kinds/attributes", 12, 345)
    write(str(top / "xattrs/capability"), content(30004, 2))
    os.setxattr(top / "xattrs/capability", "security.capability",
                b"\1\0\0\2\0\4\0\0" + bytes(12))
    os.setxattr(top / "xattrs/capability", "user.new", b"\xff binary \0")
    # A link to a file of the layer below, which is not in this one.
    write(str(top / "across/file"))
    os.link(top / "across/file", top / "across/in-the-next-layer")


def deletes(top: Path) -> None:
    """A layer that has nothing but deletions."""
    (top / "gone/only").mkdir(parents=True)
    for name in ("file", "directory", "link", "device", "linked", "comes-back",
                 "only/file", "opaque-and-gone"):
        path = top / "gone" / name
        write(str(path.with_name(GONE + path.name)))


def replaces(top: Path) -> None:
    """A layer that replaces directories."""
    for name in ("opaque", "opaque/again", "opaque/new"):
        (top / name).mkdir()
    for name in ("opaque", "opaque/again", "opaque/new"):
        write(str(top / name / ALL_GONE))
    write(str(top / "opaque/same"), content(40000, 3))
    write(str(top / "opaque/again/new"), content(40001, 3))
    (top / "gone").mkdir()
    write(str(top / "gone/comes-back"), content(40002, 3))


def replaces_next(top: Path) -> None:
    """The last layer of a later version of the image."""
    (top / "opaque").mkdir()
    write(str(top / "opaque" / ALL_GONE))
    write(str(top / "opaque/next"), content(50000, 4))


def empty(top: Path) -> None:
    """An archive without a file."""
    del top


LAYERS: tuple[Callable[[Path], None], ...] = (
    base, changes, empty, deletes, replaces)


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
        self.add("deletes", "next", replaces_next)
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
        if layer is changes:
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
                   b"\1\0\0\2\0\4\0\0" + bytes(12), "capability")


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
        test.equal(Path(top, "usr/shared").read_bytes(), Path(
            UNPACKED, "usr/shared").read_bytes(), "a file of the first layer")


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
        test.check(after > before + 500000, f"{before}, then {after} bytes")
        for name in names:
            if Path(other, name).exists():
                Path(other, name).read_bytes()
        test.equal(in_memory(shared), after, "bytes in memory afterwards")
        test.equal(Path(other, "opaque/next").read_bytes(), content(50000, 4),
                   "a file of the later version")
        test.equal(sorted(os.listdir(f"{other}/opaque")), ["next"],
                   "the directory that is replaced")


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
            test.equal(Path(top, "usr/shared").stat().st_size, 20016,
                       "afterwards")


objects.require_verity()
signing.require()
layers.require()
with tempfile.TemporaryDirectory(prefix="layers-",
                                 dir=fixtures.SCRATCH) as _folder:
    FOLDER = Path(_folder)
    STORY = Story(FOLDER)
    UNPACKED = STORY.server.unpack("replaces")
    suite.run()
