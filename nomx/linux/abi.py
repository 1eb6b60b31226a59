"""The structs of `bpf/include/nomx/abi.h` as Python packs and reads them; a test compares them with the BTF."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

VERSION = 1
MAX_PORTS = 1024
MAX_QUEUES = 8
PORT_GUARDED = 1


class Drop(IntEnum):
    """Why a frame went no further (`enum nomx_drop`)."""

    RUNT = 0
    NO_PORT = 1
    SPOOFED_MAC = 2
    SPOOFED_IP = 3
    ETHERTYPE = 4
    RATE = 5
    UNKNOWN_MAC = 6
    NOT_OURS = 7
    NO_XSK = 8


def version_of(value: bytes) -> int:
    """Return the version with which a `nomx_port` or a `nomx_device` was written."""
    return int.from_bytes(value[:4], "little")


def mac_bytes(mac: str) -> bytes:
    """Return the 6 octets of `02:00:..`."""
    return bytes.fromhex(mac.replace(":", ""))


PORT = struct.Struct("=3I4s6s2x16sQQ")
"""`struct nomx_port`."""


def port(slot: int, mac: str, ip4: str, ip6: str, *, guarded: bool, rate_bps: int, burst_ns: int) -> bytes:
    """Pack a `struct nomx_port`."""
    addresses = IPv4Address(ip4).packed, mac_bytes(mac), IPv6Address(ip6).packed
    return PORT.pack(VERSION, slot, PORT_GUARDED if guarded else 0, *addresses, rate_bps, burst_ns)


DEVICE = struct.Struct("=2I6s2x")
"""`struct nomx_device`."""


def device(slot: int, mac: str) -> bytes:
    """Pack a `struct nomx_device`."""
    return DEVICE.pack(VERSION, slot, mac_bytes(mac))


@dataclass(frozen=True)
class Counters:
    """`struct nomx_counters`, summed over the CPUs: frames that went on, and those that did not, by reason."""

    packets: int
    octets: int
    drops: tuple[int, ...]

    FORMAT = struct.Struct(f"={2 + len(Drop)}Q")

    @classmethod
    def total(cls, values: Iterable[bytes]) -> Counters:
        """Sum the values of each CPU."""
        packets, octets, *drops = _total(cls.FORMAT, values)
        return cls(packets, octets, tuple(drops))

    def dropped(self) -> dict[str, int]:
        """The drops that happened, by the reason's name in lower case."""
        return {why.name.lower(): self.drops[why] for why in Drop if self.drops[why]}


@dataclass(frozen=True)
class CrossingCounters:
    """`struct nomx_crossings`, summed over the CPUs."""

    syscalls: int
    page_faults: int
    voluntary_switches: int
    involuntary_switches: int
    napi_polls: int
    socket_rx_packets: int
    socket_tx_packets: int
    socket_rx_bytes: int
    socket_tx_bytes: int

    FORMAT = struct.Struct("=9Q")

    @classmethod
    def total(cls, values: Iterable[bytes]) -> CrossingCounters:
        """Sum the values of each CPU."""
        return cls(*_total(cls.FORMAT, values))


def _total(form: struct.Struct, values: Iterable[bytes]) -> list[int]:
    rows = [form.unpack(value[: form.size]) for value in values]
    return [sum(column) for column in zip(*rows, strict=True)] or [0] * (form.size // 8)
