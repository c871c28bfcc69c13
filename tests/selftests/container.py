#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Containers: an image as the lower layer of an overlayfs with an upper layer.

A shell of the image runs in a container and changes files. The result has to
be that of the same container on erofs + overlayfs, and the image may not
change. This needs bubblewrap and crun.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import (containers, fixtures, ktap, matrix_image, mounts, objects,
                 overlayfs, reference, tree)
from lib.mounts import Options
from lib.refused import refused

suite = ktap.Suite()

# The script that runs in the container. Each line is a kind of change.
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
# Options of overlayfs. None of them may refuse composefs as a lower layer.
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
    """erofs and the objects as lower layers of the container's overlayfs."""
    return [("lowerdir+", metadata),
            *(("datadir+", path) for path in image().objects)]


def bubblewrap(top: str) -> list[str]:
    return ["bwrap", "--bind", top, "/", "--proc", "/proc", "--dev", "/dev",
            "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--",
            "/bin/sh", "-c", SCRIPT]


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
    with containers.crun(containers.configuration(top, SCRIPT)) as command:
        return run(command)


def view(top: str, *parts: str) -> dict[bytes, tuple[object, ...]]:
    """Names, attributes and contents below some directories."""
    found: dict[bytes, tuple[object, ...]] = {}
    for part in parts or CHANGED:
        for entry in tree.walk(f"{top}/{part}"):
            path = os.fsencode(part) + entry.path
            one = entry.stat
            # The mtime of a directory differs between two runs.
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
    """Replaces the mtimes of changed files, which differ between two runs."""
    return {path: (*one[:3], one[3] if path in lower and
                   lower[path][3] == one[3] else "new", *one[4:])
            for path, one in found.items()}


def container(test: ktap.Test, start: Callable[[str], str],
              more: Options) -> None:
    """Runs a container on composefs and on the reference, and compares."""
    results = []
    with composefs() as ours:
        before = view(ours)
        with overlayfs.writable(lower_of(ours), *more) as merged:
            said = start(merged.top)
            after = without_new_times(view(merged.top), before)
            upper = [path for path in merged.upper.rglob("*")
                     if stat.S_ISCHR(path.lstat().st_mode)]
        test.check(said.endswith("done\n"), f"output: {said}")
        test.check(any(path.name == "issue.net" for path in upper),
                   f"whiteouts: {upper}")
        test.check(view(ours) == before, "the mount of the image has changed")
        results.append((said, after))
    with mounts.composefs(image().path, image().objects,
                          ("digest", image().digest)) as again:
        test.check(view(again) == before, "the image has changed")

    # The reference needs metacopy and redirect_dir, which these exclude.
    given = dict(more)
    if "userxattr" in given or given.get("metacopy") == "off":
        return
    with reference.erofs(image()) as metadata, overlayfs.writable(
            reference_of(metadata), *more, *(
                (name, "on") for name in ("metacopy", "redirect_dir")
                if name not in given)) as merged:
        said = start(merged.top)
        results.append((said, without_new_times(view(merged.top), before)))
    test.check(results[0][0] == results[1][0],
               f"output: {results[0][0]}, reference {results[1][0]}")
    ours_view, theirs_view = results[0][1], results[1][1]
    for path in sorted(ours_view.keys() | theirs_view.keys()):
        test.equal(ours_view.get(path), theirs_view.get(path), repr(path))


for _name, _more in VARIANTS.items():
    suite.add(f"bubblewrap, overlayfs with {_name}",
              lambda test, more=_more: container(test, in_bubblewrap, more))
suite.add("crun", lambda test: container(test, in_crun, []))


@suite.test("changes are on the disk when the layers are mounted again")
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
            test.check(view(merged) == written, "the view differs")


@suite.test("a write copies the file up, and the lower file stays")
def copy_up(test: ktap.Test) -> None:
    with composefs() as top, overlayfs.writable(lower_of(top)) as merged:
        path = Path(merged.top, "etc/services")
        before = path.read_bytes()
        with open(path, "ab") as writer:
            writer.write(b"more")
        test.check(path.read_bytes() == before + b"more", "the new content")
        test.check(Path(top, "etc/services").read_bytes() == before,
                   "the lower file has changed")


@suite.test("the access time of a file that was copied up changes")
def access_time(test: ktap.Test) -> None:
    """Inodes of composefs have S_NOATIME, which inodes of overlayfs may not
    inherit."""
    with composefs() as top, overlayfs.writable(lower_of(top)) as merged:
        path = Path(merged.top, "etc/services")
        with open(path, "ab") as writer:
            writer.write(b"more")
        before = path.stat().st_atime_ns
        path.read_bytes()
        test.check(path.stat().st_atime_ns > before,
                   "the access time has not changed")


@suite.test("two images as two lower layers")
def two_images(test: ktap.Test) -> None:
    other = matrix_image.image()
    with composefs() as first, mounts.composefs(
            other.path, other.objects) as second, overlayfs.writable(
                [("lowerdir+", second), ("lowerdir+", first)]) as merged:
        test.check(set(os.listdir(merged.top)) ==
                   set(os.listdir(first)) | set(os.listdir(second)), "names")
        test.check(Path(merged.top, matrix_image.FILE).read_bytes() ==
                   matrix_image.data(), "a file of the second")
        test.check(Path(merged.top, "etc/services").read_bytes() ==
                   Path(first, "etc/services").read_bytes(),
                   "a file of the first")


@suite.test(
    "overlay xattrs of an image have the effect that they have on erofs"
)
def marks(test: ktap.Test) -> None:
    """Opaque directories and whiteouts, as in an image that was made from the
    upper layer of a container."""
    special = fixtures.named("special-v0")
    found = []
    with objects.store() as base:
        for name in ("opaque", "plain"):
            (base.top / "overlay" / name).mkdir(parents=True)
            base.plain(f"overlay/{name}/below", b"below")
        base.plain("whiteouts/gone", b"below")
        base.plain("whiteouts/only/gone", b"below")
        with mounts.composefs(special.path, special.objects) as ours, \
                reference.mount(special) as theirs:
            for top in (ours, theirs):
                with overlayfs.writable([("lowerdir+", top), (
                        "lowerdir+", base.path)]) as merged:
                    found.append(view(merged.top, "whiteouts",
                                      "overlay/opaque", "overlay/plain"))
    for path in sorted(found[0].keys() | found[1].keys()):
        test.equal(found[0].get(path), found[1].get(path), repr(path))
    test.check(b"overlay/plain/below" in found[0],
               "a plain directory hides the layer below")
    test.check(b"overlay/opaque/below" not in found[0],
               "an opaque directory shows the layer below")


@suite.test("an image below two stacked file systems is refused")
def too_deep(test: ktap.Test) -> None:
    with objects.store() as lower, objects.store() as second, \
            objects.store() as third:
        lower.plain("image", Path(matrix_image.image().path).read_bytes())
        with overlayfs.read_only(lower.path, second.path) as one:
            with mounts.composefs(f"{one}/image",
                                  matrix_image.image().objects) as top:
                matrix_image.check(test, top, "on one overlayfs")
                test.fails(errno.EINVAL, "overlayfs on it", mounts.new_mount,
                           "overlay",
                           overlayfs.read_only_options(top, third.path))
            with overlayfs.read_only(one, third.path) as two:
                refused(test, "on two", errno.EINVAL, mounts.composefs_options(
                    f"{two}/image", matrix_image.image().objects),
                    "too many file systems")


fixtures.require()
objects.require_verity()
suite.run()
