# SPDX-License-Identifier: GPL-2.0

"""Reading through io_uring(7)."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct

from . import ktap
from .mounts import libc

SYS_SETUP, SYS_ENTER, SYS_REGISTER = 425, 426, 427
REGISTER_FILES = 2
OP_READ = 22
ENTER_GETEVENTS = 1
OFF_SQ_RING, OFF_CQ_RING, OFF_SQES = 0, 0x8000000, 0x10000000

SQE_SIZE, CQE_SIZE = 64, 16
# struct io_uring_params: ten words, then two structs of offsets.
_PARAMS = struct.Struct("=10I10I10I")


class Ring:
    """A ring for up to `entries` reads at a time."""

    def __init__(self, entries: int = 8) -> None:
        room = ctypes.create_string_buffer(_PARAMS.size)
        self.fd = libc.syscall(SYS_SETUP, entries, room)
        if self.fd < 0:
            number = ctypes.get_errno()
            raise ktap.Skipped(f"io_uring_setup: {os.strerror(number)}")
        params = _PARAMS.unpack(room.raw)
        self.sq_entries, self.cq_entries = params[0], params[1]
        # head, tail, ring_mask, ring_entries, flags, dropped, array, ...
        self.sq_at = params[10:20]
        # head, tail, ring_mask, ring_entries, overflow, cqes, ...
        self.cq_at = params[20:30]
        self.sq = self._map(self.sq_at[6] + self.sq_entries * 4, OFF_SQ_RING)
        self.cq = self._map(self.cq_at[5] + self.cq_entries * CQE_SIZE,
                            OFF_CQ_RING)
        self.sqes = self._map(self.sq_entries * SQE_SIZE, OFF_SQES)

    def _map(self, size: int, offset: int) -> mmap.mmap:
        return mmap.mmap(self.fd, size, mmap.MAP_SHARED,
                         mmap.PROT_READ | mmap.PROT_WRITE, offset=offset)

    def register_files(self, fds: list[int]) -> None:
        """The ring takes a reference to each open file."""
        array = (ctypes.c_int * len(fds))(*fds)
        if libc.syscall(SYS_REGISTER, self.fd, REGISTER_FILES, array,
                        len(fds)):
            raise OSError(ctypes.get_errno(), "io_uring_register")

    def close(self) -> None:
        for view in (self.sq, self.cq, self.sqes):
            view.close()
        os.close(self.fd)

    def read(self, fd: int, pieces: list[tuple[int, int]]) -> list[bytes
                                                                   | int]:
        """Submits a read for each (offset, size) in one call. Returns the
        bytes, or an errno, of each."""
        buffers = [ctypes.create_string_buffer(max(size, 1))
                   for _, size in pieces]
        tail = _word(self.sq, self.sq_at[1])
        mask = _word(self.sq, self.sq_at[2])
        for number, (offset, size) in enumerate(pieces):
            slot = (tail + number) & mask
            struct.pack_into("=BBHiQQIIQ24x", self.sqes, slot * SQE_SIZE,
                             OP_READ, 0, 0, fd, offset,
                             ctypes.addressof(buffers[number]), size, 0,
                             number)
            struct.pack_into("=I", self.sq, self.sq_at[6] + slot * 4, slot)
        struct.pack_into("=I", self.sq, self.sq_at[1],
                         (tail + len(pieces)) & 0xffffffff)
        done = libc.syscall(SYS_ENTER, self.fd, len(pieces), len(pieces),
                            ENTER_GETEVENTS, None, 0)
        if done != len(pieces):
            raise OSError(ctypes.get_errno(), f"io_uring_enter: {done}")
        return self._reap(buffers)

    def _reap(self, buffers: list[ctypes.Array[ctypes.c_char]]) -> list[
            bytes | int]:
        results: list[bytes | int] = [b""] * len(buffers)
        head = _word(self.cq, self.cq_at[0])
        mask = _word(self.cq, self.cq_at[2])
        for _ in buffers:
            number, result, _ = struct.unpack_from(
                "=QiI", self.cq,
                self.cq_at[5] + (head & mask) * CQE_SIZE)
            results[number] = -result if result < 0 else \
                buffers[number].raw[:result]
            head += 1
        struct.pack_into("=I", self.cq, self.cq_at[0], head & 0xffffffff)
        return results


def _word(view: mmap.mmap, at: int) -> int:
    return int(struct.unpack_from("=I", view, at)[0])
