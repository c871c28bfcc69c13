#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""The root of a system that `cargo xtask boot` has booted: what programs see
of it, and what they can do to it.

Results are printed as KTAP.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from booted import DIGEST, run, says
from lib import ktap, mounts

suite = ktap.Suite()


@suite.test("findmnt shows composefs at / and below /usr, with the image")
def shown(test: ktap.Test) -> None:
    for path in ("/", "/usr/bin"):
        found = run("findmnt", "--noheadings", "--output", "FSTYPE,SOURCE",
                    "--target", path).split()
        test.equal(found[0], "composefs", f"the type of {path}")
        test.check(found[1].endswith(f"/{DIGEST[:2]}/{DIGEST[2:]}"),
                   f"the source of {path}: {found[1]}")
    test.check(f"digest=sha256:{DIGEST}" in mounts.info("/").options,
               f"no digest: {mounts.info('/')}")
    test.equal(Path("/sys/module/composefs/initstate").exists(),
               "COMPOSEFS_BUILT_IN" not in os.environ,
               "whether composefs is a module")


@suite.test("the system is running, and no unit has failed")
def running(test: ktap.Test) -> None:
    failed = run("systemctl", "list-units", "--failed", "--plain",
                 "--no-legend")
    test.equal(failed, "", "failed units")
    test.equal(says("systemctl", "is-system-running"), (0, "running"),
               "the system")


@suite.test("the root and /usr refuse writes, /etc and /var take them")
def writes(test: ktap.Test) -> None:
    for directory in ("/", "/usr", "/usr/bin", "/opt"):
        test.fails(errno.EROFS, f"a file in {directory}",
                   Path(directory, "new").write_text, "new")
        test.check(not os.access(directory, os.W_OK), f"access: {directory}")
    test.fails(errno.EROFS, "a file of /usr", open, "/usr/bin/env", "r+b")
    test.fails(errno.EROFS, "chmod", os.chmod, "/usr/bin/env", 0o755)
    test.fails(errno.EROFS, "unlink", os.unlink, "/usr/bin/env")
    test.fails(errno.EROFS, "rename", os.rename, "/usr/bin/env", "/usr/bin/e")
    for directory in ("/etc", "/var", "/var/lib", "/tmp", "/run"):
        path = Path(directory, "new-file")
        try:
            path.write_text("new")
            test.equal(path.read_text(), "new", str(path))
            path.unlink()
        except OSError as error:
            test.fail(f"{path}: {error}")


@suite.test("df, lsblk, blkid and stat know the root")
def known(test: ktap.Test) -> None:
    fields = run("df", "--output=fstype,used,avail", "/").splitlines()[1]
    test.equal(fields.split()[0], "composefs", "df")
    run("df", "-i", "/")
    run("df")
    test.check("/sysroot" in run("lsblk", "--output", "NAME,MOUNTPOINTS") or
               "/run/initramfs/store" in run("lsblk", "--output", "NAME,MOUNTPOINTS"),
               "lsblk shows no disk of the store")
    device = os.stat("/").st_dev
    test.equal(run("stat", "-c", "%d", "/"), str(device), "stat")
    test.equal(os.major(device), 0, "the major number of the root's device")
    for path in ("/usr/bin/env", "/usr/lib/os-release"):
        test.equal(os.stat(path).st_dev, device, f"the device of {path}")


@suite.test("systemd-sysext adds to /usr")
def sysext(test: ktap.Test) -> None:
    with extension("sysext", "/var/lib/extensions", "usr/lib"):
        run("systemd-sysext", "refresh")
        try:
            test.equal(Path("/usr/lib/added").read_text(), "added\n",
                       "the added file")
            test.check(Path("/usr/bin/env").stat().st_size, "a file of /usr")
            run("/usr/bin/env", "true")
        finally:
            run("systemd-sysext", "unmerge")
        test.check(not Path("/usr/lib/added").exists(), "it is still there")


@suite.test("systemd-confext adds to /etc if that is no overlay")
def confext(test: ktap.Test) -> None:
    with extension("confext", "/var/lib/confexts", "etc"):
        # One on the objects' file system, the second for /etc: the kernel has
        # no room for a third.
        status, text = says("systemd-confext", "refresh")
        test.check(status != 0 and "Invalid argument" in text,
                   f"exit status {status}: {text}")
        test.check(Path("/etc/passwd").read_text(), "/etc/passwd")
        # As on a system whose /etc is a directory of the disk.
        with tempfile.TemporaryDirectory(dir="/var/lib") as top:
            run("cp", "-aT", "/etc", f"{top}/etc")
            with mounts.bound(f"{top}/etc", "/etc"):
                merged(test)


def merged(test: ktap.Test) -> None:
    run("systemd-confext", "refresh")
    try:
        test.equal(Path("/etc/added").read_text(), "added\n",
                   "the added file")
        test.check(Path("/etc/passwd").read_text(), "/etc/passwd")
    finally:
        run("systemd-confext", "unmerge")
    test.check(not Path("/etc/added").exists(), "it is still there")


@contextmanager
def extension(kind: str, where: str, directory: str) -> Iterator[None]:
    """An extension of the system, which adds a file."""
    top = Path(where, "sample")
    release = top / (f"usr/lib/extension-release.d/extension-release.sample"
                     if kind == "sysext" else
                     "etc/extension-release.d/extension-release.sample")
    release.parent.mkdir(parents=True)
    release.write_text("ID=_any\n")
    added = top / directory / "added"
    added.parent.mkdir(parents=True, exist_ok=True)
    added.write_text("added\n")
    try:
        yield
    finally:
        shutil.rmtree(top)


@suite.test("there is room for an overlay on the root, and for two in /var")
def containers(test: ktap.Test) -> None:
    with tempfile.TemporaryDirectory(dir="/run") as top:
        for name in ("upper", "work", "upper2", "work2", "one", "two"):
            os.mkdir(f"{top}/{name}")
        run("mount", "-t", "overlay", "overlay", f"{top}/one", "-o",
            f"lowerdir=/,upperdir={top}/upper,workdir={top}/work")
        try:
            Path(top, "one/usr/new").write_text("new")
            run("chroot", f"{top}/one", "/usr/bin/env", "true")
            # The kernel allows two file systems on top of that of a disk.
            again = ["mount", "-t", "overlay", "overlay", f"{top}/two", "-o",
                     f"lowerdir={top}/one,upperdir={top}/upper2,"
                     f"workdir={top}/work2"]
            status, text = says(*again)
            test.check(status != 0, f"an overlay on it is mounted: {text}")
        finally:
            run("umount", f"{top}/one")
    with tempfile.TemporaryDirectory(dir="/var/lib") as top:
        for name in ("lower", "upper", "work", "upper2", "work2", "one",
                     "two"):
            os.mkdir(f"{top}/{name}")
        run("mount", "-t", "overlay", "overlay", f"{top}/one", "-o",
            f"lowerdir={top}/lower,upperdir={top}/upper,workdir={top}/work")
        try:
            run("mount", "-t", "overlay", "overlay", f"{top}/two", "-o",
                f"lowerdir={top}/one,upperdir={top}/upper2,"
                f"workdir={top}/work2")
            run("umount", f"{top}/two")
        finally:
            run("umount", f"{top}/one")


@suite.test("podman runs containers of the root and of an image in /var")
def podman(test: ktap.Test) -> None:
    begin = ("podman", "run", "--rm", "--network", "none")
    show = ("/usr/bin/cat", "/proc/self/mountinfo")
    mounted = run(*begin, "--rootfs", "/:O", *show)
    test.check(" / / " in mounted and " - overlay " in mounted,
               f"a container of the root: {mounted}")
    libraries = "/usr/lib/x86_64-linux-gnu"
    image = subprocess.run(
        ["tar", "-C", "/", "-c", "bin", "lib", "lib64", "usr/lib64",
         "usr/bin/cat", f".{libraries}/libc.so.6",
         f".{libraries}/ld-linux-x86-64.so.2"], check=True,
        stdout=subprocess.PIPE).stdout
    subprocess.run(["podman", "import", "-", "localhost/small"], input=image,
                   check=True, capture_output=True)
    test.check(" - overlay " in run(*begin, "localhost/small", *show),
               "a container of an image")
    run("podman", "rmi", "localhost/small")


@suite.test("the journal has this boot, and no complaint about the root")
def journal(test: ktap.Test) -> None:
    lines = run("journalctl", "--boot", "--no-pager").splitlines()
    test.check(len(lines) > 100, f"only {len(lines)} lines")
    kernel = run("journalctl", "--boot", "--no-pager", "--dmesg", "--output",
                 "cat").splitlines()
    usual = ("composefs: loading out-of-tree module",
             "composefs: module verification failed")
    for line in kernel:
        if line.startswith(("composefs", "erofs", "EXT4-fs", "I/O error")):
            test.check(line.startswith(usual) or "mounted filesystem" in line
                       or "re-mounted" in line, line)
    # The journal of earlier boots is on the disk.
    test.check(list(Path("/var/log/journal").glob("*/system.journal")),
               "the journal is not in /var")


@suite.test("programs that look for the root's disk say that there is none")
def probes(test: ktap.Test) -> None:
    source = run("findmnt", "--noheadings", "--output", "SOURCE", "/")
    for command, expected, words in [
            (("grub-probe", "--target=fs", "/"), 1, "unknown filesystem"),
            (("grub-probe", "--target=device", "/usr/bin"), 0, source),
            (("bootctl", "status"), 0, "EFI system partition"),
            (("bootctl", "--print-root-device"), 80,
             "not backed by a (single) whole block device")]:
        status, text = says(*command)
        test.equal(status, expected, f"{' '.join(command)}: {text}")
        test.check(words in text, f"{' '.join(command)}: {text}")


suite.run()
