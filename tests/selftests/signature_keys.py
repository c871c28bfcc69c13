#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Who may say which images are trusted: the keyring .composefs, the parameters
of the module, the option signed, and user namespaces, which have no say.

signature.py has the option signature= itself. The tests reload the module.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import (fixtures, ktap, matrix_image, module, mounts, objects,
                 scratch, signing)
from lib.matrix_image import check_mounts
from lib.mounts import Value
from lib.refused import refused
from lib.shown import check_mount_again
from lib.signing import Signer, trusting
from lib.userns import in_namespace
from lib.userns_mount import attempt, mounting

suite = ktap.Suite()

REQUIRED = "require_signatures=1"
signer = Signer.vendor


def good(name: str = "good") -> str:
    """A file with a good signature of the image, which everyone may read."""
    data = signer().sign_file(matrix_image.image().path)
    os.chmod(signing.path("."), 0o755)
    return signing.write(name, data)


def enable_signed(copy: Path, image: str) -> None:
    """Makes a copy of an image, with fs-verity and a built-in signature."""
    copy.write_bytes(Path(image).read_bytes())
    signature = signing.write("built-in", signer().sign_file(str(copy)))
    signing.run("fsverity", "enable", str(copy), f"--signature={signature}")


@contextmanager
def signed_file(image: str) -> Iterator[str]:
    """A copy of an image with a built-in signature. The keyring of fs-verity
    has the key."""
    with scratch.ext4() as top, trusting(signer(), keyring=signing.VERITY):
        enable_signed(top / "image", image)
        yield str(top / "image")


@contextmanager
def on_disk(file: str) -> Iterator[Path]:
    """Mounts the ext4 in a file."""
    with mounts.directory() as top:
        scratch.run("mount", "-o", "loop", file, top)
        try:
            yield Path(top)
        finally:
            mounts.umount_soon(top)


@suite.test("the keyring is there when the module is, and root can close it")
def closed(test: ktap.Test) -> None:
    module.require_loaded()
    module.reload()
    file = good()
    options = matrix_image.options(("signature", file))
    refused(test, "no key", errno.ENOKEY, options, ".composefs")
    key = signer().trusted()
    check_mounts(test, "a key", options)
    test.equal(signing.keyctl("restrict_keyring", signing.COMPOSEFS), "",
               "closing it")
    other = Signer("other", "second")
    said = signing.keyctl("padd", "asymmetric", "", signing.COMPOSEFS,
                          stdin=other.der)
    test.check("not permitted" in said,
               "a key was added to the closed keyring")
    check_mounts(test, "closed", options)
    test.equal(signing.keyctl("unlink", key, signing.COMPOSEFS), "",
               "removing it")
    refused(test, "removed", errno.ENOKEY, options, ".composefs")
    module.unload()
    test.check(signing.keyctl("show", signing.COMPOSEFS), "without the module")
    module.load()
    refused(test, "loaded again", errno.ENOKEY, options, ".composefs")


@suite.test("keys in other keyrings of root are of no use")
def elsewhere(test: ktap.Test) -> None:
    options = matrix_image.options(("signature", good()))
    own = signing.run("keyctl", "newring", "mine", "@s").decode().strip()
    signer().trusted("@s")
    signer().trusted(own)
    with trusting(signer(), keyring=signing.VERITY):
        refused(test, "its own keyrings", errno.ENOKEY, options, ".composefs")
        with trusting(Signer("other", "second")):
            refused(test, "and another key in it", errno.ENOKEY, options,
                    "signature")
    signing.run("keyctl", "clear", "@s")


@suite.test("require_signatures=1 refuses what names no signature")
def required(test: ktap.Test) -> None:
    image = matrix_image.image()
    digest: tuple[str, Value] = ("digest", image.digest)
    check_mounts(test, "without the parameter", matrix_image.options())
    with module.loaded_with(REQUIRED), trusting(signer()):
        file: tuple[str, Value] = ("signature", good())
        bad = signing.write("bad", signer().sign(b"other"))
        options = {"nothing": (), "verity": (("verity", None),),
                   "noverity": (("noverity", None),), "digest=": (digest,)}

        def check_refused(when: str) -> None:
            for what, more in options.items():
                refused(test, f"{what}, {when}", errno.EPERM,
                        matrix_image.options(*more), image.path,
                        "require_signatures")
            refused(test, f"a wrong one, {when}", errno.EKEYREJECTED,
                    matrix_image.options(("signature", bad)), "signature")
        check_refused("nothing mounted")
        with matrix_image.mounted(file) as top:
            check_refused("a good one mounted")
            check_mounts(test, "with digest=",
                         matrix_image.options(file, digest))
            matrix_image.check(test, top, "afterwards")
        with signed_file(image.path) as copy:
            check_mounts(test, "signed", mounts.composefs_options(
                copy, image.objects, ("signed", None)))


@suite.test("signed: the image's file has a good signature of its own")
def signed(test: ktap.Test) -> None:
    image = matrix_image.image()
    refused(test, "a value", errno.EINVAL,
            matrix_image.options(("signed", "1")), "signed", "no value")
    refused(test, "noverity", errno.EINVAL, matrix_image.options(
        ("signed", None), ("noverity", None)), "signed", "implies verity")
    refused(test, "no signature", errno.ENODATA,
            matrix_image.options(("signed", None)), image.path, "no signature")
    with objects.store() as store:
        plain = store.plain("plain", Path(image.path).read_bytes())
        refused(test, "no fs-verity", errno.ENODATA, mounts.composefs_options(
            str(plain), image.objects, ("signed", None)), str(plain),
            "no fs-verity digest")
    with signed_file(image.path) as copy:
        options = mounts.composefs_options(copy, image.objects,
                                           ("signed", None))
        check_mounts(test, "signed", options)
        check_mount_again(test, "shown", options)
        with mounts.mounted("composefs", options) as top, mounts.composefs(
                copy, image.objects, ("digest", image.digest)) as other:
            test.equal(os.stat(top).st_dev, os.stat(other).st_dev,
                       "with digest=: device")


@suite.test("signed: without its key, the image cannot be opened")
def signed_without_key(test: ktap.Test) -> None:
    image = matrix_image.image()
    with tempfile.NamedTemporaryFile(prefix="composefs-") as disk:
        scratch.make(disk.name, 64 << 20)
        with on_disk(disk.name) as top, \
                trusting(signer(), keyring=signing.VERITY):
            enable_signed(top / "image", image.path)
        # fs-verity looks at a signature only when it loads the file's inode.
        with on_disk(disk.name) as top:
            refused(test, "its key is gone", errno.ENOKEY,
                    mounts.composefs_options(str(top / "image"), image.objects,
                                             ("signed", None)),
                    str(top / "image"), "no key is trusted")


@suite.test("secondary_keyring=1 and platform_keyring=1 trust no stranger")
def others(test: ktap.Test) -> None:
    options = matrix_image.options(("signature", good()))
    with module.loaded_with("secondary_keyring=1", "platform_keyring=1"):
        refused(test, "no key", errno.ENOKEY, options, "signature")
        with trusting(Signer("other", "second")):
            refused(test, "another key", errno.ENOKEY, options, "signature")
        with trusting(signer()):
            check_mounts(test, "the key in .composefs", options)
            bad = signing.write("bad", signer().sign(b"other"))
            refused(test, "wrong", errno.EKEYREJECTED,
                    matrix_image.options(("signature", bad)), "not a good")


@suite.test("a user namespace has no say in which keys are trusted")
def namespace(test: ktap.Test) -> None:
    stranger = Signer("stranger", "second")
    image = matrix_image.image()
    file = good()
    theirs = signing.write("theirs", stranger.sign(
        signing.formatted(image.digest)))

    def add_keys() -> list[str]:
        signing.join_session()
        ring = signing.run("keyctl", "newring", "mine", "@s").decode().strip()
        stranger.trusted(ring)
        return [signing.keyctl("padd", "asymmetric", "", ring_of_root,
                       stdin=stranger.der),
                signing.keyctl("link", ring, ring_of_root),
                signing.keyctl("clear", ring_of_root),
                signing.keyctl("newring", ".composefs", "@s"),
                signing.keyctl("restrict_keyring", ring_of_root)]

    # Some of the fixtures can only be read by root.
    plain = matrix_image.options()
    by_theirs = matrix_image.options(("signature", theirs))
    with module.loaded_with("userns_mount=1"), trusting(signer()):
        ring_of_root = signing.run(
            "keyctl", "id", signing.COMPOSEFS).decode().strip()
        found = in_namespace(mounting(matrix_image.options(
            ("signature", file)), os.listdir))
        test.check(len(found) > 1, "a good signature")

        def with_own_keys() -> tuple[list[str], int | None]:
            return add_keys(), attempt(by_theirs)[0]
        errors, number = in_namespace(with_own_keys)
        test.check(all(errors), f"the keyring of root: {errors}")
        test.equal(ktap.errno_name(number), "ENOKEY", "with its own keys")
    with module.loaded_with("userns_mount=1", REQUIRED), trusting(signer()):
        number, messages = in_namespace(lambda: attempt(plain))
        test.equal(ktap.errno_name(number), "EPERM", "require_signatures")
        test.check("require_signatures" in str(messages), str(messages))


fixtures.require()
objects.require_verity()
signing.require()
suite.run()
