"""The counters page: 64-bit counters that the application's I/O library writes and anyone who holds the memfd reads.

Made by the launcher, shared by both flows; the library adds, nobody resets. Each queue has its own
lines of counters, so that no two polling loops write one cache line. All are little-endian int64
in machine order, one slot of SLOTS a counter, MAX_QUEUES rows.
"""

from __future__ import annotations

import struct

from nomx.api.lease import MAX_QUEUES

NAMES = (
    "rx_packets",
    "tx_packets",
    "rx_bytes",
    "tx_bytes",
    "replies",
    "no_reply",
    "arp_replies",
    "icmp_replies",
    "drop_runt",
    "drop_not_ours",
    "drop_ethertype",
    "drop_ip_header",
    "drop_ip_checksum",
    "drop_fragment",
    "drop_protocol",
    "drop_udp_length",
    "drop_udp_checksum",
    "drop_no_handler",
    "handler_errors",
    "reply_overruns",
    "tx_full",
    "wakeups",
    "waits",
    "polls",
    "empty_polls",
    "drop_arp",
    "drop_icmp_checksum",
    "tx_errors",
    "drop_vlan",
    "nd_replies",
)
"""Counter *i* of a row. `drop_*` are frames that were given back unanswered, by reason."""

SLOTS = 32
PAGE_BYTES = SLOTS * 8 * MAX_QUEUES
SLOT = {name: slot for slot, name in enumerate(NAMES)}


def totals(page: bytes) -> dict[str, int]:
    """Sum each counter over the queues of a *page* of PAGE_BYTES bytes."""
    values = struct.unpack(f"={SLOTS * MAX_QUEUES}q", page[:PAGE_BYTES])
    return {name: sum(values[slot::SLOTS]) for name, slot in SLOT.items()}
