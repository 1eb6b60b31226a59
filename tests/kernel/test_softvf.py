"""A soft VF from the application's side: real frames from the stacks of other hosts into its rings, and back."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from nomx.alloc import names
from nomx.alloc.actions import PlugPort
from nomx.linux import netns, xsk
from tests.kernel.conftest import RawPort, Wired, ip4
from tests.kernel.xsk_port import GEOMETRY, XskPort

pytestmark = [pytest.mark.root, pytest.mark.netns]

SLOT, HOST = 1, 2


@pytest.fixture
def application(wired: Wired, umem: int) -> Iterator[XskPort]:
    """The application of slot 1."""
    port = XskPort.of(umem, wired.binder.bind(wired.port(SLOT), umem, GEOMETRY))
    yield port
    port.close()


def mac(wired: Wired, slot: int) -> str:
    return names.mac(wired.instance, slot)


def answer(wired: Wired, request: Packet) -> Packet | None:
    """What a host at slot 1 says to ARP, neighbour solicitation and ping."""
    mine, my6 = mac(wired, SLOT), names.ip6(wired.instance, SLOT)
    ether = Ether(src=mine, dst=request.src)
    if ARP in request and request[ARP].op == 1 and request[ARP].pdst == ip4(SLOT):
        return ether / ARP(op=2, hwsrc=mine, psrc=ip4(SLOT), hwdst=request.src, pdst=request[ARP].psrc)
    if ICMP in request and request[ICMP].type == 8:
        echo = request[ICMP]
        return ether / IP(src=ip4(SLOT), dst=request[IP].src) / ICMP(type=0, id=echo.id, seq=echo.seq) / echo.payload
    if ICMPv6ND_NS in request and request[ICMPv6ND_NS].tgt == my6:
        advertisement = ICMPv6ND_NA(tgt=my6, R=0) / ICMPv6NDOptDstLLAddr(lladdr=mine)
        return ether / IPv6(src=my6, dst=request[IPv6].src) / advertisement
    if ICMPv6EchoRequest in request:
        echo = request[ICMPv6EchoRequest]
        return ether / IPv6(src=my6, dst=request[IPv6].src) / ICMPv6EchoReply(id=echo.id, seq=echo.seq, data=echo.data)
    return None


def test_any_host_pings_an_application(wired: Wired, application: XskPort) -> None:
    host = wired.station(HOST)
    for address in (ip4(SLOT), names.ip6(wired.instance, SLOT)):
        ping = run_in(host, ["ping", "-n", "-c", "3", "-i", "0.05", "-W", "5", address])
        answered = serve(application, lambda frame: answer(wired, Ether(frame)), until=ping)
        assert "3 received, 0% packet loss" in answered
    assert wired.switch.traffic(SLOT).drops == {}


def run_in(host: PlugPort, command: list[str]) -> subprocess.Popen[str]:
    with netns.inside(netns.path(os.path.basename(host.netns))):
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def serve(port: XskPort, respond: Callable[[bytes], Packet | None], until: subprocess.Popen[str]) -> str:
    """Answer frames until the process ends; what it said."""
    while until.poll() is None:
        if (frame := port.receive(timeout_s=0.05)) and (reply := respond(frame)):
            port.send(bytes(reply))
    said, _ = until.communicate()
    return said


def test_what_a_stack_leaves_to_its_device_is_finished_before_it_gets_here(wired: Wired, application: XskPort) -> None:
    """Checksums are right and a large write comes in datagrams of the MTU: veth hands nothing on unfinished."""
    host = wired.station(HOST)
    with netns.inside(netns.path(os.path.basename(host.netns))):
        subprocess.run(["ip", "neigh", "add", ip4(SLOT), "lladdr", mac(wired, SLOT), "dev", host.ifname], check=True)
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        sender.sendto(b"x" * 1472, (ip4(SLOT), 7))
        frame = application.receive(lambda frame: UDP in Ether(frame))
    assert frame is not None
    assert len(frame) == 14 + 1500
    packet = Ether(frame)
    checksum = packet[UDP].chksum
    del packet[UDP].chksum
    assert Ether(bytes(packet))[UDP].chksum == checksum


def test_frames_are_counted_where_they_go(wired: Wired, umem: int) -> None:
    action = wired.port(SLOT)
    near, peer = RawPort(netns.path(wired.instance), action.switch_ifname), wired.raw(wired.station(HOST))
    wired.cleanup.callback(near.close)
    mine = Ether(src=mac(wired, HOST), dst=mac(wired, SLOT)) / IP(src=ip4(HOST), dst=ip4(SLOT)) / UDP()

    def refused() -> dict[str, int]:
        return wired.switch.traffic(SLOT).drops

    def drops(why: str) -> int:
        return refused().get(why, 0)

    unbound = drops("no_xsk")
    peer.send(bytes(mine))
    assert drops("no_xsk") == unbound + 1

    near.send(bytes(Ether(src=mac(wired, HOST), dst="02:00:00:00:00:99") / IP() / UDP()))
    assert drops("not_ours") == 1

    application = XskPort.of(umem, wired.binder.bind(action, umem, GEOMETRY))
    try:
        before = wired.switch.traffic(SLOT)
        peer.send(bytes(mine))
        assert application.receive(lambda frame: frame == bytes(mine))
        after = wired.switch.traffic(SLOT)
        assert after.rx_packets - before.rx_packets >= 1
        assert after.rx_bytes - before.rx_bytes >= len(mine)
    finally:
        application.close()
    unbound = drops("no_xsk")
    peer.send(bytes(mine))
    assert drops("no_xsk") == unbound + 1, "a closed socket leaves its place in the map"


def test_a_full_ring_is_counted_by_the_socket(wired: Wired, application: XskPort) -> None:
    peer = wired.raw(wired.station(HOST))
    frame = bytes(Ether(src=mac(wired, HOST), dst=mac(wired, SLOT)) / IP(src=ip4(HOST), dst=ip4(SLOT)) / UDP())
    more = 10
    for _ in range(GEOMETRY.rings.rx + more):
        peer.send(frame)
    steered = wired.switch.traffic(SLOT).rx_packets
    assert xsk.statistics(application.fd).rx_ring_full == steered - GEOMETRY.rings.rx >= more


def test_a_batch_leaves_in_order_and_whole(wired: Wired, application: XskPort) -> None:
    peer = wired.raw(wired.station(HOST))
    head = Ether(src=mac(wired, SLOT), dst=mac(wired, HOST)) / IP(src=ip4(SLOT), dst=ip4(HOST)) / UDP(sport=7, dport=9)
    frames = [bytes(head / bytes([number] * (number + 1))) for number in range(GEOMETRY.rings.tx)]
    application.send(*frames)
    for frame in frames:
        assert peer.receive(lambda got: got[34:38] == b"\0\7\0\x09") == frame
    traffic = wired.switch.traffic(SLOT)
    assert (traffic.tx_packets, traffic.tx_bytes) == (len(frames), sum(map(len, frames)))


@pytest.mark.skipif(os.cpu_count() == 1, reason="a veth has no more queues than the machine has CPUs")
def test_each_queue_has_its_socket(wired: Wired, umem: int) -> None:
    binding = wired.binder.bind(wired.port(SLOT, queues=2), umem, GEOMETRY)
    ports = [XskPort(umem, fd, queue) for queue, fd in enumerate(binding.xsk_fds)]
    peer = wired.raw(wired.station(HOST))
    try:
        for cpu in sorted(os.sched_getaffinity(0))[:2]:
            frame = bytes(Ether(src=mac(wired, HOST), dst=mac(wired, SLOT)) / IP() / UDP(sport=cpu + 1))
            thread = threading.Thread(target=send_from, args=(cpu, peer, frame))
            thread.start()
            thread.join()
            assert ports[cpu % 2].receive(lambda got, sent=frame: got == sent), f"from CPU {cpu}"
    finally:
        for port in ports:
            port.close()


def send_from(cpu: int, peer: RawPort, frame: bytes) -> None:
    os.sched_setaffinity(0, {cpu})
    peer.send(frame)
