#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""mount.composefs at each step at which it cannot open another file: it fails,
and nothing is left.

Also where nobody reads what it says.
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import subprocess

from lib import core, helper_scene, ktap, mount_helper, mounts
from lib.helper_scene import Scene

OURS = "/usr/sbin/mount.composefs"
# The exit code of mount(8) for a system that has no more of something.
SYSTEM = 2
# Standard input, output and error; and more files than it ever opens.
FEWEST, MOST = 3, 20
KINDS = {
    "native": "verity",
    "stack": "verity,prefer=stack",
    "native, an upper layer": "upperdir={upper},workdir={work}",
    "stack, an upper layer":
        "upperdir={upper},workdir={work},prefer=stack",
    "stack, a loop device": "prefer=stack",
    "native, owners": "idmap={userns}",
    "a label": "image={image}",
}

suite = ktap.Suite()


def run(scene: Scene, image: str, options: str, files: int
        ) -> subprocess.CompletedProcess[str]:
    """Runs the program with a limit of open files."""
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_NOFILE,
                              (files, files))
    given = scene.expand(f"basedir={{store}},{options}")
    return subprocess.run(
        [OURS, "-o", given, scene.names[image], scene.names["target"]],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        preexec_fn=limit)


def limited(test: ktap.Test, scene: Scene, kind: str) -> None:
    """Mounts with more and more files, until it succeeds."""
    # What cannot be mounted from a file needs a loop device.
    image = "ram" if "loop" in kind else "image"
    failures = 0
    for files in range(FEWEST, MOST):
        scene.fresh()
        before = mount_helper.Leftovers(scene)
        done = run(scene, image, KINDS[kind], files)
        if done.returncode == 0:
            mounts.umount_soon(scene.names["target"])
        else:
            failures += 1
            test.equal(done.returncode, SYSTEM, f"{files} files: exit code")
            first = done.stderr.partition("\n")[0]
            test.check(first.endswith(": Too many open files"),
                       f"{files} files: {first}")
        before.check(test, f"{files} files")
    test.equal(done.returncode, 0, f"with {files} files: {done.stderr}")
    test.check(failures > 3, f"only {failures} limits are too low")


def silent(test: ktap.Test, scene: Scene) -> None:
    """Mounts with -v and an output that fails."""
    target = scene.names["target"]
    line = scene.expand("{program} -v -o basedir={store} {image} {target} ")
    for output in (">&- 2>&-", ">/dev/full", "| true"):
        scene.fresh()
        before = mount_helper.Leftovers(scene)
        subprocess.run(["sh", "-c", line + output], check=False)
        found = [fields for fields in mounts.mountinfo()
                 if fields[4] == target]
        if test.equal(len(found), 1, f"{output}: mounts"):
            mounts.umount_soon(target)
        before.check(test, output)


def main() -> None:
    with contextlib.ExitStack() as stack:
        scene = stack.enter_context(helper_scene.scene())
        scene.names["program"] = OURS
        for kind in KINDS:
            suite.add(f"too few open files: {kind}",
                      functools.partial(limited, scene=scene, kind=kind))
        suite.add("an image is mounted even if -v cannot say so",
                  functools.partial(silent, scene=scene))
        suite.run()


core.require_composefs()
if not os.access(OURS, os.X_OK):
    ktap.skip_all(f"no {OURS}")
main()
