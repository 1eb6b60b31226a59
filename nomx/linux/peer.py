"""Who is at the other end of a Unix socket, as the kernel says: pid, uid, gid, groups. Nobody can lie about these.

Stands below the daemon's server, which admits or refuses a client by them.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct

_SO_PEERGROUPS = 59
_CREDENTIALS = struct.Struct("=iII")
_MAX_GROUPS = 65536

_libc = ctypes.CDLL(None, use_errno=True)


def credentials(connection: socket.socket) -> tuple[int, int, int]:
    """Return (pid, uid, gid) of the process that connected, as they were then.

    Pid 0 is a process that this pid namespace does not see.
    Source: unix(7), "SO_PEERCRED".
    """
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(packed)
    return pid, uid, gid


def groups(connection: socket.socket) -> frozenset[int]:
    """Return the supplementary groups of the process that connected, as they were then.

    Source: socket(7), "SO_PEERGROUPS" (Linux 4.13).
    """
    # Through ctypes, since socket.getsockopt returns at most 1024 bytes, which is 256 groups.
    found = (ctypes.c_uint32 * _MAX_GROUPS)()
    length = ctypes.c_uint32(ctypes.sizeof(found))
    if _libc.getsockopt(connection.fileno(), socket.SOL_SOCKET, _SO_PEERGROUPS, found, ctypes.byref(length)) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno), "getsockopt(SO_PEERGROUPS)")
    return frozenset(found[: length.value // ctypes.sizeof(ctypes.c_uint32)])
