"""The demo: one application on the best path and on the kernel's, driven by one client, compared in one table.

As root it runs a daemon of its own, which leaves nothing behind, and reaches both paths over the
same number of links. Without root there is the kernel path alone, over loopback.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nomx.api.lease import Crossings, LeaseSpec, LeaseStatus, Traffic
from nomx.client.connection import Client, default_socket
from nomx.client.embedded import Embedded
from nomx.client.launch import Launch
from nomx.errors import InvalidRequest, MechanismError
from nomx_cli.summary import packets_of, path_and_mode, per_packet

if TYPE_CHECKING:
    from nomx.bench.generator import Saturation
    from nomx.bench.roundtrip import RoundTrips
    from nomx.bench.station import Station, Target

APPLICATION = "nomx.apps.echo"
PORT = 7777
USER = "nobody"
PREFIXES = tuple(f"10.{second}.0.0/24" for second in range(77, 87))
"""Tried in turn: one that the host routes already is refused by the daemon."""

ROUND_TRIPS = 20_000
ROUND_TRIPS_BY_SOCKET = 5_000
READY_S = 60.0
"""How long an application may take to answer its first request; the first time, its loop is compiled."""

LINKS = (
    "The client sits in a network namespace of its own and reaches both over two links: its veth to the switch, "
    "and the switch's veth to the application's device (soft) or to the host's port (kernel)."
)
LOOPBACK = "The client is an ordinary socket of the same user and reaches the application over loopback."
WOULD_ADD = (
    "Root would add: a device of the application's own on the soft path, a client in a namespace of its own, "
    "and the count of system calls. Try: sudo ./dev demo"
)

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One path, measured; None is what nobody counted."""

    path: str
    mode: str
    packets_per_s: float
    """Requests answered rightly, under saturation."""
    offered_per_s: float
    p50_us: float
    p99_us: float
    lost_round_trips: int
    syscalls_per_packet: float | None
    uncounted: str


@dataclass(frozen=True)
class Table:
    """What the demo found, with the keys that `nomx demo -j` promises; the best path's row first."""

    rows: tuple[Row, ...]
    ratio: dict[str, float]
    """The first row over the second, by column; empty where there is one row."""
    reach: str
    """How the client reaches the applications."""
    user: str
    missing: str
    """What root would have added; empty for root."""


def demo(instance: str, seconds: float, say: Progress) -> Table:
    """Run the demo on a daemon of its own called *instance*, saturating each path for *seconds*; tells *say* each step.

    Raises: NomxError: what could not be done; nothing remains.
    """
    with _interruptible():
        return _as_root(instance, seconds, say) if os.geteuid() == 0 else _as_anybody(seconds, say)


def _as_root(instance: str, seconds: float, say: Progress) -> Table:
    from nomx.bench.station import Station

    os.environ["NOMX_INSTANCE"] = instance
    os.environ.pop("NOMX_SOCKET", None)  # that of another daemon
    say("starting a daemon of its own")
    with _own_daemon():
        with Client.connect() as client:
            cores = 1 if client.hello().free["cores"] else 0
            host = next(unit for unit in client.devices() if unit.kind == "host")
        say("plugging a network namespace into the switch, for the client")
        with Station(default_socket(), f"{instance}c") as station:
            specs = [LeaseSpec(name="demo", path=path, cores=cores) for path in (None, "kernel")]
            rows = [_measure_from_station(station, spec, host.ip4, seconds, say) for spec in specs]
    return Table(tuple(rows), _ratio(*rows), LINKS, USER, "")


def _as_anybody(seconds: float, say: Progress) -> Table:
    from nomx.bench import sockets
    from nomx.bench.station import Target

    target = Target("127.0.0.1", PORT)
    with _application(LeaseSpec(name="demo", path="kernel"), None, say) as launch:
        _wait_until_answered(target, launch)
        say("kernel: round trips")
        trips = sockets.measure(target, count=ROUND_TRIPS_BY_SOCKET)
        say(f"kernel: saturated for {seconds:g} s")
        load = sockets.saturate(target, seconds=seconds)
    row = _row(launch, load, trips, None, "crossings are counted by BPF, which takes root")
    return Table((row,), {}, LOOPBACK, "", WOULD_ADD)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM end the demo as Ctrl-C does: with everything taken back."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _own_daemon() -> Iterator[None]:
    """Have an embedded daemon on the first prefix that this host does not route yet."""
    embedded = None
    for prefix in (os.environ["NOMX_PREFIX"],) if "NOMX_PREFIX" in os.environ else PREFIXES:
        os.environ["NOMX_PREFIX"] = prefix
        try:
            embedded = Embedded.start()
            break
        except InvalidRequest as error:
            if error.field != "prefix" or prefix == PREFIXES[-1]:
                raise
    assert embedded is not None
    try:
        yield
    finally:
        embedded.stop()


@contextlib.contextmanager
def _application(spec: LeaseSpec, user: str | None, say: Progress) -> Iterator[Launch]:
    """Have the echo application run for a while."""
    say(f"starting the echo application {f'as {user} ' if user else ''}on {spec.path or 'the best'} path")
    launch = Launch.start([sys.executable, "-m", APPLICATION, "--port", str(PORT)], spec, user)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})  # ours, not the application's
    try:
        yield launch
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(launch.pid, signal.SIGTERM)
        launch.wait()


def _measure_from_station(station: Station, spec: LeaseSpec, host: str, seconds: float, say: Progress) -> Row:
    from nomx.bench import generator, roundtrip
    from nomx.bench.station import Target

    with _application(spec, USER, say) as launch:
        device, path = launch.grant.device, launch.grant.path
        target = Target(device.ip4 if device else host, PORT)
        with station.links.inside():
            _wait_until_answered(target, launch)
        course = station.resolve(target)
        say(f"{path}: {ROUND_TRIPS:,} round trips")
        trips = roundtrip.measure(station, course, count=ROUND_TRIPS)
        say(f"{path}: saturated for {seconds:g} s")
        before = _Moment.of(launch)
        load = generator.saturate(station, course, seconds=seconds)
        after = _Moment.of(launch)
        return _row(launch, load, trips, after.syscalls_per_packet_since(before), after.status.uncounted)


def _wait_until_answered(target: Target, launch: Launch) -> None:
    """Knock until the application answers.

    Raises: MechanismError: it ended, or did not answer in time.
    """
    reason = f"the application did not answer on {target.address} port {target.port} within {READY_S:g} s"
    deadline = time.monotonic() + READY_S
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as knock:
        knock.settimeout(0.05)
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # nobody listens yet: refused, unreachable or silent
                knock.sendto(b"nomx", (target.address, target.port))
                knock.recv(16)
                return
            if os.waitid(os.P_PID, launch.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                reason = "the application ended before it answered"
                break
    hint = f"see what it says: nomx run --path {launch.grant.path} -m {APPLICATION}"
    raise MechanismError(operation="running the demo", reason=reason, hint=hint)


@dataclass(frozen=True)
class _Moment:
    """What was counted of an application until now."""

    status: LeaseStatus
    counters: dict[str, int]

    @classmethod
    def of(cls, launch: Launch) -> _Moment:
        with Client.connect() as client:
            return cls(client.show(launch.grant.lease), launch.counters())

    def syscalls_per_packet_since(self, before: _Moment) -> float | None:
        """Divide the system calls since *before* by the packets since then; None where nobody counts."""
        now, then = self.status, before.status
        if now.crossings is None or then.crossings is None:
            return None
        traffic = Traffic(
            rx_packets=now.traffic.rx_packets - then.traffic.rx_packets,
            tx_packets=now.traffic.tx_packets - then.traffic.tx_packets,
        )
        counters = {name: count - before.counters[name] for name, count in self.counters.items()}
        crossings = Crossings(syscalls=now.crossings.syscalls - then.crossings.syscalls)
        return per_packet(crossings, packets_of(traffic, counters)).get("syscalls")


def _row(launch: Launch, load: Saturation, trips: RoundTrips, syscalls: float | None, uncounted: str) -> Row:
    device = launch.grant.device
    return Row(
        path=launch.grant.path,
        mode=path_and_mode(launch.grant.path, device.mode if device else None),
        packets_per_s=load.answered_pps,
        offered_per_s=load.offered_pps,
        p50_us=trips.p50_us,
        p99_us=trips.p99_us,
        lost_round_trips=trips.lost,
        syscalls_per_packet=syscalls,
        uncounted=uncounted,
    )


def _ratio(best: Row, kernel: Row) -> dict[str, float]:
    columns = ("packets_per_s", "p50_us", "p99_us", "syscalls_per_packet")
    pairs = ((column, getattr(best, column), getattr(kernel, column)) for column in columns)
    return {column: ours / theirs for column, ours, theirs in pairs if ours is not None and theirs}
