#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Signatures, where the keys that the kernel was built with are trusted, and
where its blacklist has a certificate.

The kernels that this project builds have the test key. signature.py and
signature_keys.py have the tests that need no key of the kernel.
"""

from __future__ import annotations

import errno

from lib import fixtures, ktap, matrix_image, module, objects, signing
from lib.matrix_image import check_mounts
from lib.mounts import Options
from lib.refused import refused
from lib.signing import Signer, formatted, trusting

suite = ktap.Suite()


def by(file: str) -> Options:
    return matrix_image.options(("signature", file))


@suite.test("a certificate on the kernel's blacklist is refused, where it is "
            "looked at")
def blacklisted(test: ktap.Test) -> None:
    """It is looked at in a signature, and when it is added to a keyring."""
    listed = Signer("listed", "second")
    below = listed.issue("below-listed", "first")
    data = formatted(matrix_image.image().digest)
    files = [signing.write(f"listed-{number}", signed)
             for number, signed in enumerate((
                 listed.sign(data, "-noattr"),
                 below.sign(data, "-noattr", "-certfile", listed.pem)))]
    bare = signing.write("listed-bare", listed.sign(data))
    with trusting(listed):
        for file in (*files, bare):
            check_mounts(test, f"{file}: before", by(file))
        listed.blacklist()
        for file in files:
            refused(test, file, errno.EKEYREJECTED, by(file),
                    f"it has the certificate {listed.serial()} by "
                    '"listed", which is on the kernel\'s blacklist')
        check_mounts(test, "its key is trusted, and it is not there", by(bare))
        signing.clear()
        try:
            listed.trusted()
        except AssertionError as error:
            test.check("rejected" in str(error), str(error))
        else:
            test.fail("it was added to the keyring")
        refused(test, "its key is gone", errno.ENOKEY, by(bare), "trusted")


@suite.test("secondary_keyring=1 trusts the kernel's keys and those that they "
            "vouch for")
def secondary(test: ktap.Test) -> None:
    kernel = Signer.built_in()
    below = kernel.issue("below-kernel", "second")
    data = formatted(matrix_image.image().digest)
    by_kernel, by_below = (
        by(signing.write(name, signer.sign(data)))
        for name, signer in (("by-kernel", kernel), ("by-below", below)))
    for parameter in ("secondary_keyring=0", "platform_keyring=1"):
        with module.loaded_with(parameter):
            refused(test, f"by the kernel's, {parameter}", errno.ENOKEY,
                    by_kernel, '"composefs test key"', kernel.serial())
    with module.loaded_with("secondary_keyring=1"):
        check_mounts(test, "by the kernel's", by_kernel)
        refused(test, "by one that is not there", errno.ENOKEY, by_below,
                below.serial())
        key = below.trusted(signing.SECONDARY)
        try:
            check_mounts(test, "by one that was added", by_below)
            test.check(signing.keyctl(
                "padd", "asymmetric", "", signing.SECONDARY,
                stdin=Signer.vendor().der), "a stranger was added")
        finally:
            signing.run("keyctl", "unlink", key, signing.SECONDARY)
        refused(test, "by one that was removed", errno.ENOKEY, by_below,
                below.serial())


fixtures.require()
objects.require_verity()
signing.require()
suite.run()
