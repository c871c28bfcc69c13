# SPDX-License-Identifier: GPL-2.0

"""Trees of programs with rights and SELinux labels."""

from __future__ import annotations

import os
import shutil
import stat
import struct

from .special_tree import content, write

# It can print /proc/self/*, which shows the rights of its process.
PROGRAM = "/usr/bin/cat"


def rights(top: str) -> None:
    """Files that give rights to a process, if the mount allows it."""
    os.mkdir(top)
    os.chmod(top, 0o755)
    for name, mode, owner in (("plain", 0o755, 0), ("setuid", 0o4755, 0),
                              ("setgid", 0o2755, 0),
                              ("setuid-1000", 0o4755, 1000),
                              ("capable", 0o755, 0)):
        copy_program(top, name)
        os.chown(f"{top}/{name}", owner, owner)
        os.chmod(f"{top}/{name}", mode)
    # As setcap(8) writes it: cap_dac_override, permitted and effective.
    os.setxattr(f"{top}/capable", "security.capability",
                struct.pack("<IIIII", 0x02000001, 1 << 1, 0, 0, 0))
    os.mknod(f"{top}/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.chmod(f"{top}/null", 0o666)
    for seed, (name, owner, mode) in enumerate((
            ("of-root", 0, 0o600), ("of-1000", 1000, 0o600),
            ("of-1001", 1001, 0o640), ("of-100000", 100000, 0o600),
            ("of-nobody-known", 4000000, 0o600)), 200):
        for path, size in ((f"{top}/{name}", 5000),
                           (f"{top}/{name}-small", 9)):
            write(path, content(size, seed))
            os.chown(path, owner, owner)
            os.chmod(path, mode)


def labels(top: str) -> None:
    """Files with SELinux labels; tests/selftests/selinux.py has the policy.
    """
    os.mkdir(top)
    label(top, "public_t")
    os.mkdir(f"{top}/locked")
    label(f"{top}/locked", "private_t")
    for seed, (name, kind) in enumerate((
            ("public", "public_t"), ("private", "private_t"),
            ("locked/public", "public_t"), ("unknown", "in_no_policy_t"),
            ("unlabelled", None)), 300):
        # In an object, and in the image itself.
        for path, size in ((f"{top}/{name}", 5000),
                           (f"{top}/{name}-small", 9)):
            write(path, content(size, seed))
            if kind:
                label(path, kind)
    write(f"{top}/malformed", content(5000, 310))
    os.setxattr(f"{top}/malformed", "security.selinux", b"no label\0")
    for name, kind in (("link", "public_t"), ("private-link", "private_t")):
        os.symlink("public", f"{top}/{name}")
        label(f"{top}/{name}", kind)
    os.mkfifo(f"{top}/fifo")
    label(f"{top}/fifo", "private_t")
    for name, kind in (("entry", "confined_exec_t"), ("runs", "public_t"),
                       ("runs-not", "private_t")):
        copy_program(top, name)
        label(f"{top}/{name}", kind)


def label(path: str, kind: str) -> None:
    """Gives a file the SELinux label of a type."""
    os.setxattr(path, "security.selinux",
                f"system_u:object_r:{kind}:s0\0".encode(),
                follow_symlinks=False)


def copy_program(top: str, name: str) -> None:
    """A program with an object that no other file has."""
    shutil.copy(PROGRAM, f"{top}/{name}")
    with open(f"{top}/{name}", "ab") as file:
        file.write(name.encode())
