"""Where a target's packets are counted, always outside it: by the daemon, at sockets, at AF_XDP rings, at a device.

A source says where; the report repeats it. The tracer reads it together with the crossings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from nomx.api.lease import Traffic
from nomx.errors import InvalidRequest, NomxError
from nomx.linux.abi_trace import XskRecord
from nomx.trace.report import Packets
from nomx.trace.target import Target

_MASK = (1 << 32) - 1


class PacketSource(Protocol):
    """A count of packets since tracing began."""

    @property
    def where(self) -> str:
        """Where it counts, for people."""

    def read(self, at_sockets: Packets, xsks: Sequence[XskRecord]) -> Packets:
        """Return the packets until now, given what the kernel's side counted at sockets, and the AF_XDP sockets."""

    def watch(self, xsks: Sequence[XskRecord]) -> None:
        """Look at the AF_XDP sockets between two readings: less is missed of one that is closed."""


class LeaseSource:
    """The daemon's own count of a lease's device: frames to its AF_XDP sockets, frames into the switch.

    The daemon's programs count a frame before the socket takes it. What a socket then had no room
    for never reached the application, so it is taken off; its bytes at the frames' mean size.
    """

    def __init__(self, observe: Callable[[], Traffic]) -> None:
        self._observe = observe
        self._last = self._before = _packets_of(observe())
        self._refused = 0
        self._seen: dict[int, int] = {}
        self._began = False
        self.where = f"lease ({observe().counted_at})"

    def read(self, at_sockets: Packets, xsks: Sequence[XskRecord]) -> Packets:
        """See PacketSource. A lease that has just ended keeps its last count."""
        try:
            self._last = _packets_of(self._observe())
        except NomxError:
            self.where = "lease (until shortly before its end)"
        self.watch(xsks)
        handed = self._last - self._before
        refused = min(self._refused, handed.rx)
        refused_bytes = handed.rx_bytes * refused // handed.rx if handed.rx else 0
        return handed - Packets(rx=refused, rx_bytes=refused_bytes)

    def watch(self, xsks: Sequence[XskRecord]) -> None:
        """Add the frames that the sockets had no room for since they were last looked at."""
        for xsk in xsks:
            # A fill ring that is empty is in rx_dropped already, in copy mode.
            now = xsk.rx_dropped + xsk.rx_ring_full
            before = self._seen.get(xsk.inode, 0 if self._began else now)
            self._refused += max(0, now - before)
            self._seen[xsk.inode] = now
        self._began = True


class LocalSource:
    """Packets at the target's own sockets: ordinary ones, and AF_XDP ones by their rings' indexes.

    The kernel's side does not count AF_XDP: the indexes are read now and then, so what a socket
    moved between the last reading and its end is missing.
    """

    def __init__(self, by_packet: bool) -> None:
        """*by_packet*: ordinary sockets are counted packet by packet, else message by message."""
        self._sockets = "sockets (each packet)" if by_packet else "socket calls (a datagram, or a call of TCP)"
        self._ordinary = self._rings = Packets()
        self._seen: dict[int, tuple[int, int]] = {}
        self._began = False

    @property
    def where(self) -> str:
        places = [self._sockets] if self._ordinary.count or not self._rings.count else []
        places += ["AF_XDP rings"] if self._rings.count else []
        return " and ".join(places)

    def read(self, at_sockets: Packets, xsks: Sequence[XskRecord]) -> Packets:
        """See PacketSource."""
        self._ordinary = at_sockets
        self.watch(xsks)
        return self._ordinary + self._rings

    def watch(self, xsks: Sequence[XskRecord]) -> None:
        """Add what the rings moved since they were last looked at."""
        for xsk in xsks:
            now = xsk.rx_produced, xsk.tx_consumed
            # A socket that was made while we trace began at 0; one that we found did not.
            before = self._seen.get(xsk.inode, (0, 0) if self._began else now)
            self._rings += Packets(rx=now[0] - before[0] & _MASK, tx=now[1] - before[1] & _MASK)
            self._seen[xsk.inode] = now
        self._began = True


class DeviceSource:
    """The statistics of a device, in the target's network namespace: everybody's packets on it."""

    def __init__(self, pid: int, ifname: str) -> None:
        """Count *ifname* as process *pid* sees it.

        Raises: InvalidRequest: it sees no such device.
        """
        self._table = Path(f"/proc/{pid}/net/dev")
        self._ifname = ifname
        self.where = f"device {ifname} (everybody's packets on it)"
        self._last = self._before = self._count()

    def read(self, at_sockets: Packets, xsks: Sequence[XskRecord]) -> Packets:
        """See PacketSource."""
        with contextlib.suppress(OSError):  # when the process has ended, its last count stands
            self._last = self._count()
        return self._last - self._before

    def watch(self, xsks: Sequence[XskRecord]) -> None:
        """See PacketSource: a device's count does not depend on them."""

    def _count(self) -> Packets:
        for line in self._table.read_text().splitlines():
            name, colon, counters = line.partition(":")
            if colon and name.strip() == self._ifname:
                rx_bytes, rx, *_, tx_bytes, tx = (int(word) for word in counters.split()[:10])
                return Packets(rx, tx, rx_bytes, tx_bytes)
        raise InvalidRequest(field="packets", value=f"device:{self._ifname}", expected="a device that the target sees")


def source_of(target: Target, choice: str = "auto") -> PacketSource:
    """Return the count of *target*'s packets: `auto`, `lease`, `local`, or `device:IFNAME`.

    Raises: InvalidRequest: it cannot be counted there.
    """
    kind, _, ifname = choice.partition(":")
    if kind == "device" and ifname:
        if not (pids := target.processes()):
            raise InvalidRequest(field="packets", value=choice, expected="a target with a process")
        return DeviceSource(pids[0], ifname)
    if choice == "lease" and target.traffic is None:
        raise InvalidRequest(field="packets", value=choice, expected="a lease with a device of its own")
    if choice in ("auto", "lease") and target.traffic is not None:
        return LeaseSource(target.traffic)
    if choice in ("auto", "local"):
        return LocalSource(by_packet=target.group is not None)
    raise InvalidRequest(field="packets", value=choice, expected="auto, lease, local or device:IFNAME")


def _packets_of(traffic: Traffic) -> Packets:
    return Packets(traffic.rx_packets, traffic.tx_packets, traffic.rx_bytes, traffic.tx_bytes)
