"""A command started under trace, in a cgroup of its own, which is removed however all this ends.

    tracer ──┬─ janitor: waits until the tracer has gone and the cgroup is empty, then removes it
             └─ command: waits for `go`, then execs

The command waits before its exec until the tracer counts, so it is seen from its first call on, as
strace sees it. When the tracer is killed, the command goes on, and the janitor stays for its end;
when both are killed, the next trace removes what they left (`sweep`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nomx.errors import InvalidRequest, NotPermitted, NotSupported
from nomx.linux import cgroupfs, process
from nomx.trace.target import Target, group_subject

PREFIX = "nomx-trace"
_NEVER_STARTED = 127
_LABEL = 60
_LOOK_AGAIN_NS = 60_000_000_000
_END_WITHIN_S = 5.0
"""How long a command that is told to end may take, before it is killed."""


@dataclass
class Command:
    """A command in its cgroup. `go` lets it exec; `end` ends what is left of it; `close` removes the cgroup."""

    argv: tuple[str, ...]
    group: Path
    pid: int
    status: int | None
    """As waitpid gave it; None while it runs."""
    _go: int
    _failure: int
    _janitor: int
    _lifeline: int

    @classmethod
    def start(cls, argv: Sequence[str], user: str | None = None) -> Command:
        """Start *argv*, which waits for `go`, as *user* (a login name; None: as we are).

        Raises:
            InvalidRequest: no such command, or no such user.
            NotSupported: no cgroup v2 hierarchy is mounted.
            NotPermitted: we may not make a cgroup.
        """
        path = shutil.which(argv[0])
        if path is None:
            raise InvalidRequest(field="command", value=argv[0], expected="a program that is found and may be run")
        account = _account(user)
        group = _make_group()
        janitor, lifeline = _start_janitor(group)
        told, go = os.pipe2(os.O_CLOEXEC)
        failure, failed = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            os.close(lifeline)
            os.close(go)
            _become(path, argv, account, told, failed)
        os.close(told)
        os.close(failed)
        cgroupfs.move(group, pid)
        return cls(tuple(argv), group, pid, None, go, failure, janitor, lifeline)

    @property
    def target(self) -> Target:
        """The command as a target of the tracer."""
        words = " ".join(" ".join(self.argv).split())
        label = words if len(words) <= _LABEL else f"{words[: _LABEL - 1]}…"
        return Target(label=label, subject=group_subject(self.group), kind="command", group=self.group, pid=self.pid)

    def go(self) -> None:
        """Let it exec.

        Raises: InvalidRequest: the kernel cannot run it.
        """
        os.write(self._go, b"!")
        os.close(self._go)
        code = os.read(self._failure, 4)
        os.close(self._failure)
        if code:
            self._wait()
            raise InvalidRequest(field="command", value=self.argv[0], expected=f"a program: {os.strerror(int(code))}")

    def has_ended(self) -> bool:
        """Whether the command itself has ended; its children may go on."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = status if pid else None
        return self.status is not None

    def _wait(self) -> None:
        if self.status is None:
            _, self.status = os.waitpid(self.pid, 0)

    def end(self) -> None:
        """End every process of it that is left: asked first (SIGTERM), killed after a while."""
        for pid in cgroupfs.processes(self.group):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _END_WITHIN_S
        while not self.has_ended() and time.monotonic() < deadline:
            time.sleep(0.01)
        if not cgroupfs.wait_unpopulated(self.group, int(deadline * 1e9)):
            cgroupfs.kill(self.group)
        self._wait()

    def close(self) -> None:
        """Let the janitor remove the cgroup, and wait until it has: call `end` before."""
        os.close(self._lifeline)
        os.waitpid(self._janitor, 0)


def _account(user: str | None) -> pwd.struct_passwd | None:
    if user is None:
        return None
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise InvalidRequest(field="user", value=user, expected="the login name of a user of this machine") from None


def _become(
    path: str, argv: Sequence[str], account: pwd.struct_passwd | None, told: int, failed: int
) -> None:  # pragma: no cover (in the child)
    """Wait for the word, then exec. Never returns."""
    try:
        if account is not None:
            groups = os.getgrouplist(account.pw_name, account.pw_gid)
            process.become_user(account.pw_uid, account.pw_gid, groups)
        if os.read(told, 1):
            os.execv(path, list(argv))
    except OSError as error:
        os.write(failed, str(error.errno).encode())
    os._exit(_NEVER_STARTED)


def _make_group() -> Path:
    try:
        unified = cgroupfs.hierarchies().unified
    except FileNotFoundError as error:
        remedy = "mount one: mount -t cgroup2 none /sys/fs/cgroup/unified; or start the program and trace its pid"
        raise NotSupported(feature="tracing a command", missing="no cgroup v2 is mounted", remedy=remedy) from error
    sweep(unified)
    group = unified / f"{PREFIX}.{os.getpid()}.{process.start_time(os.getpid())}.{time.monotonic_ns():x}"
    try:
        cgroupfs.make(group)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        remedy = "run it as root (sudo), or start the program and trace its pid"
        raise NotPermitted(operation=f"making the cgroup {group}", missing=str(error), remedy=remedy) from error
    return group


def sweep(unified: Path) -> None:
    """Remove the empty cgroups of traces whose tracer and janitor were killed."""
    for group in unified.glob(f"{PREFIX}.*"):
        _, pid, start, _ = group.name.split(".")
        with contextlib.suppress(ProcessLookupError):
            if process.start_time(int(pid)) == int(start):
                continue
        with contextlib.suppress(OSError):  # somebody is in it still, and a janitor waits for that
            cgroupfs.remove(group)


def _start_janitor(group: Path) -> tuple[int, int]:
    """Fork the process that removes *group* when we have gone; return its pid, and what to close when we are done."""
    ours, lifeline = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:  # pragma: no cover (in the child)
        _clean_up_after(group, ours)
    os.close(ours)
    return pid, lifeline


def _clean_up_after(group: Path, ours: int) -> None:  # pragma: no cover (in the child)
    """Wait for the end of the tracer, then of the cgroup's last process; remove it. Never returns."""
    try:
        os.setsid()  # Ctrl-C is for the tracer and its command
        os.chdir("/")
        os.dup2(ours, 0)
        os.closerange(1, os.sysconf("SC_OPEN_MAX"))
        os.read(0, 1)
        while not cgroupfs.wait_unpopulated(group, time.monotonic_ns() + _LOOK_AGAIN_NS):
            pass
        cgroupfs.remove(group)
    finally:
        os._exit(0)
