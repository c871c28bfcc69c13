#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0

"""Container tools, unmodified, with a mount of composefs as the root.

A shell in the container reads every file. Output and exit status have to be
those of the same command on erofs + overlayfs. This needs podman, crun,
bubblewrap, systemd-nspawn and mkcomposefs.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lib import (containers, fixtures, ktap, leaks, module, mounts, objects,
                 ordinary_user, overlayfs, reference, small_system, tree,
                 userns)
from lib.containers import Result

suite = ktap.Suite()

Start = Callable[[str], Result]
Test = Callable[[ktap.Test], None]


@contextmanager
def native() -> Iterator[str]:
    with mounts.composefs(IMAGE.path, IMAGE.objects,
                          ("digest", IMAGE.digest)) as top:
        yield top


@contextmanager
def stack() -> Iterator[str]:
    with reference.mount(IMAGE, verity=True) as top:
        yield top


def mount_points() -> set[str]:
    return {" ".join(fields[4:5] + fields[-3:-1])
            for fields in mounts.mountinfo()}


def client(name: str) -> Callable[[Test], Test]:
    """Adds a test that has to leave no mount, in no namespace."""
    def decorate(function: Test) -> Test:
        def run(test: ktap.Test) -> None:
            before = mount_points()
            function(test)
            test.equal(mount_points() - before, set(), "mounts that are left")
            # A mount in another namespace holds the module.
            test.equal(module.try_unload(), "", "unloading the module")
            module.load()
        suite.add(name, run)
        return function
    return decorate


def check_read(test: ktap.Test, found: Result, what: str) -> None:
    """Checks what small_system.READ has printed."""
    test.equal(found.status, small_system.STATUS, f"{what}: {found}")
    expected = small_system.digests()
    test.equal(found.stdout.splitlines()[:len(expected)], expected,
               f"{what}: digests")


def reads(test: ktap.Test, start: Start) -> None:
    """Compares a container that reads on both kinds of mounts."""
    with native() as top:
        ours = start(top)
    check_read(test, ours, "composefs")
    with stack() as top:
        theirs = start(top)
    check_read(test, theirs, "the stack")
    test.equal(ours[:2], theirs[:2], "composefs and the stack")


def writes(test: ktap.Test, start: Start) -> None:
    """Compares a container that writes to a layer over both kinds."""
    expected = small_system.digests()
    found = []
    with native() as top:
        before = {entry.path: entry.stat[:9] for entry in tree.walk(top)}
        found.append(start(top))
        after = {entry.path: entry.stat[:9] for entry in tree.walk(top)}
        test.equal(after, before, "the image after the writes")
        check_read(test, containers.run(["chroot", top, "/bin/sh", "-c",
                                         small_system.READ]), "afterwards")
    with stack() as top:
        found.append(start(top))
    for result, what in zip(found, ("composefs", "the stack")):
        test.equal(result.status, small_system.STATUS, f"{what}: {result}")
        lines = result.stdout.splitlines()
        test.equal(lines[:len(expected)], expected, f"{what}: digests")
        test.check("/data/new f 644 0 0 " in lines, f"{what}: {result}")
    test.equal(found[0][:2], found[1][:2], "composefs and the stack")


@client("podman run --rootfs MNT:O")
def podman_overlay(test: ktap.Test) -> None:
    for script, compare in ((small_system.READ, reads),
                            (small_system.WRITE, writes)):
        compare(test, lambda top, script=script: containers.run(
            containers.podman(f"{top}:O", script)))


@client("podman run --read-only --rootfs MNT")
def podman_read_only(test: ktap.Test) -> None:
    reads(test, lambda top: containers.run(containers.podman(
        top, small_system.READ, "--read-only")))


@client("podman run --read-only --rootfs MNT:idmap, in a user namespace")
def podman_idmap(test: ktap.Test) -> None:
    def start(top: str, script: str) -> Result:
        found = containers.run(containers.podman(
            f"{top}:idmap", script, "--read-only", MAP))
        containers.without_clone(top)
        return found
    with native() as top:
        idmapped(test, lambda script: start(top, script))


MAP = "--uidmap=0:100000:65536"


def idmapped(test: ktap.Test, start: Callable[[str], Result]) -> None:
    """Checks a container in a user namespace, whose root is idmapped: files
    of the image's root belong to the root of the namespace."""
    check_read(test, start(small_system.READ), "reads")
    found = start("cat /proc/self/uid_map; "
                  "find /data/of-1000 /data/small -printf '%p %U %G\\n'")
    test.check(found.status == 0, f"owners: {found}")
    lines = found.stdout.splitlines()
    test.equal([line.split()[0:3:2] for line in lines[:1]], [["0", "65536"]],
               "the map of the namespace")
    test.check(lines[0].split()[1] != "0", "the namespace is root's own")
    test.equal(lines[1:], ["/data/of-1000 1000 1000", "/data/small 0 0"],
               "owners in the namespace")


@client("crun with a bundle")
def crun(test: ktap.Test) -> None:
    def start(script: str, read_only: bool) -> Start:
        def run(top: str) -> Result:
            with containers.crun(containers.configuration(
                    top, script, read_only)) as command:
                return containers.run(command)
        return run
    reads(test, start(small_system.READ, True))

    def on_overlay(top: str) -> Result:
        with overlayfs.writable([("lowerdir+", top)]) as merged:
            return start(small_system.WRITE, False)(merged.top)
    writes(test, on_overlay)


@client("crun with an idmapped mount")
def crun_idmap(test: ktap.Test) -> None:
    """The root is not idmapped, so its files belong to nobody."""
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    with native() as top:
        config = containers.configuration(
            top, "find /data/small /mnt/of-1000 /mnt/small "
            "-printf '%p %U %G\\n'; sha256sum /mnt/large", read_only=True)
        config["linux"]["namespaces"].append({"type": "user"})
        config["linux"] |= {"uidMappings": ids, "gidMappings": ids}
        config["mounts"].append({
            "destination": "/mnt", "type": "none", "source": f"{top}/data",
            "options": ["bind", "ro", "idmap"]})
        with containers.crun(config) as command:
            found = containers.run(command)
    test.check(found.status == 0, str(found))
    test.equal(found.stdout.splitlines(), [
        "/data/small 65534 65534", "/mnt/of-1000 1000 1000", "/mnt/small 0 0",
        small_system.digests()[0].replace("/data/", "/mnt/")], "owners")


@client("bwrap --ro-bind")
def bubblewrap(test: ktap.Test) -> None:
    reads(test, lambda top: containers.run(containers.bubblewrap(
        small_system.READ, "--ro-bind", top, "/")))


@client("bwrap --overlay-src")
def bubblewrap_overlay(test: ktap.Test) -> None:
    writes(test, lambda top: containers.run(containers.bubblewrap(
        small_system.WRITE, "--overlay-src", top, "--tmp-overlay", "/")))


@client("bwrap by a user")
def bubblewrap_user(test: ktap.Test) -> None:
    """The user has a user namespace, in which the root's files belong to
    nobody and the user's own can be read."""
    user = userns.USER
    reads(test, lambda top: containers.run(containers.bubblewrap(
        small_system.READ, "--ro-bind", top, "/"), user))
    # Only files of the user can be copied up, to directories of the user.
    script = ("sha256sum /data/of-1000; echo x >/data/of-1000 || echo no; "
              "echo x >/tmp/new && sha256sum /tmp/new; ")
    found = []
    for kind in (native, stack):
        with kind() as top:
            found.append(containers.run(containers.bubblewrap(
                script, "--overlay-src", top, "--tmp-overlay", "/"), user))
    test.equal(found[0].status, 0, str(found[0]))
    test.equal(found[0][:2], found[1][:2], "composefs and the stack")


@client("systemd-nspawn --read-only")
def nspawn_read_only(test: ktap.Test) -> None:
    reads(test, lambda top: containers.run(containers.nspawn(
        top, small_system.READ, "--read-only")))


@client("systemd-nspawn --volatile=overlay")
def nspawn_overlay(test: ktap.Test) -> None:
    for script, compare in ((small_system.READ, reads),
                            (small_system.WRITE, writes)):
        compare(test, lambda top, script=script: containers.run(
            containers.nspawn(top, script, "--volatile=overlay")))


@client("systemd-nspawn --volatile=yes")
def nspawn_volatile(test: ktap.Test) -> None:
    """The container sees /usr only."""
    script = f"""
        sha256sum /usr/bin/*
        find /usr -printf '%p %y %m %U %G %s %n %T@ %l\\n' | sort
        test ! -e /data && exit {small_system.STATUS}"""
    found = []
    for kind in (native, stack):
        with kind() as top:
            found.append(containers.run(containers.nspawn(
                top, script, "--volatile=yes")))
    for one in found:
        test.equal(one.status, small_system.STATUS, str(one))
    test.check("/usr/bin/sh f 755 0 0 " in found[0].stdout, str(found[0]))
    test.equal(found[0][:2], found[1][:2], "composefs and the stack")


@client("systemd-nspawn with an idmapped root")
def nspawn_idmap(test: ktap.Test) -> None:
    def start(top: str, script: str, ownership: str) -> Result:
        return containers.run(containers.nspawn(
            top, script, "--read-only", "--private-users=100000:65536",
            f"--private-users-ownership={ownership}"))
    with native() as top:
        idmapped(test, lambda script: start(top, script, "map"))
        found = start(top, "find /data/of-1000 -printf '%U %G\\n'", "off")
    test.equal(found.stdout, "65534 65534\n", f"not idmapped: {found}")


@client("podman run --read-only by a user, on a mount by root")
def rootless(test: ktap.Test) -> None:
    """Files of root belong to nobody in the container."""
    with ordinary_user.made() as user:
        reads(test, lambda top: user.run(containers.podman(
            top, small_system.READ, "--read-only")))


@client("podman of a user, who mounts composefs in podman unshare")
def rootless_mount(test: ktap.Test) -> None:
    data = f"basedir={IMAGE.objects[0]},digest={IMAGE.digest}"
    with module.loaded_with("userns_mount=1"), ordinary_user.made() as user:
        for script, *options in (
                (small_system.READ, "--read-only", "--rootfs", f"{user.home}/mnt"),
                (small_system.READ, "--rootfs", f"{user.home}/mnt:O"),
                (small_system.WRITE, "--rootfs", f"{user.home}/mnt:O")):
            podman = [*containers.PODMAN, *options, "/bin/sh", "-c", script]
            found = user.run(["podman", "unshare", "sh", "-c", f"""
                set -e
                mkdir -p mnt
                mount -t composefs {IMAGE.path} -o {data} mnt
                test $(findmnt -no FSTYPE mnt) = composefs
                set +e
                {shlex.join(podman)}
                status=$?
                umount mnt && exit $status"""])
            test.equal(found.status, small_system.STATUS,
                       f"{options}: {found}")
            expected = small_system.digests()
            test.equal(found.stdout.splitlines()[:len(expected)], expected,
                       f"{options}: digests")
        test.equal(module.try_unload(), "", "unloading the module")
        module.load()


suite.add("nothing is left", leaks.check_none)

IMAGE: fixtures.Image
reference.require_support()
objects.require_verity()
for _package, _program in (("podman", "podman"), ("crun", "crun"),
                           ("bubblewrap", "bwrap"),
                           ("systemd-container", "systemd-nspawn"),
                           ("composefs", "mkcomposefs")):
    ktap.require_programs(_package, _program)
with small_system.image() as IMAGE:
    suite.run()
