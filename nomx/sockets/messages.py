"""The kernel path's memory: UDP sockets, and the message headers with which the kernel moves 64 datagrams a call.

Laid out once; the compiled loop (`nomx.sockets.loop`) then only changes lengths and pointers.
Source: recvmmsg(2), sendmmsg(2); struct mmsghdr of a 64-bit machine.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nomx.errors import MechanismError, NotPermitted

BATCH = 64
NAME_BYTES = 16
CAPACITY_BYTES = 1472
"""The longest datagram: what an MTU of 1,500 leaves, so that a handler finds the same room on every path."""

MESSAGE = np.dtype(
    [
        ("name", "i8"),
        ("name_bytes", "u4"),
        ("pad_name", "u4"),
        ("vectors", "i8"),
        ("vector_count", "i8"),
        ("control", "i8"),
        ("control_bytes", "i8"),
        ("flags", "i4"),
        ("pad_flags", "u4"),
        ("length", "u4"),
        ("pad_length", "u4"),
    ]
)
"""struct mmsghdr."""

VECTOR = np.dtype([("base", "i8"), ("length", "i8")])
"""struct iovec."""


def offset_of(struct: np.dtype[np.void], field: str) -> int:
    """Return where a field of a C struct is, in bytes from its start."""
    assert struct.fields is not None  # every struct has some
    return int(struct.fields[field][1])


POLL = np.dtype([("fd", "i4"), ("events", "i2"), ("revents", "i2")])
"""struct pollfd."""

_RECEIVE_BUFFER_BYTES = 4 << 20


class Sockets(NamedTuple):
    """What the compiled loop needs, by address."""

    number: int
    """How many sockets there are."""
    fds: int
    ports: int
    received: int
    """BATCH struct mmsghdr to receive with; message i has buffer i and name i for good."""
    answers: int
    """BATCH struct mmsghdr to send with; made to point at the buffers that are answered."""
    vectors: int
    """The BATCH struct iovec of `answers`."""
    names: int
    buffers: int
    capacity: int


class KernelPorts:
    """UDP sockets bound to *ports*, and the memory of one batch; a worker's own."""

    def __init__(self, ports: Sequence[int], address: str = "") -> None:
        """Open and bind the sockets on *address*, by default on all of this host's.

        Raises: NotPermitted: a port below 1024 without the privilege. MechanismError: a port is taken.
        """
        self._sockets: list[socket.socket] = []
        try:
            for port in ports:
                self._sockets.append(_bound(port, address))
        except BaseException:
            self.close()
            raise
        self._fds = np.array([each.fileno() for each in self._sockets], np.int64)
        self._ports = np.array([each.getsockname()[1] for each in self._sockets], np.int64)
        self._names = np.zeros((BATCH, NAME_BYTES), np.uint8)
        self._buffers = np.zeros((BATCH, CAPACITY_BYTES), np.uint8)
        self._vectors = np.zeros((2, BATCH), VECTOR)
        self._messages = np.zeros((2, BATCH), MESSAGE)
        self._lay_out()
        self.sockets = Sockets(
            number=len(self._sockets),
            fds=self._fds.ctypes.data,
            ports=self._ports.ctypes.data,
            received=self._messages[0].ctypes.data,
            answers=self._messages[1].ctypes.data,
            vectors=self._vectors[1].ctypes.data,
            names=self._names.ctypes.data,
            buffers=self._buffers.ctypes.data,
            capacity=CAPACITY_BYTES,
        )

    def _lay_out(self) -> None:
        numbers = np.arange(BATCH)
        self._vectors["base"] = self._buffers.ctypes.data + numbers * CAPACITY_BYTES
        self._vectors["length"] = CAPACITY_BYTES
        for row in (0, 1):
            messages = self._messages[row]
            messages["name"] = self._names.ctypes.data + numbers * NAME_BYTES
            messages["name_bytes"] = NAME_BYTES
            messages["vectors"] = self._vectors[row].ctypes.data + numbers * VECTOR.itemsize
            messages["vector_count"] = 1

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports bound, in order."""
        return tuple(self._ports.tolist())

    def fds(self) -> list[int]:
        """The sockets' descriptors, in order."""
        return list(self._fds.tolist())

    def close(self) -> None:
        """Close the sockets."""
        for each in self._sockets:
            each.close()
        self._sockets.clear()


def _bound(port: int, address: str) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        opened.bind((address, port))
    except OSError as error:
        opened.close()
        where = f"bind UDP port {port}"
        if error.errno == errno.EACCES:
            raise NotPermitted(
                operation=where,
                missing="ports below 1024 need CAP_NET_BIND_SERVICE on the kernel path",
                remedy="serve a port from 1024 up, or run on the soft path, where every port is the application's own",
            ) from error
        taken = error.errno == errno.EADDRINUSE
        hint = f"another program has it: ss -lunp 'sport = {port}'" if taken else "check the address"
        raise MechanismError(operation=where, reason=os.strerror(error.errno or 0), hint=hint) from error
    return opened
