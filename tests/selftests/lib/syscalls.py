# SPDX-License-Identifier: GPL-2.0

"""Numbers of system calls that differ between processors.

Those from 424 on are the same on all.
"""

from __future__ import annotations

import platform

_NUMBERS = {
    "x86_64": {"delete_module": 176, "finit_module": 313, "getdents64": 217,
               "keyctl": 250, "readahead": 187},
    "aarch64": {"delete_module": 106, "finit_module": 273, "getdents64": 61,
                "keyctl": 219, "readahead": 213},
}


def number(name: str) -> int:
    """The number of a system call on this processor."""
    return _NUMBERS[platform.machine()][name]
