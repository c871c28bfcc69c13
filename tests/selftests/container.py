#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Containers: an image as the lower layer of an overlayfs that is written to.

A shell of the image runs in it; what it has done has to look as on erofs and
overlayfs, and the image to be as it was.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import (fixtures, ktap, layers, matrix, mounts, objects, reference,
                 tree)
from lib.mounts import Options, Value
from lib.refused import refused

suite = ktap.Suite()

# What runs in the container. Each line is a kind of change.
SCRIPT = r"""
set -e
test "$(tail -n 1 /etc/debian_version)"
echo new >/etc/new
mkdir -p /opt/new/directory
echo appended >>/etc/debian_version
chmod 0600 /etc/services
chown 12:34 /etc/host.conf
touch -d @1000000000 /etc/issue
rm /etc/issue.net
rm -r /etc/cron.daily
mv /etc/profile /etc/profile.old
mv /etc/profile.d /etc/profile-new.d
rm -r /etc/pam.d
mkdir /etc/pam.d
echo again >/etc/pam.d/again
ln /etc/shells /etc/shells-too
ln -s shells /etc/shells-link
truncate -s 3 /etc/securetty 2>/dev/null || truncate -s 3 /etc/login.defs
mkfifo /opt/fifo
find /etc /opt | sort
ls -ld /etc/services /etc/host.conf
cat /etc/debian_version /etc/new /etc/profile.old
echo "done"
"""
CHANGED = ("etc", "opt")
# The ways to stack that overlayfs has; it refuses no lower layer for them.
VARIANTS: dict[str, Options] = {
    "defaults": [],
    "redirect_dir": [("redirect_dir", "on")],
    "metacopy": [("metacopy", "on"), ("redirect_dir", "on")],
    "index": [("index", "on")],
    "nfs_export": [("index", "on"), ("nfs_export", "on"),
                   ("metacopy", "off")],
    "xino": [("xino", "on")],
    "userxattr": [("userxattr", None)],
}


def image() -> fixtures.Image:
    return fixtures.named("debian-v0")


@contextmanager
def composefs() -> Iterator[str]:
    with mounts.composefs(image().path, image().objects,
                          ("digest", image().digest)) as top:
        yield top


def lower_of(top: str) -> Options:
    return [("lowerdir+", top)]


def reference_of(metadata: str) -> Options:
    """erofs and the objects, by the same overlayfs that is written to."""
    return [("lowerdir+", metadata),
            *(("datadir+", path) for path in image().objects)]


def bubblewrap(top: str) -> list[str]:
    return ["bwrap", "--bind", top, "/", "--proc", "/proc", "--dev", "/dev",
            "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--",
            "/bin/sh", "-c", SCRIPT]


def bundle(top: str, where: str) -> None:
    """The configuration of a container, as runtimes read it."""
    rights = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_MKNOD",
              "CAP_FSETID"]
    Path(where, "config.json").write_text(json.dumps({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0}, "cwd": "/",
            "args": ["/bin/sh", "-c", SCRIPT],
            "env": ["PATH=/usr/bin:/bin", "LANG=C"],
            "capabilities": {kind: rights for kind in (
                "bounding", "effective", "permitted")}},
        "root": {"path": top, "readonly": False},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}],
        "linux": {"namespaces": [{"type": kind} for kind in (
            "pid", "mount", "ipc", "uts")]}}), encoding="ascii")


@contextmanager
def crun(top: str) -> Iterator[list[str]]:
    with tempfile.TemporaryDirectory() as where:
        bundle(top, where)
        yield ["crun", "--cgroup-manager=disabled", f"--root={where}/state",
               "run", f"--bundle={where}", "composefs-test"]


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True,
                          env={"PATH": "/usr/bin:/bin", "LANG": "C"},
                          stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise AssertionError(f"{command[0]} ended with {done.returncode}: "
                             f"{done.stdout}{done.stderr}")
    return done.stdout


def in_bubblewrap(top: str) -> str:
    return run(bubblewrap(top))


def in_crun(top: str) -> str:
    with crun(top) as command:
        return run(command)


def view(top: str, *parts: str) -> dict[bytes, tuple[object, ...]]:
    """Names, attributes and contents below some directories."""
    found: dict[bytes, tuple[object, ...]] = {}
    for part in parts or CHANGED:
        for entry in tree.walk(f"{top}/{part}"):
            path = os.fsencode(part) + entry.path
            one = entry.stat
            # When a directory was changed is not the same twice.
            when = one.st_mtime_ns if entry.format != stat.S_IFDIR else 0
            content = ""
            if entry.format == stat.S_IFREG:
                with open(os.fsencode(top) + b"/" + path, "rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
            found[path] = (one.st_mode, one.st_uid, one.st_gid,
                           when, entry.target, content,
                           sorted(entry.xattrs.items()))
    return found


def without_new_times(found: dict[bytes, tuple[object, ...]],
                      lower: dict[bytes, tuple[object, ...]]) -> dict[
                          bytes, tuple[object, ...]]:
    """The times of what was written are those of the writes."""
    return {path: (*one[:3], one[3] if path in lower and
                   lower[path][3] == one[3] else "new", *one[4:])
            for path, one in found.items()}


def container(test: ktap.Test, start: Callable[[str], str],
              more: Options) -> None:
    """Runs it on our mount and on the reference, and compares."""
    results = []
    with composefs() as ours:
        before = view(ours)
        with layers.overlay(lower_of(ours), *more) as merged:
            said = start(merged.top)
            after = without_new_times(view(merged.top), before)
            upper = [path for path in merged.upper.rglob("*")
                     if stat.S_ISCHR(path.lstat().st_mode)]
        test.check(said.endswith("done\n"), f"the shell said {said}")
        test.check(any(path.name == "issue.net" for path in upper),
                   f"whiteouts: {upper}")
        test.check(view(ours) == before, "the image's mount has changed")
        results.append((said, after))
    with mounts.composefs(image().path, image().objects,
                          ("digest", image().digest)) as again:
        test.check(view(again) == before, "the image has changed")

    # The reference needs these two to show files at all.
    given = dict(more)
    if "userxattr" in given or given.get("metacopy") == "off":
        return
    with reference.erofs(image()) as metadata, layers.overlay(
            reference_of(metadata), *more, *(
                (name, "on") for name in ("metacopy", "redirect_dir")
                if name not in given)) as merged:
        said = start(merged.top)
        results.append((said, without_new_times(view(merged.top), before)))
    test.check(results[0][0] == results[1][0],
               f"the shells said {results[0][0]} and {results[1][0]}")
    ours_view, theirs_view = results[0][1], results[1][1]
    for path in sorted(ours_view.keys() | theirs_view.keys()):
        test.equal(ours_view.get(path), theirs_view.get(path), repr(path))


for _name, _more in VARIANTS.items():
    suite.add(f"bubblewrap, overlayfs with {_name}",
              lambda test, more=_more: container(test, in_bubblewrap, more))
suite.add("crun", lambda test: container(test, in_crun, []))


@suite.test("what is written is on the disk after the layers are mounted anew")
def persists(test: ktap.Test) -> None:
    with objects.store() as work, composefs() as top:
        options: Options = [("source", "layers"), ("lowerdir+", top),
                            ("upperdir", f"{work.path}/upper"),
                            ("workdir", f"{work.path}/work"),
                            ("redirect_dir", "on"), ("metacopy", "on")]
        for name in ("upper", "work"):
            (work.top / name).mkdir()
        with mounts.mounted("overlay", options) as merged:
            in_bubblewrap(merged)
            written = view(merged)
        with mounts.mounted("overlay", options) as merged:
            test.check(view(merged) == written, "another view")


@suite.test("a file that is written to is copied, and the lower one stays")
def copy_up(test: ktap.Test) -> None:
    with composefs() as top, layers.overlay(lower_of(top)) as merged:
        path = Path(merged.top, "etc/services")
        before = path.read_bytes()
        with open(path, "ab") as writer:
            writer.write(b"more")
        test.check(path.read_bytes() == before + b"more", "the new content")
        test.check(Path(top, "etc/services").read_bytes() == before,
                   "the lower file has changed")


@suite.test("the access time of a file that was copied moves again")
def access_time(test: ktap.Test) -> None:
    """That of composefs's own does not, and says so where an inode of
    overlayfs does not take it over."""
    with composefs() as top, layers.overlay(lower_of(top)) as merged:
        path = Path(merged.top, "etc/services")
        with open(path, "ab") as writer:
            writer.write(b"more")
        before = path.stat().st_atime_ns
        path.read_bytes()
        test.check(path.stat().st_atime_ns > before, "it stands still")


@suite.test("two images are two layers")
def two_images(test: ktap.Test) -> None:
    other = matrix.image()
    with composefs() as first, mounts.composefs(
            other.path, other.objects) as second, layers.overlay(
                [("lowerdir+", second), ("lowerdir+", first)]) as merged:
        test.check(set(os.listdir(merged.top)) ==
                   set(os.listdir(first)) | set(os.listdir(second)), "names")
        test.check(Path(merged.top, matrix.FILE).read_bytes() ==
                   matrix.data(), "a file of one")
        test.check(Path(merged.top, "etc/services").read_bytes() ==
                   Path(first, "etc/services").read_bytes(),
                   "a file of the other")


@suite.test("what an image says to overlayfs counts as on the reference")
def marks(test: ktap.Test) -> None:
    """Opaque directories and more, as in the layer of a container that was
    made into an image."""
    special = fixtures.named("special-v0")
    found = []
    with objects.store() as base:
        for name in ("opaque", "plain"):
            (base.top / "overlay" / name).mkdir(parents=True)
            base.plain(f"overlay/{name}/below", b"below")
        base.plain("whiteouts/gone", b"below")
        base.plain("whiteouts/only/gone", b"below")
        with mounts.composefs(special.path, special.objects) as ours, \
                reference.erofs(special) as metadata, \
                mounts.mounted("overlay", [
                    ("source", "reference"), ("metacopy", "on"),
                    ("redirect_dir", "on"), ("ro", None),
                    ("lowerdir+", metadata),
                    *(("datadir+", path) for path in special.objects)]) \
                as theirs:
            for top in (ours, theirs):
                with layers.overlay([("lowerdir+", top), (
                        "lowerdir+", base.path)]) as merged:
                    found.append(view(merged.top, "whiteouts",
                                      "overlay/opaque", "overlay/plain"))
    for path in sorted(found[0].keys() | found[1].keys()):
        test.equal(found[0].get(path), found[1].get(path), repr(path))
    test.check(b"overlay/plain/below" in found[0], "the layer below")
    test.check(b"overlay/opaque/below" not in found[0],
               "the layer below an opaque directory is seen")


@suite.test("an image that stands on two file systems already is refused")
def too_deep(test: ktap.Test) -> None:
    with objects.store() as lower, objects.store() as second, \
            objects.store() as third:
        lower.plain("image", Path(matrix.image().path).read_bytes())
        options: list[tuple[str, Value]] = [("source", "layers")]
        with mounts.mounted("overlay", [
                *options, ("lowerdir+", lower.path),
                ("lowerdir+", second.path)]) as one:
            with mounts.composefs(f"{one}/image",
                                  matrix.image().objects) as top:
                matrix.is_right(test, top, "on one overlayfs")
                test.fails(errno.EINVAL, "overlayfs on it", mounts.new_mount,
                           "overlay", [*options, ("lowerdir+", top),
                                       ("lowerdir+", third.path)])
            with mounts.mounted("overlay", [
                    *options, ("lowerdir+", one),
                    ("lowerdir+", third.path)]) as two:
                refused(test, "on two", errno.EINVAL, mounts.composefs_options(
                    f"{two}/image", matrix.image().objects),
                    "too many file systems")


fixtures.require()
objects.require_verity()
suite.run()
