"""The stack, frame by frame through the serve loop: what is answered, how, and what is counted where nothing is."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomx.wire import arp, ethernet, icmp
from nomx.wire.ipv4 import IPv4
from tests.unit.datapath.loops import ECHO, EMPTIES, GROWS, OVERRUNS, RAISES, SILENT, Loop
from tests.unit.datapath.simulated import OURS, PEER_IP, PEER_MAC, SimulatedXsk, reply_in, request

OUR_IP = IPv4Address(OURS.ip4)


@pytest.fixture
def loop() -> Loop:
    return _loop()


def _loop() -> Loop:
    xsk = SimulatedXsk()
    xsk.give_all()
    return Loop(xsk)


def _with(frame: bytes, at: int, value: bytes) -> bytes:
    return frame[:at] + value + frame[at + len(value) :]


def _ip_frame(ip: IPv4, payload: bytes) -> bytes:
    return ethernet.Ethernet(OURS.mac, PEER_MAC, ethernet.TYPE_IPV4).emit() + ip.emit() + payload


def _ping(echo: icmp.Echo) -> bytes:
    message = echo.emit()
    return _ip_frame(IPv4(PEER_IP, OUR_IP, 1, len(message)), message)


def _arp(**changes: object) -> bytes:
    fields = {"operation": 1, "sender_mac": PEER_MAC, "sender_ip": PEER_IP, "target_mac": 0, "target_ip": OUR_IP}
    message = arp.Arp(**(fields | changes))  # type: ignore[arg-type]
    return ethernet.Ethernet(ethernet.BROADCAST, PEER_MAC, ethernet.TYPE_ARP).emit() + message.emit()


class TestAnswers:
    @given(payload=st.binary(max_size=1472))
    @settings(deadline=None)
    def test_echo_goes_back_where_it_came_from(self, payload: bytes) -> None:
        answer = _loop().exchange(request(payload, ECHO, source_port=4321))
        assert answer is not None
        eth, ip, udp = reply_in(answer)
        assert (eth.source, eth.destination) == (OURS.mac, PEER_MAC)
        assert (ip.source, ip.destination, ip.ttl) == (OUR_IP, PEER_IP, 64)
        assert (udp.source_port, udp.destination_port, udp.payload) == (ECHO, 4321, payload)

    def test_a_reply_may_be_longer_than_the_request_and_knows_who_asked(self, loop: Loop) -> None:
        answer = loop.exchange(request(b"?", GROWS, source_port=0x1234))
        assert answer is not None
        assert reply_in(answer)[2].payload == PEER_IP.packed + b"\x12\x34" + b"\x55" * 1466

    def test_an_empty_reply_is_one(self, loop: Loop) -> None:
        answer = loop.exchange(request(b"ask", EMPTIES))
        assert answer is not None
        assert reply_in(answer)[2].payload == b""

    def test_options_are_skipped_and_not_copied(self, loop: Loop) -> None:
        answer = loop.exchange(request(b"over options", ECHO, options=bytes((7, 7, 4, 1, 2, 3, 4, 0))))
        assert answer is not None
        _, ip, udp = reply_in(answer)
        assert (ip.options, udp.payload) == (bytes(8), b"over options")

    def test_padding_is_no_part_of_the_answer(self, loop: Loop) -> None:
        frame = request(b"x", ECHO)
        answer = loop.exchange(frame + bytes(60 - len(frame)))
        assert answer is not None
        assert len(answer) == len(frame)

    def test_a_priority_tag_is_taken_off(self, loop: Loop) -> None:
        answer = loop.exchange(_tagged(request(b"urgent", ECHO), ethernet.Tag(ethernet.PRIORITY_ONLY, priority=5)))
        assert answer is not None
        assert reply_in(answer)[2].payload == b"urgent"

    def test_a_request_without_checksum_is_answered_with_one(self, loop: Loop) -> None:
        answer = loop.exchange(_with(request(b"no sum", ECHO), 40, b"\0\0"))
        assert answer is not None
        assert answer[40:42] != b"\0\0"
        reply_in(answer)

    def test_without_checksums_none_is_looked_at_or_made(self) -> None:
        xsk = SimulatedXsk()
        xsk.give_all()
        answer = Loop(xsk, OURS._replace(udp_checksums=0)).exchange(_with(request(b"sum", ECHO), 40, b"\1\2"))
        assert answer is not None
        assert answer[40:42] == b"\0\0"

    @given(payload=st.binary(max_size=1472), number=st.integers(0, 0xFFFF))
    @settings(deadline=None)
    def test_ping(self, payload: bytes, number: int) -> None:
        answer = _loop().exchange(_ping(icmp.Echo(False, 77, number, payload)))
        assert answer is not None
        ip = IPv4.parse(answer[14:])
        assert (ip.source, ip.destination) == (OUR_IP, PEER_IP)
        assert icmp.Echo.parse(answer[34:]) == icmp.Echo(True, 77, number, payload)

    def test_arp(self, loop: Loop) -> None:
        answer = loop.exchange(_arp())
        assert answer is not None
        eth = ethernet.Ethernet.parse(answer)
        assert (eth.source, eth.destination) == (OURS.mac, PEER_MAC)
        assert arp.Arp.parse(answer[14:]) == arp.Arp(2, OURS.mac, OUR_IP, PEER_MAC, PEER_IP)
        assert loop.counters["arp_replies"] == 1


def _tagged(frame: bytes, tag: ethernet.Tag) -> bytes:
    return replace(ethernet.Ethernet.parse(frame), tag=tag).emit() + frame[14:]


_ECHO = request(b"payload", ECHO)
_DROPS = {
    "another VLAN": ("drop_vlan", _tagged(_ECHO, ethernet.Tag(7))),
    "tag cut off": ("drop_runt", _tagged(_ECHO, ethernet.Tag(0))[:17]),
    "two tags": ("drop_ethertype", _tagged(_ECHO, ethernet.Tag(0))[:16] + _tagged(_ECHO, ethernet.Tag(0))[12:]),
    "runt": ("drop_runt", _ECHO[:13]),
    "IP header cut off": ("drop_runt", _ECHO[:33]),
    "IP payload cut off": ("drop_ip_header", _ECHO[:-1]),
    "ethertype": ("drop_ethertype", _with(_ECHO, 12, b"\x88\xb5")),
    "version": ("drop_ip_header", _with(_ECHO, 14, b"\x65")),
    "header of 16 bytes": ("drop_ip_header", _with(_ECHO, 14, b"\x44")),
    "total below header": ("drop_ip_header", _with(_ECHO, 16, b"\0\x13")),
    "IP checksum": ("drop_ip_checksum", _with(_ECHO, 22, b"\x3f")),
    "another's IP": ("drop_not_ours", request(b"", ECHO, destination=IPv4Address("10.0.0.9"))),
    "another's MAC": ("drop_not_ours", _with(_ECHO, 0, b"\x02\0\0\0\0\x09")),
    "from multicast": ("drop_ip_header", request(b"", ECHO, source=IPv4Address("224.0.0.1"))),
    "from loopback": ("drop_ip_header", request(b"", ECHO, source=IPv4Address("127.0.0.1"))),
    "from nobody": ("drop_ip_header", request(b"", ECHO, source=IPv4Address("0.0.0.0"))),
    "fragment": ("drop_fragment", _ip_frame(IPv4(PEER_IP, OUR_IP, 17, 16, more_fragments=True), bytes(16))),
    "last fragment": ("drop_fragment", _ip_frame(IPv4(PEER_IP, OUR_IP, 17, 16, offset_bytes=8), bytes(16))),
    "protocol": ("drop_protocol", _ip_frame(IPv4(PEER_IP, OUR_IP, 6, 20), bytes(20))),
    "UDP header cut off": ("drop_udp_length", _ip_frame(IPv4(PEER_IP, OUR_IP, 17, 7), bytes(7))),
    "UDP length 7": ("drop_udp_length", _with(_ECHO, 38, b"\0\x07")),
    "UDP length too long": ("drop_udp_length", _with(_ECHO, 38, b"\0\x10")),
    "UDP checksum": ("drop_udp_checksum", _with(_ECHO, 40, b"\1\1")),
    "payload changed": ("drop_udp_checksum", _with(_ECHO, 42, b"Q")),
    "no handler": ("drop_no_handler", request(b"", 99)),
    "silence": ("no_reply", request(b"", SILENT)),
    "source port 0": ("no_reply", request(b"", ECHO, source_port=0)),
    "overrun": ("reply_overruns", request(b"", OVERRUNS)),
    "ping reply": ("drop_protocol", _ping(icmp.Echo(True, 1, 1, b""))),
    "ping checksum": ("drop_icmp_checksum", _with(_ping(icmp.Echo(False, 1, 1, b"abc")), 36, b"\0\0")),
    "ARP cut off": ("drop_arp", _arp()[:-1]),
    "ARP of token ring": ("drop_arp", _with(_arp(), 14, b"\0\6")),
    "ARP for another": ("drop_not_ours", _arp(target_ip=PEER_IP)),
    "ARP reply": ("drop_not_ours", _arp(operation=2)),
    "ARP from a group": ("drop_arp", _arp(sender_mac=ethernet.BROADCAST)),
}


@pytest.mark.parametrize("name", _DROPS)
def test_a_drop_has_its_reason(name: str, loop: Loop) -> None:
    reason, frame = _DROPS[name]
    assert loop.exchange(frame) is None
    assert loop.counters == {"rx_packets": 1, "rx_bytes": len(frame), reason: 1}


def test_an_exception_costs_one_frame_and_leaves_the_loop_usable() -> None:
    xsk = SimulatedXsk(frames=8)
    xsk.give_all()
    loop = Loop(xsk)
    for payload, port in ((b"before", ECHO), (b"", RAISES), (b"after", ECHO)):
        xsk.deliver(request(payload, port))
    with pytest.raises(ValueError, match="the handler's own"):
        loop.run()
    loop.run()
    xsk.transmit()
    assert [reply_in(frame)[2].payload for frame in xsk.sent] == [b"before", b"after"]
    assert loop.counters["handler_errors"] == 1
    assert loop.counters["rx_packets"] == 3


@given(st.integers(0, 100), st.binary(min_size=1, max_size=4), st.integers(0, 100))
@settings(deadline=None)
def test_no_frame_however_damaged_harms_the_loop(at: int, damage: bytes, cut: int) -> None:
    frame = _with(request(b"0123456789" * 10, ECHO, options=bytes(4)), at, damage)
    loop = _loop()
    answer = loop.exchange(frame[: len(frame) - cut])
    if answer is not None and answer[12:14] == b"\x08\x00" and answer[23] == 17:
        reply_in(answer)
    answered = loop.exchange(request(b"still there", ECHO))
    assert answered is not None
    assert reply_in(answered)[2].payload == b"still there"
