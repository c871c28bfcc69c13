#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""The content of files: in the image, and in objects."""

from __future__ import annotations

import errno
import mmap
import os
import random
from pathlib import Path

from lib import core, image, ktap, mounts

suite = ktap.Suite()

# In bytes: less than a page, a page, more than a page.
INLINE_SIZES = (0, 1, 64, 4095, 4096, 4097, 5000)
OBJECT_SIZES = (1, 4095, 4096, 4097, 1 << 20)


def some_bytes(count: int) -> bytes:
    return random.Random(count).randbytes(count)


def check_content(test: ktap.Test, path: str, content: bytes) -> None:
    """Reads a file in several ways."""
    fd = os.open(path, os.O_RDONLY)
    try:
        size = len(content)
        test.equal(os.fstat(fd).st_size, size, f"{path}: size")
        test.check(os.read(fd, size + 1) == content, f"{path}: read(2)")
        test.equal(os.read(fd, 1), b"", f"{path}: read(2) at the end")
        middle = size // 2
        test.check(os.pread(fd, 10, middle) == content[middle:][:10],
                   f"{path}: pread(2)")
        test.equal(os.pread(fd, 10, size + 5000), b"", f"{path}: beyond")
        if size:
            with mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ) as view:
                test.check(view[:] == content, f"{path}: mmap(2)")
    finally:
        os.close(fd)


@suite.test("content in the image")
def inline(test: ktap.Test) -> None:
    root = image.directory({str(size): image.regular(some_bytes(size))
                            for size in INLINE_SIZES})
    with core.mounted(root) as top:
        for size in INLINE_SIZES:
            check_content(test, f"{top}/{size}", some_bytes(size))


@suite.test("content in objects")
def external(test: ktap.Test) -> None:
    with core.workdir() as work:
        root = image.directory({
            str(size): image.external(
                size, core.put_object(work, some_bytes(size))[0])
            for size in OBJECT_SIZES})
        image.write(root, work / "image")
        with mounts.mounted("composefs", core.options(work)) as top:
            for size in OBJECT_SIZES:
                check_content(test, f"{top}/{size}", some_bytes(size))


@suite.test("an object in the second base directory")
def second_basedir(test: ktap.Test) -> None:
    with core.workdir() as first, core.workdir() as second:
        path, _ = core.put_object(second, b"second")
        image.write(image.directory({"file": image.external(6, path)}),
                    first / "image")
        options = core.options(first, ("basedir", f"{second}/objects"))
        with mounts.mounted("composefs", options) as top:
            check_content(test, f"{top}/file", b"second")


@suite.test("a missing object is EIO until it appears")
def missing(test: ktap.Test) -> None:
    with core.workdir() as work:
        path, _ = core.put_object(work, b"content")
        file = Path(f"{work}/objects{path}")
        file.unlink()
        image.write(image.directory({"file": image.external(7, path)}),
                    work / "image")
        with mounts.mounted("composefs", core.options(work)) as top:
            test.equal(os.stat(f"{top}/file").st_size, 7, "size")
            read_fails(test, f"{top}/file")
            file.write_bytes(b"content")
            check_content(test, f"{top}/file", b"content")


@suite.test("an object of another size is EIO")
def other_size(test: ktap.Test) -> None:
    with core.workdir() as work:
        path, _ = core.put_object(work, b"content")
        image.write(image.directory({"file": image.external(8, path)}),
                    work / "image")
        with mounts.mounted("composefs", core.options(work)) as top:
            read_fails(test, f"{top}/file")


def read_fails(test: ktap.Test, path: str) -> None:
    with open(path, "rb", buffering=0) as file:
        test.fails(errno.EIO, path, file.read, 1)


core.require_composefs()
suite.run()
