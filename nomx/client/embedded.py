"""A daemon for our own life: started where none runs, gone when we have gone and the last lease with us."""

from __future__ import annotations

import os
import select
import socket
import sys

from nomx.api import codec
from nomx.api.messages import MAX_MESSAGE, Failed
from nomx.client.connection import default_instance, default_socket
from nomx.errors import MechanismError, NomxError

PREFIX_VARIABLE = "NOMX_PREFIX"
_START_S = 30.0
_END_S = 20.0


class Embedded:
    """A daemon that this process started, on the default socket."""

    def __init__(self, pid: int, starter: socket.socket) -> None:
        self._pid = pid
        self._starter = starter

    @classmethod
    def start(cls) -> Embedded:
        """Start a daemon of the default instance, and wait until it is ready.

        Raises: NomxError: why there is no daemon, as it said itself.
        """
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        with its:
            its.set_inheritable(True)
            embedded = cls(_spawn(its.fileno()), ours)
        try:
            embedded._wait_until_ready()
        except NomxError:
            embedded.stop()
            raise
        return embedded

    def _wait_until_ready(self) -> None:
        self._starter.settimeout(_START_S)
        try:
            data = self._starter.recv(MAX_MESSAGE)
        except OSError as error:
            hint = "run `nomx daemon` to see why"
            raise MechanismError(operation="starting a daemon", reason=str(error), hint=hint) from error
        if not data:
            hint = "its reason is above; `nomx daemon` tells more"
            raise MechanismError(operation="starting a daemon", reason="it ended at once", hint=hint)
        answer = codec.decode_reply(data).body
        if isinstance(answer, Failed):
            raise codec.error_of(answer)

    def stop(self, *, wait: bool = True) -> None:
        """Let the daemon go, and wait until it has; without *wait*, leave it to leases of others.

        Raises: MechanismError: it did not go in time.
        """
        self._starter.close()
        if not wait:
            return
        pidfd = os.pidfd_open(self._pid)
        try:
            ended, _, _ = select.select([pidfd], [], [], _END_S)
        finally:
            os.close(pidfd)
        if not ended:
            hint = f"see what it is doing: process {self._pid}"
            raise MechanismError(operation="ending the embedded daemon", reason="it stays", hint=hint)
        os.waitpid(self._pid, 0)


def _spawn(starter_fd: int) -> int:
    """Start the daemon's process, in a session of its own: a Ctrl-C at our terminal is the application's. Its pid."""
    arguments = ["--embedded", "--starter-fd", str(starter_fd), "--instance", default_instance()]
    arguments += ["--socket", str(default_socket().absolute())]
    if prefix := os.environ.get(PREFIX_VARIABLE):
        arguments += ["--prefix", prefix]
    # -P: root's daemon imports nothing from the directory that it happens to be started in.
    command = [sys.executable, "-P", "-m", "nomx.daemon", *arguments]
    no_terminal = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1)]
    return os.posix_spawn(sys.executable, command, os.environ, file_actions=no_terminal, setsid=True)
