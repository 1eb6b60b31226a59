"""The embedded switch with real frames: who gets what, who may say what, and how fast."""

from __future__ import annotations

import subprocess
import time
from ipaddress import IPv6Address

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from nomx.alloc import names
from nomx.linux import abi, netns
from nomx.mech.switch import Switch
from tests.kernel.conftest import Wired, ip4

pytestmark = [pytest.mark.root, pytest.mark.netns]

MARK = b"nomx test payload"
BROADCAST = "ff:ff:ff:ff:ff:ff"


def refused(wired: Wired, slot: int) -> dict[str, int]:
    """What the switch refused to a port, without what flooding brought to its device, where no socket is."""
    return {why: count for why, count in wired.switch.traffic(slot).drops.items() if why != "no_xsk"}


def marked(frame: bytes) -> bool:
    return MARK in frame


def udp(source: int, to_mac: str, wired: Wired, **changed: str) -> Packet:
    """A UDP datagram that the application of slot *source* may send, unless *changed*."""
    mac = changed.get("mac", names.mac(wired.instance, source))
    address = changed.get("ip", ip4(source))
    return Ether(src=mac, dst=to_mac) / IP(src=address, dst=ip4(9)) / UDP(sport=1, dport=2) / Raw(MARK)


def test_unicast_goes_to_the_owner_of_the_address_alone(wired: Wired) -> None:
    sender = wired.raw(wired.port(1))
    owner, other = wired.raw(wired.station(2)), wired.raw(wired.station(3))
    frame = bytes(udp(1, names.mac(wired.instance, 2), wired))
    sender.send(frame)
    assert owner.receive(marked) == frame
    assert other.receive(marked, timeout_s=0.2) is None
    assert wired.switch.traffic(1).tx_packets == 1


@pytest.mark.parametrize("to", [BROADCAST, "33:33:00:00:00:01", "01:00:5e:00:00:fb"])
def test_broadcast_and_multicast_reach_every_port_but_the_sender(wired: Wired, to: str) -> None:
    ports = [wired.port(slot) for slot in (1, 4, 5)]  # without sockets: what arrives is counted as no_xsk
    sender = wired.raw(ports[0])
    sender.send(bytes(udp(1, to, wired)))
    assert [wired.switch.traffic(port.port).drops for port in ports] == [{}, {"no_xsk": 1}, {"no_xsk": 1}]
    stations = [wired.raw(wired.station(slot)) for slot in (2, 3)]
    sender.send(bytes(udp(1, to, wired)))
    assert all(station.receive(marked) for station in stations)


def test_a_frame_for_nobody_is_counted(wired: Wired) -> None:
    sender = wired.raw(wired.port(1))
    sender.send(bytes(udp(1, "02:00:00:00:00:99", wired)))
    assert wired.switch.traffic(1).drops == {"unknown_mac": 1}


def own_link_local(mac: str) -> str:
    octets = bytes.fromhex(mac.replace(":", ""))
    eui = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + eui))


def spoofed_frames(wired: Wired) -> dict[str, tuple[str, Packet]]:
    """What slot 1 may not send to slot 2: by name, the reason that is counted, and the frame."""
    mine, theirs = names.mac(wired.instance, 1), names.mac(wired.instance, 2)
    my6, their6 = names.ip6(wired.instance, 1), names.ip6(wired.instance, 2)
    ether = Ether(src=mine, dst=theirs)
    na, ns = ICMPv6ND_NA(tgt=their6), ICMPv6ND_NS(tgt=their6)
    return {
        "another's MAC": ("spoofed_mac", udp(1, theirs, wired, mac="02:00:00:00:00:77")),
        "another's IPv4": ("spoofed_ip", udp(1, theirs, wired, ip=ip4(2))),
        "ARP for another's IPv4": ("spoofed_ip", ether / ARP(op=2, hwsrc=mine, psrc=ip4(2))),
        "ARP with another's MAC": ("spoofed_mac", ether / ARP(op=2, hwsrc=theirs, psrc=ip4(1))),
        "another's IPv6": ("spoofed_ip", ether / IPv6(src=their6, dst=my6) / UDP()),
        "neighbour advertisement for another": ("spoofed_ip", ether / IPv6(src=my6, dst=their6) / na),
        "advertisement with another's MAC": (
            "spoofed_mac",
            ether / IPv6(src=my6, dst=their6) / ICMPv6ND_NA(tgt=my6) / ICMPv6NDOptDstLLAddr(lladdr=theirs),
        ),
        "solicitation with another's MAC": (
            "spoofed_mac",
            ether / IPv6(src=my6, dst=their6) / ns / ICMPv6NDOptSrcLLAddr(lladdr=theirs),
        ),
        "router advertisement": ("spoofed_ip", ether / IPv6(src=own_link_local(mine), dst="ff02::1") / ICMPv6ND_RA()),
        "advertisement behind an option header": (
            "spoofed_ip",
            ether / IPv6(src=my6, dst=their6) / IPv6ExtHdrHopByHop() / na,
        ),
        "fragmented advertisement": (
            "spoofed_ip",
            ether / IPv6(src=my6, dst=their6) / IPv6ExtHdrFragment(nh=58, m=1) / Raw(bytes(32)),
        ),
        "VLAN tag": ("ethertype", ether / Dot1Q(vlan=7) / IP(src=ip4(1), dst=ip4(2)) / UDP()),
        "LLDP": ("ethertype", Ether(src=mine, dst=theirs, type=0x88CC) / Raw(bytes(46))),
        "short ARP": ("runt", Ether(src=mine, dst=theirs, type=0x0806) / Raw(bytes(20))),
        "short IPv4": ("runt", Ether(src=mine, dst=theirs, type=0x0800) / Raw(b"\x45" + bytes(10))),
    }


def test_an_application_speaks_for_itself_only(wired: Wired) -> None:
    sender, victim = wired.raw(wired.port(1)), wired.raw(wired.station(2))
    expected: dict[str, int] = {}
    for name, (reason, frame) in spoofed_frames(wired).items():
        sender.send(bytes(frame))
        expected[reason] = expected.get(reason, 0) + 1
        assert refused(wired, 1) == expected, name
    assert wired.switch.traffic(1).tx_packets == 0
    own_mac = abi.mac_bytes(names.mac(wired.instance, 1))
    assert victim.receive(lambda frame: frame[6:12] == own_mac, timeout_s=0.2) is None


def test_an_application_may_use_its_own_addresses(wired: Wired) -> None:
    sender, peer = wired.raw(wired.port(1)), wired.raw(wired.station(2))
    mine, theirs = names.mac(wired.instance, 1), names.mac(wired.instance, 2)
    my6, their6 = names.ip6(wired.instance, 1), names.ip6(wired.instance, 2)
    ether = Ether(src=mine, dst=theirs)
    frames = [
        udp(1, theirs, wired),
        ether / ARP(op=1, hwsrc=mine, psrc=ip4(1), pdst=ip4(2)),
        ether / ARP(op=1, hwsrc=mine, psrc="0.0.0.0", pdst=ip4(1)),
        ether / IPv6(src=my6, dst=their6) / UDP() / Raw(MARK),
        ether / IPv6(src=own_link_local(mine), dst=their6) / UDP() / Raw(MARK),
        ether / IPv6(src=my6, dst=their6) / ICMPv6ND_NA(tgt=my6) / ICMPv6NDOptDstLLAddr(lladdr=mine),
        ether / IPv6(src="::", dst="ff02::1:ff00:1") / ICMPv6ND_NS(tgt=my6),
        ether / IPv6(src=my6, dst=their6) / IPv6ExtHdrFragment(nh=17, m=1) / Raw(bytes(32)),
    ]
    for frame in frames:
        sender.send(bytes(frame))
        assert peer.receive(lambda got, sent=bytes(frame): got == sent), frame.summary()
    assert refused(wired, 1) == {}


def test_a_busy_port_gets_its_bandwidth(wired: Wired) -> None:
    """Bytes let in, within 5 %, are what a bucket filled by the clock lets through, however often we are preempted."""
    rate_bytes_per_s, burst_bytes = 2_000_000, 20_000
    sender = wired.raw(wired.port(1, bandwidth_bps=8 * rate_bytes_per_s))
    wired.station(2)
    frame = bytes(udp(1, names.mac(wired.instance, 2), wired) / Raw(bytes(900)))
    expected, saved = 0, float(burst_bytes)
    start = last = time.monotonic()
    while last - start < 1.0:
        now = time.monotonic()
        saved = min(burst_bytes, saved + rate_bytes_per_s * (now - last))
        last = now
        sender.send(frame)
        if saved >= len(frame):
            saved -= len(frame)
            expected += len(frame)
    assert wired.switch.traffic(1).drops["rate"] > 0, "the sender was slower than the limit"
    assert wired.switch.traffic(1).tx_bytes == pytest.approx(expected, rel=0.05)


def test_an_idle_port_saves_up_no_more_than_its_burst(wired: Wired) -> None:
    rate_bps, burst_bytes = 64_000, 2 * 9018
    sender = wired.raw(wired.port(1, bandwidth_bps=rate_bps))
    wired.station(2)
    frame = bytes(udp(1, names.mac(wired.instance, 2), wired) / Raw(bytes(900)))
    start = time.monotonic()
    for _ in range(2):
        for _ in range(4 * burst_bytes // len(frame)):
            sender.send(frame)
        time.sleep(1.1)
    delivered, elapsed = wired.switch.traffic(1).tx_bytes, time.monotonic() - start
    assert burst_bytes - len(frame) <= delivered <= burst_bytes + rate_bps / 8 * elapsed


def test_a_host_reaches_a_host(wired: Wired) -> None:
    """Two stations' stacks talk, ARP and checksums included, without any setting."""
    first, second = wired.station(1), wired.station(2)
    with netns.inside(netns.path(f"{wired.instance}h2")):
        server = subprocess.Popen(["python3", "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        with netns.inside(netns.path(f"{wired.instance}h1")):
            answer = subprocess.run(["python3", "-c", CLIENT, second.ip4], capture_output=True, text=True, timeout=10)
        assert answer.stdout == "300000\n", answer.stderr
    finally:
        server.kill()
        server.communicate()
    assert first.ip4 != second.ip4


SERVER = """
import socket
s = socket.create_server(("", 7)); print("ready", flush=True)
c, _ = s.accept()
while data := c.recv(65536): c.sendall(data)
"""
CLIENT = """
import socket, sys, threading
s = socket.create_connection((sys.argv[1], 7), timeout=5)
threading.Thread(target=lambda: (s.sendall(bytes(300_000)), s.shutdown(socket.SHUT_WR))).start()
n = 0
while data := s.recv(65536): n += len(data)
print(n)
"""


def test_the_next_daemon_adopts_the_switch(wired: Wired) -> None:
    sender, peer = wired.raw(wired.port(1)), wired.raw(wired.station(2))
    sender.send(bytes(udp(1, names.mac(wired.instance, 2), wired)))
    assert peer.receive(marked)
    successor = Switch(wired.instance)
    try:
        assert successor.traffic(1).tx_packets == 1
        sender.send(bytes(udp(1, names.mac(wired.instance, 2), wired)))
        assert peer.receive(marked)
        assert successor.traffic(1).tx_packets == wired.switch.traffic(1).tx_packets == 2
    finally:
        successor.close(remove=False)


def test_undo_works_twice_and_frees_the_slot(wired: Wired) -> None:
    action = wired.port(1)
    wired.soft_vf.undo(action)
    assert not wired.soft_vf.exists(action)
    wired.soft_vf.undo(action)
    wired.port(1)
    assert wired.switch.traffic(1).tx_packets == 0
