# SPDX-License-Identifier: GPL-2.0

"""A read-only FUSE file system, served by a child.

Its dentries and attributes are valid for no time, so that the kernel asks for
each name again. In that it stands for network file systems.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from . import ktap, mounts

LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE, FLUSH, INIT, OPENDIR, \
    READDIR, RELEASEDIR, INTERRUPT, BATCH_FORGET = 1, 2, 3, 14, 15, 17, 18, \
    25, 26, 27, 28, 29, 36, 42

_IN = struct.Struct("=IIQQIIIHH")
_OUT = struct.Struct("=IiQ")
ROOT = 1
SILENT = (FORGET, BATCH_FORGET, INTERRUPT)


class Server:
    """Serves files, given by their paths. Calls `before_answer` with the
    client's process number for each lookup and open, and `before_read` for
    each read, before it answers."""

    def __init__(self, files: dict[str, bytes],
                 before_answer: Callable[[int], object],
                 before_read: Callable[[], object]) -> None:
        self.before_answer = before_answer
        self.before_read = before_read
        # By inode number: a directory's names, or a file's content.
        self.nodes: dict[int, dict[bytes, int] | bytes] = {ROOT: {}}
        for path, data in files.items():
            parent = ROOT
            *parents, name = path.encode().split(b"/")
            for directory in parents:
                parent = self._child(parent, directory, {})
            self._child(parent, name, data)

    def _child(self, parent: int, name: bytes,
               node: dict[bytes, int] | bytes) -> int:
        names = self.nodes[parent]
        assert isinstance(names, dict)
        if name not in names:
            names[name] = len(self.nodes) + 1
            self.nodes[names[name]] = node
        return names[name]

    def _attributes(self, number: int) -> bytes:
        node = self.nodes[number]
        size = len(node) if isinstance(node, bytes) else 0
        mode = stat.S_IFREG | 0o444 if isinstance(node, bytes) else \
            stat.S_IFDIR | 0o555
        return struct.pack("=QQQQQQIIIIIIIIII", number, size, 0, 0, 0, 0, 0,
                           0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def _answer(self, code: int, number: int, body: bytes) -> bytes | int:
        node = self.nodes.get(number)
        if code == INIT:
            # Protocol 7.31, max_readahead, flags, max_background and
            # congestion_threshold, max_write, time_gran.
            return struct.pack("=IIIIHHII32x", 7, 31, 65536, 0, 16, 12, 4096,
                               1)
        if code == LOOKUP and isinstance(node, dict):
            found = node.get(body.rstrip(b"\0"))
            if found is None:
                return errno.ENOENT
            return struct.pack("=QQQQII", found, 0, 0, 0, 0, 0) + \
                self._attributes(found)
        if code == GETATTR and node is not None:
            return struct.pack("=QII", 0, 0, 0) + self._attributes(number)
        if code in (OPEN, OPENDIR):
            return struct.pack("=QII", 0, 0, 0)
        if code == READ and isinstance(node, bytes):
            _, at, size = struct.unpack_from("=QQI", body)
            return node[at:at + size]
        if code in (READDIR, RELEASE, RELEASEDIR, FLUSH):
            return b""
        if code == STATFS:
            return struct.pack("=QQQQQIIII24x", 100, 50, 50, 100, 50, 4096,
                               255, 4096, 0)
        return errno.ENOSYS

    def serve(self, fd: int) -> None:
        """Answers requests until the file system is unmounted."""
        while True:
            try:
                request = os.read(fd, 1 << 18)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                if error.errno in (errno.EINTR, errno.ENOENT):
                    continue
                raise
            _, code, unique, number, _, _, pid, _, _ = _IN.unpack_from(
                request)
            if code in SILENT:
                continue
            if code in (LOOKUP, OPEN):
                self.before_answer(pid)
            if code == READ:
                self.before_read()
            answer = self._answer(code, number, request[_IN.size:])
            if isinstance(answer, int):
                reply = _OUT.pack(_OUT.size, -answer, unique)
            else:
                reply = _OUT.pack(_OUT.size + len(answer), 0, unique) + answer
            try:
                os.write(fd, reply)
            except OSError as error:
                # The request was interrupted.
                if error.errno != errno.ENOENT:
                    raise


@contextmanager
def mounted(files: dict[str, bytes],
            before_answer: Callable[[int], object] = lambda pid: None,
            before_read: Callable[[], object] = lambda: None
            ) -> Iterator[str]:
    """Mounts these files. `before_answer` and `before_read` are as in Server,
    and are called in the server's process. Gives the path."""
    try:
        fd = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        raise ktap.Skipped(f"/dev/fuse: {error.strerror}") from None
    with mounts.directory() as top:
        mounts.mount("store", top, "fuse", 0,
                     f"fd={fd},rootmode=40000,user_id=0,group_id=0")
        child = os.fork()
        if child == 0:
            try:
                Server(files, before_answer, before_read).serve(fd)
                os._exit(0)
            finally:
                os._exit(1)
        os.close(fd)
        try:
            yield top
        finally:
            mounts.umount(top, mounts.MNT_DETACH)
            os.waitpid(child, 0)
