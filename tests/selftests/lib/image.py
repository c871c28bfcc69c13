# SPDX-License-Identifier: GPL-2.0

"""A writer of composefs images.

    root = image.directory({
        "hello": image.regular(b"hello\n"),
        "large": image.external(5000, "/ab/cdef", digest),
        "link": image.symlink("hello"),
    })
    image.write(root, "/tmp/hello.cfs")

The layout is that of EROFS; the structures have the names that they have in
fs/erofs/erofs_fs.h. An image consists of

    byte 0      the header of composefs
    byte 1024   struct erofs_super_block
    byte 1152   inodes. The inode at byte 32 * N has the number (nid) N. Behind
                an inode are its xattrs, then the tail of its content: what is
                left when whole blocks are taken away.
    ...         the whole blocks of content, of 4096 bytes each

Content is that of directories, symlinks and small files. A large file is
external: the image has the path of an object and the fs-verity digest of it,
as the xattrs that overlayfs uses.

For simplicity each inode is extended (64 bytes), no xattrs are shared, and no
xattr filter is written.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

COMPOSEFS_MAGIC = 0xd078629a
COMPOSEFS_FLAG_HAS_ACL = 1
EROFS_SUPER_MAGIC = 0xe0f5e1e2
EROFS_SUPER_OFFSET = 1024
EROFS_FEATURE_COMPAT_MTIME = 2

EROFS_INODE_FLAT_PLAIN = 0
EROFS_INODE_FLAT_INLINE = 2
EROFS_INODE_CHUNK_BASED = 4
EROFS_I_VERSION_EXTENDED = 1
EROFS_NULL_ADDR = 0xffffffff
# Chunks of 2^31 blocks: the field has room for no larger ones.
CHUNK_BITS = 31
CHUNK_FORMAT = CHUNK_BITS

BLOCK = 4096
SLOT = 32
INODE = struct.Struct("<HHHHQIIIIQII16x")
DIRENT = struct.Struct("<QHBx")
XATTR_HEADER = struct.Struct("<IB7x")
XATTR_ENTRY = struct.Struct("<BBH")

# EROFS_XATTR_INDEX_*, and what they stand for.
XATTR_PREFIXES = ((2, "system.posix_acl_access"),
                  (3, "system.posix_acl_default"), (1, "user."),
                  (4, "trusted."), (6, "security."), (0, ""))

# EROFS_FT_*
FILE_TYPES = {stat.S_IFREG: 1, stat.S_IFDIR: 2, stat.S_IFCHR: 3,
              stat.S_IFBLK: 4, stat.S_IFIFO: 5, stat.S_IFSOCK: 6,
              stat.S_IFLNK: 7}

# Of fs-verity: FS_VERITY_HASH_ALG_*.
ALGORITHMS = {"sha256": 1, "sha512": 2}


@dataclass(eq=False)
class Inode:
    """An inode. One that is in more than one place of the tree is a file with
    several hard links."""

    # Type and permissions.
    mode: int
    # Content of a regular file that is in the image, or a link's target.
    content: bytes = b""
    # Size of an external regular file; None for all others.
    size: int | None = None
    # Entries of a directory.
    entries: dict[bytes, Inode] = field(default_factory=dict)
    uid: int = 0
    gid: int = 0
    # In nanoseconds.
    mtime: int = 0
    # Number of a device.
    rdev: int = 0
    # As they are stored.
    xattrs: dict[str, bytes] = field(default_factory=dict)

    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)


def directory(entries: dict[str, Inode], mode: int = 0o755) -> Inode:
    return Inode(stat.S_IFDIR | mode, entries={
        os.fsencode(name): inode for name, inode in entries.items()})


def regular(content: bytes, mode: int = 0o644) -> Inode:
    """A regular file whose content is in the image."""
    return Inode(stat.S_IFREG | mode, content)


def symlink(target: str) -> Inode:
    return Inode(stat.S_IFLNK | 0o777, os.fsencode(target))


def special(mode: int, rdev: int = 0) -> Inode:
    """A device, a FIFO or a socket; `mode` has the type."""
    return Inode(mode, rdev=rdev)


def external(size: int, path: str, digest: bytes = b"",
             mode: int = 0o644) -> Inode:
    """A regular file whose content is an object: `path` is where it is, in a
    base directory, and begins with a slash. `digest` is the object's fs-verity
    digest, by SHA-256 or SHA-512; without it nothing is verified."""
    metacopy = b""
    if digest:
        algorithm = {32: 1, 64: 2}[len(digest)]
        # Version, length, flags.
        metacopy = bytes([0, 4 + len(digest), 0, algorithm]) + digest
    return Inode(stat.S_IFREG | mode, size=size, xattrs={
        "trusted.overlay.metacopy": metacopy,
        "trusted.overlay.redirect": os.fsencode(path)})


def verity_digest(content: bytes, algorithm: str = "sha256") -> bytes:
    """The fs-verity digest of a file, with blocks of 4096 bytes and no salt:
    the hash of struct fsverity_descriptor."""
    def hashed(data: bytes) -> bytes:
        return hashlib.new(algorithm, data).digest()

    # Each level of the Merkle tree has the hashes of the blocks below it.
    level = content
    while True:
        level = b"".join(hashed(level[at:at + BLOCK].ljust(BLOCK, b"\0"))
                         for at in range(0, len(level), BLOCK))
        if len(level) <= hashlib.new(algorithm).digest_size:
            break
    return hashed(struct.pack("<BBBxIQ64s176x", 1, ALGORITHMS[algorithm], 12,
                              0, len(content), level))


def object_path(digest: bytes) -> str:
    """The usual path of an object, as the image has it."""
    return f"/{digest.hex()[:2]}/{digest.hex()[2:]}"


def write(root: Inode, path: str | Path, version: int = 2) -> None:
    """Writes an image of the tree below `root`."""
    with open(path, "wb") as file:
        file.write(pack(root, version))


def pack(root: Inode, version: int = 2) -> bytes:
    """The bytes of an image."""
    places, parents, links = _collect(root)
    contents = {inode: _content(inode, {}, inode) for inode in places}
    # Where each inode goes: the tail of its content may cross no block.
    at = EROFS_SUPER_OFFSET + 128
    for inode in places:
        head = _head_size(inode)
        tail = _tail(len(contents[inode]))
        while (at + head) % BLOCK + tail > BLOCK:
            at += SLOT
        places[inode] = at // SLOT
        at = _round_up(at + head + tail, SLOT)
    first_block = _round_up(at, BLOCK) // BLOCK

    inodes = bytearray(first_block * BLOCK)
    blocks = bytearray()
    for number, (inode, nid) in enumerate(places.items()):
        content = _content(inode, places, parents.get(inode, inode))
        whole = len(content) - _tail(len(content))
        head = _head(inode, nid if version == 2 else number,
                     first_block + len(blocks) // BLOCK, len(content),
                     links[inode]) + content[whole:]
        inodes[nid * SLOT:nid * SLOT + len(head)] = head
        blocks += content[:whole].ljust(_round_up(whole, BLOCK), b"\0")

    has_acl = any(name.startswith("system.posix_acl_") for inode in places
                  for name in inode.xattrs)
    inodes[0:16] = struct.pack(
        "<4I", COMPOSEFS_MAGIC, 1,
        COMPOSEFS_FLAG_HAS_ACL if has_acl and version < 2 else 0, version)
    inodes[EROFS_SUPER_OFFSET:EROFS_SUPER_OFFSET + 48] = struct.pack(
        "<IIIBBHQQIIII", EROFS_SUPER_MAGIC, 0, EROFS_FEATURE_COMPAT_MTIME, 12,
        0, places[root], len(places), 0, 0,
        first_block + len(blocks) // BLOCK, 0, 0)
    return bytes(inodes + blocks)


def _collect(root: Inode) -> tuple[dict[Inode, int], dict[Inode, Inode],
                                   dict[Inode, int]]:
    """All inodes, breadth first, without their places; the parents of the
    directories; the link counts."""
    places, parents, links = {root: 0}, {}, {root: 2}
    for inode in (queue := [root]):
        # In order, so that the same tree gives the same bytes.
        for _, child in sorted(inode.entries.items()):
            links[child] = links.get(child, 0) + 1
            if child.is_directory():
                parents[child] = inode
                # Its name, its ".", and the ".." of each directory in it.
                links[child] += 1
                links[inode] += 1
            if child not in places:
                places[child] = 0
                queue.append(child)
    return places, parents, links


def _content(inode: Inode, places: dict[Inode, int], parent: Inode) -> bytes:
    """What an inode has of blocks and tail. In a directory all places that are
    not known are 0."""
    if not inode.is_directory():
        return inode.content
    entries = {b".": inode, b"..": parent, **inode.entries}
    dirents = [(name, places.get(child, 0),
                FILE_TYPES[stat.S_IFMT(child.mode)])
               for name, child in sorted(entries.items())]
    return b"".join(_directory_blocks(dirents))


def _directory_blocks(dirents: list[tuple[bytes, int, int]]
                      ) -> Iterator[bytes]:
    """Blocks of a directory. In each are first all entries, then all names."""
    while dirents:
        count, room = 0, BLOCK
        for name, _, _ in dirents:
            room -= DIRENT.size + len(name)
            if room < 0:
                break
            count += 1
        block, names = b"", b""
        for name, nid, kind in dirents[:count]:
            block += DIRENT.pack(nid, DIRENT.size * count + len(names), kind)
            names += name
        dirents = dirents[count:]
        # Only the last one may be short.
        yield (block + names).ljust(BLOCK if dirents else 0, b"\0")


def _tail(size: int) -> int:
    """Bytes of content that are right behind an inode. If there are too many
    to find room for in the block, they get a block of their own."""
    tail = size % BLOCK
    return tail if tail <= BLOCK - SLOT else 0


def _head(inode: Inode, number: int, block: int, size: int, links: int
          ) -> bytes:
    """struct erofs_inode_extended, the xattrs, the chunks."""
    layout = EROFS_INODE_FLAT_INLINE if _tail(size) else EROFS_INODE_FLAT_PLAIN
    place = block
    if inode.size is not None:
        layout, place, size = EROFS_INODE_CHUNK_BASED, CHUNK_FORMAT, inode.size
    elif stat.S_ISCHR(inode.mode) or stat.S_ISBLK(inode.mode):
        place = _encode_dev(inode.rdev)
    xattrs = _xattrs(inode)
    return INODE.pack(
        EROFS_I_VERSION_EXTENDED | layout << 1,
        (len(xattrs) - XATTR_HEADER.size) // 4 + 1 if xattrs else 0,
        inode.mode, 0, size, place, number, inode.uid, inode.gid,
        inode.mtime // 10**9 % 2**64, inode.mtime % 10**9, links
    ) + xattrs + _chunks(inode)


def _head_size(inode: Inode) -> int:
    return INODE.size + len(_xattrs(inode)) + len(_chunks(inode))


def _xattrs(inode: Inode) -> bytes:
    """struct erofs_xattr_ibody_header and the entries. The filter is 0: any
    name may be there."""
    if not inode.xattrs:
        return b""
    packed = XATTR_HEADER.pack(0, 0)
    for name, value in inode.xattrs.items():
        index, prefix = next((index, prefix) for index, prefix
                             in XATTR_PREFIXES if name.startswith(prefix))
        stored = os.fsencode(name[len(prefix):])
        packed += XATTR_ENTRY.pack(len(stored), index, len(value))
        packed += stored + value
        packed += bytes(-len(packed) % 4)
    return packed


def _chunks(inode: Inode) -> bytes:
    """Where the chunks of an external file are: nowhere in the image."""
    if inode.size is None:
        return b""
    count = -(-inode.size // (BLOCK << CHUNK_BITS))
    return struct.pack("<I", EROFS_NULL_ADDR) * count


def _encode_dev(rdev: int) -> int:
    """As new_encode_dev() in include/linux/kdev_t.h."""
    major, minor = os.major(rdev), os.minor(rdev)
    return minor & 0xff | major << 8 | (minor & ~0xff) << 12


def _round_up(number: int, unit: int) -> int:
    return -(-number // unit) * unit
