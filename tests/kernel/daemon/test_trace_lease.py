"""A lease traced from outside: the figures are the data path's own, while real packets are answered."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from nomx.api.lease import LeaseSpec
from nomx.client.launch import Launch
from nomx.testing.real_daemon import RealDaemon
from nomx.trace.compare import compare
from nomx.trace.explain import explain
from nomx.trace.report import Report
from nomx.trace.session import open_session
from nomx.trace.target import lease
from nomx.trace.tracer import Options

pytestmark = [pytest.mark.root, pytest.mark.netns, pytest.mark.slow, pytest.mark.feature("tp_btf")]

PACKETS = 2000
PORT = 20_000 + os.getpid() % 10_000
"""On the kernel path it is the host's, so other sessions must not have the same."""
ANSWERS_WITHIN_S = 60.0
"""Compiling the first time takes some seconds, and more beside other tests."""


@dataclass
class Echo:
    """An echo server with a lease, and a client of it on the host."""

    daemon: RealDaemon
    launch: Launch
    client: socket.socket

    @property
    def lease(self) -> str:
        assert self.launch.lease is not None
        return self.launch.lease

    def ask(self, count: int) -> None:
        """Send *count* datagrams, one after another, each answered."""
        for _ in range(count):
            self.client.send(b"x" * 64)
            assert self.client.recv(2048) == b"x" * 64


@contextlib.contextmanager
def echo(daemon: RealDaemon, path: str) -> Iterator[Echo]:
    argv = [sys.executable, "-m", "nomx.apps.echo", "--wait", "interrupt", "--port", str(PORT)]
    launch = Launch.start(argv, LeaseSpec(path=path), "root", socket=daemon.path)
    address = launch.grant.device.ip4 if launch.grant.device else "127.0.0.1"
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.connect((address, PORT))
    try:
        client.settimeout(0.5)
        deadline = time.monotonic() + ANSWERS_WITHIN_S
        while True:
            with contextlib.suppress(OSError):
                client.send(b"x" * 64)
                client.recv(2048)
                break
            assert time.monotonic() < deadline
        client.settimeout(10)
        with contextlib.suppress(TimeoutError):
            client.settimeout(0.2)
            while True:  # answers to what was asked before the server listened
                client.recv(2048)
        client.settimeout(10)
        yield Echo(daemon, launch, client)
    finally:
        client.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(launch.pid, signal.SIGTERM)
        launch.wait()


def trace(server: Echo) -> tuple[Report, dict[str, int]]:
    """Trace the lease while the client asks; what was found, and what the library counted meanwhile."""
    with server.daemon.client() as daemon:
        target = lease(daemon.show(server.lease), server.daemon.instance, lambda: daemon.show(server.lease))
        session = open_session([target], Options(), interval_s=0.2, duration_s=None)
        asked: list[bool] = []
        session.should_stop = lambda: bool(asked)
        with session.tracer:
            session.start()
            before = server.launch.counters()
            worker = threading.Thread(target=lambda: (server.ask(PACKETS), asked.append(True)))
            worker.start()
            for _ in session.run():
                pass
            worker.join()
            after = server.launch.counters()
            (report,) = session.reports()
    return report, {name: after[name] - before[name] for name in after}


def test_the_soft_path_is_counted_as_its_own_library_counts(daemon: RealDaemon) -> None:
    with echo(daemon, "soft") as server:
        report, own = trace(server)
        again, _ = trace(server)
    assert report.path == "soft"
    assert report.packets_at == "lease (xsk)"
    assert report.end == "it was stopped"
    assert own["replies"] == PACKETS
    assert (report.total.packets.rx, report.total.packets.tx) == (own["rx_packets"], own["tx_packets"])
    sends = sum(call.count for call in report.calls if call.xsk and call.name == "sendto")
    assert sends == own["wakeups"]
    assert report.total.crossings.napi_polls > 0
    assert report.total.times.device_ns > 0
    (xsk,) = report.xsks
    assert (xsk.zerocopy, xsk.need_wakeup, xsk.queue) == (False, True, 0)
    assert any("copied" in cause.cause for cause in explain(report))
    for column in compare([report, again], ["a", "b"]):
        spread = column.values["syscalls"]
        assert spread is not None
        assert 0 < spread.median < 20


def test_the_kernel_path_is_counted_at_its_sockets(daemon: RealDaemon) -> None:
    with echo(daemon, "kernel") as server:
        report, _ = trace(server)
    assert report.path == "kernel"
    assert report.packets_at == "sockets (each packet)"
    assert (report.total.packets.rx, report.total.packets.tx) == (PACKETS, PACKETS)
    assert not report.xsks
    assert (report.total.per_packet(report.total.crossings.syscalls) or 0) >= 1.0
