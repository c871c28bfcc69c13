#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Mounting an image, and refusing a file that is not an image."""

from __future__ import annotations

import errno
import os

from lib import core, image, ktap, mounts

suite = ktap.Suite()

TREE = image.directory({"file": image.regular(b"hello\n")})

# Offsets of fields in an image.
HEADER_VERSION = 4
HEADER_FLAGS = 8
SUPER_MAGIC = 1024
SUPER_BLKSZBITS = 1036
SUPER_FEATURE_INCOMPAT = 1104


@suite.test("an image is mounted, read and unmounted")
def mount(test: ktap.Test) -> None:
    with core.mounted(TREE) as top:
        test.equal(os.listdir(top), ["file"], "names")
        with open(f"{top}/file", "rb") as file:
            test.equal(file.read(), b"hello\n", "content")
    test.check(not os.path.exists(top), "the directory is still there")


@suite.test("an image is mounted by mount(2), twice")
def mount_twice(test: ktap.Test) -> None:
    with core.workdir() as work, mounts.directory() as one, \
            mounts.directory() as two:
        image.write(TREE, work / "image")
        for top in (one, two):
            mounts.mount(f"{work}/image", top, "composefs", mounts.MS_RDONLY,
                         f"basedir={work}/objects")
        mounts.umount(one)
        test.equal(os.listdir(one), [], "names where nothing is mounted")
        test.equal(os.listdir(two), ["file"], "names")
        mounts.umount(two)


@suite.test("/proc/mounts shows the image and the options")
def shown(test: ktap.Test) -> None:
    with core.workdir() as work:
        image.write(TREE, work / "image")
        with mounts.mounted("composefs", core.options(work)) as top, \
                open("/proc/mounts", encoding="utf-8") as file:
            lines = [line.split() for line in file if f" {top} " in line]
    test.need(len(lines) == 1, f"{len(lines)} lines have {top}")
    source, _, kind, options = lines[0][:4]
    test.equal(source, f"{work}/image", "source")
    test.equal(kind, "composefs", "type")
    for option in ("ro", f"basedir={work}/objects"):
        test.check(option in options.split(","), f"{options}: no {option}")


@suite.test("the mount is read-only")
def read_only(test: ktap.Test) -> None:
    with core.mounted(TREE) as top:
        test.check(os.statvfs(top).f_flag & os.ST_RDONLY, "not read-only")
        for call in (lambda: os.open(f"{top}/file", os.O_RDWR),
                     lambda: os.open(f"{top}/new", os.O_CREAT | os.O_WRONLY),
                     lambda: os.mkdir(f"{top}/new"),
                     lambda: os.unlink(f"{top}/file"),
                     lambda: os.rename(f"{top}/file", f"{top}/new"),
                     lambda: os.chmod(f"{top}/file", 0o600)):
            test.fails(errno.EROFS, "a change", call)


@suite.test("a file that is not an image is refused")
def refused(test: ktap.Test) -> None:
    good = image.pack(TREE)
    for what, content in {
            "an empty file": b"",
            "zeros": bytes(len(good)),
            "one block of two": good[:4095],
            "another header version": changed(good, HEADER_VERSION, 9),
            "an unknown flag": changed(good, HEADER_FLAGS, 0x80),
            "another magic number": changed(good, SUPER_MAGIC, 0),
            "other blocks": changed(good, SUPER_BLKSZBITS, 9),
            "an unknown feature": changed(good, SUPER_FEATURE_INCOMPAT, 0x80),
    }.items():
        with core.workdir() as work:
            (work / "image").write_bytes(content)
            test.fails(errno.EUCLEAN, what, mounts.new_mount, "composefs",
                       core.options(work))


@suite.test("unknown options and missing directories are refused")
def options(test: ktap.Test) -> None:
    with core.workdir() as work:
        image.write(TREE, work / "image")
        for number, more in ((errno.EINVAL, ("nonsense", "1")),
                             (errno.EINVAL, ("verity", "1")),
                             (errno.ENOENT, ("basedir", f"{work}/none")),
                             (errno.ENOTDIR, ("basedir", f"{work}/image"))):
            test.fails(number, f"{more[0]}={more[1]}", mounts.new_mount,
                       "composefs", core.options(work, more))


def changed(content: bytes, at: int, byte: int) -> bytes:
    return content[:at] + bytes([byte]) + content[at + 1:]


core.require_composefs()
suite.run()
