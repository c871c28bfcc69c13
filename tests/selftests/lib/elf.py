# SPDX-License-Identifier: GPL-2.0

"""Programs in ELF format, of 64 bits."""

from __future__ import annotations

import struct

PT_LOAD = 1


def entry_offset(program: bytes) -> int:
    """The offset in the file of the first instruction."""
    entry, headers = struct.unpack_from("<QQ", program, 24)
    size, count = struct.unpack_from("<HH", program, 54)
    for at in range(headers, headers + size * count, size):
        kind, _, offset, address, _, length = struct.unpack_from(
            "<IIQQQQ", program, at)
        if kind == PT_LOAD and address <= entry < address + length:
            return int(entry - address + offset)
    raise AssertionError("no segment holds the entry point")
