#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Mount options, one by one, and the messages about wrong ones.

basedir.py has basedir=, and source.py has what can be an image.
"""

from __future__ import annotations

import errno
import os

from lib import fixtures, kernel_log, ktap, matrix_image, mounts, objects
from lib.mounts import Context, Value
from lib.refused import refused

suite = ktap.Suite()

DIGITS = "0123456789abcdef" * 4


def check_mount(test: ktap.Test, what: str, *more: tuple[str, Value]) -> None:
    try:
        with mounts.mounted("composefs", matrix_image.options(*more)) as top:
            matrix_image.check(test, top, what)
    except mounts.MountError as error:
        test.fail(f"{what}: {error}")


@suite.test("unknown options are EINVAL, with a message that names them")
def unknown(test: ktap.Test) -> None:
    for key, value in (("nonsense", None), ("nonsense", "1"),
                       ("upperdir", "/"), ("lowerdir", "/"), ("Verity", None),
                       ("basedir ", "/"), ("nonsense", 0)):
        refused(test, f"{key}={value}", errno.EINVAL,
                matrix_image.options((key, value)), key)


@suite.test("a value for a flag, and a missing value, are EINVAL")
def values(test: ktap.Test) -> None:
    for key in ("verity", "tryverity", "noverity"):
        for value in ("", "1", "on", 0):
            refused(test, f"{key}={value!r}", errno.EINVAL,
                    matrix_image.options((key, value)), key, "no value")
    for key in ("image", "basedir", "digest"):
        refused(test, key, errno.EINVAL, matrix_image.options((key, None)),
                key, "needs a value")
    refused(test, "digest as a descriptor", errno.EINVAL,
            matrix_image.options(("digest", 0)), "digest")


@suite.test("values of a wrong type by fsconfig(2): binary, path")
def kinds(test: ktap.Test) -> None:
    for command, name in ((mounts.FSCONFIG_SET_BINARY, "a binary"),
                          (mounts.FSCONFIG_SET_PATH, "a path")):
        for key in ("image", "basedir", "digest", "verity"):
            aux = 4 if command == mounts.FSCONFIG_SET_BINARY else \
                mounts.AT_FDCWD
            with Context.open("composefs") as context:
                test.fails(errno.EINVAL, f"{key} as {name}", context.config,
                           command, key, b"/tmp", aux)
                words = f"{key}: takes "
                test.check(any(words in line for line in context.messages()),
                           f"{key} as {name}: no message says '{words}'")


@suite.test("malformed digests are EINVAL")
def malformed(test: ktap.Test) -> None:
    for text in ("", "x", "sha256:", "sha512:", DIGITS[:-1], DIGITS + "0",
                 DIGITS[:-1] + "g", "g" + DIGITS[1:], "0x" + DIGITS[2:],
                 " " + DIGITS[1:], DIGITS[:-1] + "\n", DIGITS * 2 + "0",
                 f"sha512:{DIGITS}", f"sha256:{DIGITS * 2}",
                 f"sha1:{DIGITS[:40]}", f"SHA256:{DIGITS}",
                 f"sha256::{DIGITS}", f"sha256-{DIGITS}",
                 f"sha256:sha256:{DIGITS}"):
        refused(test, f"digest={text!r}", errno.EINVAL,
                matrix_image.options(("digest", text)), "digest")


def pinned(test: ktap.Test, name: str) -> None:
    """Mounts with the image's digest in all syntaxes, and with wrong
    digests."""
    image = fixtures.named(name)
    algorithm, _, digits = (image.digest or "").partition(":")
    for text in (digits, f"{algorithm}:{digits}", digits.upper(),
                 f"{algorithm}:{digits.upper()}"):
        try:
            with mounts.composefs(image.path, image.objects,
                                  ("digest", text)) as top:
                test.check(len(os.listdir(top)) > 1, f"{text}: empty")
        except mounts.MountError as error:
            test.fail(f"digest={text}: {error}")
    wrong = {"the last digit": digits[:-1] + "%x" % (int(digits[-1], 16) ^ 1),
             "the first digit": "%x" % (int(digits[0], 16) ^ 8) + digits[1:],
             "all zeros": "0" * len(digits),
             "the other length": digits[:64] * (3 - len(digits) // 64)}
    for what, text in wrong.items():
        refused(test, what, errno.EIO, mounts.composefs_options(
            image.path, image.objects, ("digest", text)),
            image.path, f":{text}", f"{algorithm}:{digits}")


@suite.test("digest= of a SHA-256 image: right and wrong digests")
def sha256(test: ktap.Test) -> None:
    pinned(test, "matrix")


@suite.test("digest= of a SHA-512 image: right and wrong digests")
def sha512(test: ktap.Test) -> None:
    pinned(test, "matrix-sha512")


@suite.test("digest= of an image without fs-verity is ENODATA")
def no_verity(test: ktap.Test) -> None:
    image = matrix_image.image()
    with objects.store() as store:
        with open(image.path, "rb") as file:
            copy = store.plain("copy", file.read())
        refused(test, "a copy", errno.ENODATA, mounts.composefs_options(
            str(copy), image.objects, ("digest", image.digest)),
            str(copy), "no fs-verity", "digest")
        with mounts.composefs(str(copy), image.objects) as top:
            matrix_image.check(test, top, "the copy without digest=")


@suite.test("digest= excludes noverity and tryverity, in any order")
def excludes(test: ktap.Test) -> None:
    digest: tuple[str, Value] = ("digest", matrix_image.image().digest)
    for word in ("noverity", "tryverity"):
        for more in ((digest, (word, None)), ((word, None), digest)):
            refused(test, f"{more}", errno.EINVAL, matrix_image.options(*more),
                    "digest", word)
    check_mount(test, "digest= and verity", digest, ("verity", None))


@suite.test("of verity, tryverity and noverity the last one wins")
def last(test: ktap.Test) -> None:
    image = matrix_image.image()
    words = ("verity", "tryverity", "noverity")
    for first in words:
        for second in words:
            with mounts.composefs(image.path, image.objects, (first, None),
                                  (second, None)) as top:
                shown = mounts.info(top).options
                test.equal([word for word in shown if word in words],
                           [second], f"{first}, {second}")


@suite.test("no image")
def no_source(test: ktap.Test) -> None:
    refused(test, "nothing", errno.EINVAL, [], "no image was given")
    refused(test, "an empty name", errno.EINVAL, [("source", "")],
            "no image was given")
    refused(test, "basedir alone", errno.EINVAL, [("basedir", "/tmp")],
            "image")


@suite.test("two images")
def two_sources(test: ktap.Test) -> None:
    image = matrix_image.image()
    fd = os.open(image.path, os.O_RDONLY)
    try:
        for second in (image.path, fd):
            for first in (image.path, fd):
                refused(test, f"{first!r}, {second!r}", errno.EINVAL,
                        [("source", first), ("source", second)], "ource")
    finally:
        os.close(fd)


@suite.test("ro and rw: the mount is read-only with either")
def flags(test: ktap.Test) -> None:
    for more in ((("ro", None),), (("rw", None),), ()):
        with mounts.mounted("composefs", matrix_image.options(*more)) as top:
            test.check(os.statvfs(top).f_flag & os.ST_RDONLY,
                       f"{more}: not read-only")
            test.check("ro" in mounts.info(top).options,
                       f"{more}: not shown as ro")


@suite.test("a refused option does not change the context")
def goes_on(test: ktap.Test) -> None:
    with Context.open("composefs") as context:
        for key, value in (("nonsense", None), ("digest", "x"),
                           ("basedir", "/a:"), ("verity", "x")):
            test.fails(errno.EINVAL, f"{key}={value}", context.set, key,
                       value)
        test.equal(len(context.messages()), 4, "messages")
        image = matrix_image.image()
        for key, value in mounts.composefs_options(
                image.path, image.objects, ("digest", image.digest)):
            context.set(key, value)
        context.create()
        with mounts.attached(context.mount()) as top:
            matrix_image.check(test, top, "after refused options")


@suite.test("errors of mount(2) are in the kernel log")
def logged(test: ktap.Test) -> None:
    image = matrix_image.image()
    kernel_log.reset_ratelimit()
    for data, word in (("nonsense", "nonsense"), ("digest=x", "digest"),
                       ("basedir=/nowhere", "/nowhere"),
                       (f"digest={'0' * 64}", image.digest or "")):
        with mounts.directory() as path, kernel_log.watch() as lines:
            try:
                mounts.mount(image.path, path, "composefs", 0, data)
            except OSError:
                pass
            else:
                mounts.umount(path)
                test.fail(f"{data}: the mount succeeded")
        test.check(any(line.startswith("composefs: ") and word in line
                       for line in lines), f"{data}: no line with {word}: "
                                           f"{lines}")


@suite.test("errors of fsconfig(2) are not in the kernel log")
def not_logged(test: ktap.Test) -> None:
    kernel_log.reset_ratelimit()
    with kernel_log.watch() as lines:
        # A wrong digest is logged: verity_log.py.
        for more in (("nonsense", None), ("digest", "x"),
                     ("basedir", "/nowhere")):
            try:
                os.close(
                    mounts.new_mount("composefs", matrix_image.options(more))
                )
                test.fail(f"{more}: the mount succeeded")
            except mounts.MountError as error:
                test.check(error.messages, f"{more}: no message")
    test.equal(kernel_log.of_composefs(lines), [],
               "log lines")


fixtures.require()
objects.require_verity()
suite.run()
