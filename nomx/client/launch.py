"""Launch an application: fork the process that becomes it, pass signals on, wait for it, and learn what its lease did.

The child does the rest (`nomx.client.application`). Where no daemon answers, root starts one for
the length of the run, and anybody else runs on ordinary sockets without a lease, and is told why.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from nomx.api import codec, counters
from nomx.api.lease import Grant, LeaseSpec, LeaseStatus, UmemGeometry, Verdict
from nomx.client import account
from nomx.client.application import Order, Report, become
from nomx.client.connection import Client, default_socket
from nomx.client.embedded import Embedded
from nomx.errors import MechanismError, NoDaemon, NomxError, NotPermitted
from nomx.linux import memory
from nomx.types import CpuSet

_FORWARDED = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
_WATCHED = {*_FORWARDED, signal.SIGCHLD}
_SI_KERNEL = 0x80
"""A signal's code when the terminal sent it, which then sent it to the application too."""

_LOOK_S = 1.0
"""How often to look for the child's end even without SIGCHLD, which another thread may have taken."""


_OTHER_STARTS_NS = 2_000_000_000
_LOOK_AGAIN_S = 0.02


@dataclass(frozen=True)
class Outcome:
    """How an application ended, and what its lease did."""

    exit_code: int
    """As a shell says it: 128 and the signal's number when one ended it."""
    signal: int | None
    status: LeaseStatus | None
    """None without a lease, or when the daemon could not say any more."""
    unknown: str = ""
    """Why there is no status of a lease."""
    counters: dict[str, int] = field(default_factory=dict)


class Launch:
    """One application, from fork to its end; owns its counters page, and the embedded daemon if there is one."""

    def __init__(self, pid: int, counters_fd: int, socket: Path | None, embedded: Embedded | None) -> None:
        self.pid = pid
        self.grant: Grant
        self._counters_fd = counters_fd
        self._socket = socket
        self._embedded = embedded

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        spec: LeaseSpec,
        user: str | None = None,
        umem: UmemGeometry | None = None,
        socket: Path | None = None,
    ) -> Launch:
        """Launch *argv* (the program first) as *user* on a lease of *spec*; it runs when this returns.

        The calling thread has the forwarded signals blocked from now until the end of `wait`.

        Raises: NomxError: why the application does not run; nothing of it remains.
        """
        who = account.resolve(user)
        umem = umem or UmemGeometry()
        counters_fd = memory.memfd("nomx-counters", counters.PAGE_BYTES)
        try:
            path, grant, embedded = _find_daemon(spec, socket)
        except NomxError:
            os.close(counters_fd)
            raise
        order = Order(argv, spec, who, umem, path, grant, counters_fd)
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        sys.stdout.flush()
        sys.stderr.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        pid = os.fork()
        if pid == 0:
            os.close(read_end)
            become(order, write_end, _WATCHED)
        os.close(write_end)
        launch = cls(pid, counters_fd, path, embedded)
        try:
            launch._receive_grant(read_end)
        except NomxError:
            launch._reap()
            launch._close()
            raise
        return launch

    @property
    def lease(self) -> str | None:
        """The lease's name; None where the application runs without one."""
        return self.grant.lease or None

    def _receive_grant(self, pipe: int) -> None:
        """Read the child's reports until it has become the application.

        Raises: NomxError: the child's.
        """
        complete = False
        with open(pipe, "rb") as reports:
            lines = reports.read().splitlines()
        for report in (msgspec.json.decode(line, type=Report) for line in lines):
            if report.failed is not None:
                raise codec.error_of(report.failed)
            if report.grant is not None:
                self.grant = report.grant
                complete = report.grant.counters_fd >= 0
        if not complete:
            reason = "the process that was to become the application was killed"
            hint = "out of memory? ask for more with --memory, or fewer --frames"
            raise MechanismError(operation="launching the application", reason=reason, hint=hint)

    def wait(self, observe: Callable[[dict[str, int]], None] | None = None) -> Outcome:
        """Pass signals on until the application ends; then wait for its lease to end, and tell how it was.

        Meanwhile *observe* is called about once a second with what `counters` reads.
        """
        try:
            status = self._wait_for_exit(observe)
            ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
            code = 128 + ended_by if ended_by is not None else os.WEXITSTATUS(status)
            totals = self.counters()
            lease_status, unknown = self._final_status()
            return Outcome(code, ended_by, lease_status, unknown, totals)
        finally:
            self._close()

    def counters(self) -> dict[str, int]:
        """Read what the application's I/O library has counted so far; until `wait` has returned."""
        return counters.totals(os.pread(self._counters_fd, counters.PAGE_BYTES, 0))

    def _wait_for_exit(self, observe: Callable[[dict[str, int]], None] | None) -> int:
        """Return the child's wait status."""
        while True:
            info = signal.sigtimedwait(_WATCHED, _LOOK_S)
            if info is not None and info.si_signo in _FORWARDED and info.si_code != _SI_KERNEL:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, info.si_signo)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return status
            if info is None and observe is not None:
                observe(self.counters())

    def _final_status(self) -> tuple[LeaseStatus | None, str]:
        if self._socket is None:
            return None, "there was no lease"
        try:
            with Client.connect(self._socket) as client:
                return client.show(self.grant.lease, until_ended=True), ""
        except NomxError as error:
            return None, str(error)

    def _reap(self) -> None:
        os.waitpid(self.pid, 0)

    def _close(self) -> None:
        os.close(self._counters_fd)
        while signal.sigtimedwait({signal.SIGCHLD}, 0) is not None:
            pass  # the child's, which nobody else expects
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        if self._embedded is not None:
            self._embedded.stop(wait=not self._is_shared())

    def _is_shared(self) -> bool:
        """Whether other leases live on the embedded daemon."""
        try:
            with Client.connect(self._socket) as client:
                return bool(client.leases())
        except NomxError:
            return False


def _find_daemon(spec: LeaseSpec, socket: Path | None) -> tuple[Path | None, Grant | None, Embedded | None]:
    """Return where to acquire a lease, or the grant to run with where nobody gives one.

    Raises: NoDaemon, NotPermitted: nobody gives one, and the request needs one. NomxError: no daemon can be started.
    """
    path = socket or default_socket()
    try:
        Client.connect(path).close()
    except NoDaemon as error:
        if os.geteuid() == 0 and socket is None:
            return path, None, _start_embedded(path)
        refusal: NomxError = error
    except NotPermitted as error:
        refusal = error
    else:
        return path, None, None
    if not _is_plain(spec) or os.geteuid() == 0:
        raise refusal
    return None, _unleased(refusal), None


def _start_embedded(path: Path) -> Embedded | None:
    """Start a daemon on *path*; None where another launcher was quicker, and its daemon serves us too."""
    try:
        return Embedded.start()
    except MechanismError:
        deadline_ns = time.monotonic_ns() + _OTHER_STARTS_NS
        while time.monotonic_ns() < deadline_ns:
            # Nothing tells us when the other's socket appears, but it takes it less than a second.
            with contextlib.suppress(NoDaemon), Client.connect(path):
                return None
            time.sleep(_LOOK_AGAIN_S)
        raise


def _is_plain(spec: LeaseSpec) -> bool:
    """Whether ordinary sockets without a lease are all that is asked for."""
    plain = LeaseSpec(name=spec.name, path=spec.path, count_crossings=spec.count_crossings)
    return spec == plain and spec.path in (None, "kernel")


def _unleased(refusal: NomxError) -> Grant:
    remedy = "use sudo, or have a daemon that admits you: nomx daemon --group GROUP"
    verdict = Verdict("soft", available=False, reason=str(refusal), remedy=remedy)
    cpus = str(CpuSet(os.sched_getaffinity(0)))
    return Grant(lease="", path="kernel", cpus=cpus, exclusive=False, memory_bytes=None, verdicts=(verdict,))
