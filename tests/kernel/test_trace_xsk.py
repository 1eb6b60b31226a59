"""A program on AF_XDP that is no nomx application: packets by its rings, wakeups by kind, polls of its device."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from nomx.alloc import names
from nomx.linux import cgroupfs
from nomx.trace import aggregate
from nomx.trace.target import Target, group_subject
from nomx.trace.tracer import Options, Tracer
from tests.kernel.conftest import Wired, ip4
from tests.kernel.tracing import traced
from tests.kernel.xsk_port import GEOMETRY, XskPort

pytestmark = [pytest.mark.root, pytest.mark.netns, pytest.mark.feature("tp_btf")]

FRAMES = 50
"""Fewer than the completion ring holds: nobody takes them back here."""


@pytest.fixture
def port(wired: Wired, umem: int) -> Iterator[XskPort]:
    application = XskPort.of(umem, wired.binder.bind(wired.port(1), umem, GEOMETRY))
    yield application
    application.close()


def frame(wired: Wired, source: int, target: int) -> bytes:
    ether = Ether(src=names.mac(wired.instance, source), dst=names.mac(wired.instance, target))
    return bytes(ether / IP(src=ip4(source), dst=ip4(target)) / UDP(sport=1))


def test_rings_wakeups_and_polls_of_any_program_are_counted(wired: Wired, port: XskPort) -> None:
    peer = wired.raw(wired.station(2))
    there, back = frame(wired, 2, 1), frame(wired, 1, 2)
    with traced(os.getpid()) as trace:
        assert port.receive(lambda got: False, timeout_s=0.05) is None, "so it waits in poll(2)"
        for _ in range(FRAMES):
            peer.send(there)
            assert port.receive(lambda got: got == there)
            port.send(back)
        now = trace.read()
        assert now.packets.rx >= FRAMES, "and perhaps what the network says by itself"
        assert now.packets.tx == FRAMES
        assert "AF_XDP rings" in trace.tracer.packets_at(trace.target)
        calls = {(line.name, line.xsk): line.count for line in aggregate.call_lines(now)}
        assert calls["sendto", True] >= FRAMES
        assert calls.get(("poll", True), 0) + calls.get(("ppoll", True), 0) > 0
        assert now.crossings.napi_polls >= FRAMES / 64
        (xsk,) = now.xsks
        assert (xsk.rx_entries, xsk.tx_entries) == (GEOMETRY.rings.rx, GEOMETRY.rings.tx)
        assert not xsk.zerocopy
        (device,) = trace.tracer.devices[trace.target.subject].values()
        assert device.ifindex == xsk.ifindex


def test_frames_without_room_are_told(wired: Wired, port: XskPort) -> None:
    peer = wired.raw(wired.station(2))
    there = frame(wired, 2, 1)
    with traced(os.getpid()) as trace:
        before = trace.read().xsks[0]
        for _ in range(3 * GEOMETRY.rings.rx):
            peer.send(there)
        (seen,) = aggregate.xsk_lines([before], trace.read().xsks)
        assert seen.rx_ring_full + seen.rx_dropped + seen.fill_ring_empty > 0


def test_the_sockets_of_a_group_are_seen_before_it_is_counted(wired: Wired, port: XskPort, instance: str) -> None:
    peer, there = wired.raw(wired.station(2)), frame(wired, 2, 1)
    for _ in range(3 * GEOMETRY.rings.rx):
        peer.send(there)
    home = cgroupfs.hierarchies().unified / cgroup_of_us().lstrip("/")
    group = home / f"{instance}-trace"
    group.mkdir()
    try:
        cgroupfs.move(group, os.getpid())
        target = Target("us", group_subject(group), "process", group=group, pid=os.getpid())
        with Tracer([target], Options()) as tracer:
            first = tracer.start()[target.subject]
            now = tracer.read()[target.subject]
        assert len(first.xsks) == len(now.xsks) == 1
        assert now.packets.rx < GEOMETRY.rings.rx, "what came in before is not of the trace"
        (seen,) = aggregate.xsk_lines(first.xsks, now.xsks)
        assert seen.rx_ring_full + seen.rx_dropped < GEOMETRY.rings.rx
    finally:
        cgroupfs.move(home, os.getpid())
        group.rmdir()


def cgroup_of_us() -> str:
    return next(path for controllers, path in cgroupfs.membership(os.getpid()) if not controllers)
