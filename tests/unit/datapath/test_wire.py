"""Wire formats: parse and emit are inverse, agree with scapy, and refuse every truncation; accessors read the same."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomx.compiled import compiled_uncached
from nomx.errors import InvalidRequest, Malformed
from nomx.wire import arp, checksum, ethernet, icmp, ipv4, udp
from nomx.wire.arp import Arp
from nomx.wire.ethernet import Ethernet, Tag
from nomx.wire.icmp import Echo
from nomx.wire.ipv4 import IPv4
from nomx.wire.udp import Udp

u16 = st.integers(0, 0xFFFF)
macs = st.integers(0, (1 << 48) - 1)
unicast = macs.filter(lambda mac: not mac >> 40 & 1)
ips = st.builds(IPv4Address, st.integers(0, (1 << 32) - 1))
tags = st.builds(Tag, st.integers(0, 4094), st.integers(0, 7), st.booleans())
types = st.integers(0x600, 0xFFFF).filter(lambda kind: kind != ethernet.TYPE_VLAN)
ethernets = st.builds(Ethernet, macs, unicast, types, st.none() | tags)
arps = st.builds(Arp, st.sampled_from((1, 2)), macs, ips, macs, ips)
echoes = st.builds(Echo, st.booleans(), u16, u16, st.binary(max_size=100))
headers = st.builds(
    IPv4,
    ips,
    ips,
    st.integers(0, 255),
    st.integers(0, 1000),
    ttl=st.integers(0, 255),
    service=st.integers(0, 255),
    identification=u16,
    dont_fragment=st.booleans(),
    more_fragments=st.booleans(),
    offset_bytes=st.integers(0, 8191).map(lambda units: units * 8),
    options=st.binary(max_size=40).map(lambda data: data[: len(data) // 4 * 4]),
)


def _array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8).copy()


def _sum_slowly(data: bytes) -> int:
    """RFC 1071 as it is written."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(padded[at : at + 2], "big") for at in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


class TestRoundTrips:
    @given(ethernets)
    def test_ethernet(self, header):
        assert Ethernet.parse(header.emit()) == header

    @given(arps)
    def test_arp(self, message):
        assert Arp.parse(message.emit()) == message

    @given(headers)
    def test_ipv4(self, header):
        assert IPv4.parse(header.emit() + bytes(header.payload_bytes)) == header

    @given(echoes)
    def test_echo(self, message):
        assert Echo.parse(message.emit()) == message

    @given(ips, ips, u16, u16, st.binary(max_size=300))
    def test_udp(self, source, destination, source_port, destination_port, payload):
        ip = IPv4(source, destination, 17, 8 + len(payload))
        datagram = Udp(source_port, destination_port, payload)
        assert Udp.parse(datagram.emit(ip), ip) == datagram


class TestTruncation:
    """Each format refuses each shorter length, and nothing else is raised."""

    IP = IPv4(IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"), 17, 13, options=bytes(8))
    UDP = Udp(1, 2, b"hello")

    @pytest.mark.parametrize(
        ("parse", "data"),
        [
            (Ethernet.parse, Ethernet(1, 2, 0x800).emit()),
            (Ethernet.parse, Ethernet(1, 2, 0x800, Tag(5)).emit()),
            (Arp.parse, Arp(1, 2, IPv4Address(3), 4, IPv4Address(5)).emit()),
            (IPv4.parse, IP.emit() + UDP.emit(IP)),
            (Echo.parse, Echo(False, 1, 2, b"").emit()),
            (lambda data: Udp.parse(data, TestTruncation.IP), UDP.emit(IP)),
        ],
        ids=["ethernet", "tagged", "arp", "ipv4", "echo", "udp"],
    )
    def test_each_length(self, parse, data):
        parse(data)
        for length in range(len(data)):
            with pytest.raises(Malformed):
                parse(data[:length])

    @given(st.binary(max_size=80))
    def test_noise_raises_nothing_else(self, data):
        for parse in (Ethernet.parse, Arp.parse, IPv4.parse, Echo.parse, lambda data: Udp.parse(data, self.IP)):
            try:
                parse(data)
            except (Malformed, InvalidRequest):
                continue


class TestImpossibleValues:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: Ethernet(1 << 48, 0, 0x800),
            lambda: Ethernet(0, 1 << 40, 0x800),
            lambda: Ethernet(0, 0, 0x5FF),
            lambda: Ethernet(0, 0, 0x8100),
            lambda: Tag(4095),
            lambda: Tag(1, 8),
            lambda: Arp(3, 0, IPv4Address(0), 0, IPv4Address(0)),
            lambda: IPv4(IPv4Address(0), IPv4Address(0), 256, 0),
            lambda: IPv4(IPv4Address(0), IPv4Address(0), 17, 65516),
            lambda: IPv4(IPv4Address(0), IPv4Address(0), 17, 0, offset_bytes=4),
            lambda: IPv4(IPv4Address(0), IPv4Address(0), 17, 0, options=bytes(3)),
            lambda: IPv4(IPv4Address(0), IPv4Address(0), 17, 0, options=bytes(44)),
            lambda: Echo(False, 1 << 16, 0, b""),
            lambda: Udp(-1, 0, b""),
            lambda: Udp(0, 0, bytes(65528)),
            lambda: ethernet.parse_mac("02:00:00:00:00"),
        ],
    )
    def test_they_cannot_be_made(self, make):
        with pytest.raises(InvalidRequest):
            make()


def test_mac_text():
    assert ethernet.format_mac(ethernet.parse_mac("02:0a:FF:00:00:01")) == "02:0a:ff:00:00:01"


@compiled_uncached
def _sum(frame, start, length):
    return checksum.sum_bytes(frame, start, length)


@compiled_uncached
def _update(value, old, new):
    return checksum.update(value, old, new)


class TestChecksum:
    @given(st.binary(max_size=1600), st.integers(0, 9))
    def test_the_sum_is_that_of_the_rfc(self, data, start):
        """Modulo one's complement's two zeros: a sum is 0 only if every byte is."""
        assert _sum(_array(bytes(start) + data), start, len(data)) == _sum_slowly(data)

    @given(st.lists(u16, min_size=2, max_size=20), st.integers(0, 19), u16)
    def test_an_update_is_as_good_as_summing_again(self, words, which, new):
        """RFC 1624: but for 0xFFFF where a fresh sum of nothing but zeros would give it."""
        which %= len(words)
        before = b"".join(word.to_bytes(2, "big") for word in words)
        after = [*words[:which], new, *words[which + 1 :]]
        value = ~_sum_slowly(before) & 0xFFFF
        updated = _update(value, words[which], new)
        packet = b"".join(word.to_bytes(2, "big") for word in (*after, updated))
        assert _sum_slowly(packet) in (0xFFFF, 0)


@compiled_uncached
def _ipv4_fields(frame, at):
    return (
        ipv4.version(frame, at),
        ipv4.header_bytes(frame, at),
        ipv4.total_bytes(frame, at),
        ipv4.is_fragment(frame, at),
        ipv4.protocol(frame, at),
        ipv4.source(frame, at),
        ipv4.destination(frame, at),
        ipv4.checksum_holds(frame, at, ipv4.header_bytes(frame, at)),
    )


@compiled_uncached
def _ethernet_fields(frame):
    return ethernet.destination(frame), ethernet.source(frame), ethernet.ethertype(frame)


@compiled_uncached
def _vlan(frame):
    return ethernet.vlan(frame)


@compiled_uncached
def _untag(frame, length):
    return ethernet.untag(frame, length)


@compiled_uncached
def _arp_fields(frame, at):
    return (
        arp.is_ipv4_over_ethernet(frame, at),
        arp.operation(frame, at),
        arp.sender_mac(frame, at),
        arp.sender_ip4(frame, at),
        arp.target_ip4(frame, at),
    )


@compiled_uncached
def _udp_fields(frame, at):
    return udp.source_port(frame, at), udp.destination_port(frame, at), udp.length_bytes(frame, at)


@compiled_uncached
def _is_request(frame, at):
    return icmp.is_echo_request(frame, at)


class TestAccessors:
    """What an accessor reads is what the representation wrote, at any place in a frame."""

    @given(ethernets)
    def test_ethernet(self, header):
        data = _array(header.emit())
        kind = header.ethertype if header.tag is None else ethernet.TYPE_VLAN
        assert _ethernet_fields(data) == (header.destination, header.source, kind)

    @given(ethernets.filter(lambda header: header.tag is not None), st.binary(max_size=50))
    def test_a_tag_is_read_and_taken_out(self, header, payload):
        data = _array(header.emit() + payload)
        assert _vlan(data) == header.tag.vlan
        length = _untag(data, data.size)
        assert data[:length].tobytes() == replace(header, tag=None).emit() + payload

    @given(headers, st.integers(0, 20))
    def test_ipv4(self, header, at):
        fragment = header.more_fragments or header.offset_bytes > 0
        ends = int(header.source), int(header.destination)
        total = header.header_bytes + header.payload_bytes
        expected = (4, header.header_bytes, total, fragment, header.protocol, *ends, True)
        assert _ipv4_fields(_array(bytes(at) + header.emit()), at) == expected

    @given(arps)
    def test_arp(self, message):
        expected = (True, message.operation, message.sender_mac, int(message.sender_ip), int(message.target_ip))
        assert _arp_fields(_array(message.emit()), 0) == expected

    @given(u16, u16, st.binary(max_size=50))
    def test_udp(self, source_port, destination_port, payload):
        ip = IPv4(IPv4Address(1), IPv4Address(2), 17, 8 + len(payload))
        data = Udp(source_port, destination_port, payload).emit(ip)
        assert _udp_fields(_array(data), 0) == (source_port, destination_port, len(data))

    @given(echoes)
    def test_echo(self, message):
        assert _is_request(_array(message.emit()), 0) is not message.reply
