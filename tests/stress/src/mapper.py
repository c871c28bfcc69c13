# SPDX-License-Identifier: GPL-2.0

"""Maps files and opens them by their handles: a child of the stress test.

    python3 mapper.py SELFTESTS DIR SEED

A first pass notes the content of some files below DIR. Then the child performs
an operation for each line of standard input, and answers "ok", "short" (of
memory), or a message.
"""

import errno
import mmap
import os
import random
import stat
import sys
import zlib

FILES = 300
LARGEST = 1 << 20


def first_pass(top, handles, chance):
    """Returns path, inode number, handle and checksum of some files."""
    paths = []
    for parent, _, names in os.walk(os.fsencode(top)):
        paths += [os.path.join(parent, name) for name in names]
        if len(paths) > 10 * FILES:
            break
    chance.shuffle(paths)
    found = []
    for path in paths:
        about = os.lstat(path)
        if not stat.S_ISREG(about.st_mode) or \
                not 0 < about.st_size <= LARGEST:
            continue
        with open(path, "rb") as file:
            total = zlib.crc32(file.read())
        found.append((path, about.st_ino, handles.of(path), total))
        if len(found) == FILES:
            break
    return found


def check_map(path, _ino, _handle, total):
    fd = os.open(path, os.O_RDONLY)
    try:
        with mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as view:
            return zlib.crc32(view) == total
    finally:
        os.close(fd)


def check_handle(mount, handles, ino, handle, total):
    fd = handles.open_by(mount, handle, os.O_RDONLY)
    with open(fd, "rb") as file:
        return os.fstat(fd).st_ino == ino and \
            zlib.crc32(file.read()) == total


def main():
    selftests, top, seed = sys.argv[1:]
    sys.path.insert(0, selftests)
    from lib import handles  # pylint: disable=import-outside-toplevel
    chance = random.Random(int(seed))
    mount = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    found = first_pass(top, handles, chance)
    if not found:
        sys.exit(f"no files in {top}")
    print("begun", flush=True)
    for _ in sys.stdin:
        path, ino, handle, total = chance.choice(found)
        by_handle = chance.random() < 0.4
        try:
            if by_handle:
                right = check_handle(mount, handles, ino, handle, total)
            else:
                right = check_map(path, ino, handle, total)
            answer = "ok" if right else f"{path!r}: wrong content"
        except OSError as error:
            answer = "short" if error.errno == errno.ENOMEM else \
                f"{path!r}: {error}"
        how = " by handle" if by_handle and answer not in ("ok", "short") \
            else ""
        print(answer + how, flush=True)


if __name__ == "__main__":
    main()
