"""A test bed: a daemon of its own, and applications on it, started as a user starts them and pinned to one CPU.

Experiments measure on it; when it is left, nothing of it remains.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nomx.bench.generator import pinned
from nomx.bench.roundtrip import measure
from nomx.bench.station import Course, Station, Target, Unreachable
from nomx.client.connection import Client
from nomx.errors import MechanismError, NomxError

NOMX = str(Path(sys.executable).with_name("nomx"))
DEADLINE_S = 180.0
"""The first start compiles the loop for an instance of its own, which takes as long as the machine is busy."""

_LOOK_AGAIN_S = 0.02
_ENDS_S = 10.0
_PROBES = 20


@dataclass(frozen=True)
class Bed:
    """A running daemon, by its pid and control socket."""

    pid: int
    socket: Path

    @classmethod
    @contextlib.contextmanager
    def open(cls, instance: str, prefix: str) -> Iterator[Bed]:
        """Run a daemon. Raises: MechanismError: it did not start, and what it said."""
        socket = Path("/run", instance, "nomxd.sock")
        command = [sys.executable, "-m", "nomx.daemon", "--instance", instance, "--prefix", prefix]
        with tempfile.TemporaryFile("w+") as log, subprocess.Popen(command, stderr=log, text=True) as process:
            try:
                _wait(lambda: _answers(socket), process, lambda: (log.seek(0), log.read())[1], "the daemon")
                yield cls(process.pid, socket)
            finally:
                process.terminate()
                shutil.rmtree(Path("/var/cache", instance), ignore_errors=True)  # the code compiled for nobody

    @contextlib.contextmanager
    def application(
        self, path: str, cpu: int, options: Sequence[str], *, user: str = "nobody"
    ) -> Iterator[Application]:
        """`nomx run` on *path* as *user*, pinned to *cpu*, with *options* and the application behind them.

        Raises: MechanismError: it did not start, and what it said.
        """
        command = [NOMX, "run", "--path", path, "--user", "nobody", "--no-count", "--name", path, *options]
        environment = os.environ | {"NOMX_SOCKET": str(self.socket)}
        with pinned(cpu):
            launcher = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        pids: list[int] = []

        def runs() -> bool:
            with Client.connect(self.socket) as client:
                ours = [lease for lease in client.leases() if lease.record.spec.name == path]
            pids[:] = [pid for lease in ours for pid in lease.pids]
            return bool(pids)

        try:
            _wait(runs, launcher, lambda: launcher.communicate()[1], "the application")
            yield Application(pids[0], launcher)
        finally:
            launcher.send_signal(signal.SIGINT)
            launcher.communicate(timeout=_ENDS_S)


@dataclass(frozen=True)
class Application:
    """An application on the bed."""

    pid: int
    launcher: subprocess.Popen[str]

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.launcher.stdin is not None
        self.launcher.stdin.write(line + "\n")
        self.launcher.stdin.flush()


def until_answering(station: Station, target: Target, cpu: int) -> Course:
    """Wait until the target answers requests from *cpu*: it may still be compiling.

    Raises: Unreachable: it does not within DEADLINE_S.
    """
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(Unreachable):
            course = station.resolve(target)
            if measure(station, course, count=_PROBES, cpu=cpu, warm_up=0).lost < _PROBES:
                return course
    raise Unreachable(address=target.address)


def _answers(socket: Path) -> bool:
    try:
        Client.connect(socket).close()
    except NomxError:
        return False
    return True


def _wait(condition: Callable[[], bool], process: subprocess.Popen[str], said: Callable[[], str], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise MechanismError(operation=f"starting {what}", reason=said().strip(), hint="see `nomx doctor`")
        time.sleep(_LOOK_AGAIN_S)
