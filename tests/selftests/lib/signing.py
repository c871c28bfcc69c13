# SPDX-License-Identifier: GPL-2.0

"""Keys, certificates and signatures, by openssl(1), fsverity(1) and keyctl(1).

All certificates have one of two private keys, since making one takes long.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import ktap, mounts, syscalls
from .image import ALGORITHMS

# What "keyctl" calls the keyrings of composefs, of fs-verity, and of the
# kernel itself.
COMPOSEFS = "%:.composefs"
VERITY = "%:.fs-verity"
BUILT_IN = "%:.builtin_trusted_keys"
SECONDARY = "%:.secondary_trusted_keys"
BLACKLIST = "%:.blacklist"

# A certificate that the guest's kernels trust, and its private key.
TEST_KEY = Path(__file__).parent.parent / "test-key.pem"

# The longest signature that is read.
MOST = 16128

KEYCTL_JOIN_SESSION_KEYRING = 1


def run(*command: str, stdin: bytes = b"") -> bytes:
    """Runs a program. Returns what it prints."""
    done = subprocess.run(command, input=stdin, capture_output=True,
                          check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr.decode()}")
    return done.stdout


def keyctl(*arguments: str, stdin: bytes = b"") -> str:
    """keyctl(1). Returns its error message, "" for success."""
    done = subprocess.run(["keyctl", *arguments], input=stdin,
                          capture_output=True, check=False)
    return done.stderr.decode() if done.returncode else ""


def join_session() -> None:
    """Gives this process, and the programs that it runs, a new and empty
    session keyring: @s for keyctl(1)."""
    if mounts.libc.syscall(syscalls.number("keyctl"),
                           KEYCTL_JOIN_SESSION_KEYRING, None) < 0:
        raise OSError(ctypes.get_errno(), "keyctl")


def require() -> None:
    """Ends the program where signatures cannot be made or verified. Otherwise
    it has a session keyring of its own."""
    ktap.require_programs("openssl", "openssl")
    ktap.require_programs("keyutils", "keyctl")
    ktap.require_programs("fsverity", "fsverity")
    with mounts.Context.open("composefs") as context:
        try:
            context.config(mounts.FSCONFIG_SET_BINARY, "signature", b"x", 1)
        except OSError:
            ktap.skip_all(f"signatures: {context.messages()}")
    join_session()


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="signing-")


def path(name: str) -> Path:
    """A file that is gone when the program has ended."""
    return Path(_folder().name, name)


def write(name: str, data: bytes) -> str:
    """Writes a file with a signature."""
    path(name).write_bytes(data)
    return str(path(name))


@functools.cache
def private(name: str) -> str:
    """The private key of a name. Returns its file."""
    file = str(path(f"{name}.pem"))
    run("openssl", "genrsa", "-out", file, "2048")
    return file


class Signer:
    """A certificate, and the private key that belongs to it."""

    def __init__(self, name: str, key: str, *options: str,
                 subject: str | None = None) -> None:
        self.key = private(key)
        self.pem = str(path(f"{name}.crt"))
        run("openssl", "req", "-x509", "-new", "-key", self.key, "-out",
            self.pem, "-subj", f"/CN={subject or name}", "-sha256", *options)
        self.der = run("openssl", "x509", "-in", self.pem, "-outform", "der")

    @classmethod
    @functools.cache
    def vendor(cls) -> Signer:
        """The one that is trusted in most tests."""
        return cls("vendor", "first")

    @classmethod
    @functools.cache
    def built_in(cls) -> Signer:
        """The one that the guest's kernels trust.

        Raises Skipped on other kernels.
        """
        name = "composefs test key"
        keys = run("keyctl", "list", BUILT_IN).decode()
        if f" {name}: " not in keys:
            raise ktap.Skipped(f"the kernel was built without the {name}")
        self = cls.__new__(cls)
        self.key = self.pem = str(TEST_KEY)
        self.der = run("openssl", "x509", "-in", self.pem, "-outform", "der")
        return self

    def serial(self) -> str:
        """The number of the certificate, in hexadecimal digits."""
        said = run("openssl", "x509", "-in", self.pem, "-noout", "-serial")
        return said.decode().strip().partition("=")[2].lower()

    def identifier(self) -> str:
        """What the certificate calls its key, in hexadecimal digits."""
        said = run("openssl", "x509", "-in", self.pem, "-noout", "-ext",
                   "subjectKeyIdentifier").decode()
        return said.split()[-1].replace(":", "").lower()

    def tbs_hash(self) -> str:
        """The hash of what is signed in the certificate, by which the
        kernel's blacklist knows it."""
        signed = path("tbs")
        run("openssl", "asn1parse", "-inform", "der", "-strparse", "4",
            "-noout", "-out", str(signed), stdin=self.der)
        return hashlib.sha256(signed.read_bytes()).hexdigest()

    def blacklist(self) -> None:
        """Adds the certificate to the kernel's blacklist, until the next
        boot. The kernel wants a signature for that."""
        entry = f"tbs:{self.tbs_hash()}"
        run("keyctl", "padd", "blacklist", entry, BLACKLIST,
            stdin=Signer.built_in().sign(entry.encode()))

    def issue(self, name: str, key: str) -> Signer:
        """A certificate that this one vouches for."""
        return Signer(name, key, "-CA", self.pem, "-CAkey", self.key)

    def trusted(self, keyring: str = COMPOSEFS) -> str:
        """Adds the certificate to a keyring. Returns the number of the key."""
        return run("keyctl", "padd", "asymmetric", "", keyring,
                   stdin=self.der).decode().strip()

    def sign(self, data: bytes, *options: str) -> bytes:
        """A detached signature by openssl(1)."""
        return run("openssl", "smime", "-sign", "-binary", "-outform", "der",
                   "-md", "sha256", "-signer", self.pem, "-inkey", self.key,
                   *(options or ("-noattr", "-nocerts")), stdin=data)

    def sign_by_identifier(self, data: bytes) -> bytes:
        """A detached signature that names the key by its identifier."""
        return run("openssl", "cms", "-sign", "-binary", "-outform", "der",
                   "-md", "sha256", "-signer", self.pem, "-inkey", self.key,
                   "-noattr", "-nocerts", "-keyid", stdin=data)

    def sign_file(self, file: str, algorithm: str = "sha256") -> bytes:
        """A detached signature of a file's fs-verity digest, by
        fsverity(1)."""
        out = path("fsverity-sign")
        run("fsverity", "sign", file, str(out), f"--key={self.key}",
            f"--cert={self.pem}", f"--hash-alg={algorithm}")
        return out.read_bytes()


def formatted(digest: str | None) -> bytes:
    """struct fsverity_formatted_digest of "sha256:..."."""
    algorithm, _, digits = (digest or "").partition(":")
    value = bytes.fromhex(digits)
    return struct.pack("<8sHH", b"FSVerity", ALGORITHMS[algorithm],
                       len(value)) + value


def clear(keyring: str = COMPOSEFS) -> None:
    run("keyctl", "clear", keyring)


@contextmanager
def trusting(*signers: Signer, keyring: str = COMPOSEFS) -> Iterator[None]:
    """A keyring with these certificates and no others."""
    clear(keyring)
    try:
        for signer in signers:
            signer.trusted(keyring)
        yield
    finally:
        clear(keyring)


def mount_with_bytes(options: mounts.Options, signature: bytes) -> int:
    """A mount whose signature is passed by itself. Returns the descriptor of
    the detached mount."""
    with mounts.Context.open("composefs") as context:
        try:
            for key, value in options:
                context.set(key, value)
            context.config(mounts.FSCONFIG_SET_BINARY, "signature", signature,
                           len(signature))
            context.create()
            return context.mount()
        except OSError as error:
            raise mounts.MountError(error, context.messages()) from None


def result_with_bytes(options: mounts.Options, signature: bytes) -> int | None:
    """The errno of such a mount, None for success."""
    try:
        os.close(mount_with_bytes(options, signature))
    except mounts.MountError as error:
        return error.errno
    return None
