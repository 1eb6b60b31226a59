"""Run one daemon from settings to its end: lock, journal, kernel, recovery, socket, and all of it back."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import grp
import logging
import os
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

from nomx.api import codec
from nomx.api.messages import PROTOCOL, Done, Failed, Reply
from nomx.daemon.journal import Journal
from nomx.daemon.kernel import Kernel
from nomx.daemon.leases import Leases
from nomx.daemon.linux_kernel import LinuxKernel
from nomx.daemon.server import Server
from nomx.daemon.service import Service
from nomx.daemon.settings import Settings
from nomx.errors import InvalidRequest, MechanismError, NotPermitted
from nomx.linux import process, systemd

_log = logging.getLogger("nomx.daemon")
_BACKLOG = 128
_MAX_DESCRIPTORS = 1 << 16


def run(settings: Settings, starter: socket.socket | None) -> None:
    """Be the daemon of *settings* until SIGTERM or SIGINT, or, when embedded, until nobody needs it.

    *starter* connects an embedded daemon with who started it: told when the daemon is ready, and
    its hanging up tells that it has gone.

    Raises: NomxError: why there is no daemon; nothing of it remains.
    """
    if os.geteuid() != 0:
        missing = f"root; you are uid {os.geteuid()}"
        raise NotPermitted(operation="running the daemon", missing=missing, remedy="use sudo")
    _raise_descriptor_limit()
    gid = _gid(settings.group)
    with _owned(settings):
        asyncio.run(_Daemon(settings, gid, starter).run())


class _Daemon:
    """The parts of one running daemon, opened in order and closed in reverse."""

    def __init__(self, settings: Settings, admitted_gid: int | None, starter: socket.socket | None) -> None:
        self._settings = settings
        self._gid = admitted_gid
        self._starter = starter

    async def run(self) -> None:
        server = Server(self._settings, self._gid)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.stop)
        # Whoever started us may have had them blocked, and blocked signals are inherited.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
        try:
            leases, kernel = await server.work(lambda: self._recovered(server))
            try:
                with _listening(self._settings, self._gid) as listener:
                    self._ready(server)
                    await server.serve(listener, Service(self._settings, kernel, leases))
            finally:
                await server.work(lambda: self._closed(leases))
        finally:
            server.close()

    def _recovered(self, server: Server) -> tuple[Leases, Kernel]:
        settings = self._settings
        journal = Journal.open(settings.journal_path, process.boot_id())
        try:
            kernel = LinuxKernel.open(settings)
        except BaseException:
            journal.close(remove=not journal.live())
            raise
        leases = Leases(settings, kernel, journal, server)
        server.oversee(leases)
        try:
            leases.recover()
            leases.plug_host(f"/proc/{os.getpid()}/ns/net")
        except BaseException:
            leases.close()
            raise
        return leases, kernel

    def _ready(self, server: Server) -> None:
        settings = self._settings
        _log.info("ready instance=%s socket=%s prefix=%s", settings.instance, settings.socket_path, settings.prefix)
        systemd.notify("READY=1")
        if self._starter is not None:
            tell(self._starter, Done())
            server.watch_starter(self._starter)

    def _closed(self, leases: Leases) -> None:
        if self._settings.embedded:
            for entry in leases.live:
                leases.end(entry.record.lease, "the embedded daemon was stopped", kill=True)
        if not leases.close():
            _log.warning("leases live on and wait for the next daemon instance=%s", self._settings.instance)


@contextlib.contextmanager
def _owned(settings: Settings) -> Iterator[None]:
    """Own the instance's directory, alone, as long as the daemon runs; remove it if nothing is left in it."""
    directory = settings.directory
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    fd = _lock(settings)
    try:
        yield
    finally:
        if not settings.journal_path.exists():
            settings.lock_path.unlink()
            with contextlib.suppress(OSError):  # somebody else's file is in it, or it is systemd's
                directory.rmdir()
        os.close(fd)


def _lock(settings: Settings) -> int:
    """Take the instance's lock; its descriptor.

    Raises: MechanismError: another daemon has it.
    """
    while True:
        fd = os.open(settings.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            hint = "use that one, or stop it first; another --instance can run beside it"
            reason = f"a daemon of instance {settings.instance} runs already"
            raise MechanismError(operation="starting the daemon", reason=reason, hint=hint) from None
        # A daemon that ended meanwhile has removed the file that we locked: then lock the new one.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(fd), settings.lock_path.stat()):
                return fd
        os.close(fd)


@contextlib.contextmanager
def _listening(settings: Settings, gid: int | None) -> Iterator[socket.socket]:
    """Listen on the control socket, open to root and to the admitted group; remove it afterwards."""
    path = settings.socket_path
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        _take_path(path)
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        if gid is not None:
            os.chown(path, 0, gid)
            path.chmod(0o660)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        hint = "choose another path with --socket"
        raise MechanismError(operation=f"listening on {path}", reason=str(error), hint=hint) from error
    try:
        yield listener
    finally:
        path.unlink(missing_ok=True)
        listener.close()


def _take_path(path: Path) -> None:
    """Remove the socket of a daemon that was killed.

    Raises: OSError: somebody answers on it, or it is no socket.
    """
    if not path.exists():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise FileExistsError(17, "another daemon answers on it", str(path))


def _gid(group: str | None) -> int | None:
    if group is None:
        return None
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        expected = f"a group of this system (sudo groupadd --system {group} makes it)"
        raise InvalidRequest(field="group", value=repr(group), expected=expected) from None


def _raise_descriptor_limit() -> None:
    """Make room for a client, a pidfd and passing descriptors of every lease."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, _MAX_DESCRIPTORS) if hard != resource.RLIM_INFINITY else _MAX_DESCRIPTORS
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def tell(starter: socket.socket, answer: Done | Failed) -> None:
    """Tell the starter of an embedded daemon that it is ready, or why it is not."""
    with contextlib.suppress(OSError):  # it may have gone
        starter.send(codec.encode(Reply(PROTOCOL, 0, answer)), socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
