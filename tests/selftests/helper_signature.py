#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""mount.composefs with the options signature= and signed: they reach the file
system, and are never dropped where it is not used.
"""

from __future__ import annotations

import os
import subprocess

from lib import fixtures, ktap, matrix_image, mount_helper, mounts, objects, \
    signing
from lib.mount_helper import OURS
from lib.shown import shown
from lib.signing import Signer, trusting

suite = ktap.Suite()
signer = Signer.vendor


def run(options: str, top: str) -> subprocess.CompletedProcess[str]:
    image = matrix_image.image()
    return subprocess.run(
        [OURS, image.path, top, "-o",
         f"basedir={image.objects[0]},{options}"],
        capture_output=True, text=True, check=False)


def refused(test: ktap.Test, what: str, options: str, *words: str) -> None:
    """Checks that nothing is mounted, and what is said."""
    with mounts.directory() as top:
        done = run(options, top)
        test.check(done.returncode and not os.path.ismount(top),
                   f"{what}: mounted")
        for word in words:
            test.check(word in done.stderr, f"{what}: {done.stderr}")


@suite.test("signature= mounts, is shown, and may be given to a remount")
def accepted(test: ktap.Test) -> None:
    data = signer().sign_file(matrix_image.image().path)
    file = signing.write("good", data)
    bad = signing.write("bad", signer().sign(b"other"))
    with trusting(signer()), mounts.directory() as top:
        done = run(f"signature={file}", top)
        test.need(done.returncode == 0, f"mounting: {done.stderr}")
        try:
            matrix_image.check(test, top, "mounted")
            test.check(f"signature={file}" in shown(top)[1], str(shown(top)))
            done = run(f"remount,nodev,signature={file}", top)
            test.equal(done.returncode, 0, f"a remount: {done.stderr}")
            done = run(f"remount,signature={bad}", top)
            test.check(done.returncode and "signature" in done.stderr,
                       f"a remount with another: {done.stderr}")
        finally:
            mounts.umount_soon(top)


@suite.test("a signature that is wrong or missing is refused, with the reason")
def wrong(test: ktap.Test) -> None:
    bad = signing.write("bad", signer().sign(b"other"))
    with trusting(signer()):
        refused(test, "wrong", f"signature={bad}", "not a good signature")
        refused(test, "missing", "signature=/nowhere", "/nowhere")
        refused(test, "no value", "signature", "signature")
        refused(test, "signed", "signed", "no signature")
        refused(test, "noverity", f"signature={bad},noverity", "noverity")


@suite.test("erofs and overlayfs are not mounted in place of a verified image")
def stack(test: ktap.Test) -> None:
    file = signing.write("good", signer().sign_file(
        matrix_image.image().path))
    digest = matrix_image.image().digest
    with trusting(signer()):
        for options in (f"signature={file}", "signed",
                        f"signature={file},digest={digest}"):
            refused(test, options, f"prefer=stack,{options}",
                    "verify no signatures")


fixtures.require()
objects.require_verity()
mount_helper.require(OURS)
signing.require()
suite.run()
