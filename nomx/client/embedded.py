"""A daemon for our own life: started where none runs, gone when we have gone and the last lease with us."""

from __future__ import annotations

import os
import socket
import subprocess
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

    def __init__(self, daemon: subprocess.Popen[bytes], starter: socket.socket) -> None:
        self._daemon = daemon
        self._starter = starter

    @classmethod
    def start(cls) -> Embedded:
        """Start a daemon of the default instance, and wait until it is ready.

        Raises: NomxError: why there is no daemon, as it said itself.
        """
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        with its:
            arguments = ["--instance", default_instance(), "--socket", str(default_socket())]
            if prefix := os.environ.get(PREFIX_VARIABLE):
                arguments += ["--prefix", prefix]
            daemon = subprocess.Popen(
                # -P: root's daemon imports nothing from the directory that it happens to be started in.
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "nomx.daemon",
                    "--embedded",
                    "--starter-fd",
                    str(its.fileno()),
                    *arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(its.fileno(),),
                start_new_session=True,  # a Ctrl-C at our terminal is the application's, not the daemon's
                cwd="/",
            )
        embedded = cls(daemon, ours)
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
        try:
            self._daemon.wait(_END_S)
        except subprocess.TimeoutExpired:
            hint = f"see what it is doing: process {self._daemon.pid}"
            raise MechanismError(operation="ending the embedded daemon", reason="it stays", hint=hint) from None
