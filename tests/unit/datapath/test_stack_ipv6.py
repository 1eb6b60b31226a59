"""The stack over IPv6, frame by frame, with scapy as the peer: what is answered, and what is counted instead."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import UDP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    PadN,
)
from scapy.layers.inet6 import IPv6 as ScapyIPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from nomx.wire.ethernet import format_mac
from nomx.wire.ipv6 import IPv6
from nomx.wire.udp import Udp
from tests.unit.datapath.loops import ECHO, GROWS, Loop
from tests.unit.datapath.simulated import OUR_IP6, OURS, PEER_IP6, PEER_MAC, SimulatedXsk

US, PEER = format_mac(OURS.mac), format_mac(PEER_MAC)
LINK = Ether(src=PEER, dst=US)
TO_US = LINK / ScapyIPv6(src=str(PEER_IP6), dst=str(OUR_IP6), fl=77, tc=3)
GROUP = Ether(src=PEER, dst="33:33:ff:00:00:01")
ASK = ICMPv6ND_NS(tgt=str(OUR_IP6)) / ICMPv6NDOptSrcLLAddr(lladdr=PEER)
SOLICITED = ScapyIPv6(src=str(PEER_IP6), dst="ff02::1:ff00:1", hlim=255)


@pytest.fixture
def loop() -> Loop:
    return _loop()


def _loop() -> Loop:
    xsk = SimulatedXsk()
    xsk.give_all()
    return Loop(xsk)


def _answer(loop: Loop, packet: Packet) -> Packet:
    """Return the answer as scapy reads it, once its checksum is what scapy would have written."""
    data = loop.exchange(bytes(packet))
    assert data is not None, loop.counters
    answer = Ether(data)
    assert (answer.src, answer.dst) == (US, PEER)
    assert answer[ScapyIPv6].plen == len(data) - 54
    again = answer.copy()
    payload = again[ScapyIPv6].payload
    payload.delfieldval("chksum" if isinstance(payload, UDP) else "cksum")
    assert bytes(again) == data
    return answer


@given(payload=st.binary(max_size=1452))
@settings(deadline=None)
def test_the_same_handler_answers_udp(payload: bytes) -> None:
    answer = _answer(_loop(), TO_US / UDP(sport=4321, dport=ECHO) / Raw(payload))
    assert (answer[ScapyIPv6].src, answer[ScapyIPv6].dst) == (str(OUR_IP6), str(PEER_IP6))
    assert (answer[ScapyIPv6].hlim, answer[ScapyIPv6].fl) == (64, 0)
    assert (answer[UDP].sport, answer[UDP].dport, bytes(answer[UDP].payload)) == (ECHO, 4321, payload)


def test_what_it_says_is_what_the_representation_reads(loop: Loop) -> None:
    data = loop.exchange(bytes(TO_US / UDP(sport=5, dport=ECHO) / Raw(b"both")))
    assert data is not None
    ip = IPv6.parse(data[14:])
    assert Udp.parse(data[54:], ip) == Udp(ECHO, 5, b"both")


def test_a_reply_may_fill_the_mtu_and_no_more(loop: Loop) -> None:
    answer = _answer(loop, TO_US / UDP(sport=5, dport=GROWS) / Raw(b"?"))
    assert len(answer) == 14 + OURS.mtu_bytes


def test_checksums_are_made_where_ipv4_has_none() -> None:
    xsk = SimulatedXsk()
    xsk.give_all()
    loop = Loop(xsk, OURS._replace(udp_checksums=0))
    _answer(loop, TO_US / UDP(sport=5, dport=ECHO) / Raw(b"sum"))


@given(payload=st.binary(max_size=1452))
@settings(deadline=None)
def test_ping(payload: bytes) -> None:
    answer = _answer(_loop(), TO_US / ICMPv6EchoRequest(id=7, seq=9, data=payload))
    assert (answer[ICMPv6EchoReply].id, answer[ICMPv6EchoReply].seq) == (7, 9)
    assert answer[ICMPv6EchoReply].data == payload


@pytest.mark.parametrize("packet", [GROUP / SOLICITED / ASK, TO_US / ASK], ids=["multicast", "unicast"])
def test_a_solicitation(packet: Packet, loop: Loop) -> None:
    packet[ScapyIPv6].hlim = 255
    answer = _answer(loop, packet)
    advertisement = answer[ICMPv6ND_NA]
    assert (advertisement.tgt, advertisement.R, advertisement.S, advertisement.O) == (str(OUR_IP6), 0, 1, 1)
    assert answer[ICMPv6NDOptDstLLAddr].lladdr == US
    assert answer[ScapyIPv6].hlim == 255
    assert loop.counters["nd_replies"] == 1


def test_options_headers_are_skipped_and_not_copied(loop: Loop) -> None:
    options = IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(10))]) / IPv6ExtHdrDestOpt(options=[PadN()])
    answer = _answer(loop, TO_US / options / UDP(sport=5, dport=ECHO) / Raw(b"behind"))
    assert answer[ScapyIPv6].nh == 17
    assert bytes(answer[UDP].payload) == b"behind"


def _many(count: int) -> Packet:
    packet = TO_US
    for _ in range(count):
        packet = packet / IPv6ExtHdrDestOpt(options=[PadN()])
    return packet / UDP(sport=5, dport=ECHO)


_ECHO = bytes(TO_US / UDP(sport=5, dport=ECHO) / Raw(b"payload"))
_DROPS = {
    "header cut off": ("drop_runt", _ECHO[:53]),
    "payload cut off": ("drop_ip_header", _ECHO[:-1]),
    "version": ("drop_ip_header", _ECHO[:14] + b"\x50" + _ECHO[15:]),
    "another's IP": ("drop_not_ours", bytes(LINK / ScapyIPv6(src="fd00::2", dst="fd00::3") / UDP())),
    "another's MAC": ("drop_not_ours", b"\x02\0\0\0\0\x09" + _ECHO[6:]),
    "from a group": ("drop_ip_header", bytes(LINK / ScapyIPv6(src="ff02::1", dst=str(OUR_IP6)) / UDP(dport=7))),
    "from loopback": ("drop_ip_header", bytes(LINK / ScapyIPv6(src="::1", dst=str(OUR_IP6)) / UDP(dport=7))),
    "fragment": ("drop_fragment", bytes(TO_US / IPv6ExtHdrFragment(m=1) / UDP() / Raw(bytes(8)))),
    "five options headers": ("drop_ip_header", bytes(_many(5))),
    "options beyond the end": ("drop_ip_header", bytes(TO_US / Raw(b"\x11\x09" + bytes(6)))[:20] + b"\x3c" + bytes(
        TO_US / Raw(b"\x11\x09" + bytes(6)))[21:]),
    "protocol": ("drop_protocol", bytes(TO_US / Raw(bytes(20)))),
    "UDP cut off": ("drop_udp_length", _ECHO[:18] + b"\0\x07" + _ECHO[20:61]),
    "UDP length": ("drop_udp_length", _ECHO[:58] + b"\0\x07" + _ECHO[60:]),
    "UDP checksum": ("drop_udp_checksum", _ECHO[:-1] + b"Y"),
    "no UDP checksum": ("drop_udp_checksum", _ECHO[:60] + b"\0\0" + _ECHO[62:]),
    "ping checksum": ("drop_icmp_checksum", bytes(TO_US / ICMPv6EchoRequest(cksum=1))),
    "ping reply": ("drop_protocol", bytes(TO_US / ICMPv6EchoReply())),
    "ping of a group": ("drop_protocol", bytes(GROUP / SOLICITED / ICMPv6EchoRequest())),
    "solicitation for another": ("drop_not_ours", bytes(GROUP / SOLICITED / ICMPv6ND_NS(tgt="fd6e:6f6d:78::1:1"))),
    "solicitation that was routed": ("drop_ip_header", bytes(TO_US / ASK)[:21] + b"\x3f" + bytes(TO_US / ASK)[22:]),
}  # fmt: skip


@pytest.mark.parametrize("name", _DROPS)
def test_a_drop_has_its_reason(name: str, loop: Loop) -> None:
    reason, frame = _DROPS[name]
    assert loop.exchange(frame) is None
    assert loop.counters == {"rx_packets": 1, "rx_bytes": len(frame), reason: 1}


def test_without_an_address_nothing_is_ours() -> None:
    xsk = SimulatedXsk()
    xsk.give_all()
    loop = Loop(xsk, OURS._replace(ip6_high=0, ip6_low=0))
    assert loop.exchange(_ECHO) is None
    assert loop.counters["drop_not_ours"] == 1


@given(st.integers(12, 80), st.binary(min_size=1, max_size=4), st.integers(0, 60))
@settings(deadline=None)
def test_no_frame_however_damaged_harms_the_loop(at: int, damage: bytes, cut: int) -> None:
    frame = bytes(_many(2)) + bytes(20)
    loop = _loop()
    loop.exchange((frame[:at] + damage + frame[at + len(damage) :])[: len(frame) - cut])
    _answer(loop, TO_US / UDP(sport=5, dport=ECHO) / Raw(b"still there"))
