# SPDX-License-Identifier: GPL-2.0

"""A file of each kind, in the tree of the images "special-*"."""

from __future__ import annotations

KINDS = {
    "regular": "types/regular",
    "directory": "types/directory",
    "symlink": "types/symlink",
    "fifo": "types/fifo",
    "socket": "types/socket",
    # /dev/null, and a device that there is not.
    "device": "types/char-1-3",
    "absent device": "types/block-255-255",
    "in an object": "sizes/4097",
    "root": ".",
}
