#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""The option signature=: which signatures are good, what is said of others,
and what mounts by signature share.

signature_keys.py has the keyring, the parameters of the module, the option
signed and user namespaces. signature_kernel.py has the tests that need a key
or the blacklist of the kernel.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

from lib import fixtures, ktap, matrix_image, mounts, objects, signing
from lib.files import opened
from lib.matrix_image import check_mounts
from lib.mounts import At, Context, Options, Value
from lib.refused import check, refused
from lib.shown import shown
from lib.signing import Signer, formatted, trusting

suite = ktap.Suite()

MUTANTS = 300


signer = Signer.vendor


def by(file: Value, *more: tuple[str, Value]) -> Options:
    return matrix_image.options(("signature", file), *more)


def good(name: str = "good") -> str:
    """A file with a good signature of the image."""
    data = signer().sign_file(matrix_image.image().path)
    return signing.write(name, data)


@suite.test("a good signature mounts: by fsverity, by openssl, in all forms")
def accepts(test: ktap.Test) -> None:
    image = matrix_image.image()
    data = formatted(image.digest)
    with trusting(signer()):
        file = good()
        check_mounts(test, "fsverity sign", by(file))
        check_mounts(test, "with digest=", by(file, ("digest", image.digest)))
        check_mounts(test, "with verity", by(file, ("verity", None)))
        for what, options in (("certificate", ("-noattr",)),
                              ("attributes", ("-nocerts", "-nosmimecap")),
                              ("certificate and attributes", ("-nosmimecap",))):
            check_mounts(test, what, by(signing.write(
                "more", signer().sign(data, *options))))
        for what, flags in (("a descriptor", os.O_RDONLY),
                            ("a descriptor of O_PATH", os.O_PATH)):
            with opened(file, flags) as fd:
                check_mounts(test, what, by(fd))
        with mounts.attached(signing.mount_with_bytes(
                matrix_image.options(), Path(file).read_bytes())) as top:
            matrix_image.check(test, top, "bytes")
        with opened(os.path.dirname(file), os.O_PATH) as top, \
                opened(file, os.O_PATH) as itself:
            for what, path in (("a path", At(file)),
                               ("from a directory", At("good", top)),
                               ("an empty path", At("", itself))):
                check_mounts(test, what, by(path))
        strange = signing.write("a,b:c\\d", Path(file).read_bytes())
        check_mounts(test, "a strange name", by(
            strange.replace("\\", "\\\\").replace(",", "\\,")))


@suite.test("a good signature of a SHA-512 image mounts")
def sha512(test: ktap.Test) -> None:
    image = fixtures.named("matrix-sha512")
    with trusting(signer()):
        file = signing.write("sha512", signer().sign(formatted(image.digest)))
        with mounts.composefs(image.path, image.objects,
                              ("signature", file)) as top:
            test.check(len(os.listdir(top)) > 1, "is empty")


@suite.test("a certificate vouches for others, whose signatures are good")
def chain(test: ktap.Test) -> None:
    below = signer().issue("below", "second")
    data = formatted(matrix_image.image().digest)
    file = signing.write("chain", below.sign(data, "-noattr"))
    alone = signing.write("alone", below.sign(data))
    refused(test, "nothing is trusted", errno.ENOKEY, by(file),
            f'the certificate {below.serial()} by "vendor"')
    with trusting(signer()):
        check_mounts(test, "with its certificate", by(file))
        refused(test, "without it", errno.ENOKEY, by(alone), "signature")


def wrong() -> dict[str, tuple[int, bytes, str]]:
    """Signatures that are refused: the errno, the signature, and words of the
    message."""
    image = matrix_image.image()
    data = formatted(image.digest)
    other = formatted(fixtures.named("matrix-no-digests").digest)
    digest = data[12:]
    rejected = errno.EKEYREJECTED
    not_good = "not a good signature of"
    stranger = Signer("stranger", "second")
    # The name and number of the trusted certificate, with another key.
    forger = Signer("forger", "second", "-set_serial",
                    f"0x{signer().serial()}", subject="vendor")
    past = Signer("past", "first", "-not_before", "20200101000000Z",
                  "-not_after", "20210101000000Z")
    past.trusted()
    # Signers are in the order of their length.
    late = Signer("one whose name is longer than that of the vendor", "first",
                  "-not_before", "20200101000000Z",
                  "-not_after", "20210101000000Z")
    late.trusted()
    pem = signing.run("openssl", "pkcs7", "-inform", "der",
                      stdin=signer().sign(data))
    return {
        "another key": (
            errno.ENOKEY, stranger.sign(data), "none of the trusted keys has "
            f'made it, but the certificate {stranger.serial()} by "stranger"'),
        "another key, by its identifier": (
            errno.ENOKEY, stranger.sign_by_identifier(data),
            f"the key with the identifier {stranger.identifier()}"),
        "another key, its certificate with it": (
            errno.ENOKEY, stranger.sign(data, "-noattr"), "trusted keys"),
        "another key in the name of a trusted one": (
            rejected, forger.sign(data), not_good),
        "the same, its certificate with it": (
            errno.ENOKEY, forger.sign(data, "-noattr"), "trusted keys"),
        "another image": (
            rejected, signer().sign(other), f"{not_good} {image.digest} by "
            f'the certificate {signer().serial()} by "vendor"'),
        "another image, with attributes": (
            rejected, signer().sign(
                other, "-nocerts", "-nosmimecap"), not_good),
        "the digest alone": (rejected, signer().sign(digest), not_good),
        "the digest as text": (
            rejected, signer().sign(digest.hex().encode()), not_good),
        "the other algorithm": (rejected, signer().sign(
            data[:8] + b"\2" + data[9:]), not_good),
        "signed when the certificate was not valid": (
            rejected, past.sign(data, "-nosmimecap"),
            f'by the certificate {past.serial()} by "past", which is valid '
            "from 2020-01-01 to 2021-01-01 only"),
        "signed by two, one of them when its certificate was not valid": (
            rejected, signer().sign(data, "-nosmimecap", "-signer", late.pem,
                                    "-inkey", late.key),
            f"by the certificate {late.serial()} by"),
        "with content": (errno.EBADMSG, signer().sign(
            data, "-nodetach", "-noattr", "-nocerts"), "without content"),
        "PEM": (errno.EBADMSG, pem, "not a PKCS#7 signature"),
        "text": (errno.EBADMSG, b"a signature\n", "not a PKCS#7 signature"),
        "a certificate": (errno.EBADMSG, signer().der,
                          "not a PKCS#7 signature"),
        "nothing": (errno.EBADMSG, b"", "not a PKCS#7 signature"),
        "zeros": (errno.EBADMSG, bytes(1000), "not a PKCS#7 signature"),
        "the longest": (errno.EBADMSG, bytes(signing.MOST),
                        "not a PKCS#7 signature"),
    }


@suite.test("wrong signatures are refused, each with a message")
def refuses(test: ktap.Test) -> None:
    image = matrix_image.image()
    with trusting(signer()):
        for what, (number, data, words) in wrong().items():
            refused(test, what, number, by(signing.write("wrong", data)),
                    image.path, words)
            if data:
                try:
                    os.close(signing.mount_with_bytes(
                        matrix_image.options(), data))
                except mounts.MountError as error:
                    check(test, f"{what}, as bytes", number, error,
                          image.path, words)
                else:
                    test.fail(f"{what}, as bytes: the mount succeeded")
        check_mounts(test, "afterwards", by(good()))


@suite.test("a good signature does not help an image that was changed")
def changed(test: ktap.Test) -> None:
    data = bytearray(Path(matrix_image.image().path).read_bytes())
    data[-1] ^= 1
    with trusting(signer()), objects.store() as store:
        image = store.verified("image", bytes(data))
        refused(test, "one bit", errno.EKEYREJECTED, mounts.composefs_options(
            str(image), [], ("signature", good())), str(image), "signature")
        plain = store.plain("plain", bytes(data))
        refused(test, "no fs-verity", errno.ENODATA, mounts.composefs_options(
            str(plain), [], ("signature", good())), str(plain), "signature=")


@suite.test("files that cannot be a signature, and values, are refused")
def files(test: ktap.Test) -> None:
    long = signing.write("long", bytes(signing.MOST + 1))
    fifo = str(signing.path("fifo"))
    os.mkfifo(fifo)
    link = str(signing.path("link"))
    os.symlink("/nowhere", link)
    with trusting(signer()):
        for what, number, file, words in (
                ("too long", errno.EFBIG, long, "longer than"),
                ("missing", errno.ENOENT, "/nowhere/at/all", "found"),
                ("a dangling link", errno.ENOENT, link, "found"),
                ("a directory", errno.EINVAL, "/tmp", "regular file"),
                ("a device", errno.EINVAL, "/dev/zero", "regular file"),
                ("a pipe", errno.EINVAL, fifo, "regular file")):
            refused(test, what, number, by(file), file, words)
            refused(test, f"{what}, as a path", number, by(At(file)), file)
        refused(test, "no file at all", errno.EINVAL, by(At("")), "regular")
        refused(test, "no value", errno.EINVAL, by(None), "needs a value")
        refused(test, "no name", errno.EINVAL, by(""), "signature")
        for word in ("noverity", "tryverity"):
            refused(test, word, errno.EINVAL, by(good(), (word, None)),
                    "signature", "implies verity")
        with Context.open("composefs") as context:
            test.fails(errno.EBADF, "a path from nowhere", context.set,
                       "signature", At("good", 1000))
            test.fails(errno.EFBIG, "too many bytes", context.config,
                       mounts.FSCONFIG_SET_BINARY, "signature",
                       bytes(signing.MOST + 1), signing.MOST + 1)
            test.check(any("longer than" in line for line
                           in context.messages()), "no message")


@suite.test("keys that were revoked or have expired are refused, as removed")
def keys(test: ktap.Test) -> None:
    def after(what: str, number: int, words: str,
              change: Callable[[str], object]) -> None:
        with trusting():
            # Only who possesses a key may do more than to unlink it.
            key = signer().trusted("@s")
            signing.run("keyctl", "link", key, signing.COMPOSEFS)
            check_mounts(test, f"{what}: before", by(good()))
            change(key)
            refused(test, what, number, by(good()), "signature", words)
            signing.clear("@s")

    def expire(key: str) -> None:
        signing.run("keyctl", "timeout", key, "1")
        time.sleep(2.5)
    name = f"the certificate {signer().serial()}"
    after("revoked", errno.EKEYREVOKED, f"was revoked: {name}",
          lambda key: signing.run("keyctl", "revoke", key))
    after("expired", errno.EKEYEXPIRED, f"has expired: {name}", expire)
    after("removed", errno.ENOKEY, ".composefs", lambda key: signing.run(
        "keyctl", "unlink", key, signing.COMPOSEFS))


@suite.test("mounts by signature and by digest share a super block")
def sharing(test: ktap.Test) -> None:
    digest = ("digest", matrix_image.image().digest)
    with trusting(signer()):
        first, second = good(), good("second")
        expected = {True: [by(second), by(first, digest),
                           matrix_image.options(digest)],
                    False: [matrix_image.options(),
                            matrix_image.options(("verity", None))]}
        with mounts.mounted("composefs", by(first)) as top:
            device = os.stat(top).st_dev
            for shared, several in expected.items():
                for options in several:
                    with mounts.mounted("composefs", options) as other:
                        test.equal(os.stat(other).st_dev == device, shared,
                                   f"{options}: shared")
                        matrix_image.check(test, other, f"{options}")
            wrong_one = signing.write("wrong", signer().sign(b"other"))
            refused(test, "a wrong one while a good one is mounted",
                    errno.EKEYREJECTED, by(wrong_one), "signature")
            signing.clear()
            refused(test, "the key is gone while it is mounted", errno.ENOKEY,
                    by(first), "signature")
            matrix_image.check(test, top, "after the key is gone")
            check_mounts(test, "by its digest", matrix_image.options(digest))


def change(top: str, *options: tuple[str, Value]) -> str:
    """A remount by fspick(2): the name of its error, and the messages."""
    with Context.pick(top) as context:
        def run() -> None:
            for key, value in options:
                context.set(key, value)
            context.reconfigure()
        name = ktap.outcome(run)
        return " ".join([name, *context.messages()])


@suite.test("a remount takes the signature that it has, and other good ones")
def remount(test: ktap.Test) -> None:
    digest = ("digest", matrix_image.image().digest)
    with trusting(signer()):
        file, second = good(), good("second")
        bad = signing.write("bad", signer().sign(b"other"))
        for what, option in (("a signature", ("signature", file)),
                             ("digest=", digest)):
            with matrix_image.mounted(option) as top:
                for name in (file, second):
                    test.equal(change(top, ("signature", name)), "success",
                               f"{what}: {name}")
                test.equal(change(top, digest), "success", f"{what}: digest")
                found = change(top, ("signature", bad))
                test.check(found.startswith("EKEYREJECTED")
                           and "not a good" in found, f"{what}: {found}")
                found = change(top, ("digest", "0" * 64))
                test.check(found.startswith("EINVAL"), f"{what}: {found}")
        with matrix_image.mounted(("signature", file)) as top:
            os.unlink(file)
            signing.clear()
            test.equal(change(top, ("signature", file)), "success",
                       "the file and the key are gone")
            found = change(top, ("signature", second))
            test.check(found.startswith("ENOKEY"), f"another file: {found}")
        with matrix_image.mounted() as top:
            found = change(top, ("signature", second))
            test.check(found.startswith("EINVAL") and "signature: " in found,
                       f"of a mount without: {found}")


@suite.test("/proc/mounts shows signature=, or the digest that it stands for")
def shows(test: ktap.Test) -> None:
    with trusting(signer()):
        file = good("a,b")
        escaped = file.replace(",", "\\,")
        with matrix_image.mounted(("signature", escaped)) as top:
            source, data = shown(top)
            test.check(f"signature={escaped}" in data, data)
            with mounts.mounted_by_mount2(source, data) as second:
                test.equal(os.stat(second).st_dev, os.stat(top).st_dev,
                           "mounted again: device")
        fd = signing.mount_with_bytes(matrix_image.options(),
                                      Path(file).read_bytes())
        with mounts.attached(fd) as top:
            _, data = shown(top)
            test.check(f"digest={matrix_image.image().digest}" in data,
                       f"bytes: {data}")


def mutant(data: bytes, numbers: random.Random) -> bytes:
    """A signature that differs: bits, bytes, a cut, or a part twice."""
    changed_data = bytearray(data)
    at = numbers.randrange(len(data))
    match numbers.randrange(5):
        case 0:
            changed_data[at] ^= 1 << numbers.randrange(8)
        case 1:
            changed_data[at] = numbers.choice((0, 1, 0x30, 0x7f, 0x80, 0x82,
                                               0x84, 0xff))
        case 2:
            del changed_data[at:]
        case 3:
            del changed_data[at:at + numbers.randrange(1, 40)]
        case _:
            changed_data[at:at] = data[at:at + numbers.randrange(1, 40)]
    return bytes(changed_data)


@suite.test("mutants and all prefixes of a good signature")
def mutants(test: ktap.Test) -> None:
    options = matrix_image.options()
    numbers = random.Random(int(os.environ.get("COMPOSEFS_HOSTILE_SEED", "1")))
    with trusting(signer()):
        data = signer().sign_file(matrix_image.image().path)
        test.equal(signing.result_with_bytes(options, data), None, "itself")
        for length in range(1, len(data)):
            test.check(signing.result_with_bytes(options, data[:length]),
                       f"the first {length} bytes are accepted")
        counts: dict[str, int] = {}
        while sum(counts.values()) < MUTANTS:
            mutated = mutant(data, numbers)
            if not mutated or mutated == data:
                continue
            name = ktap.errno_name(signing.result_with_bytes(options, mutated))
            counts[name] = counts.get(name, 0) + 1
            # Some parts of a message are not signed, so that some mutants mean
            # the same. They have the same number at the end, which nobody can
            # make without the key.
            test.check(name != "success" or data[-256:] in mutated,
                       f"accepted: {mutated.hex()}")
        test.note(f"{counts}")
        test.check(counts.get("success", 0) < MUTANTS / 10,
                   f"too many mutants are accepted: {counts}")
        check_mounts(test, "afterwards", by(good()))


fixtures.require()
objects.require_verity()
signing.require()
suite.run()
