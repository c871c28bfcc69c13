# SPDX-License-Identifier: GPL-2.0

"""A writer of composefs images.

    root = image.directory({
        "hello": image.regular(b"hello"),
        "large": image.external(5000, "/ab/cdef", digest),
        "link": image.symlink("hello"),
    })
    image.write(root, "/tmp/hello.cfs")

The layout is that of EROFS, with the names of fs/erofs/erofs_fs.h. All
integers are little-endian. An image consists of

    byte 0      the composefs header
    byte 1024   struct erofs_super_block
    byte 1152   inodes. The inode with the number (nid) N is at byte 32 * N.
                Its xattrs follow it, then its tail: the last, partial block
                of its content.
    ...         the whole blocks of content, 4096 bytes each

Directories, symlinks and small files have content. A large file is external:
it has the path of an object and the fs-verity digest of that object, in the
xattrs that overlayfs uses for the same.

To keep it simple, each inode is an extended one (64 bytes), no xattrs are
shared, and there is no xattr name filter.
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
# A chunk has 2^31 blocks: EROFS_CHUNK_FORMAT_BLKBITS_MASK allows no more.
CHUNK_BITS = 31

BLOCK = 4096
SLOT = 32
# magic, checksum, feature_compat, blkszbits, sb_extslots, rootnid_2b; inos,
# epoch; fixed_nsec, blocks_lo, meta_blkaddr, xattr_blkaddr. The rest is 0.
SUPER = struct.Struct("<IIIBBHQQIIII")
SUPER_SIZE = 128
# i_format, i_xattr_icount, i_mode, i_nb; i_size, i_u, i_ino, i_uid, i_gid;
# i_mtime, i_mtime_nsec, i_nlink
INODE = struct.Struct("<HHHHQIIIIQII16x")
DIRENT = struct.Struct("<QHBx")
XATTR_HEADER = struct.Struct("<IB7x")
XATTR_ENTRY = struct.Struct("<BBH")

# EROFS_XATTR_INDEX_* and the prefixes that they replace.
XATTR_PREFIXES = ((2, "system.posix_acl_access"),
                  (3, "system.posix_acl_default"), (1, "user."),
                  (4, "trusted."), (6, "security."), (0, ""))

# EROFS_FT_*
FILE_TYPES = {stat.S_IFREG: 1, stat.S_IFDIR: 2, stat.S_IFCHR: 3,
              stat.S_IFBLK: 4, stat.S_IFIFO: 5, stat.S_IFSOCK: 6,
              stat.S_IFLNK: 7}

# FS_VERITY_HASH_ALG_*
ALGORITHMS = {"sha256": 1, "sha512": 2}


@dataclass(eq=False)
class Inode:
    """An inode. A file with several hard links is the same Inode in several
    directories."""

    # Type and permissions.
    mode: int
    # The content of a regular file, if the image holds it; a symlink's target.
    content: bytes = b""
    # The size of an external file. None for all other inodes.
    size: int | None = None
    # Entries of a directory.
    entries: dict[bytes, Inode] = field(default_factory=dict)
    uid: int = 0
    gid: int = 0
    # In nanoseconds.
    mtime: int = 0
    # A device's number.
    rdev: int = 0
    # The names are those in the image, which users do not see all of.
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
    """A regular file whose content is an object. `path` starts with a slash
    and is relative to a base directory. `digest` is the object's fs-verity
    digest, SHA-256 or SHA-512; an object without one is not verified."""
    metacopy = b""
    if digest:
        algorithm = {32: 1, 64: 2}[len(digest)]
        # Version, length, flags.
        metacopy = bytes([0, 4 + len(digest), 0, algorithm]) + digest
    return Inode(stat.S_IFREG | mode, size=size, xattrs={
        "trusted.overlay.metacopy": metacopy,
        "trusted.overlay.redirect": os.fsencode(path)})


def verity_digest(content: bytes, algorithm: str = "sha256") -> bytes:
    """The fs-verity digest of a file, for blocks of 4096 bytes and no salt:
    the hash of struct fsverity_descriptor."""
    def hashed(data: bytes) -> bytes:
        return hashlib.new(algorithm, data).digest()

    # A level of the Merkle tree consists of the hashes of the blocks of the
    # level below.
    level = content
    while True:
        level = b"".join(hashed(level[at:at + BLOCK].ljust(BLOCK, b"\0"))
                         for at in range(0, len(level), BLOCK))
        if len(level) <= hashlib.new(algorithm).digest_size:
            break
    return hashed(struct.pack("<BBBxIQ64s176x", 1, ALGORITHMS[algorithm], 12,
                              0, len(content), level))


def object_path(digest: bytes) -> str:
    """The path that mkcomposefs gives to an object."""
    return f"/{digest.hex()[:2]}/{digest.hex()[2:]}"


def write(root: Inode, path: str | Path, version: int = 2) -> None:
    """Writes an image of the tree below `root`."""
    with open(path, "wb") as file:
        file.write(pack(root, version))


def pack(root: Inode, version: int = 2) -> bytes:
    """Returns the bytes of an image. `version` is its composefs_version."""
    nids, parents, links = _collect(root)
    contents = {inode: _content(inode, {}, inode) for inode in nids}
    # Assign the nids. A tail must not cross a block.
    at = EROFS_SUPER_OFFSET + SUPER_SIZE
    for inode in nids:
        head = _head_size(inode)
        tail = _tail(len(contents[inode]))
        while (at + head) % BLOCK + tail > BLOCK:
            at += SLOT
        nids[inode] = at // SLOT
        at = _round_up(at + head + tail, SLOT)
    first_block = _round_up(at, BLOCK) // BLOCK

    inodes = bytearray(first_block * BLOCK)
    blocks = bytearray()
    for number, (inode, nid) in enumerate(nids.items()):
        content = _content(inode, nids, parents.get(inode, inode))
        whole = len(content) - _tail(len(content))
        head = _head(inode, nid if version == 2 else number,
                     first_block + len(blocks) // BLOCK, len(content),
                     links[inode]) + content[whole:]
        inodes[nid * SLOT:nid * SLOT + len(head)] = head
        blocks += content[:whole].ljust(_round_up(whole, BLOCK), b"\0")

    has_acl = any(name.startswith("system.posix_acl_") for inode in nids
                  for name in inode.xattrs)
    inodes[0:16] = struct.pack(
        "<4I", COMPOSEFS_MAGIC, 1,
        COMPOSEFS_FLAG_HAS_ACL if has_acl and version < 2 else 0, version)
    SUPER.pack_into(
        inodes, EROFS_SUPER_OFFSET, EROFS_SUPER_MAGIC, 0,
        EROFS_FEATURE_COMPAT_MTIME, BLOCK.bit_length() - 1, 0, nids[root],
        len(nids), 0, 0, first_block + len(blocks) // BLOCK, 0, 0)
    return bytes(inodes + blocks)


def _collect(root: Inode) -> tuple[dict[Inode, int], dict[Inode, Inode],
                                   dict[Inode, int]]:
    """Returns all inodes, breadth first, with 0 for their nids; the parent of
    each directory; the link counts."""
    nids, parents, links = {root: 0}, {}, {root: 2}
    for inode in (queue := [root]):
        # Sorted, so that the same tree gives the same bytes.
        for _, child in sorted(inode.entries.items()):
            links[child] = links.get(child, 0) + 1
            if child.is_directory():
                parents[child] = inode
                # "." of the child and ".." in the child.
                links[child] += 1
                links[inode] += 1
            if child not in nids:
                nids[child] = 0
                queue.append(child)
    return nids, parents, links


def _content(inode: Inode, nids: dict[Inode, int], parent: Inode) -> bytes:
    """Returns the content of an inode, blocks and tail. A directory has 0 in
    place of a nid that is not in `nids`."""
    if not inode.is_directory():
        return inode.content
    entries = {b".": inode, b"..": parent, **inode.entries}
    dirents = [(name, nids.get(child, 0),
                FILE_TYPES[stat.S_IFMT(child.mode)])
               for name, child in sorted(entries.items())]
    return b"".join(_directory_blocks(dirents))


def _directory_blocks(dirents: list[tuple[bytes, int, int]]
                      ) -> Iterator[bytes]:
    """Yields the blocks of a directory. A block holds an array of struct
    erofs_dirent, then the names."""
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
        # Only the last block may be short.
        yield (block + names).ljust(BLOCK if dirents else 0, b"\0")


def _tail(size: int) -> int:
    """The size of the tail. A tail that may not fit behind any inode becomes a
    block, padded with zeros."""
    tail = size % BLOCK
    return tail if tail <= BLOCK - SLOT else 0


def _head(inode: Inode, number: int, block: int, size: int, links: int
          ) -> bytes:
    """struct erofs_inode_extended, then the xattrs, then the chunks."""
    layout = EROFS_INODE_FLAT_INLINE if _tail(size) else EROFS_INODE_FLAT_PLAIN
    i_u = block
    if inode.size is not None:
        layout, i_u, size = EROFS_INODE_CHUNK_BASED, CHUNK_BITS, inode.size
    elif stat.S_ISCHR(inode.mode) or stat.S_ISBLK(inode.mode):
        i_u = _encode_dev(inode.rdev)
    xattrs = _xattrs(inode)
    return INODE.pack(
        EROFS_I_VERSION_EXTENDED | layout << 1,
        (len(xattrs) - XATTR_HEADER.size) // 4 + 1 if xattrs else 0,
        inode.mode, 0, size, i_u, number, inode.uid, inode.gid,
        inode.mtime // 10**9 % 2**64, inode.mtime % 10**9, links
    ) + xattrs + _chunks(inode)


def _head_size(inode: Inode) -> int:
    return INODE.size + len(_xattrs(inode)) + len(_chunks(inode))


def _xattrs(inode: Inode) -> bytes:
    """struct erofs_xattr_ibody_header, then the entries."""
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
    """The block numbers of the chunks of an external file, all holes."""
    if inode.size is None:
        return b""
    count = -(-inode.size // (BLOCK << CHUNK_BITS))
    return struct.pack("<I", EROFS_NULL_ADDR) * count


def _encode_dev(rdev: int) -> int:
    """new_encode_dev() of include/linux/kdev_t.h."""
    major, minor = os.major(rdev), os.minor(rdev)
    return minor & 0xff | major << 8 | (minor & ~0xff) << 12


def _round_up(number: int, unit: int) -> int:
    return -(-number // unit) * unit
