"""A real daemon of a test's own, and processes that hold its leases: started, killed, and gone at the end."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast
from zlib import crc32

import msgspec

from nomx.api import codec
from nomx.api.lease import Grant, LeaseSpec
from nomx.client.application import Report
from nomx.client.connection import Client
from nomx.linux import cgroupfs, netns
from nomx.linux.links import Links

DEADLINE_S = 30.0
_DIES_S = 5.0


def prefix_of(instance: str) -> str:
    """Return a prefix that no other instance of this machine is likely to have."""
    digest = crc32(instance.encode())
    return f"10.{100 + digest % 100}.{digest >> 8 & 0xFF}.0/24"


def close(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """End a process, if it has not ended by itself, and close what Python holds of it."""
    process.send_signal(number)  # does nothing to one that was waited for
    process.wait(DEADLINE_S)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


class Holder:
    """A process that holds a lease, or was refused one; it does nothing until it is ended."""

    def __init__(self, socket: Path, spec: LeaseSpec, uid: int = 0, program: str = "") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nomx.testing.holder", str(socket), msgspec.json.encode(spec).decode(), program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            user=uid,
            group=uid,
            extra_groups=[],
            cwd="/",
        )
        report = msgspec.json.decode(self._lines.readline(), type=Report)
        if report.failed is not None:
            self.end()
            raise codec.error_of(report.failed)
        self.grant = cast(Grant, report.grant)

    @property
    def _lines(self) -> IO[bytes]:
        return cast(IO[bytes], self.process.stdout)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def lease(self) -> str:
        return self.grant.lease

    def say(self) -> str:
        """Return the next line of its *program*."""
        return self._lines.readline().decode().strip()

    def end(self) -> None:
        """Kill it with -9."""
        close(self.process, signal.SIGKILL)


@dataclass
class RealDaemon:
    """One instance and its daemon, through any number of lives."""

    instance: str
    options: tuple[str, ...] = ()
    holders: list[Holder] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    @property
    def path(self) -> Path:
        """Where its control socket is."""
        return Path("/run", self.instance, "nomxd.sock")

    @property
    def prefix(self) -> str:
        return prefix_of(self.instance)

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        address = f"nomx-test-{self.instance}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
            notified.bind(f"\0{address}")
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "nomx.daemon",
                    "--instance",
                    self.instance,
                    "--prefix",
                    self.prefix,
                    *self.options,
                ],
                env={**os.environ, "NOTIFY_SOCKET": f"@{address}"},
                cwd="/",
            )
            self._wait_until_ready(notified)

    def _wait_until_ready(self, notified: socket.socket) -> None:
        pidfd = os.pidfd_open(self.pid)
        try:
            ready, _, _ = select.select([notified.fileno(), pidfd], [], [], DEADLINE_S)
        finally:
            os.close(pidfd)
        if notified.fileno() not in ready or notified.recv(64) != b"READY=1":
            raise AssertionError(f"the daemon of {self.instance} did not start: its exit code is {self.stop()}")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """Kill the daemon with -9."""
        assert self.process is not None
        close(self.process, signal.SIGKILL)
        self.process = None

    def stop(self) -> int:
        """Stop the daemon as a service manager does; its exit code."""
        assert self.process is not None
        process, self.process = self.process, None
        close(process, signal.SIGTERM)
        return process.returncode

    def client(self) -> Client:
        """Connect as this process."""
        return Client.connect(self.path)

    def hold(self, uid: int = 0, program: str = "", **spec: object) -> Holder:
        """Start a process that holds a lease of *spec* and runs *program*.

        Raises: NomxError: it was refused.
        """
        holder = Holder(self.path, LeaseSpec(**spec), uid, program)  # type: ignore[arg-type]
        self.holders.append(holder)
        return holder

    def ended(self, lease: str) -> str:
        """Wait until a lease has ended; why it did."""
        with self.client() as client:
            return client.show(lease, until_ended=True, timeout_s=_DIES_S).end_reason

    def end(self) -> None:
        """End everything, whatever state a test left it in."""
        for holder in self.holders:
            holder.end()
        if self.process is None:
            self.start()
        with self.client() as client:
            for status in client.leases():
                client.show(status.record.lease, until_ended=True, timeout_s=_DIES_S)
        self.stop()

    # -- what is in the kernel -------------------------------------------------------------------

    def groups(self) -> set[str]:
        """Return the instance's cgroups, as `<hierarchy>/<group>`."""
        roots = cgroupfs.hierarchies().roots()
        name = cgroupfs.directory_name(self.instance, "")
        return {f"{root.name}/{path.name.removeprefix(name)}" for root in roots for path in root.glob(f"{name}*")}

    def has_ports(self, *wanted: str) -> bool:
        """Return whether the switch namespace has come to hold exactly these interfaces (and lo), within a deadline.

        The daemon deletes a port's interfaces soon after its lease has ended, and tells nobody.
        """
        with Links(netns.path(self.instance)) as links:
            return _comes_true(lambda: set(links.names()) == {"lo", *wanted})

    def has_at_most_descriptors(self, most: int) -> bool:
        """Return whether the daemon has come to have no more than *most* descriptors open, within a deadline."""
        return _comes_true(lambda: self.open_descriptors() <= most)

    def open_descriptors(self) -> int:
        """Return how many descriptors the daemon has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def _comes_true(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _DIES_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
