"""A client's socket, as the asyncio loop sees it: whole datagrams with their descriptors, each wait with a deadline.

asyncio's own transports know no SOCK_SEQPACKET and no descriptors, so this waits for readiness
and does the system calls itself.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nomx.api.messages import MAX_FDS, MAX_MESSAGE
from nomx.errors import ProtocolError

_FD_BYTES = array.array("i").itemsize


@dataclass(frozen=True)
class Datagram:
    """One datagram, and the descriptors that came with it: ours to close."""

    data: bytes
    fds: tuple[int, ...]


def close_all(fds: Sequence[int]) -> None:
    """Close descriptors, whichever of them are still open."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


class Channel:
    """One end of a SOCK_SEQPACKET connection, non-blocking."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    async def readable(self, timeout_s: float | None) -> None:
        """Wait until there is something to receive, or the end of the stream.

        Raises: TimeoutError: nothing came for *timeout_s* (None: wait for ever, for use beside another wait).
        """
        loop = asyncio.get_running_loop()
        await _ready(self._socket.fileno(), loop.add_reader, loop.remove_reader, timeout_s)

    async def receive(self, timeout_s: float | None) -> Datagram | None:
        """Return the next datagram; None when the client has hung up.

        Raises:
            TimeoutError: nothing came for *timeout_s*.
            ProtocolError: longer than a message, or with more descriptors than one may have.
        """
        while True:
            try:
                return self._receive_now()
            except BlockingIOError:
                await self.readable(timeout_s)

    def _receive_now(self) -> Datagram | None:
        room = socket.CMSG_SPACE(MAX_FDS * _FD_BYTES)
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(MAX_MESSAGE, room, socket.MSG_CMSG_CLOEXEC)
        except (ConnectionError, BrokenPipeError):
            return None
        fds = _descriptors(ancillary)
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            close_all(fds)
            reason = f"more than {MAX_MESSAGE} bytes or {MAX_FDS} descriptors in one message"
            raise ProtocolError(reason=reason, remedy="use the client of the daemon's release")
        if not data:
            close_all(fds)
            return None
        return Datagram(data, fds)

    async def send(self, data: bytes, fds: Sequence[int], timeout_s: float) -> None:
        """Send one datagram.

        Raises: TimeoutError: the client left its answers unread; OSError: it is gone.
        """
        loop = asyncio.get_running_loop()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        while True:
            try:
                self._socket.sendmsg([data], rights, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                await _ready(self._socket.fileno(), loop.add_writer, loop.remove_writer, timeout_s)
            else:
                return


def _descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> tuple[int, ...]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % _FD_BYTES])
    return tuple(fds)


async def _ready(fd: int, add: Callable[..., Any], remove: Callable[[int], Any], timeout_s: float | None) -> None:
    future = asyncio.get_running_loop().create_future()

    def set_ready() -> None:  # called again and again until the loop comes to remove it
        if not future.done():
            future.set_result(None)

    add(fd, set_ready)
    try:
        async with asyncio.timeout(timeout_s):
            await future
    finally:
        remove(fd)
