"""Counts the kernel crossings of leases: `crossings.bpf.c` loaded, attached while somebody is counted, and read.

The programs look at every system call of the machine, so they are attached only while a group is
counted. What they counted dies with the daemon: a new one starts at 0 for the leases it adopts.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from nomx.alloc.actions import CountCrossings
from nomx.api.lease import Crossings, Traffic
from nomx.linux import abi, cgroupfs, netns
from nomx.linux.bpf import Link, Object
from nomx.linux.links import Links
from nomx.mech.mechanism import explained

_HINT = "tracing programs need BTF and CAP_PERFMON: see `nomx doctor`; --no-count does without"
_TRACED = ("nomx_syscall", "nomx_fault", "nomx_leave", "nomx_poll")
_AT_SOCKETS = ("nomx_socket_rx", "nomx_socket_tx")


@dataclass(frozen=True)
class _Counted:
    """A group that is counted: its keys in the maps, and its links."""

    key: bytes
    interface: bytes | None
    links: list[Link]


class CrossingsCounter:
    """The mechanism of CountCrossings."""

    def __init__(self, links: Links, instance: str) -> None:
        """Count devices among *links*, the interfaces of the instance's switch namespace."""
        self._links = links
        self._netns_id = netns.identity(netns.path(instance))
        self._object: Object | None = None
        self._everywhere: list[Link] = []
        self._counted: dict[str, _Counted] = {}

    def apply(self, action: CountCrossings) -> None:
        with explained(f"count the crossings of {action.group}", _HINT):
            tracer = self._loaded()
            directory = cgroupfs.unified_path(action.instance, action.group)
            group = directory.stat().st_ino.to_bytes(8, "little")  # the kernel's id of a cgroup
            interface = self._interface(action.ifname) if action.ifname else None
            self._counted[action.group] = counted = _Counted(group, interface, [])
            tracer.maps["nomx_groups"].update(group, bytes(abi.CrossingCounters.FORMAT.size))
            if interface is not None:
                tracer.maps["nomx_owners"].update(interface, group)
            for name in _AT_SOCKETS:
                counted.links.append(tracer.programs[name].attach_cgroup(directory))
            for name in _TRACED[len(self._everywhere) :]:
                self._everywhere.append(tracer.programs[name].attach())

    def undo(self, action: CountCrossings) -> None:
        counted = self._counted.pop(action.group, None)
        if counted is None or self._object is None:  # counted by a daemon that is no more: nothing is left of it
            return
        for link in counted.links:
            link.close()
        if not self._counted:
            self._detach_everywhere()
        self._object.maps["nomx_groups"].delete(counted.key)
        if counted.interface is not None:
            self._object.maps["nomx_owners"].delete(counted.interface)

    def exists(self, action: CountCrossings) -> bool:
        """Return whether this daemon counts the group."""
        return action.group in self._counted

    def read(self, action: CountCrossings) -> tuple[Crossings, Traffic]:
        """Return the group's crossings, and the packets at its ordinary sockets."""
        values = []
        if self._object is not None and (group := self._counted.get(action.group)):
            values = self._object.maps["nomx_groups"].lookup_each_cpu(group.key)
        counted = abi.CrossingCounters.total(values)
        crossings = Crossings(
            syscalls=counted.syscalls,
            page_faults=counted.page_faults,
            voluntary_switches=counted.voluntary_switches,
            involuntary_switches=counted.involuntary_switches,
            napi_polls=counted.napi_polls,
        )
        traffic = Traffic(
            rx_packets=counted.socket_rx_packets,
            tx_packets=counted.socket_tx_packets,
            rx_bytes=counted.socket_rx_bytes,
            tx_bytes=counted.socket_tx_bytes,
            counted_at="socket",
        )
        return crossings, traffic

    def close(self) -> None:
        """Stop counting everybody."""
        for counted in self._counted.values():
            for link in counted.links:
                link.close()
        self._counted = {}
        self._detach_everywhere()
        if self._object is not None:
            self._object.close()
            self._object = None

    def _detach_everywhere(self) -> None:
        for link in self._everywhere:
            link.close()
        self._everywhere = []

    def _loaded(self) -> Object:
        if self._object is None:
            self._object = Object.load_named("crossings")
        return self._object

    def _interface(self, ifname: str) -> bytes:
        """The key of an interface of the switch namespace (`struct nomx_interface`)."""
        return struct.pack("=II", self._netns_id, self._links.require(ifname))
