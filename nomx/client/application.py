"""The launcher's child, from fork to exec: it acquires the lease, makes the UMEM and drops all privilege.

It reports to the launcher over a pipe that closes with the exec: each grant as it is known, and an
error if there is one. What comes after the exec is the application's own.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import msgspec

from nomx.api import codec
from nomx.api.lease import Grant, LeaseSpec, UmemGeometry
from nomx.api.messages import Failed
from nomx.client.account import Account, environment
from nomx.client.connection import Client, default_instance
from nomx.errors import InvalidRequest, MechanismError, NomxError, NotPermitted
from nomx.linux import memory, process

GRANT_VARIABLE = "NOMX_GRANT"
"""Names the descriptor of the sealed memfd that holds the Grant as JSON."""

_INTERPRETER_BYTES = 16 << 20
_ALL_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_FAILED = 1


@dataclass(frozen=True)
class Order:
    """What the child is to become."""

    argv: Sequence[str]
    spec: LeaseSpec
    account: Account
    umem: UmemGeometry
    socket: Path | None
    """Where to acquire a lease; None: run with *grant* alone."""
    grant: Grant | None
    counters_fd: int


class Report(msgspec.Struct):
    """One line of the pipe: the grant so far, or why there will be no application."""

    grant: Grant | None = None
    failed: Failed | None = None


def become(order: Order, pipe: int, signals: set[signal.Signals]) -> NoReturn:
    """Become the application; called in the child, with *signals* blocked until the exec."""
    try:
        grant = _granted(order, pipe)
        _exec(order, grant, signals)
    except NomxError as error:
        failed = codec.failed(error)
    except Exception as error:  # reported like any other failure: a forked child must not unwind the launcher's stack
        hint = "this is a bug of nomx: please report it"
        failed = codec.failed(MechanismError(operation="launching the application", reason=repr(error), hint=hint))
    _tell(pipe, Report(failed=failed))
    os._exit(_FAILED)


def _tell(pipe: int, report: Report) -> None:
    os.write(pipe, msgspec.json.encode(report) + b"\n")


def _granted(order: Order, pipe: int) -> Grant:
    """Acquire what the application gets, its descriptors open in this process."""
    grant = order.grant
    if order.socket is not None:
        with Client.connect(order.socket) as client:
            grant = client.acquire(order.spec)
            _tell(pipe, Report(grant))
            if grant.path != "kernel":
                grant = _attached(client, grant, order)
    assert grant is not None  # an order has a socket or a grant
    if order.account.uid == 0:
        told = "user: the application runs as uid 0, which owns the host's files, if without capabilities; see --user"
        grant = msgspec.structs.replace(grant, unenforced=(*grant.unenforced, told))
    grant = msgspec.structs.replace(grant, counters_fd=order.counters_fd)
    _tell(pipe, Report(grant))
    return grant


def _attached(client: Client, grant: Grant, order: Order) -> Grant:
    """Make the UMEM, its pages charged to the lease that this process is in, and have the device bound to it."""
    umem_bytes = order.umem.slice_bytes * order.spec.queues
    if grant.memory_bytes is not None and umem_bytes + _INTERPRETER_BYTES > grant.memory_bytes:
        expected = f"at least {umem_bytes >> 20}M of device memory and {_INTERPRETER_BYTES >> 20}M for the interpreter"
        raise InvalidRequest(field="memory", value=f"{grant.memory_bytes >> 20}M", expected=expected)
    huge = order.umem.huge_pages
    if huge and umem_bytes % memory.HUGE_PAGE_BYTES:
        expected = f"frames that fill huge pages of {memory.HUGE_PAGE_BYTES >> 20} MiB"
        raise InvalidRequest(field="frames", value=order.umem.frames_per_queue, expected=expected)
    try:
        umem_fd = memory.memfd("nomx-umem", umem_bytes, huge=huge)
        # Its pages are charged to who makes them: now, by us, and without the cost of mapping them.
        os.posix_fallocate(umem_fd, 0, umem_bytes)
    except OSError as error:
        pages = (
            f"{umem_bytes // memory.HUGE_PAGE_BYTES} huge pages are needed: sysctl vm.nr_hugepages=N makes N of them"
        )
        hint = pages if huge else "ask for fewer frames, or more memory"
        raise MechanismError(operation="making device memory", reason=str(error), hint=hint) from error
    return msgspec.structs.replace(grant, device=client.attach(grant.lease, order.umem, umem_fd))


def _exec(order: Order, grant: Grant, signals: set[signal.Signals]) -> NoReturn:
    variables = environment(order.account, os.environ, grant.instance or default_instance())
    needed = _needed(order.argv)
    variables[GRANT_VARIABLE] = str(_sealed(msgspec.json.encode(grant)))
    _keep_open(grant)
    _drop_privileges(order.account)
    for path, mode in needed:
        _check_access(path, mode, order.account)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    try:
        os.execvpe(order.argv[0], list(order.argv), variables)
    except OSError as error:
        hint = "check its name and its first line"
        raise MechanismError(operation=f"executing {order.argv[0]}", reason=str(error), hint=hint) from error


def _sealed(data: bytes) -> int:
    """Return an inheritable descriptor of *data*, which nobody can change any more."""
    fd = os.memfd_create("nomx-grant", os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _ALL_SEALS)
    return fd


def _keep_open(grant: Grant) -> None:
    """Let the grant's descriptors outlive the exec."""
    device = (grant.device.umem_fd, *grant.device.xsk_fds) if grant.device else ()
    for fd in (*device, grant.counters_fd):
        if fd >= 0:
            os.set_inheritable(fd, True)


def _drop_privileges(account: Account) -> None:
    """Become *account*, with no capability in any set and no way to one."""
    try:
        process.drop_capabilities_for_good()
        if os.geteuid() == 0:
            process.become_user(account.uid, account.gid, account.groups)
        process.clear_capabilities()
        process.set_no_new_privileges()
    except OSError as error:
        hint = "the launcher needs CAP_SETUID, CAP_SETGID and CAP_SETPCAP: use sudo"
        raise MechanismError(operation=f"becoming {account.name}", reason=str(error), hint=hint) from error


def _needed(argv: Sequence[str]) -> list[tuple[Path, int]]:
    """Return what the user must be able to open, with how; found while we are still privileged to look."""
    executable = Path(argv[0])
    needed = [(executable, os.X_OK), (executable.resolve(), os.X_OK)] if executable.is_absolute() else []
    if argv[0] == sys.executable:
        needed.append((Path(__file__).resolve(), os.R_OK))
        needed.append((Path(msgspec.__file__).resolve(), os.R_OK))
        if len(argv) > 1 and not argv[1].startswith("-"):
            script = Path(argv[1]).absolute()
            needed += [(script, os.R_OK), (script.resolve(), os.R_OK)]
    return needed


def _check_access(path: Path, mode: int, account: Account) -> None:
    """Raise NotPermitted naming the directory or file that keeps this user from *path*."""
    for directory in reversed(path.parents):
        if not os.access(directory, os.X_OK):
            missing = f"user {account.name} may not search the directory {directory}"
            remedy = f"chmod o+x {directory}, or move what is in it to where all may read"
            raise NotPermitted(operation=f"opening {path}", missing=missing, remedy=remedy)
    if not path.exists():
        raise InvalidRequest(field="application", value=repr(str(path)), expected="a file that exists")
    if not os.access(path, mode):
        missing = f"user {account.name} may not {'execute' if mode == os.X_OK else 'read'} it"
        remedy = f"chmod o+{'rx' if mode == os.X_OK else 'r'} {path}"
        raise NotPermitted(operation=f"opening {path}", missing=missing, remedy=remedy)
