"""Crossings counted from outside, to the last one, against a process that makes a known number of each."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from nomx.alloc import names
from nomx.alloc.actions import CountCrossings
from nomx.api.lease import Crossings, Traffic
from nomx.linux import cgroupfs
from nomx.mech.crossings import CrossingsCounter
from tests.kernel.conftest import Wired, ip4
from tests.kernel.xsk_port import GEOMETRY, XskPort

pytestmark = [pytest.mark.root, pytest.mark.netns, pytest.mark.feature("tp_btf")]

SUBJECT = """
import os, socket, sys
getppid = os.getppid
os.write(1, b".")
while work := os.read(0, 16):
    kind, count = work[:1], range(int(work[1:]))
    if kind == b"s":
        for _ in count: getppid()
    elif kind == b"p":
        for _ in count: send(b"12345678", port)
    else:
        sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sink.bind(("127.0.0.1", 0))
        send, port = sink.sendto, sink.getsockname()
    os.write(1, b".")
"""
OWN_CALLS = 2
"""The write that ends the work, and the read that waits for more."""
_READ = "0 "
_DEADLINE_S = 10.0


class Subject:
    """A process that does as it is told, and sleeps in read(2) between."""

    def __init__(self) -> None:
        command = [sys.executable, "-S", "-E", "-c", SUBJECT]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.pid = self._process.pid
        self._wait()

    def do(self, work: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(work.encode())
        self._wait()

    def _wait(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.read(1) == b"."
        deadline = time.monotonic() + _DEADLINE_S
        while not Path(f"/proc/{self.pid}/syscall").read_text().startswith(_READ):
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def switches(self) -> tuple[int, int]:
        """What the kernel itself counts: voluntary and involuntary."""
        status = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        found = {line.split(":")[0]: line.split()[-1] for line in status if "ctxt_switches" in line}
        return int(found["voluntary_ctxt_switches"]), int(found["nonvoluntary_ctxt_switches"])

    def end(self) -> None:
        self._process.communicate()


class Bench:
    """A counter, groups, and subjects in them."""

    def __init__(self, wired: Wired, cleanup: contextlib.ExitStack) -> None:
        self._instance = wired.instance
        self._cleanup = cleanup
        self.counter = CrossingsCounter(wired.switch.links, wired.instance)
        cleanup.callback(self.counter.close)

    def group(self, name: str, ifname: str = "") -> CountCrossings:
        directory = cgroupfs.unified_path(self._instance, name)
        directory.mkdir()
        self._cleanup.callback(directory.rmdir)
        return CountCrossings(self._instance, name, ifname)

    def subject(self, group: CountCrossings) -> Subject:
        """Start a process and, once it waits for work, put it into the group."""
        subject = Subject()
        self._cleanup.callback(subject.end)
        (cgroupfs.unified_path(group.instance, group.group) / "cgroup.procs").write_text(str(subject.pid))
        return subject

    def during(self, group: CountCrossings, work: Callable[[], None]) -> tuple[Crossings, Traffic]:
        """What is counted while *work* runs."""
        before, packets_before = self.counter.read(group)
        work()
        after, packets_after = self.counter.read(group)
        crossings = {name: getattr(after, name) - getattr(before, name) for name in Crossings.__struct_fields__}
        counted = ("rx_packets", "tx_packets", "rx_bytes", "tx_bytes")
        packets = {name: getattr(packets_after, name) - getattr(packets_before, name) for name in counted}
        return Crossings(**crossings), Traffic(**packets, counted_at="socket")


@pytest.fixture
def bench(wired: Wired) -> Iterator[Bench]:
    with contextlib.ExitStack() as cleanup:
        yield Bench(wired, cleanup)


@pytest.mark.parametrize("calls", [0, 1, 1000])
def test_every_system_call_is_counted_once(bench: Bench, calls: int) -> None:
    group = bench.group("g1")
    subject = bench.subject(group)
    bench.counter.apply(group)
    crossings, _ = bench.during(group, lambda: subject.do(f"s{calls}"))
    assert crossings.syscalls == OWN_CALLS + calls


def test_groups_do_not_count_each_other(bench: Bench) -> None:
    first, second, uncounted = bench.group("g1"), bench.group("g2"), bench.group("g3")
    one, two, three = (bench.subject(group) for group in (first, second, uncounted))
    for group in (first, second):
        bench.counter.apply(group)

    def work() -> None:
        one.do("s100")
        two.do("s200")
        three.do("s400")

    crossings, _ = bench.during(first, work)
    assert crossings.syscalls == OWN_CALLS + 100
    assert bench.counter.read(second)[0].syscalls == OWN_CALLS + 200
    assert bench.counter.read(uncounted)[0] == Crossings()


def test_context_switches_are_those_of_the_kernels_own_count(bench: Bench) -> None:
    group = bench.group("g1")
    subject = bench.subject(group)
    bench.counter.apply(group)

    def work() -> None:
        for _ in range(20):
            subject.do("s100")

    before = subject.switches()
    crossings, _ = bench.during(group, work)
    after = subject.switches()
    assert (crossings.voluntary_switches, crossings.involuntary_switches) == (
        after[0] - before[0],
        after[1] - before[1],
    )
    assert crossings.voluntary_switches >= 20


def test_packets_at_ordinary_sockets_are_counted(bench: Bench) -> None:
    group = bench.group("g1")
    sender = bench.subject(group)
    bench.counter.apply(group)
    sender.do("o1")  # a socket is of the group that it was made in
    crossings, traffic = bench.during(group, lambda: sender.do("p7"))
    octets = 7 * (20 + 8 + 8)
    assert crossings.syscalls == OWN_CALLS + 7
    assert (traffic.tx_packets, traffic.tx_bytes) == (7, octets)
    assert (traffic.rx_packets, traffic.rx_bytes) == (7, octets), "it sends to itself"


def test_polls_of_the_groups_device_are_counted(wired: Wired, umem: int, bench: Bench) -> None:
    action = wired.port(1)
    group = bench.group("g1", action.ifname)
    bench.counter.apply(group)
    application = XskPort.of(umem, wired.binder.bind(action, umem, GEOMETRY))
    try:
        peer = wired.raw(wired.station(2))
        ether = Ether(src=names.mac(wired.instance, 2), dst=names.mac(wired.instance, 1))
        before = bench.counter.read(group)[0].napi_polls
        for number in range(5):
            frame = bytes(ether / IP(src=ip4(2), dst=ip4(1)) / UDP(sport=number))
            peer.send(frame)
            assert application.receive(lambda got, sent=frame: got == sent)
        assert bench.counter.read(group)[0].napi_polls - before >= 5
    finally:
        application.close()


def test_undo_stops_counting_whatever_has_gone(bench: Bench, wired: Wired) -> None:
    descriptors = set(os.listdir("/proc/self/fd"))
    action = wired.port(1)
    for name in ("g1", "g2"):
        group = bench.group(name, action.ifname)
        bench.counter.apply(group)
        assert bench.counter.exists(group)
        directory = cgroupfs.unified_path(group.instance, group.group)
        directory.rmdir()
        bench.counter.undo(group)
        bench.counter.undo(group)
        directory.mkdir()
        assert not bench.counter.exists(group)
        assert bench.counter.read(group)[0] == Crossings()
    bench.counter.close()
    assert set(os.listdir("/proc/self/fd")) == descriptors
