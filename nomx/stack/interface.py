"""One interface: what comes in is taken apart, layer by layer, and answered in place or given back with a reason.

    receive ── ARP request for us ──────────────→ ARP reply
            ├─ IPv4 to us ─┬─ ICMP echo request → echo reply
            │              └─ UDP ──────────────→ DATAGRAM, for `nomx.stack.delivery`
            └─ IPv6 to us ─┬─ solicitation ─────→ neighbour advertisement
                           ├─ ICMPv6 echo ──────→ echo reply
                           └─ UDP ──────────────→ DATAGRAM

What every busy link carries, UDP over IPv4, comes first and is inlined; IPv6 is one call away.

Nothing here knows the application's handlers, so this half of the stack is compiled once and for all.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nomx.compiled import compiled, inlined
from nomx.stack.counted import (
    ARP_REPLIES,
    DROP_ARP,
    DROP_ETHERTYPE,
    DROP_FRAGMENT,
    DROP_ICMP_CHECKSUM,
    DROP_IP_CHECKSUM,
    DROP_IP_HEADER,
    DROP_NOT_OURS,
    DROP_PROTOCOL,
    DROP_RUNT,
    DROP_UDP_CHECKSUM,
    DROP_UDP_LENGTH,
    DROP_VLAN,
    ICMP_REPLIES,
    ND_REPLIES,
)
from nomx.wire import arp, ethernet, icmp, icmpv6, ipv4, ipv6, udp
from nomx.wire.words import Frame, cut_out, load8

NOTHING = 0
"""No answer: the frame goes back to the kernel, and a counter says why."""

DATAGRAM = -1
"""A correct UDP datagram for us, whose port's handler is to answer it."""

Counters: TypeAlias = NDArray[np.int64]
"""One row of the counters page."""


class Interface(NamedTuple):
    """Who we are on the link."""

    mac: int
    ip4: int
    mtu_bytes: int
    """The longest IP packet we send."""
    udp_checksums: int
    """1: made and verified, as RFC 1122 wants; 0: neither, for links that lose nothing or check themselves.

    Over IPv6 they are made and verified whatever this says: RFC 8200 allows no datagram without.
    """
    ip6_high: int = 0
    ip6_low: int = 0
    """The halves of our IPv6 address, see `nomx.wire.ipv6.halves`; both 0: we have none."""


@inlined
def receive(frame: Frame, length: int, interface: Interface, counters: Counters) -> int:
    """Take the *length* bytes in *frame* apart: the length of the answer that is now there, NOTHING, or DATAGRAM."""
    if length < ethernet.HEADER_BYTES:
        return dropped(counters, DROP_RUNT)
    kind = ethernet.ethertype(frame)
    if kind == ethernet.TYPE_VLAN:
        length = _untag(frame, length, counters)
        if length == NOTHING:
            return NOTHING
        kind = ethernet.ethertype(frame)
    if kind == ethernet.TYPE_IPV4:
        return _receive_ipv4(frame, length, interface, counters)
    if kind == ethernet.TYPE_IPV6:
        return _receive_ipv6(frame, length, interface, counters)
    if kind == ethernet.TYPE_ARP:
        return _answer_arp(frame, length, interface, counters)
    return dropped(counters, DROP_ETHERTYPE)


@inlined
def dropped(counters: Counters, reason: int) -> int:
    """Count a frame that is not answered."""
    counters[reason] += 1
    return NOTHING


@compiled
def _untag(frame: Frame, length: int, counters: Counters) -> int:
    """Make a frame whose tag says a priority and no VLAN an untagged one: its length, or NOTHING.

    Our link carries no VLANs, so a frame of any is another's. The answer has no tag either.
    """
    if length < ethernet.HEADER_BYTES + ethernet.TAG_BYTES:
        return dropped(counters, DROP_RUNT)
    if ethernet.vlan(frame) != ethernet.PRIORITY_ONLY:
        return dropped(counters, DROP_VLAN)
    return ethernet.untag(frame, length)


@inlined
def _answer_arp(frame: Frame, length: int, interface: Interface, counters: Counters) -> int:
    at = ethernet.HEADER_BYTES
    if length < at + arp.MESSAGE_BYTES or not arp.is_ipv4_over_ethernet(frame, at):
        return dropped(counters, DROP_ARP)
    if arp.operation(frame, at) != arp.REQUEST or arp.target_ip4(frame, at) != interface.ip4:
        return dropped(counters, DROP_NOT_OURS)
    asker = arp.sender_mac(frame, at)
    if ethernet.is_group(asker):
        return dropped(counters, DROP_ARP)
    arp.make_reply(frame, at, interface.mac, interface.ip4)
    ethernet.set_addresses(frame, asker, interface.mac)
    counters[ARP_REPLIES] += 1
    return at + arp.MESSAGE_BYTES


@inlined
def _receive_ipv4(frame: Frame, length: int, interface: Interface, counters: Counters) -> int:
    at = ethernet.HEADER_BYTES
    if length < at + ipv4.MIN_HEADER_BYTES:
        return dropped(counters, DROP_RUNT)
    header = ipv4.header_bytes(frame, at)
    total = ipv4.total_bytes(frame, at)
    if ipv4.version(frame, at) != 4 or header < ipv4.MIN_HEADER_BYTES or total < header or length < at + total:
        return dropped(counters, DROP_IP_HEADER)
    if ipv4.destination(frame, at) != interface.ip4 or ethernet.destination(frame) != interface.mac:
        return dropped(counters, DROP_NOT_OURS)
    if not ipv4.checksum_holds(frame, at, header):
        return dropped(counters, DROP_IP_CHECKSUM)
    if not _can_answer(frame, at):
        return dropped(counters, DROP_IP_HEADER)
    if ipv4.is_fragment(frame, at):
        return dropped(counters, DROP_FRAGMENT)
    protocol = ipv4.protocol(frame, at)
    if protocol == ipv4.PROTOCOL_UDP:
        return _check_udp(frame, header, total, interface, counters)
    if protocol == ipv4.PROTOCOL_ICMP:
        return _answer_icmp(frame, header, total, interface, counters)
    return dropped(counters, DROP_PROTOCOL)


@inlined
def _can_answer(frame: Frame, at: int) -> bool:
    """Return whether the source is one host that can be answered: no multicast, no broadcast, not 0.x, not 127.x."""
    first = ipv4.source(frame, at) >> 24
    return 0 < first < 224 and first != 127 and not ethernet.is_group(ethernet.source(frame))


@inlined
def _answer_icmp(frame: Frame, header: int, total: int, interface: Interface, counters: Counters) -> int:
    at = ethernet.HEADER_BYTES + header
    if total - header < icmp.HEADER_BYTES or not icmp.is_echo_request(frame, at):
        return dropped(counters, DROP_PROTOCOL)
    if not icmp.checksum_holds(frame, at, total - header):
        return dropped(counters, DROP_ICMP_CHECKSUM)
    icmp.make_reply(frame, at)
    counters[ICMP_REPLIES] += 1
    return finish_reply(frame, header, total, interface)


@inlined
def _check_udp(frame: Frame, header: int, total: int, interface: Interface, counters: Counters) -> int:
    """Return DATAGRAM if this is a correct one."""
    ip_at = ethernet.HEADER_BYTES
    at = ip_at + header
    length = udp.length_bytes(frame, at) if total - header >= udp.HEADER_BYTES else 0
    if length < udp.HEADER_BYTES or length > total - header:
        return dropped(counters, DROP_UDP_LENGTH)
    if interface.udp_checksums != 0 and not udp.checksum_holds(frame, ip_at, at, length):
        return dropped(counters, DROP_UDP_CHECKSUM)
    return DATAGRAM


@inlined
def finish_reply(frame: Frame, header: int, total: int, interface: Interface) -> int:
    """Address the IP packet of *total* bytes in *frame* back to its sender; the frame's length."""
    ipv4.make_reply(frame, ethernet.HEADER_BYTES, header, total)
    ethernet.set_addresses(frame, ethernet.source(frame), interface.mac)
    return ethernet.HEADER_BYTES + total


MAX_EXTENSIONS = 4
"""How many options headers of IPv6 in one packet are skipped; a packet with more is dropped."""


@compiled
def _receive_ipv6(frame: Frame, length: int, interface: Interface, counters: Counters) -> int:
    at = ethernet.HEADER_BYTES
    if length < at + ipv6.HEADER_BYTES:
        return dropped(counters, DROP_RUNT)
    payload = ipv6.payload_bytes(frame, at)
    if ipv6.version(frame, at) != 6 or length < at + ipv6.HEADER_BYTES + payload:
        return dropped(counters, DROP_IP_HEADER)
    high, low = interface.ip6_high, interface.ip6_low
    if high == 0 and low == 0:
        return dropped(counters, DROP_NOT_OURS)
    ours = ipv6.is_to(frame, at, high, low) and ethernet.destination(frame) == interface.mac
    if not ours and not ipv6.is_to_solicited_node(frame, at, low):
        return dropped(counters, DROP_NOT_OURS)
    reason = _skip_extensions(frame, at, payload)
    if reason != 0:
        return dropped(counters, reason)
    payload = ipv6.payload_bytes(frame, at)
    protocol = ipv6.protocol(frame, at)
    if protocol == ipv6.PROTOCOL_ICMPV6:
        return _receive_icmpv6(frame, payload, ours, interface, counters)
    if protocol != ipv6.PROTOCOL_UDP or not ours:
        return dropped(counters, DROP_PROTOCOL)
    if not _can_answer_ipv6(frame, at):
        return dropped(counters, DROP_IP_HEADER)
    return _check_udp_over_ipv6(frame, payload, counters)


@inlined
def _skip_extensions(frame: Frame, at: int, payload: int) -> int:
    """Take the options headers out of a packet, so that what they precede is behind the fixed header: 0, or why not.

    Answers carry none, and options that ask for more than to be skipped (RFC 8200, 4.2: the first two bits of
    the type are not 0) make nobody who sends them want an answer from a host that obeys none.
    """
    first = at + ipv6.HEADER_BYTES
    protocol = ipv6.protocol(frame, at)
    skipped = 0
    headers = 0
    while protocol == ipv6.PROTOCOL_HOP_BY_HOP or protocol == ipv6.PROTOCOL_DESTINATION_OPTIONS:
        if headers == MAX_EXTENSIONS or payload - skipped < 8:
            return DROP_IP_HEADER
        protocol = load8(frame, first + skipped)
        skipped += ipv6.extension_bytes(frame, first + skipped)
        headers += 1
        if skipped > payload:
            return DROP_IP_HEADER
    if protocol == ipv6.PROTOCOL_FRAGMENT:
        return DROP_FRAGMENT
    if skipped > 0:
        cut_out(frame, first, skipped, first + payload)
        ipv6.set_first(frame, at, protocol, payload - skipped)
    return 0


@inlined
def _can_answer_ipv6(frame: Frame, at: int) -> bool:
    """Return whether the source is one host that can be answered: no group, not ::, not ::1, nothing mapped."""
    high = ipv6.source_high(frame, at)
    return high != 0 and (high >> 56) & 0xFF != 0xFF and not ethernet.is_group(ethernet.source(frame))


@inlined
def _receive_icmpv6(frame: Frame, payload: int, ours: bool, interface: Interface, counters: Counters) -> int:
    ip_at = ethernet.HEADER_BYTES
    at = ip_at + ipv6.HEADER_BYTES
    if payload < icmpv6.HEADER_BYTES:
        return dropped(counters, DROP_PROTOCOL)
    solicited = icmpv6.is_solicitation(frame, at)
    if not solicited and not (ours and icmpv6.is_echo_request(frame, at)):
        return dropped(counters, DROP_PROTOCOL)
    if not ipv6.payload_checksum_holds(frame, ip_at, ipv6.PROTOCOL_ICMPV6, payload):
        return dropped(counters, DROP_ICMP_CHECKSUM)
    if not _can_answer_ipv6(frame, ip_at):
        return dropped(counters, DROP_IP_HEADER)
    if not solicited:
        icmpv6.make_echo_reply(frame, at)
        counters[ICMP_REPLIES] += 1
        return finish_reply_ipv6(frame, payload, at + 2, ipv6.HOP_LIMIT, interface)
    if payload < icmpv6.SOLICITATION_BYTES or ipv6.hop_limit(frame, ip_at) != icmpv6.HOP_LIMIT:
        return dropped(counters, DROP_IP_HEADER)
    if not ipv6.is_address(frame, at + 8, interface.ip6_high, interface.ip6_low):
        return dropped(counters, DROP_NOT_OURS)
    icmpv6.make_advertisement(frame, at, interface.mac)
    counters[ND_REPLIES] += 1
    return finish_reply_ipv6(frame, icmpv6.ADVERTISEMENT_BYTES, at + 2, icmpv6.HOP_LIMIT, interface)


@inlined
def _check_udp_over_ipv6(frame: Frame, payload: int, counters: Counters) -> int:
    """Return DATAGRAM if this is a correct one: over IPv6 the checksum is mandatory."""
    ip_at = ethernet.HEADER_BYTES
    at = ip_at + ipv6.HEADER_BYTES
    length = udp.length_bytes(frame, at) if payload >= udp.HEADER_BYTES else 0
    if length < udp.HEADER_BYTES or length > payload:
        return dropped(counters, DROP_UDP_LENGTH)
    made = udp.checksum(frame, at) != udp.NO_CHECKSUM
    if not made or not ipv6.payload_checksum_holds(frame, ip_at, ipv6.PROTOCOL_UDP, length):
        return dropped(counters, DROP_UDP_CHECKSUM)
    return DATAGRAM


@inlined
def finish_reply_ipv6(frame: Frame, payload: int, checksum_at: int, limit: int, interface: Interface) -> int:
    """Address the IPv6 packet with *payload* bytes back to its sender, write its checksum; the frame's length."""
    at = ethernet.HEADER_BYTES
    ipv6.make_reply(frame, at, interface.ip6_high, interface.ip6_low, payload, limit)
    ipv6.write_checksum(frame, at, checksum_at, ipv6.protocol(frame, at), payload)
    ethernet.set_addresses(frame, ethernet.source(frame), interface.mac)
    return at + ipv6.HEADER_BYTES + payload


@compiled
def finish_datagram_ipv6(frame: Frame, length: int, interface: Interface) -> int:
    """Address the UDP datagram of *length* bytes over IPv6 in *frame* back to its sender; the frame's length."""
    at = ethernet.HEADER_BYTES + ipv6.HEADER_BYTES
    return finish_reply_ipv6(frame, length, at + udp.CHECKSUM_AT, ipv6.HOP_LIMIT, interface)
