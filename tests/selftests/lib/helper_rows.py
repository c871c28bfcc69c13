# SPDX-License-Identifier: GPL-2.0

"""Command lines of mount.composefs: options of the program, names of images,
directories and mount points."""

from __future__ import annotations

import dataclasses
import mmap

from .helper_row import (TRUSTS, Row, cannot, differs, fails, mounts, options,
                         prints, refuses, same)
from .helper_scene import ODD_NAMES
from .userns import USER

NO_FILE = "No such file or directory"
INVALID = "Invalid argument"
TOO_LONG = cannot("image", "File name too long")
PLAIN_LINE = "-o basedir={store} {image} {target}"

OF_MOUNT8 = "mount(8) passes it on to mount helpers"
EMPTY = "mount(8) ignores empty elements of a list, too"
APPENDED = "as with the kernel's composefs, so that what it shows can be used"
DAMAGED = "composefs has an error of its own for a damaged image"
COLON = "with the C program no basedir can have a colon in its name"


def unsupported(option: str) -> str:
    return f"Unsupported option {option}"


def no_value(option: str) -> Row:
    line = f"-o {option}" + ("" if option == "basedir" else
                             ",basedir={store}")
    return same(f"{line} {{image}} {{target}}",
                refuses(f"No value specified for {option} option"))


USAGE: list[Row] = [
    same("", refuses("No source path specified")),
    same("{image}", refuses("No mount path specified")),
    same("{image} {target}", refuses("No object dirs specified")),
    same("-h", prints("usage: mount.composefs...")),
    differs("--help", refuses("invalid option -- '-'"),
            prints("usage: mount.composefs..."), "each program has it"),
    differs("--version", refuses("invalid option -- '-'"),
            prints("mount.composefs..."), "each program has it"),
    differs("-V", refuses("invalid option -- 'V'"),
            prints("mount.composefs..."), "each program has it"),
    same("-x", refuses("invalid option -- 'x'")),
    same("-t", refuses("option requires an argument -- 't'")),
    same("-o", refuses("option requires an argument -- 'o'")),
    same(f"-t composefs {PLAIN_LINE}", mounts()),
    same(f"-t other {PLAIN_LINE}", refuses("Unsupported fs type 'other'")),
    same("-o basedir={store} -- {image} {target}", mounts()),
    same("{image} {target} -o basedir={store}", mounts()),
    same("{image} -o basedir={store} {target}", mounts()),
    same("-obasedir={store} {image} {target}", mounts()),
    differs(f"{PLAIN_LINE} more", mounts(),
            refuses("Unexpected argument more"),
            "a word too many is a mistake"),
    differs("-o basedir={store} -o ro {image} {target}",
            refuses("No object dirs specified"), mounts(flags="ro,relatime"),
            "all -o count, as with mount(8)"),
    differs("-o ro -o basedir={store} {image} {target}", mounts(),
            mounts(flags="ro,relatime"), "all -o count, as with mount(8)"),
    differs(f"-s {PLAIN_LINE}", refuses("invalid option -- 's'"), mounts(),
            OF_MOUNT8),
    differs(f"-n {PLAIN_LINE}", refuses("invalid option -- 'n'"), mounts(),
            OF_MOUNT8),
    differs(f"-f {PLAIN_LINE}", refuses("invalid option -- 'f'"),
            prints(""), OF_MOUNT8),
    differs(f"-v {PLAIN_LINE}", refuses("invalid option -- 'v'"),
            mounts(says="...: native"), OF_MOUNT8,
            stack=mounts(says="...: erofs + overlayfs: asked for")),
    differs(f"-N /proc/self/ns/mnt {PLAIN_LINE}",
            refuses("invalid option -- 'N'"), mounts(), OF_MOUNT8),
    differs(f"-N {{missing}} {PLAIN_LINE}",
            refuses("invalid option -- 'N'"),
            fails(f"Failed to open {{missing}}: {NO_FILE}"), OF_MOUNT8),
    differs("-s -o basedir={store},nonsense {image} {target}",
            refuses("invalid option -- 's'"), mounts(), OF_MOUNT8),
    same(f"-t composefs.x {PLAIN_LINE}",
         refuses("Unsupported fs type 'composefs.x'")),
    same(f"-r {PLAIN_LINE}", refuses("invalid option -- 'r'")),
    same(f"-w {PLAIN_LINE}", refuses("invalid option -- 'w'")),
]

OPTIONS: list[Row] = [
    same(options("nonsense"), refuses(unsupported("nonsense"))),
    same(options("nonsense=1"), refuses(unsupported("nonsense"))),
    same(options("Verity"), refuses(unsupported("Verity"))),
    differs("-o basedir={store},image={image} label {target}",
            refuses(unsupported("image")), mounts(),
            "the source is then a label"),
    differs(options("prefer=native"), refuses(unsupported("prefer")),
            mounts(), "the C program has no choice"),
    differs(options("prefer=x"), refuses(unsupported("prefer")),
            refuses("Value for prefer option must be native or stack, not "
                    "'x'"), "the C program has no choice"),
    *(no_value(option) for option in ("basedir", "digest", "upperdir",
                                      "workdir", "idmap")),
    same("-o basedir= {image} {target}",
         refuses("Value for basedir option has incorrect format")),
    differs(options("digest="), mounts("good inline"),
            refuses("No value specified for digest option"),
            "an empty variable in a script must not mount any image"),
    same(options("upperdir="),
         refuses("Both workdir and upperdir must be specified if used")),
    differs(options("upperdir=,workdir="), cannot("image", INVALID),
            cannot("image", NO_FILE), "it says what is wrong"),
    same(options("idmap="), fails(f"Failed to open userns : {NO_FILE}")),
    same(options("verity=1"), mounts("good inline")),
    differs(options(""), refuses(unsupported("")), mounts(), EMPTY),
    differs(options(",ro"), refuses(unsupported("")),
            mounts(flags="ro,relatime"), EMPTY),
    differs("-o '' {image} {target}", refuses(unsupported("")),
            refuses("No object dirs specified"), EMPTY),
]


def basedir(value: str) -> str:
    return f"-o 'basedir={value}' {{image}} {{target}}"


BASEDIRS: list[Row] = [
    same(basedir("{store}:{store2}"),
         mounts("good plain forged undigested second inline")),
    same(basedir("{store2}:{store},verity"), mounts("good second inline")),
    same(basedir("{empty}"), mounts("inline")),
    same(basedir("store"), mounts()),
    same(basedir("{deep}"), mounts()),
    same(basedir("{dots}"), mounts()),
    same(basedir("{store}:{many}:{store2}"),
         mounts("good plain forged undigested second inline")),
    differs(basedir("{too_long}"), mounts("inline"), TOO_LONG,
            "the C program has the kernel cut options after 4095 bytes, and "
            "uses another directory")
    # It cuts them behind a page.
    if mmap.PAGESIZE == 4096 else same(basedir("{too_long}"), TOO_LONG),
    same(basedir("{missing}"), cannot("image", NO_FILE)),
    same(basedir("{store}:{missing}"), cannot("image", NO_FILE)),
    differs(basedir("{image}"), cannot("image", INVALID),
            cannot("image", "Not a directory"), "it says what is wrong"),
    *(same(basedir(value),
           refuses("Value for basedir option has incorrect format"))
      for value in (":{store}", "{store}:", "{store}::{store2}", ":")),
    differs(basedir("{store}:{store}"),
            cannot("image", "Too many levels of symbolic links"), mounts(),
            "composefs accepts the same directory twice",
            stack=cannot("image", "Too many levels of symbolic links")),
    *(differs(basedir(value), mounts(c), mounts(
        "good plain forged undigested second inline"), APPENDED)
      for value, c in (("{store},basedir={store2}", "second inline"),
                       ("{store2},basedir={store}", TRUSTS))),
    same(basedir("{parent}/a,b"), refuses(unsupported("b"))),
    same(basedir("{parent}/a\\,b"), mounts()),
    differs(basedir("{parent}/a\\:b"), cannot("image", NO_FILE), mounts(),
            COLON),
    # Unescaped it is "\\:", and the C program splits there, too.
    same(basedir("{parent}/a\\\\\\:b"), cannot("image", NO_FILE)),
]

IMAGES: list[Row] = [
    same("-o basedir={store} {link} {target}", mounts()),
    same("-o basedir={store} image {target}", mounts()),
    same("-o basedir={store} {missing} {target}",
         fails(f"Failed to open {{missing}}: {NO_FILE}")),
    same("-o basedir={store} '' {target}",
         fails(f"Failed to open : {NO_FILE}")),
    same("-o basedir={store} {store} {target}",
         cannot("store", "Is a directory")),
    *(same(f"-o basedir={{store}} {{{image}}} {{target}}",
           cannot(image, INVALID))
      for image in ("empty_file", "short_file", "text", "wrong_magic")),
    *(differs(f"-o basedir={{store}} {{{image}}} {{target}}",
              cannot(image, error),
              cannot(image, "Structure needs cleaning"), DAMAGED,
              stack=cannot(image, error))
      for image, error in (("not_erofs", INVALID),
                           ("cut", "Input/output error"))),
    differs("-o basedir={store} {newer} {target}", mounts(),
            cannot("newer", "Structure needs cleaning"),
            "the C program does not look at the version of an image",
            stack=mounts()),
    same("-o basedir={store} {null} {target}", cannot("null", INVALID)),
    dataclasses.replace(
        differs("-o basedir={store} {ram} {target}",
                cannot("ram", "Device or resource busy"), mounts(),
                "the C program still has the loop device open for writing"),
        c_writes_to_mounted=True),
    same("-o basedir={store} {image} target", mounts()),
    differs("-o basedir={store} {image} {target_link}",
            cannot("image", INVALID), mounts(),
            "mount(2) follows a symbolic link, too"),
    same("-o basedir={store} {image} {missing}", cannot("image", NO_FILE)),
    same("-o basedir={store} {image} ''", cannot("image", NO_FILE)),
    differs("-o basedir={store} {image} {file}", cannot("image", INVALID),
            cannot("image", "Not a directory"), "it says what is wrong"),
    same(PLAIN_LINE, cannot("image", "Operation not permitted"), USER),
    same("-o basedir={store} {secret} {target}",
         fails("Failed to open {secret}: Permission denied"), USER),
]


def odd_name(number: int, name: str) -> Row:
    """A name for an image, a basedir and a mount point."""
    line = (f"-o basedir={{odd{number}_store}} {{odd{number}}} "
            f"{{odd{number}_target}}")
    if ":" in name:
        return dataclasses.replace(differs(
            line, cannot(f"odd{number}", NO_FILE), mounts(), COLON),
            title=repr(name))
    return dataclasses.replace(same(line, mounts()), title=repr(name))


NAMES: list[Row] = [odd_name(number, name)
                    for number, name in enumerate(ODD_NAMES)]
