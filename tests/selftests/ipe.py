#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""IPE: a signature of an image says nothing about its programs. What counts is
the object: its own signature, or its digest.

Documentation/filesystems/composefs-threat-model.rst says why.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lib import image, ipe, ktap, mounts, objects, signing
from lib.files import opened
from lib.mounts import Value
from lib.signing import Signer, trusting

suite = ktap.Suite()

SIGNED, UNSIGNED, INLINE = "signed", "unsigned", "inline"
NAMES = (SIGNED, UNSIGNED, INLINE)


class System:
    """A store with programs, one of which is signed, and the image of them."""

    def __init__(self, store: objects.Store) -> None:
        self.store = store
        files = {INLINE: image.regular(ipe.program(INLINE), 0o755)}
        self.digests = {}
        self.objects = {}
        for name in (SIGNED, UNSIGNED):
            data = ipe.program(name)
            digest = image.verity_digest(data)
            path = image.object_path(digest)
            files[name] = image.external(len(data), path, digest, 0o755)
            self.digests[name] = f"sha256:{digest.hex()}"
            self.objects[name] = store.plain(path.lstrip("/"), data)
            self.objects[name].chmod(0o755)
        self._enable(self.objects[SIGNED], "--signature=" + signing.write(
            "of-object", Signer.vendor().sign_file(str(self.objects[SIGNED]))))
        self._enable(self.objects[UNSIGNED])
        self.path = str(store.plain("image", image.pack(
            image.directory(files))))
        self._enable(Path(self.path))

    @staticmethod
    def _enable(path: Path, *options: str) -> None:
        signing.run("fsverity", "enable", str(path), *options)

    @contextmanager
    def mounted(self, *options: tuple[str, Value]) -> Iterator[str]:
        with mounts.composefs(self.path, [self.store.path], *options) as top:
            yield top


@contextmanager
def system() -> Iterator[System]:
    """The key of image and object is trusted for both."""
    signer = Signer.vendor()
    with trusting(signer), trusting(signer, keyring=signing.VERITY), \
            objects.store() as store:
        yield System(store)


def results(top: str | Path) -> dict[str, str]:
    return {name: ipe.attempt(f"{top}/{name}") for name in NAMES}


def maps(path: str | Path) -> str:
    """Whether a file can be mapped as a library is."""
    def run() -> None:
        with opened(path) as fd:
            mmap.mmap(fd, 0, mmap.MAP_PRIVATE,
                      mmap.PROT_READ | mmap.PROT_EXEC).close()
    return ktap.outcome(run)


@suite.test("programs of a signed image run only if their objects are signed")
def by_signature(test: ktap.Test) -> None:
    all_run = dict.fromkeys(NAMES, "runs")
    expected = {SIGNED: "runs", UNSIGNED: "EACCES", INLINE: "EACCES"}
    with system() as it, ExitStack() as stack:
        file = signing.write("of-image", Signer.vendor().sign_file(it.path))
        copy = it.store.plain("copy", it.objects[SIGNED].read_bytes())
        copy.chmod(0o755)
        tops = {what: stack.enter_context(it.mounted(*options))
                for what, options in {
                    "signature=": (("signature", file),),
                    "verity": (("verity", None),),
                    "noverity": (("noverity", None),)}.items()}
        for what, top in tops.items():
            test.equal(results(top), all_run, f"{what}, not enforced")
        with ipe.enforcing():
            found = {what: results(top) for what, top in tops.items()}
            mapped = {name: maps(f"{tops['signature=']}/{name}")
                      for name in NAMES}
            own = {name: ipe.attempt(path)
                   for name, path in it.objects.items()}
            of_copy = ipe.attempt(copy)
        for what, result in found.items():
            test.equal(result, expected, what)
        test.equal(mapped, {SIGNED: "success", UNSIGNED: "EACCES",
                            INLINE: "EACCES"}, "mapped")
        # The mark is one of the object: it counts there, too.
        test.equal(own, {SIGNED: "runs", UNSIGNED: "EACCES"}, "the objects")
        test.equal(of_copy, "EACCES", "a copy without fs-verity")
        test.equal(results(tops["signature="]), all_run, "afterwards")


@suite.test("a rule about a digest finds the object of a file")
def by_digest(test: ktap.Test) -> None:
    with system() as it, it.mounted() as top:
        with ipe.policy("one_digest", "fsverity_digest="
                        f"{it.digests[UNSIGNED]} action=ALLOW"), \
                ipe.enforcing():
            found = results(top)
        test.equal(found, {SIGNED: "EACCES", UNSIGNED: "runs",
                           INLINE: "EACCES"}, "allowed by its digest")
        # This is how a program that was signed is withdrawn.
        with ipe.policy("not_that", "fsverity_digest="
                        f"{it.digests[SIGNED]} action=DENY",
                        "fsverity_signature=TRUE action=ALLOW"), \
                ipe.enforcing():
            found = results(top)
        test.equal(found, dict.fromkeys(NAMES, "EACCES"),
                   "signed, and denied by its digest")


ipe.require()
mounts.require_root()
objects.require_verity()
signing.require()
# Programs and libraries that are needed while IPE enforces are in memory.
os.waitstatus_to_exitcode(0)
suite.run()
