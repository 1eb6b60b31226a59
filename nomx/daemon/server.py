"""Serve: the control socket, its clients, and the processes that hold leases, on one asyncio loop.

The loop only waits. Everything that touches Linux or the journal runs on one worker thread, one
call at a time, so a slow kernel delays calls but never the loop, and no two plans ever overlap.
Clients are told apart and limited here; what they ask is `nomx.daemon.service`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from nomx.api.lease import LeaseRecord
from nomx.api.messages import Body
from nomx.daemon.channel import Channel, close_all
from nomx.daemon.leases import Leases
from nomx.daemon.service import Answered, Caller, Service
from nomx.daemon.session import Session, part
from nomx.daemon.settings import Settings
from nomx.errors import NomxError, NotGranted, NotPermitted, ProtocolError
from nomx.linux import peer, process

_log = logging.getLogger("nomx.daemon.server")
_Result = TypeVar("_Result")

_TEND_S = 5.0
_ACCEPT_PAUSE_S = 1.0
_PART_S = 1.0


class Server:
    """The asyncio side of one daemon. Also what tells the loop of leases that begin and end (`Events`)."""

    def __init__(self, settings: Settings, admitted_gid: int | None) -> None:
        self._settings = settings
        self._admitted_gid = admitted_gid
        self._loop = asyncio.get_running_loop()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nomxd")
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._clients: Counter[int] = Counter()
        self._holders: dict[str, tuple[int, int]] = {}
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._starter_gone = False
        self._service: Service
        self._leases: Leases

    # -- the daemon's life -----------------------------------------------------------------------

    def oversee(self, leases: Leases) -> None:
        """End these leases when their holders die. Call it before the first of them begins."""
        self._leases = leases

    async def serve(self, listener: socket.socket, service: Service) -> None:
        """Answer clients on *listener* until `stop`."""
        self._service = service
        listener.setblocking(False)
        self._loop.add_reader(listener.fileno(), self._accept, listener)
        tending = self._loop.create_task(self._tend())
        try:
            await self._stop.wait()
        finally:
            self._loop.remove_reader(listener.fileno())
            tending.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(tending, *self._tasks, return_exceptions=True)
            for _, pidfd in self._holders.values():
                self._loop.remove_reader(pidfd)
                os.close(pidfd)
            self._holders.clear()

    def stop(self) -> None:
        """Let `serve` return."""
        self._stop.set()

    async def work(self, call: Callable[[], _Result]) -> _Result:
        """Run *call* on the worker, after what is queued before it."""
        return await self._loop.run_in_executor(self._worker, call)

    def close(self) -> None:
        """End the worker, once it has nothing to do."""
        self._worker.shutdown(wait=True)

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(_TEND_S)
            try:
                await self.work(self._leases.tend)
            except NomxError as error:
                _log.error("tending failed: %s", error)

    # -- clients ---------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            # Out of descriptors or memory: the client stays in the backlog while others leave.
            _log.error("no client accepted for %.0f s: %s", _ACCEPT_PAUSE_S, error)
            self._loop.remove_reader(listener.fileno())
            self._loop.call_later(_ACCEPT_PAUSE_S, self._listen_again, listener)
            return
        task = self._loop.create_task(self._receive_client(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _listen_again(self, listener: socket.socket) -> None:
        if not self._stop.is_set():
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    async def _receive_client(self, connection: socket.socket) -> None:
        channel = Channel(connection)
        uid: int | None = None
        try:
            caller = self._admit(connection)
            uid = caller.uid
            self._clients[uid] += 1
            await Session(self, channel, caller, self._settings.limits).run()
        except NomxError as refusal:
            # Nonsense costs its sender nothing, so it must not fill the log.
            _log.log(logging.DEBUG if isinstance(refusal, ProtocolError) else logging.WARNING, "refused: %s", refusal)
            await part(channel, refusal, _PART_S)
        except OSError as error:
            _log.debug("client lost: %s", error)
        finally:
            channel.close()
            if uid is not None:
                self._clients[uid] -= 1
                self._clients += Counter()  # drops users who have no client left
            self._loop.call_soon(self._end_if_forsaken)

    def _admit(self, connection: socket.socket) -> Caller:
        """Return who connected, if they may speak.

        Raises: NotPermitted, NotGranted (too many clients).
        """
        pid, uid, gid = peer.credentials(connection)
        if uid != 0 and self._admitted_gid not in {gid, *peer.groups(connection)}:
            group = self._settings.group
            missing = f"group {group}; you are uid {uid}" if group else f"root; you are uid {uid}"
            remedy = f"sudo usermod -aG {group} USER, then log in again" if group else "start nomxd with --group"
            raise NotPermitted(operation="asking this daemon", missing=missing, remedy=remedy)
        limits = self._settings.limits
        if self._clients.total() >= limits.clients:
            raise NotGranted(resource="clients", asked=1, available=0, holder="all users together")
        if uid != 0 and self._clients[uid] >= limits.clients_per_uid:
            raise NotGranted(resource="clients", asked=1, available=0, holder=f"uid {uid}")
        return Caller(pid, uid)

    # -- what sessions need ----------------------------------------------------------------------

    async def answer(self, caller: Caller, body: Body, fds: Sequence[int]) -> Answered:
        """Carry out one call on the worker; *fds* are closed after it, whatever comes of it.

        Raises: NomxError.
        """

        def call() -> Answered:
            try:
                return self._service.answer(caller, body, fds)
            finally:
                close_all(fds)

        return await self.work(call)

    def holds_lease(self, pid: int) -> bool:
        """Return whether process *pid* holds a lease."""
        return any(holder == pid for holder, _ in self._holders.values())

    @contextlib.contextmanager
    def end_of(self, lease: str) -> Iterator[asyncio.Future[None]]:
        """Give a future that is done when *lease* ends."""
        future = self._loop.create_future()
        waiting = self._waiting.setdefault(lease, set())
        waiting.add(future)
        try:
            yield future
        finally:
            waiting.discard(future)
            if not waiting:
                self._waiting.pop(lease, None)

    # -- leases and their holders (called on the worker, through the loop) -----------------------

    def lease_began(self, record: LeaseRecord) -> None:
        """Watch the holder of a lease."""
        self._loop.call_soon_threadsafe(self._watch, record)

    def lease_ended(self, record: LeaseRecord) -> None:
        """Stop watching it, and wake who waits for its end."""
        self._loop.call_soon_threadsafe(self._unwatch, record.lease)

    def _watch(self, record: LeaseRecord) -> None:
        try:
            pidfd = process.open_pidfd(record.holder_pid, record.holder_start)
        except ProcessLookupError:
            self._worker.submit(self._end_lease, record.lease)
            return
        self._holders[record.lease] = record.holder_pid, pidfd
        self._loop.add_reader(pidfd, self._holder_ended, record.lease, pidfd)

    def _holder_ended(self, lease: str, pidfd: int) -> None:
        self._loop.remove_reader(pidfd)
        self._worker.submit(self._end_lease, lease)

    def _end_lease(self, lease: str) -> None:
        try:
            self._leases.end(lease, "its application ended", kill=True)
        except Exception:  # the worker's last resort: the lease stays listed, and the daemon lives
            _log.exception("lease not ended lease=%s", lease)

    def _unwatch(self, lease: str) -> None:
        _, pidfd = self._holders.pop(lease, (0, -1))
        if pidfd >= 0:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)
        for future in self._waiting.get(lease, ()):
            if not future.done():
                future.set_result(None)
        self._end_if_forsaken()

    # -- embedded --------------------------------------------------------------------------------

    def watch_starter(self, starter: socket.socket) -> None:
        """Stop once the process at the other end of *starter* has gone, and no lease and no client is left."""
        self._loop.add_reader(starter.fileno(), self._starter_left, starter)

    def _starter_left(self, starter: socket.socket) -> None:
        self._loop.remove_reader(starter.fileno())
        self._starter_gone = True
        self._end_if_forsaken()

    def _end_if_forsaken(self) -> None:
        if self._starter_gone and not self._holders and not self._clients.total():
            self.stop()
