# SPDX-License-Identifier: GPL-2.0

"""Command lines of mount.composefs: digests, flags of the mount, an upper
layer, owners."""

from __future__ import annotations

from .helper_row import (VERIFIES, Row, cannot, differs, fails, mounts,
                         options, refuses, same)
from .helper_rows import INVALID, NO_FILE, unsupported

MAPPED = 100001
IDMAPPED = "rw,relatime,idmapped"
LAYERS = "upperdir={upper},workdir={work}"
HAS_WRONG = "Image has wrong fs-verity"
HAS_NONE = "Image has no fs-verity"

FLAG = "a flag of mount(8), which the C program does not know"
PREFIX = "as the kernel and the composefs tools write digests"
LENGTH = "the C program compares the first 32 bytes only"
SHA512 = "the C program only knows SHA-256"
SHOWN = "of two mounts the C program maps the one that is not seen"

VERITY: list[Row] = [
    same(options("verity"), mounts(VERIFIES)),
    same(options("tryverity"), mounts(VERIFIES)),
    same(options("verity,tryverity"), mounts(VERIFIES)),
    same(options("tryverity,verity"), mounts(VERIFIES)),
    differs(options("noverity"), refuses(unsupported("noverity")), mounts(),
            "an option of the kernel's composefs"),
    differs(options("verity,noverity"), refuses(unsupported("noverity")),
            mounts(), "the last one wins, as with the kernel's composefs"),
    differs(options("noverity,verity"), refuses(unsupported("noverity")),
            mounts(VERIFIES),
            "the last one wins, as with the kernel's composefs"),
    differs(options("digest={digest},noverity"),
            refuses(unsupported("noverity")),
            refuses("digest excludes noverity"),
            "digest= implies verity"),
    same("-o basedir={ram_store} {image} {target}", mounts()),
    same("-o basedir={ram_store},verity {image} {target}", mounts("inline")),
    same("-o basedir={ram_store},tryverity {image} {target}",
         mounts("inline")),
    same("-o basedir={store512},verity {sha512} {target}", mounts(VERIFIES)),
    same("-o basedir={store512} {sha512} {target}", mounts()),
]

DIGESTS: list[Row] = [
    same(options("digest={digest}"), mounts(VERIFIES)),
    same(options("digest={DIGEST}"), mounts(VERIFIES)),
    same(options("digest={wrong}"), cannot("image", HAS_WRONG)),
    same(options("digest={zeros}"), cannot("image", HAS_WRONG)),
    differs(options("digest={short}"), cannot("image", HAS_WRONG),
            cannot("image", INVALID), "it is no digest"),
    same(options("digest={odd}"), cannot("image", INVALID)),
    same(options("digest={not_hex}"), cannot("image", INVALID)),
    differs(options("digest={digest}{digest}"), mounts(VERIFIES),
            cannot("image", HAS_WRONG), LENGTH),
    same(options("digest={digest}{digest}00"), cannot("image", INVALID)),
    differs(options("digest=sha256:{digest}"), cannot("image", INVALID),
            mounts(VERIFIES), PREFIX),
    differs(options("digest=sha256:{wrong}"), cannot("image", INVALID),
            cannot("image", HAS_WRONG), PREFIX),
    same(options("digest=sha512:{digest}"), cannot("image", INVALID)),
    differs("-o basedir={store512},digest={long_digest} {sha512} {target}",
            cannot("sha512", HAS_WRONG), mounts(VERIFIES), SHA512),
    differs("-o basedir={store512},digest=sha512:{long_digest} {sha512} "
            "{target}", cannot("sha512", INVALID), mounts(VERIFIES), SHA512),
    same("-o basedir={store512},digest={digest} {sha512} {target}",
         cannot("sha512", HAS_WRONG)),
    same(options("digest={wrong},digest={digest}"), mounts(VERIFIES)),
    same(options("digest={digest},digest={wrong}"),
         cannot("image", HAS_WRONG)),
    same(options("digest={digest},tryverity"), mounts(VERIFIES)),
    same(options("digest={digest}", "unsealed"),
         cannot("unsealed", HAS_NONE)),
    same(options("digest={digest}", "ram"), cannot("ram", HAS_NONE)),
    same(options("digest={digest}", "empty_file"),
         cannot("empty_file", HAS_NONE)),
    same(options("verity", "unsealed"), mounts(VERIFIES)),
]


def flag(text: str, flags: str) -> Row:
    return differs(options(text), refuses(unsupported(text.split(",")[0])),
                   mounts(flags=flags), FLAG)


FLAGS: list[Row] = [
    same(options("ro"), mounts(flags="ro,relatime")),
    same(options("rw"), mounts()),
    same(options("ro,rw"), mounts()),
    same(options("rw,ro"), mounts(flags="ro,relatime")),
    flag("nodev", "rw,nodev,relatime"),
    flag("nosuid", "rw,nosuid,relatime"),
    flag("noexec", "rw,noexec,relatime"),
    flag("nosuid,nodev,noexec,noatime", "rw,nosuid,nodev,noexec,noatime"),
    flag("nodev,dev", "rw,relatime"),
    flag("nodiratime", "rw,nodiratime,relatime"),
    flag("relatime", "rw,relatime"),
    flag("strictatime", "rw"),
    flag("nosymfollow", "rw,relatime,nosymfollow"),
    flag("defaults", "rw,relatime"),
    flag("sync", "rw,relatime"),
    flag("async", "rw,relatime"),
    flag("_netdev", "rw,relatime"),
    flag("nofail", "rw,relatime"),
    flag("x-systemd.automount", "rw,relatime"),
]

UPPER: list[Row] = [
    same(options("upperdir={upper}"),
         refuses("Both workdir and upperdir must be specified if used")),
    same(options("workdir={work}"),
         refuses("Both workdir and upperdir must be specified if used")),
    same(options(LAYERS), mounts(writes="success")),
    same(options(f"{LAYERS},ro"), mounts(flags="ro,relatime")),
    same(options(f"{LAYERS},verity"), mounts(VERIFIES, writes="success")),
    same(options(f"{LAYERS},digest={{digest}}"),
         mounts(VERIFIES, writes="success")),
    same(options(f"{LAYERS},digest={{wrong}}"), cannot("image", HAS_WRONG)),
    same(options("upperdir={missing},workdir={work}"),
         cannot("image", NO_FILE)),
    same(options("upperdir={upper},workdir={missing}"),
         cannot("image", NO_FILE)),
    same(options("upperdir={upper},workdir={upper}"),
         cannot("image", INVALID)),
    differs(options("upperdir={file},workdir={work}"),
            cannot("image", INVALID), cannot("image", "Not a directory"),
            "it says what is wrong"),
]

OWNERS: list[Row] = [
    differs(options("idmap={userns}"), mounts(owner=MAPPED),
            mounts(flags=IDMAPPED, owner=MAPPED), SHOWN,
            stack=mounts(owner=MAPPED)),
    differs(options("idmap={userns},verity"), mounts(VERIFIES, owner=MAPPED),
            mounts(VERIFIES, IDMAPPED, MAPPED), SHOWN,
            stack=mounts(VERIFIES, owner=MAPPED)),
    same(options(f"idmap={{userns}},{LAYERS}"),
         mounts(owner=MAPPED, writes="success")),
    same(options("idmap={missing}"),
         fails(f"Failed to open userns {{missing}}: {NO_FILE}")),
    same(options("idmap={image}"), cannot("image", INVALID)),
    same(options("idmap=/proc/self/ns/mnt"), cannot("image", INVALID)),
    same(options("idmap=/proc/self/ns/user"),
         cannot("image", "Operation not permitted")),
]
