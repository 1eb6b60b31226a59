"""Call the daemon: one method an operation, blocking, each with a deadline.

Imported by everything that starts fast, so it imports little: no asyncio, no netlink.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from nomx.api import codec
from nomx.api import messages as m
from nomx.api.lease import DeviceGrant, DeviceUnit, Grant, LeaseSpec, LeaseStatus, UmemGeometry, Verdict
from nomx.errors import NoDaemon, NotPermitted, ProtocolError

INSTANCE_VARIABLE = "NOMX_INSTANCE"
SOCKET_VARIABLE = "NOMX_SOCKET"

_CALL_S = 30.0
"""A daemon that is busy with other clients' calls answers within this, or is stuck."""

_FD_BYTES = array.array("i").itemsize
_Answer = TypeVar("_Answer", bound=m.Answer)


def default_instance() -> str:
    """Return the instance that is meant where nobody names one: what NOMX_INSTANCE says, else `nomx`."""
    return os.environ.get(INSTANCE_VARIABLE) or "nomx"


def default_socket() -> Path:
    """Return the control socket: what NOMX_SOCKET says, else that of the default instance."""
    return Path(os.environ.get(SOCKET_VARIABLE) or f"/run/{default_instance()}/nomxd.sock")


class Client:
    """A conversation with one daemon. A context manager; a lease does not end when it is closed.

    Every method raises the NomxError that the daemon answers, NoDaemon when it has gone, and
    ProtocolError when it does not answer in time.
    """

    def __init__(self, connection: socket.socket, path: Path) -> None:
        self._socket = connection
        self._path = path
        self._calls = 0

    @classmethod
    def connect(cls, path: Path | None = None) -> Client:
        """Connect to the daemon on *path* (None: `default_socket`).

        Raises:
            NoDaemon: nobody listens there.
            NotPermitted: the socket is not for this user.
        """
        path = path or default_socket()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        connection.settimeout(_CALL_S)
        try:
            connection.connect(str(path))
        except PermissionError as error:
            connection.close()
            missing = f"this user (uid {os.geteuid()}) may not open {path}"
            remedy = "use sudo, or become a member of the daemon's group (`nomx daemon --group`)"
            raise NotPermitted(operation="asking the daemon", missing=missing, remedy=remedy) from error
        except OSError as error:
            connection.close()
            raise NoDaemon(socket=path, reason=error.strerror or str(error)) from error
        return cls(connection, path)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- operations ------------------------------------------------------------------------------

    def hello(self) -> m.Welcome:
        """Ask who the daemon is, and what it has."""
        return self._ask(m.Hello(), m.Welcome)

    def plan(self, spec: LeaseSpec) -> m.Planned:
        """Ask what a lease would take, and change nothing."""
        return self._ask(m.Acquire(spec, dry_run=True), m.Planned)

    def acquire(self, spec: LeaseSpec) -> Grant:
        """Acquire a lease for this process, which is in its cgroup when this returns."""
        return self._ask(m.Acquire(spec), m.Granted).grant

    def attach(self, lease: str, umem: UmemGeometry, umem_fd: int) -> DeviceGrant:
        """Bind the lease's device unit to the UMEM in *umem_fd*; the caller closes its sockets."""
        body, fds = self._call(m.Attach(lease, umem), [umem_fd])
        if not isinstance(body, m.Attached) or len(fds) != body.device.queues:
            _close(fds)
            raise _nonsense(body)
        return msgspec.structs.replace(body.device, umem_fd=umem_fd, xsk_fds=tuple(fds))

    def release(self, lease: str, *, kill: bool = False) -> None:
        """End a lease; with *kill*, its processes too."""
        self._ask(m.Release(lease, kill), m.Done)

    def leases(self) -> tuple[LeaseStatus, ...]:
        """Return the status of each live lease, in order of grant."""

        def pages() -> Iterator[LeaseStatus]:
            after, more = "", True
            while more:
                page = self._ask(m.Leases(after), m.LeaseList)
                yield from page.leases
                more = page.more
                after = page.leases[-1].record.lease if page.leases else after

        return tuple(pages())

    def show(self, lease: str, *, until_ended: bool = False, timeout_s: float | None = _CALL_S) -> LeaseStatus:
        """Return the status of one lease, live or lately ended; with *until_ended*, when it has ended.

        Raises: ProtocolError: that took longer than *timeout_s* (None: wait as long as the lease lives).
        """
        self._socket.settimeout(timeout_s)
        try:
            return self._ask(m.Show(lease, until_ended), m.Shown).status
        finally:
            self._socket.settimeout(_CALL_S)

    def devices(self) -> tuple[DeviceUnit, ...]:
        """Return the device units, by slot."""

        def pages() -> Iterator[DeviceUnit]:
            after, more = "", True
            while more:
                page = self._ask(m.Devices(after), m.DeviceList)
                yield from page.units
                more = page.more
                after = page.units[-1].unit if page.units else after

        return tuple(pages())

    def plug(self, netns_fd: int, ifname: str, address: str | None = None) -> DeviceUnit:
        """Join the network namespace of *netns_fd* to the switch, by an interface *ifname* in it. Root only."""
        return self._ask(m.Plug(ifname, address), m.Plugged, [netns_fd]).unit

    def unplug(self, unit: str) -> None:
        """Undo a plug. Root only."""
        self._ask(m.Unplug(unit), m.Done)

    def doctor(self) -> tuple[Verdict, ...]:
        """Return the daemon's verdict on each path."""
        return self._ask(m.Doctor(), m.Verdicts).verdicts

    # -- the conversation ------------------------------------------------------------------------

    def _ask(self, body: m.Body, kind: type[_Answer], fds: Sequence[int] = ()) -> _Answer:
        answer, received = self._call(body, fds)
        _close(received)
        if not isinstance(answer, kind):
            raise _nonsense(answer)
        return answer

    def _call(self, body: m.Body, fds: Sequence[int]) -> tuple[m.AnswerBody, list[int]]:
        """Make one call; the answer, and the descriptors that came with it."""
        self._calls += 1
        try:
            self._send(codec.encode(m.Call(m.PROTOCOL, self._calls, body)), fds)
            codec.prepare_to_decode_replies()  # while the daemon works
            reply, received = self._receive()
        except TimeoutError:
            reason = f"the daemon on {self._path} did not answer {type(body).__name__} in time"
            raise ProtocolError(reason=reason, remedy="look at its log") from None
        except OSError as error:
            raise NoDaemon(socket=self._path, reason=error.strerror or str(error)) from error
        if isinstance(reply.body, m.Failed):
            _close(received)
            raise codec.error_of(reply.body)
        if reply.id != self._calls:
            _close(received)
            raise ProtocolError(reason=f"reply {reply.id} to call {self._calls}", remedy="connect again")
        return reply.body, received

    def _send(self, data: bytes, fds: Sequence[int]) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        # A daemon that has hung up has perhaps said why: that is waiting to be received.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendmsg([data], rights, socket.MSG_NOSIGNAL)

    def _receive(self) -> tuple[m.Reply, list[int]]:
        room = socket.CMSG_SPACE(m.MAX_FDS * _FD_BYTES)
        try:
            data, ancillary, _, _ = self._socket.recvmsg(m.MAX_MESSAGE, room, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            # The daemon left something of ours unread; what it said before it hung up comes after this error.
            data, ancillary, _, _ = self._socket.recvmsg(m.MAX_MESSAGE, room, socket.MSG_CMSG_CLOEXEC)
        received = array.array("i")
        for level, kind, packed in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                received.frombytes(packed[: len(packed) - len(packed) % _FD_BYTES])
        if not data:
            raise ConnectionResetError(104, "the daemon hung up")
        try:
            return codec.decode_reply(data), received.tolist()
        except ProtocolError:
            _close(received)
            raise


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def _nonsense(answer: m.AnswerBody) -> ProtocolError:
    return ProtocolError(reason=f"a {type(answer).__name__} was no answer to that call", remedy="connect again")
